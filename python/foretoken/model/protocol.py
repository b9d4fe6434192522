"""What a model must offer to be decoded: one unit after another, or all at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from .. import kernels


class Session(Protocol):
    """The past of some rows: what a causal model has read, and may be told to forget again."""

    @property
    def lengths(self) -> np.ndarray:
        """Units read by each row, (rows,) int64."""
        ...

    def forward(self, tokens: np.ndarray, counts: np.ndarray | None = None, *, last: bool = False) -> Tensor:
        """Read more units and predict what follows each of them.

        Args:
            tokens: (rows, width) int64; a row of which fewer than `width` count is padded on the right with any id.
            counts: (rows,) int64 in [1, width]: how many of `tokens` count; None for all.
            last: whether only the prediction after each row's last counted unit is wanted.

        Returns:
            logits (rows, width, vocab), or (rows, 1, vocab) with `last`; float32 on the CPU, or on the model's
            device. Predictions behind a row's count are arbitrary. The tensor is only valid until the next call.
        """
        ...

    def truncate(self, lengths: np.ndarray) -> None:
        """Forget, row by row, everything behind `lengths` (rows,) int64 units."""
        ...

    def select(self, rows: np.ndarray) -> None:
        """Keep these rows, in this order; a row may be named more than once."""
        ...


class TreeSession(Session, Protocol):
    """A past that can go on in several ways at once, until one of them is kept."""

    def forward_tree(self, tokens: np.ndarray, parents: np.ndarray, counts: np.ndarray | None = None) -> Tensor:
        """Read a tree of units behind each row and predict what follows each of them; then `keep` must come.

        Args:
            tokens: (rows, width) int64, padded on the right with any id.
            parents: (rows, width) int64, the index of the unit that each follows, less than its own, or -1 for the
                row's last one; padded with -1.
            counts: (rows,) int64 in [1, width]: how many of `tokens` count; None for all.

        Returns:
            logits (rows, width, vocab): of a unit, what `forward` would predict behind the units that lead to it.
        """
        ...

    def keep(self, path: np.ndarray, counts: np.ndarray) -> None:
        """Forget what `forward_tree` read but for the units on one path.

        Args:
            path: (rows, n) int64, indices into `tokens`, each the parent of the next, from one without a parent.
            counts: (rows,) int64 in [1, n]: how many of them count.
        """
        ...


class TappedSession(TreeSession, Protocol):
    """A past that also says what some layers made of the units of the last forward."""

    @property
    def states(self) -> Tensor:
        """The residual stream behind the tapped layers, (rows, width, taps, hidden) float32; arbitrary behind counts.

        In the order in which the units were given, also those of a tree; only valid until the next call of `forward`
        or `forward_tree`. `select` takes its rows along.
        """
        ...


@runtime_checkable
class DraftingSession(Session, Protocol):
    """A session that draws a whole draft in one call, for a `SmallModel`; what it draws is what single steps would."""

    def draft(
        self,
        tokens: np.ndarray,
        counts: np.ndarray | None,
        k: int,
        sampler: kernels.Compiled,
        *,
        seeds: np.ndarray,
        rows: np.ndarray | None = None,
        history: Sequence[kernels.History] | None = None,
        stream: int = 0,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Read units as `forward` does, then guess `k` more for each row, and read all but the last of them.

        Args:
            tokens, counts: as for `forward`.
            k: guesses a row, ≥ 1; there is room for those that are read.
            sampler: the target's, as `kernels.sample` takes it; so are `seeds`, `rows` and `history`. A guess stands
                where the session has it, and enters a copy of the history.
            stream: the noise that decides, as for `kernels.sample`; with that of drafts the laws are returned, too.

        Returns:
            ids (rows, k) int64, and with the noise of drafts the laws they were drawn from, (rows, k, vocab) float64.
        """
        ...


@runtime_checkable
class CausalModel(Protocol):
    """A model that predicts each unit from those before it."""

    @property
    def vocab_size(self) -> int:
        """Width of a row of logits."""
        ...

    @property
    def context(self) -> int:
        """The most units a row may have."""
        ...

    @property
    def end_tokens(self) -> tuple[int, ...]:
        """Ids that end a row."""
        ...

    def open(self, rows: int, capacity: int) -> Session:
        """An empty past for `rows` rows of at most `capacity` units each."""
        ...


@runtime_checkable
class TreeModel(CausalModel, Protocol):
    """A causal model that can also read trees of guesses; no strategy needs that unless a drafter makes some."""

    def open_tree(self, rows: int, capacity: int, nodes: int) -> TreeSession:
        """An empty past for `rows` rows of at most `capacity` units each, with room for a tree of `nodes` more."""
        ...


@runtime_checkable
class ParallelModel(Protocol):
    """A model that predicts all unknown units of a canvas at once, from the known ones on both sides."""

    @property
    def vocab_size(self) -> int:
        """Width of a row of logits."""
        ...

    @property
    def context(self) -> int:
        """The most units a row may have."""
        ...

    @property
    def end_tokens(self) -> tuple[int, ...]:
        """Ids that end a row."""
        ...

    def predict(self, canvas: np.ndarray, lengths: np.ndarray) -> Tensor:
        """Predict every unknown unit, each as if the other unknown ones stayed so.

        Args:
            canvas: (rows, positions) int64, `UNKNOWN` where a unit is to be found.
            lengths: (rows,) int64, how many positions of each row there are; what lies behind is not looked at.

        Returns:
            logits (rows, positions, vocab) float32, -inf where a unit cannot stand; those of known positions, and
            behind a row's length, are arbitrary. The tensor is only valid until the next call.
        """
        ...


@runtime_checkable
class LengthModel(ParallelModel, Protocol):
    """A parallel model that says how many units an answer has."""

    def predict_lengths(self, canvas: np.ndarray, lengths: np.ndarray) -> Tensor:
        """Log-probabilities (rows, longest + 1) float32 of how many units follow the known ones of each row."""
        ...


@runtime_checkable
class TappedModel(CausalModel, Protocol):
    """A causal model that lets a drafter see its states; nothing asks for that unless a drafter does."""

    def vocabulary(self) -> tuple[Tensor, Tensor]:
        """The vectors of the units, (vocab, hidden) float32 each: as they are read, and as they are predicted.

        The second makes logits of states with a mean square of 1: the gain of the last norm is in it.
        """
        ...

    def open_tapped(self, rows: int, capacity: int, nodes: int, taps: tuple[int, ...]) -> TappedSession:
        """What `open_tree` opens, with these layers tapped; they rise, and the first is 0."""
        ...
