"""Layouts: the delay pattern is a permutation in its paper's order, and its blocks are what may be filled together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretoken.errors import InvalidArgument
from foretoken.layouts import delay

SIZES = (st.integers(0, 40), st.integers(1, 9))


@given(*SIZES)
def test_the_delay_pattern_is_what_a_sort_gives(frames: int, books: int) -> None:
    """A twin of a few lines: places sorted by (t + k, k), cut where t + k changes."""
    places = sorted((t + k, k, t * books + k) for t in range(frames) for k in range(books))
    layout = delay(frames, books)
    assert layout.order.tolist() == [place for _, _, place in places]
    starts = [i for i, (time, _, _) in enumerate(places) if i == 0 or places[i - 1][0] != time]
    assert layout.blocks.tolist() == [*starts, len(places)]
    assert layout.order.dtype == layout.blocks.dtype == np.int64
    assert len(layout) == frames * books


@given(*SIZES)
def test_a_block_holds_no_two_places_of_a_frame_or_a_book(frames: int, books: int) -> None:
    """And what a place may lean on stands before it: its frame's coarser books, its book's earlier frames."""
    layout = delay(frames, books)
    assert len(layout.blocks) - 1 == (frames + books - 1 if frames else 0)
    block = np.empty(frames * books, dtype=int)
    for number, (first, last) in enumerate(zip(layout.blocks, layout.blocks[1:], strict=False)):
        together = layout.order[first:last]
        assert len({place // books for place in together}) == len({place % books for place in together}) == last - first
        block[together] = number
    block = block.reshape(frames, books)
    assert (np.diff(block, axis=0) > 0).all()
    assert (np.diff(block, axis=1) > 0).all()


@given(*SIZES)
def test_a_row_becomes_its_grid_again(frames: int, books: int) -> None:
    grid = np.random.default_rng(0).integers(0, 1000, (frames, books))
    layout = delay(frames, books)
    row = layout.row(grid)
    assert np.array_equal(layout.grid(row).reshape(frames, books), grid)
    assert frames * books < 2 or books == 1 or frames == 1 or not np.array_equal(layout.order, np.arange(row.size))


@pytest.mark.parametrize(("frames", "books"), [(-1, 4), (3, 0), (2.0, 4), (3, None), (True, 2)])
def test_what_is_no_size_is_refused(frames: Any, books: Any) -> None:
    with pytest.raises(InvalidArgument, match="delay"):
        delay(frames, books)
