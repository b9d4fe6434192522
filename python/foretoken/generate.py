"""The one place where steps are counted, timed and stopped: `stream` and `generate`, and their async forms."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import secrets
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from time import perf_counter
from typing import Any

import numpy as np

from . import kernels
from .canvas import UNKNOWN, Canvas, Stats, Step, known
from .codec.text import Text
from .ending import RowEnding, StopRule
from .errors import ArgumentTypeError, InvalidArgument, LimitExceeded, ShapeError, UnsupportedModel
from .generation import Generation, Row
from .sampler import Sampler
from .strategy.autoregressive import Autoregressive
from .strategy.protocol import Request, Strategy
from .trace import Trace

MAXIMUM_ROWS = 4096
"""The most rows (prompts × samples) of one call: a typo in `n` must not fill the memory."""


def generate(model: Any, canvas: Canvas, strategy: Strategy | None = None, **options: Any) -> Generation:
    """Fill in a canvas and return all of it.

    Main args:
        model: what predicts; a `CausalModel` for `Autoregressive`.
        canvas: the known units, one row for each prompt.
        strategy: which positions become known next; `Autoregressive()` if None.
        **options: those of `stream`.

    Returns:
        The rows in the order of the prompts, the n samples of a prompt side by side.

    Raises:
        InvalidArgument, ArgumentTypeError, LimitExceeded, UnsupportedModel, LogitsError, DraftError: see each.

    Example:
        >>> import foretoken as ft
        >>> tale = ft.load("tales")
        >>> canvas = tale.codec.canvas(["Once upon a time"])
        >>> ft.generate(tale.model, canvas, max_tokens=4, seed=7).stats.tokens
        4
    """
    run = _Run(model, canvas, strategy, **options)
    steps = list(run.steps())
    return run.result(steps)


def stream(model: Any, canvas: Canvas, strategy: Strategy | None = None, **options: Any) -> Iterator[Step]:
    """Fill in a canvas and yield every step as it happens; closing the iterator cancels the rest.

    Main args:
        model, canvas, strategy: as in `generate`.
        sampler: parameters of the choice; `Sampler()` draws from the model's own law.
        seed: in [0, 2^64), or one for each prompt; None draws one. The output is a function of logits, sampler and
            seed, whatever the batch or the drafter.
        max_tokens: the most units to add to a row; None fills the model's context.

    Other args:
        min_tokens: units that come before a row may end, ≥ 0.
        n: samples of each prompt, ≥ 1.
        stop_tokens: ids that end a row like END.
        end_tokens: ids that END a row; None takes the model's, () lets rows run to their limit.
        stop: strings that end a row; the text stops before them. Needs `codec`.
        codec: how units become text, for `stop` and for `Step.text`; None for units without text.
        logprobs: how many alternatives to report for each token, in [0, 100]; None for no log-probabilities. Where any
            position may be filled, 0: that of each unit, when it was found.
        threads: threads of the kernels, ≥ 1.

    Raises:
        InvalidArgument, ArgumentTypeError, LimitExceeded, UnsupportedModel, LogitsError, DraftError: see each.
    """
    return _Run(model, canvas, strategy, **options).steps()


async def agenerate(model: Any, canvas: Canvas, strategy: Strategy | None = None, **options: Any) -> Generation:
    """`generate` that leaves the event loop free; cancelling it stops after the step that is under way."""
    run = _Run(model, canvas, strategy, **options)
    steps = [step async for step in _in_thread(run.steps())]
    return run.result(steps)


def astream(model: Any, canvas: Canvas, strategy: Strategy | None = None, **options: Any) -> AsyncIterator[Step]:
    """`stream` for `async for`; closing the iterator, or cancelling the task, stops after the step under way."""
    return _in_thread(_Run(model, canvas, strategy, **options).steps())


async def _in_thread(steps: Iterator[Step]) -> AsyncIterator[Step]:
    def advance() -> Step | None:
        return next(steps, None)

    pending = None
    try:
        while True:
            # Not a task (`asyncio.to_thread`): a loop that closes cancels tasks, and a thread cannot be cancelled.
            context = contextvars.copy_context()
            pending = asyncio.get_running_loop().run_in_executor(None, context.run, advance)
            step = await asyncio.shield(pending)
            if step is None:
                return
            yield step
    finally:
        # A cancelled task leaves its thread at work on one step; a generator must not be closed while it runs.
        if pending is not None:
            await _finished(pending)
        steps.close()  # type: ignore[attr-defined]


async def _finished(step: asyncio.Future[Any]) -> None:
    """Wait for a step whose outcome perhaps nobody will see, however often this wait is cancelled."""
    while not step.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([step])
    step.exception()  # else asyncio logs that nobody looked at it


class _Run:
    """One generation, from its checked arguments to its result."""

    def __init__(
        self,
        model: Any,
        canvas: Canvas,
        strategy: Strategy | None = None,
        *,
        sampler: Sampler | None = None,
        seed: int | Sequence[int] | None = 0,
        max_tokens: int | None = None,
        min_tokens: int = 0,
        n: int = 1,
        stop_tokens: Sequence[int] = (),
        end_tokens: Sequence[int] | None = None,
        stop: str | Sequence[str] = (),
        codec: Text | None = None,
        logprobs: int | None = None,
        threads: int = 1,
    ) -> None:
        sampler = Sampler() if sampler is None else sampler
        if not isinstance(sampler, Sampler):
            raise ArgumentTypeError(f"sampler must be a Sampler, got {type(sampler).__name__}")
        if not isinstance(canvas, Canvas):
            kind = type(canvas).__name__
            raise ArgumentTypeError(f"canvas must be a Canvas, got {kind}; codec.canvas([...]) makes one")
        if canvas.width is not None:
            raise InvalidArgument("this canvas holds vectors; strategies choose among symbols")
        for name, value, low, high in (
            ("n", n, 1, MAXIMUM_ROWS), ("threads", threads, 1, 1024), ("min_tokens", min_tokens, 0, 2**31),
            ("logprobs", 0 if logprobs is None else logprobs, 0, 100),
            ("max_tokens", 0 if max_tokens is None else max_tokens, 0, 2**31),
        ):  # fmt: skip
            check_integer(name, value, low, high)
        if strategy is not None and not hasattr(strategy, "run"):
            raise ArgumentTypeError(f"strategy must be a Strategy, got {strategy!r}; Autoregressive() is one")
        rows = len(canvas.rows) * n
        if rows > MAXIMUM_ROWS:
            raise LimitExceeded(f"{len(canvas.rows)} prompts × {n} samples are {rows} rows, at most {MAXIMUM_ROWS}")
        if max_tokens is not None and min_tokens > max_tokens:
            raise InvalidArgument(f"min_tokens {min_tokens} contradicts max_tokens {max_tokens}")
        self.model, self.canvas, self.codec, self.n = model, canvas, codec, n
        self.strategy = Autoregressive() if strategy is None else strategy
        self.fills = getattr(self.strategy, "fills", False)
        if self.fills:
            _check_filling(canvas, max_tokens, min_tokens, stop, stop_tokens, logprobs)
        elif not canvas.is_prefix:
            raise InvalidArgument(
                "this canvas has unknown positions inside; Autoregressive only continues rows, OneShot and Masked fill"
            )
        _check_vocabulary(model, canvas, codec)
        ends = _check_ids("end_tokens", model.end_tokens if end_tokens is None else end_tokens, model.vocab_size)
        stops = _check_ids("stop_tokens", stop_tokens, model.vocab_size)
        limits = _limits(model, canvas, max_tokens)
        if min_tokens > limits.min():
            raise LimitExceeded(f"min_tokens is {min_tokens}, a prompt leaves room for {limits.min()} in the context")
        self.rule = StopRule(
            end_tokens=frozenset(ends), stop_tokens=frozenset(stops), stop=stop, codec=codec, min_tokens=min_tokens
        )
        self.stats = Stats(prompt_tokens=int(sum(known(row).sum() for row in canvas.rows)) * n)
        self.request = Request(
            canvas=canvas,
            n=n,
            sampler=sampler,
            compiled=kernels.compile_sampler(
                sampler, vocab_size=model.vocab_size, end_tokens=[*ends, *stops], min_tokens=min_tokens
            ),
            seeds=_seeds(seed, len(canvas.rows)).repeat(n),
            samples=np.tile(np.arange(n, dtype=np.int64), len(canvas.rows)),
            limits=limits.repeat(n),
            min_tokens=min_tokens,
            logprobs=logprobs,
            threads=threads,
            stats=self.stats,
        )
        self.endings = [
            RowEnding(self.rule, int(limit), canvas.rows[row // n]) for row, limit in enumerate(self.request.limits)
        ]

    def steps(self) -> Iterator[Step]:
        """Drive the strategy, end rows where they end, count."""
        if not self.fills and not self.request.limits.any():
            return
        started = perf_counter()
        idle = 0.0  # time the consumer of the stream keeps for itself
        run = self.strategy.run(self.model, self.request)
        try:
            for step in run:
                if not self.fills:
                    self.endings[step.row].end(step)
                self.stats.count(step)
                paused = perf_counter()
                self.stats.seconds["total"] = paused - started - idle
                yield step
                idle += perf_counter() - paused
        finally:
            run.close()  # type: ignore[attr-defined]

    def result(self, steps: list[Step]) -> Generation:
        """What came out, row by row."""
        rows = []
        by_row: list[list[Step]] = [[] for _ in self.endings]
        for step in steps:
            by_row[step.row].append(step)
        wants_logprobs = self.request.logprobs is not None
        for index, own in enumerate(by_row):
            reason = own[-1].finish_reason if own else "length"
            assert reason is not None, "a strategy left a row open"
            units, tokens = _assembled(self.canvas.rows[index // self.n], own, reason, self.model.end_tokens)
            rows.append(
                Row(
                    tokens=tokens,
                    signal=self._signal(units, tokens, own),
                    finish_reason=reason,
                    logprobs=_logprobs(own, len(units)) if wants_logprobs else None,
                    top_logprobs=[t for step in own for t in step.top or ()] if wants_logprobs else None,
                    prompt=index // self.n,
                    sample=index % self.n,
                    units=units,
                )
            )
        prompts = [prompt for prompt in self.canvas.rows for _ in range(self.n)]
        if self.codec is None:
            return Generation(rows, self.stats, Trace(steps, prompts, self.stats, str))
        texts = [self.codec.decode(prompt[known(prompt)]) for prompt in prompts]
        return Generation(rows, self.stats, Trace(steps, prompts, self.stats, self.codec.piece, texts=texts))

    def _signal(self, units: np.ndarray, tokens: np.ndarray, steps: list[Step]) -> Any:
        if self.codec is None:
            return tokens
        if self.fills:
            return self.codec.decode(tokens if self.canvas.is_prefix else units)
        return "".join(step.text for step in steps)


def _assembled(
    given: np.ndarray, steps: list[Step], reason: str, end_tokens: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """A whole row, and those of its units that were generated."""
    if all(step.positions is None for step in steps):
        tokens = np.array([token for step in steps for token in step.tokens], dtype=np.int64)
        return np.concatenate((given, tokens)), tokens
    found = {place: token for step in steps for place, token in zip(step.positions or (), step.tokens, strict=True)}
    units = np.full(max(len(given), max(found, default=-1) + 1), UNKNOWN)
    units[: len(given)] = given
    units[list(found)] = list(found.values())
    if reason == "end":  # what was found behind END is no part of the row
        units = units[: 1 + min(place for place, token in found.items() if token in end_tokens)]
    places = [place for place in sorted(found) if place < len(units)]
    return units, units[places]


def _logprobs(steps: list[Step], width: int) -> list[float]:
    """Of the generated units in the order in which they stand."""
    found = [p for step in steps for p in step.logprobs or ()]
    if any(step.positions is None for step in steps):
        return found
    places = [place for step in steps for place in step.positions or ()]
    last = dict(zip(places, found, strict=True))  # what was found, forgotten and found again counts as it is
    return [last[place] for place in sorted(last) if place < width]


def _check_filling(
    canvas: Canvas, max_tokens: int | None, min_tokens: int, stop: Any, stop_tokens: Any, logprobs: int | None
) -> None:
    """Refuse what only makes sense where a row grows to the right, one unit after another."""
    given = {"min_tokens": min_tokens, "stop": stop, "stop_tokens": stop_tokens}
    if logprobs:
        raise InvalidArgument(f"logprobs is {logprobs}: of units found at any position give 0, for their own alone")
    if wrong := [name for name, value in given.items() if value]:
        raise InvalidArgument(f"{wrong[0]} is for Autoregressive; a strategy that fills any position has no use for it")
    if max_tokens is not None and not canvas.is_prefix:
        raise InvalidArgument(f"max_tokens {max_tokens} contradicts unknown positions in the canvas; leave one out")


def check_integer(name: str, value: Any, low: int, high: int) -> None:
    """Refuse what is no integer in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise ArgumentTypeError(f"{name} must be an integer, got {value!r}")
    if value > high:
        raise LimitExceeded(f"{name} is {value}, at most {high} is supported")
    if value < low:
        raise InvalidArgument(f"{name} must be at least {low}, got {value}")


