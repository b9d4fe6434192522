"""What a drafter must offer: guesses that may change the speed, never the result."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from ..errors import DraftError
from ..model.protocol import CausalModel
from .costs import Adaptive, ForwardCosts
from .taps import Taps

_DRAFT = 4  # the first stream of noise that is the drafters'


Laws: TypeAlias = np.ndarray | tuple[np.ndarray, np.ndarray]
"""Of k guesses: (k, vocab) float64, or (ids (k, m) int64, float64 of the same shape), where the rest have none."""


@dataclasses.dataclass(frozen=True, slots=True)
class Draft:
    """Guesses for one row: a chain, or a tree of several.

    Args:
        tokens: (k,) int64 ids; k may be 0.
        probs: the law each guess was drawn from, given those that lead to it and the siblings before it; None if the
            guesses were certain.
        evidence: how well founded the guess is, a small integer ≥ 0 (a look-up's match length); the adaptive length
            learns separately for each order of magnitude of it.
        chances: (k,) float64, how likely the drafter thinks each guess to be right if those before it are (a look-up's
            counts), or None.
        source: name of the drafter, if another than the one that was asked.
        parents: (k,) int64, the index of the guess that each follows, less than its own, or -1 for the text; None for
            a chain. Only a drafter that says how many `nodes` its trees have may give them.
    """

    tokens: np.ndarray
    probs: Laws | None = None
    evidence: int = 0
    source: str = ""
    parents: np.ndarray | None = None
    chances: np.ndarray | None = None

    def first(self, k: int) -> Draft:
        """The draft without what follows its first `k` guesses."""
        return self if k >= len(self.tokens) else self._of(slice(k))

    def shallow(self, depth: int) -> Draft:
        """The draft without guesses that more than `depth - 1` others lead to."""
        if self.parents is None:
            return self.first(depth)
        kept = self.depths < depth
        if kept.all():
            return self
        index = kept.cumsum() - 1  # of those that stay; a parent stays if its child does
        parents = self.parents[kept]
        return dataclasses.replace(self._of(kept), parents=np.where(parents < 0, -1, index[parents]))

    @property
    def depths(self) -> np.ndarray:
        """How many guesses lead to each, (k,) int64."""
        if self.parents is None:
            return np.arange(len(self.tokens))
        depths: list[int] = []
        for parent in self.parents.tolist():
            depths.append(0 if parent < 0 else depths[parent] + 1)
        return np.array(depths, dtype=np.int64)

    def _of(self, kept: slice | np.ndarray) -> Draft:
        probs = tuple(part[kept] for part in self.probs) if isinstance(self.probs, tuple) else self.probs
        return dataclasses.replace(
            self,
            tokens=self.tokens[kept],
            probs=probs if probs is None or isinstance(probs, tuple) else probs[kept],  # type: ignore[arg-type]
            parents=None if self.parents is None else self.parents[kept],
            chances=None if self.chances is None else self.chances[kept],
        )


@dataclasses.dataclass(frozen=True)
class DraftRequest:
    """What a drafter may know of the generation it serves.

    Args:
        model: the model that checks the guesses.
        sampler: the compiled sampler whose choices are to be guessed.
        rejection: whether guesses are checked by the ratio test: then draw with noise of one of the `streams` and give
            `probs`; otherwise draw with the target's own noise.
        seeds, samples: (rows,) noise keys of each row.
        histories: the past of each row, as the kernels take it, or None where the sampler does not look at it.
        capacity: the most units a row may come to have.
        adaptive: how a draft's length follows its success, or None to draft as many as asked.
        costs: what forwards of the target cost, measured as they happen.
        streams: of the DRAFT noise; take the next one for each `propose`. Drafters that guess for the same place, and
            blocks that are judged as a whole, must not draw the same noise twice.
        taps: what the target's layers made of the text, if a drafter asks for it.
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
    streams: Iterator[int] = dataclasses.field(default_factory=lambda: itertools.count(_DRAFT))
    taps: Taps | None = None


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


@runtime_checkable
class WatchingSession(DraftSession, Protocol):
    """A session that is also told what the target makes of guesses that turned out wrong."""

    def drew(self, row: int, tokens: Sequence[int]) -> None:
        """Be told what the target would draw behind the first wrong guess, and behind each of those that follow it.

        Comes before `extend`, after a forward that read guesses. The first id is one for the place behind what `extend`
        will tell, the next one for the place behind that, and so on.
        """
        ...


class Drafter(Protocol):
    """Makes sessions; holds what generations share (weights, a corpus).

    A drafter whose drafts may be trees also says, as `nodes`, how many guesses one has at most. One that looks at the
    target's states says, as `taps`, behind which layers, from 0 and rising; they come by `DraftRequest.taps`.
    """

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
        if draft.parents is not None:
            _check_parents(draft.parents, len(tokens), name)


def _check_parents(parents: Any, count: int, name: str) -> None:
    if not isinstance(parents, np.ndarray) or parents.shape != (count,) or parents.dtype.kind not in "iu":
        raise DraftError(f"drafter {name!r} returned parents {parents!r}, expected {count} integers in a 1-D array")
    if count and ((parents < -1) | (parents >= np.arange(count))).any():
        raise DraftError(f"drafter {name!r} returned parents {parents.tolist()}; each comes before its child, or is -1")


NOTHING = Draft(np.empty(0, dtype=np.int64))
"""The draft of a drafter that has nothing to say."""
