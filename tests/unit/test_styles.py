"""The judge of styles on pictures whose styles are plain: it learns them, and sees where two are mixed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from foretoken.errors import InvalidArgument, ShapeError
from foretoken.evaluate.styles import StyleJudge, features

STYLES = ("dots", "plain", "stripes")


def pictures(style: str, count: int, seed: int) -> np.ndarray:
    """(count, 16, 16, 3) of one style, in colours of their own; the lowest rows stay white."""
    random = np.random.default_rng(seed)
    made = np.broadcast_to(random.integers(40, 200, (count, 1, 1, 3)), (count, 16, 16, 3)).copy()
    if style == "stripes":
        made[:, ::2] //= 3
    if style == "dots":
        made[random.random((count, 16, 16)) < 0.3] = 0
    made[:, 12:] = 255
    return made.astype(np.uint8)


def all_of(seed: int, count: int = 60) -> tuple[np.ndarray, list[str]]:
    made = [pictures(style, count, seed + place) for place, style in enumerate(STYLES)]
    return np.concatenate(made), [style for style in STYLES for _ in range(count)]


@pytest.fixture(scope="module")
def judge() -> StyleJudge:
    return StyleJudge(*all_of(0, 400), side=4)


def test_what_is_mixed_is_seen(judge: StyleJudge) -> None:
    real, styles = all_of(100)
    of_all, of_sure = judge.error(real, styles)
    assert of_sure <= of_all < 0.2
    found = judge.mixture(real)
    assert found.foreign < 0.1
    assert [judge.names[style] for style in found.styles[[0, 60, 120]]] == list(STYLES)
    mixed = real[:60].copy()
    mixed[:, :, 8:] = real[120:, :, 8:]
    assert judge.mixture(mixed).foreign > 0.3
    chances, drawn = judge.posteriors(real)
    assert chances.shape == (180, 16, 3)
    np.testing.assert_array_equal(drawn[0], [True] * 12 + [False] * 4)


def test_white_pictures_say_nothing(judge: StyleJudge) -> None:
    white = np.full((2, 16, 16, 3), 255, dtype=np.uint8)
    found = judge.mixture(white)
    assert (found.foreign, found.sure, found.judged) == (0, 0, 0)
    np.testing.assert_array_equal(found.styles, [-1, -1])


def test_learning_is_a_function_of_the_seed_and_leaves_that_of_others_alone() -> None:
    real, styles = all_of(0, 8)
    before = torch.get_rng_state()
    one, other = (StyleJudge(real, styles, side=4, seed=3).posteriors(real)[0] for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert torch.equal(before, torch.get_rng_state())
    assert (StyleJudge(real, styles, side=4, seed=4).posteriors(real)[0] != one).any()


def test_features_are_shares() -> None:
    found = features(all_of(0, 4)[0][:, :8, :8])
    np.testing.assert_allclose(np.square(found[:, :512]).sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.square(found[:, 512:]).sum(axis=1), 3, rtol=1e-5)


def test_what_cannot_be_learnt_is_refused() -> None:
    real, styles = all_of(0, 2)
    with pytest.raises(InvalidArgument, match="two or more"):
        StyleJudge(real[:2], styles[:2], side=4)
    with pytest.raises(ShapeError, match="do not fit"):
        StyleJudge(real, styles, side=5)
    with pytest.raises(InvalidArgument, match="white"):
        StyleJudge(np.full_like(real, 255), styles, side=4)
