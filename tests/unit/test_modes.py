"""The measures of mixed modes on answers whose modes are known, and acceptance by position on laws that are."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from foretoken.errors import InvalidArgument, ShapeError
from foretoken.evaluate import acceptance
from foretoken.evaluate import modes as measures
from tests import models

RNG = np.random.default_rng(3)
RIGHT = np.array([[1, 2, 3], [1, 4, 3], [5, 5, 0]])


def test_an_answer_is_right_as_a_whole_or_not_at_all() -> None:
    found = measures.modes(np.array([[5, 5, 0], [1, 2, 0], [1, 4, 3]]), RIGHT)
    np.testing.assert_array_equal(found, [2, -1, 1])
    other = np.array([1, 1, 1, 1])
    assert measures.valid_rate([found, other]) == 6 / 7
    assert measures.modes_covered([found, other]) == 1.5
    assert measures.mode_distance([other], 3) == pytest.approx(2 / 3)
    assert measures.mode_distance([found], 3) == pytest.approx(1 / 3)
    with pytest.raises(ShapeError, match="give two"):
        measures.modes(np.array([[1, 2]]), RIGHT)


def test_repetition_is_counted_within_answers_only() -> None:
    assert measures.adjacent_repetition([np.array([7, 7, 7]), np.array([7]), np.array([8, 9])]) == pytest.approx(2 / 3)
    assert measures.adjacent_repetition([np.array([7]), np.array([], dtype=int)]) == 0


def test_total_correlation_is_the_divergence_from_the_product_of_marginals() -> None:
    answers = RNG.integers(0, 3, (6, 4))
    rows, counts = np.unique(answers, axis=0, return_counts=True)
    marginals = np.array([[(answers[:, j] == unit).mean() for j, unit in enumerate(row)] for row in rows])
    law = counts / counts.sum()
    expected = float((law * np.log(law / marginals.prod(axis=1))).sum())
    assert measures.total_correlation(answers) == pytest.approx(expected)
    assert measures.total_correlation(RIGHT[:1]) == 0
    assert measures.language_entropy([4, 4, 4]) == pytest.approx(math.log(3))
    assert measures.language_entropy([0, 9, 0]) == 0


def test_conditional_acceptance_is_what_drawing_the_verifier_gives() -> None:
    accepts, lengths = 0.4 + 0.6 * RNG.random((40, 5)), RNG.integers(1, 6, 40)
    found = acceptance.conditional_acceptance(accepts, lengths, places=6)
    draws = 5000
    passed = RNG.random((draws, 40, 5)) < accepts
    alive = np.logical_and.accumulate(passed, axis=2)
    for place in range(5):
        judged = (lengths > place) & (alive[:, :, place - 1] if place else np.ones((draws, 40), dtype=bool))
        assert found[place] == pytest.approx((alive[:, :, place] & judged).sum() / judged.sum(), abs=0.02)
    assert math.isnan(found[5])
    with pytest.raises(ShapeError, match="positions"):
        acceptance.conditional_acceptance(accepts, lengths[:3])


def test_the_ratio_test_accepts_as_often_as_two_laws_overlap() -> None:
    p, q = RNG.dirichlet([1] * 6), RNG.dirichlet([1] * 6)
    units = np.arange(6)[:, None]
    rows = lambda law: np.broadcast_to(law, (6, 1, 6))  # noqa: E731
    accepted = q @ acceptance.ratio(rows(p), rows(q), units)[:, 0]
    assert accepted == pytest.approx(np.minimum(p, q).sum())
    np.testing.assert_array_equal(acceptance.matched(rows(p), units)[:, 0], p)
    with pytest.raises(InvalidArgument, match="that law"):
        acceptance.ratio(rows(p), rows(np.eye(6)[0]), units)


def test_laws_before_each_unit_are_those_of_reading_one_after_another() -> None:
    model = models.TableModel(12, order=3)
    prompts = [np.array([3]), np.array([5, 1, 2])]
    answers = [np.array([7, 8, 9]), np.array([4, 4])]
    laws = acceptance.laws_before(model, prompts, answers)
    assert laws.shape == (2, 3, 12)
    for line, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        for place in range(len(answer)):
            logits = model.logits([*prompt, *answer[:place]])
            np.testing.assert_allclose(laws[line, place], torch.from_numpy(logits).double().softmax(dim=0))
