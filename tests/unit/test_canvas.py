"""The nouns: what a canvas takes, and that the sums of a generation are the sums of its steps."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from foretoken.canvas import TIE, UNKNOWN, Canvas, Stats, Step, known, pad
from foretoken.errors import ArgumentTypeError, InvalidArgument, ShapeError
from foretoken.generate import generate
from tests.models import TableModel

IDS = st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=6)


@given(st.lists(IDS, min_size=1, max_size=5))
def test_a_canvas_is_the_rows_it_was_given(rows: list[list[int]]) -> None:
    canvas = Canvas(rows)
    assert [row.tolist() for row in canvas.rows] == rows
    assert canvas.lengths == tuple(map(len, rows))
    assert canvas.is_prefix
    assert all(row.dtype == np.int64 for row in canvas.rows)


@pytest.mark.parametrize(
    "row",
    [[1, 2], (1, 2), np.array([1, 2], dtype=np.uint8), np.array([1, 9, 2])[::2], torch.tensor([1, 2]), range(1, 3)],
)
def test_rows_come_in_many_kinds(row: object) -> None:
    assert Canvas([row]).rows[0].tolist() == [1, 2]


def test_a_canvas_is_not_changed_from_outside() -> None:
    row = np.array([1, 2], dtype=np.int64)
    canvas = Canvas([row])
    row[0] = 9
    assert canvas.rows[0].tolist() == [1, 2]
    with pytest.raises(ValueError, match="read-only"):
        canvas.rows[0][0] = 9
    with pytest.raises(AttributeError):
        canvas.rows = ()  # type: ignore[misc]


def test_unknown_positions_are_no_prefix() -> None:
    assert not Canvas([[1, 2], [3, UNKNOWN, 4]]).is_prefix
    assert not Canvas([[UNKNOWN]]).is_prefix


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ([], InvalidArgument, "no rows"),
        ([[]], InvalidArgument, "row 0 of the canvas is empty"),
        ([[1], []], InvalidArgument, "row 1 of the canvas is empty"),
        ([[-2]], InvalidArgument, "-2"),
        ([[2**31]], InvalidArgument, "2147483648"),
        ([[2**63]], InvalidArgument, "row 0"),
        ([[0, 2**63]], ArgumentTypeError, "row 0"),
        ([[2**70]], ArgumentTypeError, "integers"),
        ([[1.0]], ArgumentTypeError, "float64"),
        ([[True]], ArgumentTypeError, "bool"),
        ([[None]], ArgumentTypeError, "object"),
        ([[[1, 2]]], ArgumentTypeError, "2-D"),
        ([[[1, 2], [3]]], ArgumentTypeError, "row 0"),
        ([5], ArgumentTypeError, "0-D"),
        ("text", ArgumentTypeError, "row 0"),
        (5, ArgumentTypeError, "int"),
        (None, ArgumentTypeError, "NoneType"),
    ],
)
def test_what_is_no_canvas_is_refused(rows: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Canvas(rows)  # type: ignore[arg-type]


def test_a_canvas_can_be_compared_hashed_and_copied() -> None:
    canvas = Canvas([[1, 2], [3]])
    assert canvas == canvas
    assert canvas != Canvas([[1, 2], [3]])  # by identity: rows are arrays
    assert len({canvas, canvas}) == 1
    for twin in (pickle.loads(pickle.dumps(canvas)), copy.deepcopy(canvas)):
        assert [row.tolist() for row in twin.rows] == [[1, 2], [3]]


def test_pad_fills_up_with_zeros() -> None:
    padded, counts = pad([[1, 2, 3], np.array([4]), []])
    assert padded.tolist() == [[1, 2, 3], [4, 0, 0], [0, 0, 0]]
    assert counts.tolist() == [3, 1, 0]
    assert padded.dtype == counts.dtype == np.int64
    assert pad([[1]], width=3)[0].tolist() == [[1, 0, 0]]


def test_stats_count_steps() -> None:
    stats = Stats(prompt_tokens=3, forwards=3, row_forwards=3)
    stats.seconds.update(prompt=1.0, model=2.0, draft=0.5, sample=0.1, total=4.0)
    stats.count(Step(0, [5], [], 0, "", [1.0]))
    stats.count(Step(0, [5, 6, 7], [5, 6, 9, 9], 2, "suffix", [1.0, TIE / 2, 1.0]))
    stats.count(Step(0, [8], [4, 4], 0, "n-gram", [TIE]))
    assert (stats.tokens, stats.drafted, stats.accepted, stats.near_ties) == (5, 6, 2, 1)
    assert stats.by_source == {"suffix": [4, 2], "n-gram": [2, 0]}
    # The first draft was judged at three places, the second at one.
    assert stats.acceptance_by_position == [1 / 2, 1.0, 0.0]
    assert stats.acceptance == 2 / 6
    assert stats.tokens_per_forward == 5 / 3
    assert stats.tokens_per_second == 5 / 4
    assert stats.overhead == pytest.approx(0.5)


def test_stats_of_nothing_divide_by_nothing() -> None:
    stats = Stats()
    assert stats.acceptance == stats.tokens_per_forward == stats.tokens_per_second == 0
    assert stats.acceptance_by_position == []
    assert Stats().seconds is not stats.seconds


def test_a_canvas_of_vectors_knows_which_are_unknown() -> None:
    hole = np.array([[0.5, -1.0], [np.nan, np.nan]])
    canvas = Canvas([np.zeros((3, 2), dtype=np.float32), hole])
    assert (canvas.lengths, canvas.width, canvas.is_prefix) == ((3, 2), 2, False)
    assert known(canvas.rows[1]).tolist() == [True, False]
    assert Canvas([[1]]).width is None


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ([[[np.nan, 1.0]]], InvalidArgument, "NaN in a part"),
        ([[[np.inf, 1.0]]], InvalidArgument, "infinity"),
        ([[[0.0]], [1]], ArgumentTypeError, "some rows"),
        ([[[0.0]], [[0.0, 1.0]]], ShapeError, r"\[1, 2\] numbers"),
        ([np.zeros((0, 4))], InvalidArgument, "empty"),
        ([np.zeros((2, 2), dtype=np.int64)], ArgumentTypeError, "2-D int64"),
    ],
)
def test_vectors_that_make_no_canvas_are_refused(rows: list, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Canvas(rows)


def test_a_canvas_of_vectors_is_not_for_autoregression() -> None:
    with pytest.raises(InvalidArgument, match="vectors"):
        generate(TableModel(), Canvas([[[0.5]]]), max_tokens=1)
