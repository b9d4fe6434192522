"""What a model must offer to be decoded one unit after another."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from torch import Tensor


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
