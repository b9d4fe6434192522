"""One unit after another, with guesses checked on the way: plain decoding is the same loop with nothing guessed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from time import perf_counter

import numpy as np
import torch

from .. import kernels
from ..canvas import Step, pad
from ..drafter.costs import Adaptive, ForwardCosts
from ..drafter.pace import open_paced
from ..drafter.protocol import Draft, Drafter, DraftRequest, DraftSession, WatchingSession, check_drafts
from ..drafter.taps import Taps
from ..errors import ArgumentTypeError, DraftError, InvalidArgument, LogitsError, ShapeError, UnsupportedModel
from ..model.protocol import CausalModel, Session, TappedModel, TreeModel
from .guesses import Guesses
from .protocol import Request
from .redraws import Redraws
from .verifier import Coupled, Rejection, Verifier

_UNDRAFTED = 3  # first forwards without guesses, so that the cost of a plain one is known
_DRAFTED = 16  # forwards with guesses after which a plain one is measured again


@dataclasses.dataclass(frozen=True)
class Autoregressive:
    """Left to right; with a drafter, speculative decoding (2211.17192, 2302.01318).

    Args:
        drafter: guesses ahead, or None. It may change the speed, never what `verifier` guarantees.
        verifier: `Coupled()` keeps every token, `Rejection()` keeps the law.
        length: `Adaptive()` follows the measured gain; a number always drafts that many, in [1, 64].

    Raises:
        InvalidArgument: `length` is out of range, or contradicts the verifier's width; or the drafter makes trees,
            which `Rejection(block=True)` and `Coupled(width=k)` do not take.
        ArgumentTypeError: `drafter` is no drafter, or `verifier` no verifier.
    """

    drafter: Drafter | None = None
    verifier: Verifier = dataclasses.field(default_factory=Coupled)
    length: Adaptive | int = dataclasses.field(default_factory=Adaptive)

    def __post_init__(self) -> None:
        if self.drafter is not None and (isinstance(self.drafter, type) or not hasattr(self.drafter, "open")):
            raise ArgumentTypeError(f"drafter must be a Drafter or None, got {self.drafter!r}")
        if not isinstance(self.verifier, (Coupled, Rejection)):
            raise ArgumentTypeError(f"verifier must be Coupled() or Rejection(), got {self.verifier!r}")
        if not isinstance(self.length, Adaptive) and (
            isinstance(self.length, bool) or not isinstance(self.length, int) or not 1 <= self.length <= 64
        ):
            raise InvalidArgument(f"length must be Adaptive() or an integer in [1, 64], got {self.length!r}")
        width = self.verifier.width
        if width is not None and isinstance(self.length, int) and self.length > width:
            raise InvalidArgument(f"drafts of {self.length} do not fit Coupled(width={width})")
        if self.nodes and (width is not None or self.block):
            raise InvalidArgument(
                f"{self.verifier} checks chains, and the drafter makes trees of up to {self.nodes}; leave tree=True out"
            )

    @property
    def nodes(self) -> int:
        """The most guesses of a tree; 0 for a drafter that only makes chains."""
        return getattr(self.drafter, "nodes", 0)

    @property
    def taps(self) -> tuple[int, ...]:
        """The layers of the target that the drafter looks at; none for most."""
        return getattr(self.drafter, "taps", ())

    @property
    def block(self) -> bool:
        """Whether chains are judged as a whole."""
        return isinstance(self.verifier, Rejection) and self.verifier.block

    @property
    def maximum(self) -> int:
        """The longest draft."""
        longest = self.length.maximum if isinstance(self.length, Adaptive) else self.length
        width = self.verifier.width
        return longest if width is None else min(longest, width)

    def run(self, model: CausalModel, request: Request) -> Iterator[Step]:
        """Yield one step a row and forward; see `Strategy.run`."""
        if not isinstance(model, CausalModel):
            raise UnsupportedModel(
                f"Autoregressive needs a causal model (vocab_size, context, end_tokens, open); "
                f"{type(model).__name__} is none. Wrap a transformers model in foretoken.HuggingFace"
            )
        if self.nodes and not isinstance(model, TreeModel):
            raise UnsupportedModel(
                f"drafter {self.drafter.name!r} makes trees, and {type(model).__name__} has no open_tree to read them; "  # type: ignore[union-attr]
                "leave tree=True out"
            )
        if self.taps and not isinstance(model, TappedModel):
            raise UnsupportedModel(
                f"drafter {self.drafter.name!r} looks at layers {self.taps} of its target; "  # type: ignore[union-attr]
                f"{type(model).__name__} has no open_tapped to show them, Llama and Native have"
            )
        return _Loop(self, model, request).run()


class _Loop:
    """One generation: the rows that are still open, the model's session and the drafter's."""

    def __init__(self, strategy: Autoregressive, model: CausalModel, request: Request) -> None:
        self.strategy, self.model, self.request, self.stats = strategy, model, request, request.stats
        prompts = request.canvas.rows
        self.prompts = [prompts[i // request.n] for i in range(len(prompts) * request.n)]
        self.rows = list(range(len(self.prompts)))  # open rows, in the order of the session's lines
        # Of each open row; lists, because a few numbers are added up faster one by one than by numpy.
        self.budget = request.limits.tolist()  # units that may still be added
        self.lengths = [len(prompt) for prompt in self.prompts]  # units there are
        self.newest: list[int] = []  # the last of them, chosen but not read by the model
        self.path: np.ndarray | None = None  # of the last trees: what stays, the newest unit first
        self.seeds, self.samples = request.seeds, request.samples
        capacity = max(length + limit for length, limit in zip(self.lengths, self.budget, strict=True))
        self.capacity = min(capacity, model.context)
        self.histories = None
        if request.sampler.looks_back or request.min_tokens:
            self.histories = [kernels.History(prompt) for prompt in self.prompts]
        self.rejection = isinstance(strategy.verifier, Rejection)
        width = strategy.verifier.width
        self.fixed_width = None if width is None else width + 1
        self.texts = [p.tolist() for p in self.prompts] if request.sampler.processor is not None else None
        self.costs = ForwardCosts()
        self.taps = Taps(strategy.taps) if strategy.taps else None
        self.drafted = 0  # forwards since the last plain one
        self.redraws: Redraws | None = None
        self.drafting = self._open_drafter()

    def _open_drafter(self) -> DraftSession | None:
        strategy, request = self.strategy, self.request
        if strategy.drafter is None:
            return None
        asked = DraftRequest(
            model=self.model,
            sampler=request.compiled,
            rejection=self.rejection,
            seeds=request.seeds,
            samples=request.samples,
            histories=self.histories,
            capacity=self.capacity,
            adaptive=strategy.length if isinstance(strategy.length, Adaptive) else None,
            costs=self.costs,
            taps=self.taps,
        )
        drafting = open_paced(strategy.drafter, asked)
        if isinstance(drafting, WatchingSession):
            self.redraws = Redraws(drafting, asked)
        for row, prompt in enumerate(self.prompts):
            drafting.start(row, prompt)
        return drafting

    def run(self) -> Iterator[Step]:
        session, logits = self._read_prompts()
        guesses: Guesses | None = None
        while True:
            try:
                steps = self._choose(session, logits, guesses)
            except LogitsError as error:
                if len(self.rows) == len(self.prompts):
                    raise
                raise LogitsError(f"{error} (rows are counted among those still open, {self.rows})") from None
            if self.taps is not None and self.stats.forwards > 1:
                self._tell_states(session, self.taps, steps, guesses)
            yield from steps
            if not self._close_finished(session, steps):
                return
            if guesses is not None:
                # The newest unit of a row is chosen but not read yet.
                session.truncate(np.array(self.lengths, dtype=np.int64) - 1)
            guesses = self._draft()
            logits = self._forward(session, guesses)

    def _read_prompts(self) -> tuple[Session, torch.Tensor]:
        started = perf_counter()
        prompts, n = self.request.canvas.rows, self.request.n
        if self.taps is not None:
            session = self.model.open_tapped(  # type: ignore[attr-defined]
                len(prompts), self.capacity, self.strategy.nodes, self.taps.layers
            )
        elif self.strategy.nodes:
            session = self.model.open_tree(len(prompts), self.capacity, self.strategy.nodes)  # type: ignore[attr-defined]
        else:
            session = self.model.open(len(prompts), self.capacity)
        tokens, counts = pad(prompts)
        logits = session.forward(tokens, counts if len(prompts) > 1 else None, last=True)
        self._check_logits(logits, len(prompts), 1)
        if self.taps is not None:
            for row, prompt in enumerate(self.prompts):
                self.taps.put(row, session.states[row // n, : len(prompt)])  # type: ignore[attr-defined]
        if n > 1:
            session.select(np.arange(len(prompts), dtype=np.int64).repeat(n))
            logits = logits.repeat_interleave(n, dim=0)
        self.stats.forwards += 1
        self.stats.row_forwards += len(self.rows)
        self.stats.seconds["prompt"] += perf_counter() - started
        return session, logits

    def _forward(self, session: Session, guesses: Guesses | None) -> torch.Tensor:
        started = perf_counter()
        tokens = np.array(self.newest, dtype=np.int64)[:, None]
        counts = None
        if guesses is not None:
            tokens, counts = np.concatenate((tokens, guesses.tokens), axis=1), guesses.lengths + 1
        if self.fixed_width is not None:
            tokens = np.pad(tokens, ((0, 0), (0, self.fixed_width - tokens.shape[1])))
            counts = np.ones(len(tokens), dtype=np.int64) if counts is None else counts
        if guesses is not None and guesses.parents is not None:
            parents = np.pad(guesses.parents + 1, ((0, 0), (1, 0)), constant_values=-1)  # the newest unit leads to all
            logits = session.forward_tree(tokens, parents, counts)  # type: ignore[attr-defined]
        else:
            logits = session.forward(tokens, counts)
        width = tokens.shape[1]
        self._check_logits(logits, len(self.rows), width)
        seconds = perf_counter() - started
        self.drafted = 0 if guesses is None else self.drafted + 1
        if self.stats.forwards > 1:  # the first one behind the prompt starts threads and fills caches
            self.costs.note(width, seconds)
        self.stats.forwards += 1
        self.stats.row_forwards += len(self.rows)
        self.stats.seconds["model"] += seconds
        return logits

    def _check_logits(self, logits: torch.Tensor, rows: int, width: int) -> None:
        expected = (rows, width, self.model.vocab_size)
        if not isinstance(logits, torch.Tensor):
            raise ArgumentTypeError(f"the model returned {type(logits).__name__} as logits, expected a torch tensor")
        if tuple(logits.shape) != expected:
            raise ShapeError(f"the model returned logits of shape {tuple(logits.shape)}, expected {expected}")

    def _draft(self) -> Guesses | None:
        """Guesses for the open rows, or None if there are none at all."""
        if self.drafting is None:
            return None
        if isinstance(self.strategy.length, Adaptive) and (
            self.stats.forwards <= _UNDRAFTED or self.drafted >= _DRAFTED
        ):
            return None
        started = perf_counter()
        # A guess for the last unit of a row is a forward for nothing.
        k = min(self.strategy.maximum, max(self.budget) - 1)
        guesses = None
        if k > 0:
            drafts = self.drafting.propose(self.rows, k)
            check_drafts(drafts, len(self.rows), self.strategy.drafter.name)  # type: ignore[union-attr]
            if any(len(draft.tokens) for draft in drafts):
                guesses = Guesses([self._fit(*item, k) for item in zip(self.rows, self.budget, drafts, strict=True)])
        self.stats.seconds["draft"] += perf_counter() - started
        return guesses

    def _fit(self, row: int, budget: int, draft: Draft, k: int) -> Draft:
        tokens, longest = draft.tokens, len(draft.tokens)
        if draft.parents is not None:
            longest = int(draft.depths.max(initial=-1)) + 1
            if len(tokens) > (most := self.strategy.nodes):
                raise DraftError(f"{self._name(draft)} proposed a tree of {len(tokens)} guesses, announced {most}")
        if longest > k:
            raise DraftError(f"{self._name(draft)} proposed {longest} guesses for row {row}, asked for at most {k}")
        if len(tokens) and not (0 <= tokens.min() and tokens.max() < self.model.vocab_size):
            raise DraftError(
                f"{self._name(draft)} proposed ids in [{tokens.min()}, {tokens.max()}] for row {row}, "
                f"the vocabulary is [0, {self.model.vocab_size})"
            )
        return draft.shallow(max(0, budget - 1))

    def _name(self, draft: Draft) -> str:
        return f"drafter {draft.source or self.strategy.drafter.name!r}"  # type: ignore[union-attr]

    def _choose(self, session: Session, logits: torch.Tensor, guesses: Guesses | None) -> list[Step]:
        """Choose and verify: one step a row."""
        started = perf_counter()
        request = self.request
        if self.texts is not None:
            logits = self._process(logits, guesses)
        keys = {
            "seeds": self.seeds, "positions": self.lengths, "rows": self.samples, "history": self.histories,
            "logprobs": request.logprobs, "threads": request.threads,
        }  # fmt: skip
        if guesses is None:
            if logits.shape[1] > 1:  # the padding of a fixed width
                logits = logits[:, :1]
            chosen = kernels.sample(logits.contiguous(), request.compiled, **keys)
            steps = [
                Step(row, [token], [], 0, "", [gap])
                for row, token, gap in zip(self.rows, chosen.tokens.tolist(), chosen.gaps.tolist(), strict=True)
            ]
        else:
            chosen, steps = self._verify(logits, guesses, keys)
            if guesses.parents is not None:
                # Of the tree the newest unit, which led to all guesses, and the accepted ones stay.
                self.path = np.pad(chosen.path + 1, ((0, 0), (1, 0)))
                session.keep(self.path, chosen.accepted + 1)  # type: ignore[attr-defined]
        if request.logprobs is not None:
            _attach_logprobs(steps, chosen)
        self.stats.seconds["sample"] += perf_counter() - started
        return steps

    def _verify(self, logits: torch.Tensor, guesses: Guesses, keys: dict) -> tuple[kernels.Verified, list[Step]]:
        verified = kernels.verify(
            logits[:, : guesses.tokens.shape[1] + 1].contiguous(), guesses.tokens, self.request.compiled,
            lengths=guesses.lengths, parents=guesses.parents, rejection=self.rejection, block=self.strategy.block,
            draft_probs=guesses.probs(self.model.vocab_size) if self.rejection else None, **keys,
        )  # fmt: skip
        steps = []
        paths = verified.path.tolist()
        tokens, gaps = verified.tokens.tolist(), verified.gaps.tolist()
        for line, (row, accepted) in enumerate(zip(self.rows, verified.accepted.tolist(), strict=True)):
            draft, emitted = guesses.drafts[line], accepted + 1
            drafted = guesses.branch(line, paths[line][:accepted])
            source = ""
            if drafted:
                source = draft.source or self.strategy.drafter.name  # type: ignore[union-attr]
                self.drafting.judge(row, draft, accepted)  # type: ignore[union-attr]
            steps.append(Step(row, tokens[line][:emitted], drafted, accepted, source, gaps[line][:emitted]))
        if self.redraws is not None:
            self.redraws.tell(logits, guesses, verified, self.rows, keys)
        return verified, steps

    def _tell_states(self, session: Session, taps: Taps, steps: list[Step], guesses: Guesses | None) -> None:
        """Let the drafter see what the tapped layers made of the units that stay."""
        states = session.states  # type: ignore[attr-defined]
        in_order = guesses is None or guesses.parents is None
        for line, step in enumerate(steps):
            stay = slice(step.accepted + 1) if in_order else self.path[line, : step.accepted + 1]  # type: ignore[index]
            taps.put(step.row, states[line, stay])

    def _process(self, logits: torch.Tensor, guesses: Guesses | None) -> torch.Tensor:
        """Run the user's processor on each place of each row, as if the guesses before it were accepted."""
        processor, processed = self.request.sampler.processor, logits.cpu().numpy().copy()
        for line, row in enumerate(self.rows):
            past = self.texts[row]  # type: ignore[index]
            for place in range(1 if guesses is None else len(guesses.ids[line]) + 1):
                drafted = [] if guesses is None else guesses.before(line, place - 1)
                tokens = np.array(past + drafted, dtype=np.int64)
                new = np.asarray(processor(tokens, processed[line, place]))  # type: ignore[misc]
                if new.shape != processed.shape[2:]:
                    raise ShapeError(f"processor returned shape {new.shape}, expected {processed.shape[2:]}")
                processed[line, place] = new
        return torch.from_numpy(processed)

    def _close_finished(self, session: Session, steps: list[Step]) -> bool:
        """Take finished rows out, tell the others' drafters; False if no row is left."""
        kept = []
        self.newest = []
        for line, step in enumerate(steps):
            tokens, finished = step.tokens, step.finish_reason is not None
            if not finished:
                kept.append(line)
                self.newest.append(tokens[-1])
                self.lengths[line] += len(tokens)
                self.budget[line] -= len(tokens)
            if self.drafting is not None:
                if finished:
                    self.drafting.stop(step.row)
                    if self.taps is not None:
                        self.taps.stop(step.row)
                else:
                    self.drafting.extend(step.row, tokens)
            if self.texts is not None:
                self.texts[step.row].extend(tokens)
        if kept and len(kept) < len(steps):
            self.rows, self.lengths, self.budget = (
                [values[line] for line in kept] for values in (self.rows, self.lengths, self.budget)
            )
            self.seeds, self.samples = self.seeds[kept], self.samples[kept]
            if self.histories is not None:
                self.histories = [self.histories[line] for line in kept]
            session.select(np.array(kept, dtype=np.int64))
        return bool(kept)


def _attach_logprobs(steps: list[Step], chosen: kernels.Choices | kernels.Verified) -> None:
    assert chosen.logprobs is not None
    assert chosen.top_tokens is not None
    assert chosen.top_logprobs is not None
    lines = len(steps)
    logprobs = chosen.logprobs.reshape(lines, -1)
    top_ids = chosen.top_tokens.reshape(*logprobs.shape, -1)
    top = chosen.top_logprobs.reshape(*logprobs.shape, -1)
    for line, step in enumerate(steps):
        count = len(step.tokens)
        step.logprobs = logprobs[line, :count].tolist()
        step.top = [
            list(zip(ids.tolist(), values.tolist(), strict=True))
            for ids, values in zip(top_ids[line, :count], top[line, :count], strict=True)
        ]
