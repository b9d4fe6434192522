"""Draws of the target's next tokens through the real loop, with a drafter, beside the law that they must have."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from .. import kernels
from ..canvas import Canvas, Step
from ..drafter.protocol import NOTHING, Draft, Drafter, DraftRequest
from ..errors import InvalidArgument
from ..generate import generate
from ..model.protocol import CausalModel
from ..sampler import Sampler
from ..strategy.autoregressive import Autoregressive
from ..strategy.verifier import Rejection
from .goodness import Drawn

_BATCH = 256  # rows of one generation
_SMALL = 1e-6


@dataclasses.dataclass(frozen=True, eq=False)
class Place:
    """One place of a text, drawn many times behind the same units.

    Args:
        drawn: how often which token, and the law.
        guesses: (vocab,) how often which token was guessed there.
    """

    drawn: Drawn
    guesses: np.ndarray

    @property
    def favourite(self) -> int:
        """Of the tokens that may be drawn the one that was guessed most; the most probable one if none was."""
        guesses = np.where(self.drawn.law > _SMALL, self.guesses, 0)
        return int(guesses.argmax() if guesses.any() else self.drawn.law.argmax())

    def unchecked(self) -> np.ndarray:
        """The law of a verifier that lets this token pass, whatever the target says."""
        return np.eye(1, len(self.guesses), self.favourite)[0]

    def distance(self) -> float:
        """Total variation between that law and the right one."""
        return 1 - float(self.drawn.law[self.favourite])


def check_law(sampler: Sampler) -> None:
    """Refuse samplers under which each seed has a law of its own.

    Raises:
        InvalidArgument: it is one.
    """
    if sampler.xtc_probability or sampler.mirostat_tau or sampler.processor is not None:
        raise InvalidArgument("a law can be tested without XTC, Mirostat and a processor: leave them out")


def places(
    target: CausalModel,
    drafter: Drafter,
    past: np.ndarray,
    *,
    sampler: Sampler,
    draws: int,
    count: int = 2,
    seed: int = 0,
) -> list[Place]:
    """Draw what follows a text under `Rejection`, and compute its law.

    Args:
        target, drafter: of the generation.
        past: (units,) at least two; the last one is put into every row's mouth, so that what follows it is drafted.
        sampler: without what `check_law` refuses.
        draws: how many rows, ≥ 1.
        count: places, each behind the token that was drawn most at the one before.
        seed: of the first batch of rows.
    """
    check_law(sampler)
    vocab = target.vocab_size
    compiled = kernels.compile_sampler(sampler, vocab_size=vocab)
    strategy = Autoregressive(drafter, Rejection(), length=count)
    rows: list[tuple[list[int], list[Step]]] = []
    for start in range(0, draws, _BATCH):
        # One unit more than is looked at, for the last one of a row is never drafted.
        out = generate(
            Begun(target, int(past[-1])), Canvas([past[:-1]]), strategy, sampler=sampler, end_tokens=(),
            max_tokens=count + 2, n=min(_BATCH, draws - start), seed=seed + start,
        )  # fmt: skip
        steps: list[list[Step]] = [[] for _ in out.rows]
        for step in out.trace:
            steps[step.row].append(step)
        rows += [(row.tokens.tolist(), own) for row, own in zip(out.rows, steps, strict=True)]
    found, path = [], past.tolist()
    for place in range(1, count + 1):
        law = law_behind(target, path, len(past) - 1, sampler, compiled)
        guesses = [guess for _, own in rows if (guess := _guessed(own, place)) is not None]
        counts = np.bincount([tokens[place] for tokens, _ in rows], minlength=vocab)
        found.append(Place(Drawn(counts, law), np.bincount(np.array(guesses, dtype=np.int64), minlength=vocab)))
        path.append(int(counts.argmax()))
        rows = [(tokens, own) for tokens, own in rows if tokens[place] == path[-1]]
    return found


def law_behind(model: CausalModel, path: Sequence[int], prompt: int, sampler: Sampler, compiled: Any) -> np.ndarray:
    """The law (vocab,) of what follows a text whose first `prompt` units are the prompt."""
    logits = model.open(1, len(path)).forward(np.array([path], dtype=np.int64), last=True)
    history = None
    if sampler.looks_back:
        history = [kernels.History(np.array(path[:prompt], dtype=np.int64))]
        history[0].extend(np.array(path[prompt:], dtype=np.int64))
    return kernels.process(logits[:, 0].contiguous(), compiled, seeds=[0], positions=[len(path)], history=history)[0]


def _guessed(steps: Sequence[Step], place: int) -> int | None:
    """The guess that was judged at a place of a row."""
    start = 0
    for step in steps:
        if start <= place < start + len(step.tokens):
            return step.drafted[place - start] if place - start < len(step.drafted) else None
        start += len(step.tokens)
    return None


class Begun:
    """A model that is certain of the first unit, and otherwise the one it is made of."""

    def __init__(self, model: CausalModel, first: int) -> None:
        self._model, self._first = model, first
        self.vocab_size, self.context, self.end_tokens = model.vocab_size, model.context, model.end_tokens

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def open(self, rows: int, capacity: int) -> _BegunSession:
        """A session whose first forward is of no interest."""
        return _BegunSession(self._model.open(rows, capacity), self._first)

    def open_tree(self, rows: int, capacity: int, nodes: int) -> _BegunSession:
        """The same, with room for trees."""
        return _BegunSession(self._model.open_tree(rows, capacity, nodes), self._first)  # type: ignore[attr-defined]

    def open_tapped(self, rows: int, capacity: int, nodes: int, taps: tuple[int, ...]) -> _BegunSession:
        """The same, for a drafter that looks at the model's states."""
        opened = self._model.open_tapped(rows, capacity, nodes, taps)  # type: ignore[attr-defined]
        return _BegunSession(opened, self._first)


class _BegunSession:
    def __init__(self, session: Any, first: int) -> None:
        self._session, self._first = session, first
        self._forward, self.truncate, self.select = session.forward, session.truncate, session.select
        self._begun = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def forward(self, tokens: np.ndarray, counts: np.ndarray | None = None, *, last: bool = False) -> torch.Tensor:
        logits = self._forward(tokens, counts, last=last)
        if not self._begun:
            self._begun = True
            logits = torch.full_like(logits, -torch.inf)
            logits[..., self._first] = 0.0
        return logits


class Liar:
    """Guesses a token and names a law that it was not drawn from, so that it is always let pass; a control.

    Args:
        token: the guess.
        share: of the rows of a batch in which it speaks.
        vocab_size: of the target.
    """

    name = "liar"

    def __init__(self, token: int, share: float, vocab_size: int) -> None:
        ids = np.array([[token, (token + 1) % vocab_size]])
        self._lie = Draft(np.array([token]), (ids, np.array([[_SMALL, 1 - _SMALL]])))
        self._honest, self._share = Draft(np.array([token])), share

    def open(self, request: DraftRequest) -> Liar:
        """It knows nothing, so one session is like another."""
        self._lying = round(self._share * len(request.seeds))
        return self

    def propose(self, rows: Sequence[int], k: int) -> list[Draft]:
        """The lie in the first rows, the same as a certain guess in the others."""
        return [(self._lie if row < self._lying else self._honest) if k else NOTHING for row in rows]

    def start(self, row: int, prompt: np.ndarray) -> None:
        """Nothing is learnt."""

    def extend(self, row: int, tokens: Sequence[int]) -> None:
        """Nothing is learnt."""

    def judge(self, row: int, draft: Draft, accepted: int) -> None:
        """Nothing is learnt."""

    def stop(self, row: int) -> None:
        """Nothing is forgotten."""
