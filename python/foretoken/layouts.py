"""Orders as data: in which order the units of a grid stand in a row, and which may be filled in together.

A grid with several codes a place (sound has a few for each frame) is a row like any other: its places are numbered, and
a layout says which one stands where. No part of the engine knows of an axis of code books.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from .errors import InvalidArgument


@dataclasses.dataclass(frozen=True, eq=False)
class Layout:
    """A row's order, and its blocks.

    Args:
        order: (n,) int64, a permutation of 0 to n - 1: the row's unit i lies at place order[i] of the flattened grid.
        blocks: (blocks + 1,) int64, rising from 0 to n: what stands between two neighbours does not depend on each
            other and may be filled in together.

    Example:
        >>> Layout(np.array([1, 0, 2]), np.array([0, 1, 3])).row(np.array([[10, 20, 30]]))
        array([20, 10, 30])
    """

    order: np.ndarray
    blocks: np.ndarray

    def __len__(self) -> int:
        return len(self.order)

    def row(self, grid: np.ndarray) -> np.ndarray:
        """The units of a grid of n places, of whatever shape, as a row (n,)."""
        return np.asarray(grid).reshape(-1)[self.order]

    def grid(self, row: np.ndarray) -> np.ndarray:
        """The units (n,) of a row in the order of the flattened grid: the way back from `row`."""
        grid = np.empty_like(row)
        grid[self.order] = row
        return grid


def delay(frames: int, books: int) -> Layout:
    """The delay pattern of MusicGen (2306.05284) for a grid (frames, books), without its padding tokens.

    Book k of frame t comes behind all that have a smaller t + k, so that a frame's books follow each other while those
    of its neighbours are under way. The places of one t + k are a block: with them, a row takes frames + books - 1
    steps, not frames · books.

    Args:
        frames: ≥ 0.
        books: code books of a frame, ≥ 1.

    Raises:
        InvalidArgument: a number is out of range.

    Example:
        >>> pattern = delay(3, 2)  # places 0 and 1 are the first frame's books, 2 and 3 the second's
        >>> pattern.order
        array([0, 2, 1, 4, 3, 5])
        >>> pattern.blocks
        array([0, 1, 3, 5, 6])
    """
    if type(frames) is not int or type(books) is not int or frames < 0 or books < 1:
        raise InvalidArgument(
            f"a delay pattern takes frames of at least 0 and books of at least 1: {frames!r}, {books!r}"
        )
    frame, book = np.divmod(np.arange(frames * books), books)
    order = np.lexsort((book, frame + book))
    starts = np.flatnonzero(np.diff((frame + book)[order], prepend=-1))
    return Layout(order, np.append(starts, frames * books))
