"""Distances of sets of pictures."""

from __future__ import annotations

import numpy as np
import pytest

from foretoken.errors import InvalidArgument, ShapeError
from foretoken.evaluate import distance

RNG = np.random.default_rng(4)


def test_the_frechet_distance_of_two_gaussians_is_known() -> None:
    # Of diagonal covariances it is |m - n|² + Σ (σ - τ)².
    one = RNG.normal(size=(200_000, 3)) * [1, 2, 3]
    other = RNG.normal(size=(200_000, 3)) * [2, 2, 1] + [0, 1, 0]
    assert distance.frechet(one, other) == pytest.approx(1 + 1 + 4, rel=0.03)


def test_distances_of_halves_of_a_set_are_small_beside_those_of_another_set() -> None:
    one, half, other = RNG.normal(size=(400, 8)), RNG.normal(size=(400, 8)), RNG.normal(size=(400, 8)) + 0.7
    assert distance.frechet(one, half) < 0.1 * distance.frechet(one, other)
    assert abs(distance.kernel_distance(one, half)) < 0.1 * distance.kernel_distance(one, other)


def test_refusals() -> None:
    with pytest.raises(ShapeError, match="features"):
        distance.frechet(np.zeros((3, 2)), np.zeros((3, 4)))
    with pytest.raises(InvalidArgument, match="two or more"):
        distance.kernel_distance(np.zeros((1, 2)), np.zeros((3, 2)))
