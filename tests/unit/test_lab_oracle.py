"""The oracle says what counting says, at once and one after another, and what it is made of is read rightly."""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import foretoken as ft
from foretoken.canvas import UNKNOWN
from foretoken.errors import CheckpointError, InvalidArgument, ShapeError
from foretoken.lab import sentences
from foretoken.lab.oracle import CausalOracle, Oracle
from foretoken.lab.sentences import Meaning, meanings, phrasebook
from foretoken.model.protocol import CausalModel

ANSWERS = np.array([[[1, 2, 0], [1, 3, 0], [4, 2, 3]], [[2, 2, 2], [3, 2, 1], [3, 4, 0]]])


def oracle(**options: Any) -> Oracle:
    return Oracle(ANSWERS, units=5, end=0, **options)


def law(canvas: list[int], **options: Any) -> np.ndarray:
    """Probabilities (positions, vocabulary) of one row."""
    row = np.array([canvas])
    return oracle(**options).predict(row, np.array([len(canvas)])).exp()[0].numpy()


def counted(agreeing: list[list[int]], place: int) -> list[float]:
    """The law over the five units at a place of these answers."""
    return [float(np.mean([answer[place] == unit for answer in agreeing])) for unit in range(5)]


@pytest.mark.parametrize(
    ("body", "agreeing"),
    [
        ([-1, -1, -1], [0, 1, 2]),
        ([1, -1, -1], [0, 1]),
        ([-1, 2, -1], [0, 2]),
        ([1, 3, -1], [1]),
        ([4, 3, -1], [1, 2]),  # no answer says both; these say one of them
        ([3, 3, -1], [1]),
    ],
)
def test_the_law_is_that_of_the_answers_that_agree(body: list[int], agreeing: list[int]) -> None:
    found = law([5, *body])
    for place, unit in enumerate(body):
        if unit == UNKNOWN:
            expected = counted([ANSWERS[0, mode].tolist() for mode in agreeing], place)
            np.testing.assert_allclose(found[place + 1, :5], expected, atol=1e-6)
            assert not found[place + 1, 5:].any()


def test_a_shared_z_is_the_number_of_an_answer() -> None:
    found = law([6, -1, 3, -1, -1], shared=True)
    np.testing.assert_allclose(found[1], [0] * 7 + [0, 0.5, 0.5], atol=1e-6)
    np.testing.assert_allclose(found[3, :5], [0, 0, 0.5, 0, 0.5], atol=1e-6)
    told = law([6, 9, -1, 1, -1], shared=True)
    np.testing.assert_array_equal(told[2], np.eye(10)[3])
    np.testing.assert_array_equal(told[4], np.eye(10)[0])


def test_what_lies_behind_a_row_and_what_is_known_play_no_part() -> None:
    model = oracle()
    both = np.array([[5, 1, -1, -1], [6, -1, 4, 0]])
    found = model.predict(both, np.array([4, 2]))
    assert not found[0, :2].any()
    np.testing.assert_array_equal(found[1, 1], model.predict(np.array([[6, -1]]), np.array([2]))[0, 1])
    assert np.isfinite(found.numpy()).any(axis=2).all()


def test_one_after_another_is_the_same_law() -> None:
    """Of whole rows by plain AR; and of a session that forgets and takes lines."""
    model = CausalOracle(oracle())
    assert isinstance(model, CausalModel)
    out = ft.generate(model, ft.Canvas([[5]]), n=3000, seed=7)
    told = np.array([(*row.tokens, 0, 0)[:3] for row in out.rows])
    shares = (told[:, None] == ANSWERS[0][None]).all(axis=2).mean(axis=0)
    np.testing.assert_allclose(shares, 1 / 3, atol=0.035)
    assert {row.finish_reason for row in out.rows} == {"end", "length"}

    session = model.open(2, 4)
    session.forward(np.array([[5, 1], [6, 3]]))
    session.truncate(np.array([1, 2]))
    session.select(np.array([1, 0]))
    np.testing.assert_array_equal(session.lengths, [2, 1])
    found = session.forward(np.array([[4, 0], [4, 2]]), np.array([2, 2])).exp().numpy()
    np.testing.assert_allclose(found[0, 0, :5], [1, 0, 0, 0, 0])
    np.testing.assert_allclose(found[1, 1, :5], [0, 0, 0, 1, 0])
    session.truncate(np.array([1, 1]))
    assert session.forward(np.array([[3], [3]]), last=True).shape == (2, 1, 7)


def test_answers_that_cannot_be_are_refused() -> None:
    with pytest.raises(ShapeError, match="modes"):
        Oracle(ANSWERS[0], units=5, end=0)
    with pytest.raises(InvalidArgument, match="units are"):
        Oracle(ANSWERS, units=4, end=0)
    with pytest.raises(InvalidArgument, match="begin with"):
        law([3, -1])
    with pytest.raises(InvalidArgument, match="no z"):
        law([5, 2, -1], shared=True)
    with pytest.raises(ShapeError, match="4"):
        law([5, -1, -1, -1, -1])


def write(folder: Path, rows: list[dict[str, Any]]) -> Path:
    with lzma.open(folder / sentences.FILE, "wt", encoding="utf-8") as file:
        file.write("\n".join(map(json.dumps, rows)))
    return folder


def test_meanings_have_different_sentences(tmp_path: Path) -> None:
    row = {"meaning": "m", "sentences": ["A pub.", "A  pub .", "Pub it's!", "The pub."]}
    found = meanings(write(tmp_path, [row, {"meaning": "n", "sentences": ["A.", "A ."]}]), 1, modes=2)
    assert found == [Meaning("m", (("A", "pub", "."), ("Pub", "it's", "!")))]
    book = phrasebook(found)
    assert book.answers.shape == (1, 2, 4)
    assert [book.read(answer) for answer in book.answers[0]] == ["A pub .", "Pub it's !"]
    assert book.oracle(shared=True).context == 6
    with pytest.raises(InvalidArgument, match="has 1 meanings with 3"):
        meanings(tmp_path, 2, modes=3)
    with pytest.raises(CheckpointError, match="another kind"):
        meanings(write(tmp_path, [{"meaning": 3}]), 1)
