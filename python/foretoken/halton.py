"""An order of a grid's cells in which any beginning is spread evenly over the grid."""

from __future__ import annotations

import math
import operator

import numpy as np

from .errors import ArgumentTypeError, InvalidArgument, LimitExceeded

_BASES = (2, 3, 5, 7)  # the more even the smaller
_MOST = 1 << 16  # a million cells would take half a minute: the last few are hit late


def ranks(*shape: int) -> np.ndarray:
    """When each cell of a grid is first hit by Halton's sequence (1960; for masked images 2503.17076).

    Neighbours depend on each other most, so cells revealed together should lie apart.

    Args:
        shape: the grid's sides, 1 to 4 of them, each ≥ 1; at most 2^16 cells.

    Returns:
        (cells,) int64 in raster order: a permutation of 0..cells, for `Order`.

    Raises:
        InvalidArgument: a side is below 1, or there are none or too many.
        LimitExceeded: more cells than that.
        ArgumentTypeError: a side is no integer.

    Example:
        >>> ranks(4, 4).reshape(4, 4)
        array([[10,  3, 13,  7],
               [ 5,  9,  1, 11],
               [ 8,  0, 15,  4],
               [ 2, 12,  6, 14]])
    """
    sides = _sides(shape)
    cells = math.prod(sides)
    found = np.full(cells, -1, dtype=np.int64)
    known, start, length = 0, 1, 2 * cells + 16
    while known < cells:
        index = np.arange(start, start + length, dtype=np.int64)
        cell = np.zeros(length, dtype=np.int64)
        for side, base in zip(sides, _BASES, strict=False):
            cell = cell * side + _scaled(index, base, side)
        first, place = np.unique(cell, return_index=True)
        place = place[found[first] < 0]  # of cells that were not hit before
        place.sort()
        found[cell[place]] = np.arange(known, known + len(place))
        known, start = known + len(place), start + length
    return found


def _scaled(index: np.ndarray, base: int, side: int) -> np.ndarray:
    """The radical inverse of each index, times a side and rounded down: exact, in integers."""
    digits = max(1, math.ceil(math.log(int(index[-1]) + 1, base)) + 1)
    mirrored, rest = np.zeros_like(index), index
    for _ in range(digits):
        rest, digit = np.divmod(rest, base)
        mirrored = mirrored * base + digit
    return mirrored * side // base**digits


def _sides(shape: tuple[int, ...]) -> list[int]:
    try:
        sides = [operator.index(side) for side in shape]
    except TypeError as error:
        raise ArgumentTypeError(f"the sides are {shape}: give integers") from error
    if not 1 <= len(sides) <= len(_BASES) or min(sides) < 1:
        raise InvalidArgument(f"the sides are {shape}: give 1 to {len(_BASES)}, each 1 or more")
    if math.prod(sides) > _MOST:
        raise LimitExceeded(f"the grid would have {math.prod(sides)} cells: {_MOST} is the most")
    return sides
