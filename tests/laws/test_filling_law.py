"""What strategies that fill any position do to the law of a model that makes no error of its own."""

from __future__ import annotations

import numpy as np
import pytest

import foretoken as ft
from foretoken.rules import EntropyBound, MaxProbability, Order, SampledConfidence
from foretoken.strategy.cascade import Cascade, Stage, every, first, rest
from foretoken.strategy.masked import Masked
from foretoken.strategy.oneshot import OneShot

from ..parallel import Joint
from .statistics import FALSE_ALARM, tail

RNG = np.random.default_rng(8)
JOINT = RNG.dirichlet([0.3] * 27).reshape(3, 3, 3)
ROWS, CALLS = 4096, 3


def counted(model: Joint, strategy: object, canvas: list[int]) -> np.ndarray:
    """How often each row came out, in the shape of the law."""
    counts = np.zeros(model.law.shape)
    for seed in range(CALLS):
        out = ft.generate(model, ft.Canvas([canvas]), strategy, seed=seed, n=ROWS)
        np.add.at(counts, tuple(np.array([row.units for row in out.rows]).T), 1)
    return counts


def chance(counts: np.ndarray, law: np.ndarray) -> float:
    """How likely counts that far from a law are, by chance."""
    return tail(counts.ravel(), law.ravel())


LAWFUL = [
    Masked(None, select=Order(range), count=1),
    Masked(None, select=Order([2, 0, 1]), count=1),
    Masked(None, select=MaxProbability(), count=1),
    Masked(None, select=EntropyBound(0.0)),
    Masked(3),
    Cascade([Stage(every(2), Masked(None, select=Order(range), count=1)), Stage(rest)]),
    Cascade([Stage(first(1)), Stage(first(1)), Stage(rest)]),
]


@pytest.mark.parametrize("strategy", LAWFUL, ids=range(len(LAWFUL)))
def test_one_position_at_a_time_in_whatever_order_keeps_the_law(strategy: object) -> None:
    assert chance(counted(Joint(JOINT), strategy, [-1, -1, -1]), JOINT) > FALSE_ALARM


@pytest.mark.parametrize("strategy", [OneShot(), Masked(1), Masked(2, select=SampledConfidence())], ids=range(3))
def test_what_mixes_answers_is_caught(strategy: object) -> None:
    assert chance(counted(Joint(JOINT), strategy, [-1, -1, -1]), JOINT) < FALSE_ALARM


def test_one_shot_has_the_law_of_independent_positions() -> None:
    marginals = [JOINT.sum(axis=tuple({0, 1, 2} - {axis})) for axis in range(3)]
    product = np.einsum("i,j,k->ijk", *marginals)
    assert chance(counted(Joint(JOINT), OneShot(), [-1, -1, -1]), product) > FALSE_ALARM


def test_known_positions_condition_the_others() -> None:
    counts = counted(Joint(JOINT), Masked(None, select=EntropyBound(0.0)), [-1, 2, -1])
    law = np.zeros_like(JOINT)
    law[:, 2] = JOINT[:, 2]
    assert chance(counts, law) > FALSE_ALARM


def test_a_shared_imagination_makes_one_answer_of_two() -> None:
    # A latent in front says which of two answers it is: 0 1 1 or 1 0 0.
    law = np.zeros((2, 2, 2))
    law[0, 1, 1], law[1, 0, 0] = 0.25, 0.75
    counts = counted(Joint(law), Cascade([Stage(first(1)), Stage(rest)]), [-1, -1, -1])
    assert chance(counts, law) > FALSE_ALARM
    mixed = counted(Joint(law), OneShot(), [-1, -1, -1])
    assert mixed[law == 0].sum() / mixed.sum() > 0.3
