"""What neighbours say of a set of pictures, where it is known."""

from __future__ import annotations

import numpy as np
import pytest

from foretoken.errors import InvalidArgument, ShapeError
from foretoken.evaluate.neighbours import copied, coverage, distances, diversity

RANDOM = np.random.default_rng(0)
LEFT, RIGHT = RANDOM.normal(size=(60, 2)), RANDOM.normal(size=(60, 2)) + 30


def test_what_is_made_of_one_kind_is_precise_and_misses_the_other() -> None:
    found = coverage(np.concatenate((LEFT, RIGHT)), LEFT + 0.01)
    assert found.precision == 1
    assert 0.45 < found.recall < 0.55
    wide = coverage(LEFT, np.concatenate((LEFT, RIGHT)) + 0.01)
    assert 0.45 < wide.precision < 0.55
    assert wide.recall == 1


def test_distances_are_those_of_a_loop() -> None:
    slow = np.array([[np.linalg.norm(a - b) for b in RIGHT] for a in LEFT])
    np.testing.assert_allclose(distances(LEFT, RIGHT), slow, atol=1e-6)


def test_copies_are_found_and_new_pictures_are_none() -> None:
    train, real, new = (RANDOM.normal(size=(n, 6)) for n in (500, 200, 200))
    assert copied(train, real, train[:100] + 1e-4) == 1
    assert copied(train, real, new) < 0.15


def test_diversity_is_within_beside_between() -> None:
    groups = np.repeat(np.arange(20), 3)
    centres = RANDOM.normal(size=(20, 4)).repeat(3, axis=0)
    assert diversity(centres, groups) < 1e-6
    assert 0.7 < diversity(RANDOM.normal(size=(60, 4)), groups) < 1.3


def test_refusals() -> None:
    with pytest.raises(ShapeError):
        coverage(LEFT, RANDOM.normal(size=(60, 3)))
    with pytest.raises(InvalidArgument, match="neighbours"):
        coverage(LEFT, RIGHT[:3])
    with pytest.raises(InvalidArgument, match="two or more"):
        diversity(LEFT, np.arange(60))