def _check_vocabulary(model: Any, canvas: Canvas, codec: Text | None) -> None:
    if missing := [name for name in ("vocab_size", "context", "end_tokens") if not hasattr(model, name)]:
        raise UnsupportedModel(
            f"{type(model).__name__} lacks {missing} and is no model of units; wrap a transformers model in "
            "foretoken.HuggingFace, and of a pipeline pass .model"
        )
    vocab = model.vocab_size
    if codec is not None and codec.vocab_size > vocab:
        raise ShapeError(
            f"the tokenizer has ids up to {codec.vocab_size - 1}, the model only {vocab}; they do not belong together"
        )
    highest = max(int(row.max()) for row in canvas.rows)
    if highest >= vocab:
        raise InvalidArgument(f"the canvas holds id {highest}, the model's vocabulary is [0, {vocab})")


def _check_ids(name: str, ids: Sequence[int], vocab: int) -> tuple[int, ...]:
    if isinstance(ids, (str, bytes)) or not isinstance(ids, Iterable):
        raise ArgumentTypeError(f"{name} takes a sequence of ids, got {ids!r}")
    ids = tuple(ids)
    for value in ids:
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            raise ArgumentTypeError(f"{name} takes integers, got {value!r}")
        if not 0 <= value < vocab:
            raise InvalidArgument(f"{name} holds {value}, the model's vocabulary is [0, {vocab})")
    return tuple(int(value) for value in ids)


