"""What a drafter must offer: guesses that may change the speed, never the result."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from ..errors import DraftError
from ..model.protocol import CausalModel
from .costs import Adaptive, ForwardCosts


@dataclasses.dataclass(frozen=True, slots=True)
class Draft:
    """Guesses for one row.

    Args:
        tokens: (k,) int64 ids; k may be 0.
        probs: (k, vocab) float64, the law each guess was drawn from; None if the guess was certain.
        evidence: how well founded the guess is, a small integer ≥ 0 (a look-up's match length); the adaptive length
            learns separately for each order of magnitude of it.
        source: name of the drafter, if another than the one that was asked.
    """

    tokens: np.ndarray
    probs: np.ndarray | None = None
    evidence: int = 0
    source: str = ""

    def first(self, k: int) -> Draft:
        """The draft without what follows its first `k` guesses."""
        if k >= len(self.tokens):
            return self
        probs = None if self.probs is None else self.probs[:k]
        return dataclasses.replace(self, tokens=self.tokens[:k], probs=probs)


@dataclasses.dataclass(frozen=True)
class DraftRequest:
    """What a drafter may know of the generation it serves.

    Args:
        model: the model that checks the guesses.
        sampler: the compiled sampler whose choices are to be guessed.
        rejection: whether guesses are checked by the ratio test: then draw with the DRAFT noise and give `probs`;
            otherwise draw with the target's own noise.
        seeds, samples: (rows,) noise keys of each row.
        histories: the past of each row, as the kernels take it, or None where the sampler does not look at it.
        capacity: the most units a row may come to have.
        adaptive: how a draft's length follows its success, or None to draft as many as asked.
        costs: what forwards of the target cost, measured as they happen.
    """

    model: CausalModel
    sampler: Any
    rejection: bool
    seeds: np.ndarray
    samples: np.ndarray
    histories: Sequence[Any] | None
    capacity: int
    adaptive: Adaptive | None
    costs: ForwardCosts


class DraftSession(Protocol):
    """A drafter at work on the rows of one generation."""

    def start(self, row: int, prompt: np.ndarray) -> None:
        """Begin a row that starts with these ids."""
        ...

    def extend(self, row: int, tokens: Sequence[int]) -> None:
        """Tell what the row was continued with."""
        ...

    def propose(self, rows: Sequence[int], k: int) -> list[Draft]:
        """Guess up to `k` ids for each of these rows."""
        ...

    def judge(self, row: int, draft: Draft, accepted: int) -> None:
        """Be told how many guesses of a draft, from the first, were right."""
        ...

    def stop(self, row: int) -> None:
        """Forget a row."""
        ...


class Drafter(Protocol):
    """Makes sessions; holds what generations share (weights, a corpus)."""

    @property
    def name(self) -> str:
        """What statistics and traces call it."""
        ...

    def open(self, request: DraftRequest) -> DraftSession:
        """A session for one generation."""
        ...


def check_drafts(drafts: Sequence[Draft], rows: int, name: str) -> None:
    """Refuse what is not one draft of integers for each row; ids and lengths are checked where they are used.

    Raises:
        DraftError: it is not.
    """
    if not isinstance(drafts, Sequence) or len(drafts) != rows:
        count = len(drafts) if isinstance(drafts, Sequence) else type(drafts).__name__
        raise DraftError(f"drafter {name!r} returned {count} for {rows} rows, expected a list of one Draft for each")
    for draft in drafts:
        tokens = draft.tokens if isinstance(draft, Draft) else None
        if not isinstance(tokens, np.ndarray) or tokens.ndim != 1 or (len(tokens) and tokens.dtype.kind not in "iu"):
            raise DraftError(f"drafter {name!r} returned {draft!r}, expected a Draft with a 1-D array of integers")


NOTHING = Draft(np.empty(0, dtype=np.int64))
"""The draft of a drafter that has nothing to say."""
