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
from ..drafter.protocol import NOTHING, Draft, Drafter, DraftRequest, DraftSession, check_drafts
from ..errors import ArgumentTypeError, DraftError, InvalidArgument, LogitsError, ShapeError, UnsupportedModel
from ..model.protocol import CausalModel, Session
from .protocol import Request
from .verifier import Coupled, Rejection, Verifier

_UNDRAFTED = 2  # first forwards without guesses, so that the cost of a plain one is known


@dataclasses.dataclass(frozen=True)
class Autoregressive:
    """Left to right; with a drafter, speculative decoding (2211.17192, 2302.01318).

    Args:
        drafter: guesses ahead, or None. It may change the speed, never what `verifier` guarantees.
        verifier: `Coupled()` keeps every token, `Rejection()` keeps the law.
        length: `Adaptive()` follows the measured gain; a number always drafts that many, in [1, 64].

    Raises:
        InvalidArgument: `length` is out of range, or contradicts the verifier's width.
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
        width = self.verifier.width if isinstance(self.verifier, Coupled) else None
        if width is not None and isinstance(self.length, int) and self.length > width:
            raise InvalidArgument(f"drafts of {self.length} do not fit Coupled(width={width})")

    @property
    def maximum(self) -> int:
        """The longest draft."""
        longest = self.length.maximum if isinstance(self.length, Adaptive) else self.length
        width = self.verifier.width if isinstance(self.verifier, Coupled) else None
        return longest if width is None else min(longest, width)

    def run(self, model: CausalModel, request: Request) -> Iterator[Step]:
        """Yield one step a row and forward; see `Strategy.run`."""
        if not isinstance(model, CausalModel):
            raise UnsupportedModel(
                f"Autoregressive needs a causal model (vocab_size, context, end_tokens, open); "
                f"{type(model).__name__} is none. Wrap a transformers model in foretoken.HuggingFace"
            )
        return _Loop(self, model, request).run()


class _Loop:
    """One generation: the rows that are still open, the model's session and the drafter's."""

    def __init__(self, strategy: Autoregressive, model: CausalModel, request: Request) -> None:
        self.strategy, self.model, self.request, self.stats = strategy, model, request, request.stats
        prompts = request.canvas.rows
        self.prompts = [prompts[i // request.n] for i in range(len(prompts) * request.n)]
        self.rows = list(range(len(self.prompts)))  # open rows, in the order of the session's lines
        self.budget = request.limits.copy()  # units that may still be added to each open row
        self.seeds, self.samples = request.seeds, request.samples
        capacity = max(len(p) + int(limit) for p, limit in zip(self.prompts, request.limits, strict=True))
        self.capacity = min(capacity, model.context)
        self.histories = None
        if request.sampler.looks_back or request.min_tokens:
            self.histories = [kernels.History(prompt) for prompt in self.prompts]
        self.rejection = isinstance(strategy.verifier, Rejection)
        width = strategy.verifier.width if isinstance(strategy.verifier, Coupled) else None
        self.fixed_width = None if width is None else width + 1
        self.texts = [p.tolist() for p in self.prompts] if request.sampler.processor is not None else None
        self.costs = ForwardCosts()
        self.drafting = self._open_drafter()

    def _open_drafter(self) -> DraftSession | None:
        strategy, request = self.strategy, self.request
        if strategy.drafter is None:
            return None
        drafting = open_paced(
            strategy.drafter,
            DraftRequest(
                model=self.model,
                sampler=request.compiled,
                rejection=self.rejection,
                seeds=request.seeds,
                samples=request.samples,
                histories=self.histories,
                capacity=self.capacity,
                adaptive=strategy.length if isinstance(strategy.length, Adaptive) else None,
                costs=self.costs,
            ),
        )
        for row, prompt in enumerate(self.prompts):
            drafting.start(row, prompt)
        return drafting

    def run(self) -> Iterator[Step]:
        session, logits = self._read_prompts()
        drafts: list[Draft] | None = None
        pending = np.zeros((len(self.rows), 1), dtype=np.int64)
        while True:
            try:
                steps, last = self._choose(logits, drafts)
            except LogitsError as error:
                if len(self.rows) == len(self.prompts):
                    raise
                raise LogitsError(f"{error} (rows are counted among those still open, {self.rows})") from None
            yield from steps
            if not self._close_finished(session, steps):
                return
            pending = last[self._kept]
            drafts = self._draft()
            logits = self._forward(session, pending, drafts)

    def _read_prompts(self) -> tuple[Session, torch.Tensor]:
        started = perf_counter()
        prompts, n = self.request.canvas.rows, self.request.n
        session = self.model.open(len(prompts), self.capacity)
        tokens, counts = pad(prompts)
        logits = session.forward(tokens, counts if len(prompts) > 1 else None, last=True)
        self._check_logits(logits, len(prompts), 1)
        if n > 1:
            session.select(np.arange(len(prompts), dtype=np.int64).repeat(n))
            logits = logits.repeat_interleave(n, dim=0)
        self.lengths = session.lengths.copy()
        self.stats.forwards += 1
        self.stats.row_forwards += len(self.rows)
        self.stats.seconds["prompt"] += perf_counter() - started
        return session, logits

    def _forward(self, session: Session, pending: np.ndarray, drafts: list[Draft] | None) -> torch.Tensor:
        started = perf_counter()
        if drafts is None and self.fixed_width is None:
            tokens, counts = pending, None
        else:
            ends = pending[:, 0].tolist()
            rows = drafts if drafts is not None else [NOTHING] * len(ends)
            tokens, counts = pad(
                [[end, *draft.tokens] for end, draft in zip(ends, rows, strict=True)], width=self.fixed_width
            )
        logits = session.forward(tokens, counts)
        width = tokens.shape[1]
        self._check_logits(logits, len(self.rows), width)
        seconds = perf_counter() - started
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

    def _draft(self) -> list[Draft] | None:
        """Guesses for the open rows, or None if there are none at all."""
        if self.drafting is None or (self.stats.forwards <= _UNDRAFTED and not isinstance(self.strategy.length, int)):
            return None
        started = perf_counter()
        # A guess for the last unit of a row is a forward for nothing.
        room = int(self.budget.max()) - 1
        k = min(self.strategy.maximum, room)
        drafts = None
        if k > 0:
            drafts = self.drafting.propose(self.rows, k)
            check_drafts(drafts, len(self.rows), self.strategy.drafter.name)  # type: ignore[union-attr]
            if any(len(draft.tokens) for draft in drafts):
                drafts = [self._fit(*item, k) for item in zip(self.rows, self.budget, drafts, strict=True)]
            else:
                drafts = None
        self.stats.seconds["draft"] += perf_counter() - started
        return drafts

    def _fit(self, row: int, budget: np.int64, draft: Draft, k: int) -> Draft:
        tokens = draft.tokens
        if len(tokens) > k:
            raise DraftError(f"{self._name(draft)} proposed {len(tokens)} guesses for row {row}, asked for at most {k}")
        if len(tokens) and not (0 <= tokens.min() and tokens.max() < self.model.vocab_size):
            raise DraftError(
                f"{self._name(draft)} proposed ids in [{tokens.min()}, {tokens.max()}] for row {row}, "
                f"the vocabulary is [0, {self.model.vocab_size})"
            )
        keep = max(0, int(budget) - 1)
        if len(tokens) <= keep:
            return draft
        probs = None if draft.probs is None else draft.probs[:keep]
        return dataclasses.replace(draft, tokens=tokens[:keep], probs=probs)

    def _name(self, draft: Draft) -> str:
        return f"drafter {draft.source or self.strategy.drafter.name!r}"  # type: ignore[union-attr]

    def _choose(self, logits: torch.Tensor, drafts: list[Draft] | None) -> tuple[list[Step], np.ndarray]:
        """Choose and verify; returns the steps and each row's newest unit (rows, 1)."""
        started = perf_counter()
        request = self.request
        if self.texts is not None:
            logits = self._process(logits, drafts)
        keys = {
            "seeds": self.seeds, "positions": self.lengths, "rows": self.samples, "history": self.histories,
            "logprobs": request.logprobs, "threads": request.threads,
        }  # fmt: skip
        if drafts is None:
            chosen = kernels.sample(logits[:, 0].contiguous(), request.compiled, **keys)
            steps = [
                Step(row, [token], [], 0, "", [gap])
                for row, token, gap in zip(self.rows, chosen.tokens.tolist(), chosen.gaps.tolist(), strict=True)
            ]
            if request.logprobs is not None:
                _attach_logprobs(steps, chosen)
            last = chosen.tokens[:, None]
        else:
            steps, last = self._verify(logits, drafts, keys)
        self.stats.seconds["sample"] += perf_counter() - started
        return steps, last

    def _verify(self, logits: torch.Tensor, drafts: list[Draft], keys: dict) -> tuple[list[Step], np.ndarray]:
        tokens, lengths = pad([draft.tokens for draft in drafts])
        probs = None
        if self.rejection and any(draft.probs is not None for draft in drafts):
            probs = _dense_probs(drafts, tokens, self.model.vocab_size)
        verified = kernels.verify(
            logits[:, : tokens.shape[1] + 1].contiguous(), tokens, self.request.compiled,
            lengths=lengths, rejection=self.rejection, draft_probs=probs, **keys,
        )  # fmt: skip
        steps = []
        last = np.empty((len(drafts), 1), dtype=np.int64)
        for line, (row, draft) in enumerate(zip(self.rows, drafts, strict=True)):
            accepted = int(verified.accepted[line])
            emitted = accepted + 1
            source = draft.source or self.strategy.drafter.name if len(draft.tokens) else ""  # type: ignore[union-attr]
            step = Step(
                row, verified.tokens[line, :emitted].tolist(), draft.tokens.tolist(), accepted, source,
                verified.gaps[line, :emitted].tolist(),
            )  # fmt: skip
            steps.append(step)
            last[line] = step.tokens[-1]
            if len(draft.tokens):
                self.drafting.judge(row, draft, accepted)  # type: ignore[union-attr]
        if self.request.logprobs is not None:
            _attach_logprobs(steps, verified)
        return steps, last

    def _process(self, logits: torch.Tensor, drafts: list[Draft] | None) -> torch.Tensor:
        """Run the user's processor on each place of each row, as if the guesses before it were accepted."""
        processor, processed = self.request.sampler.processor, logits.cpu().numpy().copy()
        for line, row in enumerate(self.rows):
            past = self.texts[row]  # type: ignore[index]
            guesses = [] if drafts is None else drafts[line].tokens.tolist()
            for place in range(len(guesses) + 1):
                tokens = np.array(past + guesses[:place], dtype=np.int64)
                new = np.asarray(processor(tokens, processed[line, place]))  # type: ignore[misc]
                if new.shape != processed.shape[2:]:
                    raise ShapeError(f"processor returned shape {new.shape}, expected {processed.shape[2:]}")
                processed[line, place] = new
        return torch.from_numpy(processed)

    def _close_finished(self, session: Session, steps: list[Step]) -> bool:
        """Take finished rows out, tell the others' drafters; False if no row is left."""
        kept = [line for line, step in enumerate(steps) if step.finish_reason is None]
        for step in steps:
            if self.drafting is not None:
                if step.finish_reason is None:
                    self.drafting.extend(step.row, step.tokens)
                else:
                    self.drafting.stop(step.row)
            if self.texts is not None:
                self.texts[step.row].extend(step.tokens)
        emitted = np.array([len(step.tokens) for step in steps], dtype=np.int64)
        self.lengths = self.lengths + emitted
        self.budget = self.budget - emitted
        self._kept = np.array(kept, dtype=np.int64)
        if not kept:
            return False
        if len(kept) < len(steps):
            self.rows = [self.rows[line] for line in kept]
            self.lengths, self.budget = self.lengths[self._kept], self.budget[self._kept]
            self.seeds, self.samples = self.seeds[self._kept], self.samples[self._kept]
            if self.histories is not None:
                self.histories = [self.histories[line] for line in kept]
            session.select(self._kept)
        # The newest unit of a row is chosen but not read yet.
        session.truncate(self.lengths - 1)
        return True


def _dense_probs(drafts: list[Draft], tokens: np.ndarray, vocab: int) -> np.ndarray:
    probs = np.zeros((*tokens.shape, vocab))
    for line, draft in enumerate(drafts):
        places = np.arange(len(draft.tokens))
        if draft.probs is not None:
            law = draft.probs
            if not isinstance(law, np.ndarray) or law.shape != (len(places), vocab) or law.dtype.kind != "f":
                given = getattr(law, "shape", type(law).__name__)
                raise DraftError(f"a draft came with probs {given}, expected a float array {(len(places), vocab)}")
            probs[line, places] = draft.probs
        else:
            probs[line, places, draft.tokens] = 1.0  # a certain guess
    return probs


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