def _seeds(seed: int | Sequence[int] | None, prompts: int) -> np.ndarray:
    if seed is None:
        seed = secrets.randbits(64)
    if not isinstance(seed, (int, np.integer, Iterable)):
        raise ArgumentTypeError(f"seed must be an integer, or one for each prompt, got {seed!r}")
    seeds = list(seed) if isinstance(seed, Iterable) else [seed] * prompts
    if len(seeds) != prompts:
        raise ShapeError(f"{len(seeds)} seeds were given for {prompts} prompts")
    for value in seeds:
        check_seed(value)
    return np.array(seeds, dtype=np.uint64)


def check_seed(value: Any) -> None:
    """Refuse what is no seed of a row."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise ArgumentTypeError(f"a seed must be an integer, got {value!r}")
    if not 0 <= value < 2**64:
        raise InvalidArgument(f"a seed must be in [0, 2^64), got {value}")


def _limits(model: Any, canvas: Canvas, max_tokens: int | None) -> np.ndarray:
    lengths = np.array(canvas.lengths, dtype=np.int64)
    context = model.context
    if (longest := int(lengths.max())) > context:
        raise LimitExceeded(f"prompt {int(lengths.argmax())} has {longest} tokens, the model's context is {context}")
    room = context - lengths
    if max_tokens is None:
        return room
    if max_tokens > room.min():
        row = int(room.argmin())
        raise LimitExceeded(
            f"prompt {row} has {lengths[row]} tokens and max_tokens is {max_tokens}, together more than the context "
            f"of {context}; ask for at most {room[row]}, or None to fill the context"
        )
    return np.full(len(lengths), max_tokens, dtype=np.int64)
