"""Schedules sum to what is unknown, and Halton's order is one."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretoken import halton
from foretoken.errors import ArgumentTypeError, InvalidArgument, LimitExceeded
from foretoken.schedules import Schedule, arccos, cosine, counts, linear


@pytest.mark.parametrize("schedule", [cosine, linear, arccos])
def test_a_schedule_falls_from_all_to_nothing(schedule: Schedule) -> None:
    shares = [schedule(step / 50) for step in range(51)]
    assert shares[0] == pytest.approx(1)
    assert shares[-1] == pytest.approx(0, abs=1e-12)
    assert all(before > after for before, after in itertools.pairwise(shares))


@given(
    st.sampled_from([cosine, linear, arccos, lambda p: 1.0, lambda p: 0.0, lambda p: 1 - p**5]),
    st.integers(1, 40),
    st.integers(0, 300),
)
def test_counts_sum_and_no_step_is_idle(schedule: Schedule, steps: int, unknown: int) -> None:
    found = counts(schedule, steps, unknown)
    assert found.sum() == unknown
    assert found.shape == (steps,)
    left = unknown
    for step, count in enumerate(found.tolist(), 1):
        assert count >= (left > 0)
        left -= count
        share = schedule(step / steps) if step < steps else 0
        assert left <= math.floor(share * unknown + 1e-9)


def test_the_same_number_each_step_where_it_divides() -> None:
    for steps in range(1, 30):
        assert counts(linear, steps, 7 * steps).tolist() == [7] * steps


def test_each_row_has_its_own() -> None:
    found = counts(cosine, 5, np.array([0, 3, 40]))
    assert found.shape == (3, 5)
    for row, unknown in zip(found, (0, 3, 40), strict=True):
        np.testing.assert_array_equal(row, counts(cosine, 5, unknown))
    assert counts(cosine, 5, []).shape == (0, 5)


def test_numbers_of_a_schedule_are_checked() -> None:
    with pytest.raises(InvalidArgument, match="steps is 0"):
        counts(linear, 0, 3)
    with pytest.raises(InvalidArgument, match="unknown is -1"):
        counts(linear, 2, [3, -1])
    with pytest.raises(ArgumentTypeError, match=r"unknown is 1\.5"):
        counts(linear, 2, 1.5)  # type: ignore[arg-type]
    for wrong in (1.1, -0.1, math.nan):
        with pytest.raises(InvalidArgument, match="the schedule gives"):
            counts(lambda progress, wrong=wrong: wrong, 2, 3)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_every_cell_has_a_rank(shape: list[int]) -> None:
    np.testing.assert_array_equal(np.sort(halton.ranks(*shape)), np.arange(math.prod(shape)))


def test_ranks_are_those_of_the_sequence() -> None:
    """By radical inverses in fractions, point after point."""

    def inverse(index: int, base: int) -> tuple[int, int]:
        top, bottom = 0, 1
        while index:
            index, digit = divmod(index, base)
            top, bottom = top * base + digit, bottom * base
        return top, bottom

    seen: dict[tuple[int, int], int] = {}
    for index in itertools.count(1):
        (a, b), (c, d) = inverse(index, 2), inverse(index, 3)
        seen.setdefault((a * 6 // b, c * 7 // d), len(seen))
        if len(seen) == 42:
            break
    expected = [seen[cell] for cell in itertools.product(range(6), range(7))]
    assert halton.ranks(6, 7).tolist() == expected


def test_any_beginning_is_spread() -> None:
    """Of the first 32 cells of 16 × 16 each quarter has 8, give or take one; raster puts all into two of them."""
    ranks = halton.ranks(16, 16).reshape(16, 16)
    quarters = [(ranks[i : i + 8, j : j + 8] < 32).sum() for i in (0, 8) for j in (0, 8)]
    assert all(7 <= count <= 9 for count in quarters)


def test_sides_of_a_grid_are_checked() -> None:
    for wrong in ((), (0,), (3, -1), (1, 1, 1, 1, 1)):
        with pytest.raises(InvalidArgument, match="the sides are"):
            halton.ranks(*wrong)
    with pytest.raises(ArgumentTypeError, match=r"2\.0"):
        halton.ranks(2.0)  # type: ignore[arg-type]
    with pytest.raises(LimitExceeded, match="65536 is the most"):
        halton.ranks(257, 256)
