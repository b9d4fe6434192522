"""Measures of pictures: what others compute, and slow definitions of the same."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from foretoken.errors import ArgumentTypeError, ShapeError
from foretoken.evaluate import pictures
from foretoken.evaluate.pictures import CAP, gmsd, psnr, ssim

# (height, width, seed) → SSIM and PSNR by scikit-image 0.26.0: structural_similarity(luma, luma, gaussian_weights=True,
# sigma=1.5, use_sample_covariance=False, data_range=255) and peak_signal_noise_ratio, of the pair below.
GOLDEN = {
    (64, 64, 0): (0.7832154581786979, 21.197927741606385),
    (11, 11, 1): (0.6869070549024402, 20.97989081583526),
    (33, 50, 2): (0.7731534195021769, 20.975488558464686),
    (128, 20, 3): (0.8262988356814669, 21.04262583513342),
}


def pair(height: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Blocks with some noise, and the same with more."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3)).repeat(8, 0).repeat(8, 1)[:height, :width]
    original = np.clip(coarse + rng.integers(-20, 21, coarse.shape), 0, 255).astype(np.uint8)
    noisy = np.clip(original + rng.integers(-40, 41, original.shape), 0, 255).astype(np.uint8)
    return original, noisy


def test_ssim_and_psnr_are_those_of_others() -> None:
    for shape, (similarity, ratio) in GOLDEN.items():
        original, noisy = (some[None] for some in pair(*shape))
        assert ssim(original, noisy)[0] == pytest.approx(similarity, abs=1e-12)
        assert psnr(original, noisy)[0] == pytest.approx(ratio, abs=1e-10)


def same(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """MATLAB's conv2(image, kernel, 'same'), number by number."""
    high, wide = kernel.shape
    flipped = kernel[::-1, ::-1]
    above, left = (high - 1) // 2, (wide - 1) // 2  # of the flipped kernel's middle
    padded = np.zeros((image.shape[0] + high, image.shape[1] + wide))
    padded[above : above + image.shape[0], left : left + image.shape[1]] = image
    made = np.empty(image.shape)
    for i, j in np.ndindex(image.shape):
        made[i, j] = (padded[i : i + high, j : j + wide] * flipped).sum()
    return made


def slow_gmsd(original: np.ndarray, decoded: np.ndarray) -> float:
    """The authors' program, line by line."""
    across = np.array([[1, 0, -1]] * 3) / 3
    steep = []
    for some in (original, decoded):
        luma = 0.299 * some[..., 0] + 0.587 * some[..., 1] + 0.114 * some[..., 2]
        half = same(luma, np.ones((2, 2)) / 4)[::2, ::2]
        steep.append(np.sqrt(same(half, across) ** 2 + same(half, across.T) ** 2))
    similar = (2 * steep[0] * steep[1] + 170) / (steep[0] ** 2 + steep[1] ** 2 + 170)
    return math.sqrt(((similar - similar.mean()) ** 2).sum() / (similar.size - 1))


@pytest.mark.parametrize("shape", [(64, 64, 0), (11, 11, 1), (33, 50, 2), (3, 4, 3)])
def test_gmsd_is_its_program(shape: tuple[int, int, int]) -> None:
    original, noisy = pair(*shape)
    assert gmsd(original[None], noisy[None])[0] == pytest.approx(slow_gmsd(original, noisy), abs=1e-12)


def test_a_set_is_measured_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [pair(32, 48, seed) for seed in range(7)]
    originals, decoded = (np.stack(some) for some in zip(*pairs, strict=True))
    for measure in (psnr, ssim, gmsd):
        whole = measure(originals, decoded)
        assert whole.shape == (7,)
        assert whole.dtype == np.float64
        monkeypatch.setattr(pictures, "_AT_ONCE", 32 * 48 * 2)
        np.testing.assert_allclose(measure(originals, decoded), whole, rtol=0, atol=1e-12)
        monkeypatch.undo()
        alone = [measure(originals[i : i + 1], decoded[i : i + 1])[0] for i in range(7)]
        np.testing.assert_allclose(alone, whole, rtol=0, atol=1e-12)


def test_the_same_picture_and_the_nearest_to_it() -> None:
    original = pair(64, 64, 5)[0][None]
    assert (psnr(original, original)[0], ssim(original, original)[0], gmsd(original, original)[0]) == (CAP, 1.0, 0.0)
    one_off = original.copy()
    one_off[0, 3, 4, 1] ^= 1
    assert psnr(original, one_off)[0] == pytest.approx(10 * math.log10(255**2 * 64 * 64 * 3))
    assert psnr(original, one_off)[0] < CAP
    black, white = np.zeros((1, 16, 16, 3), np.uint8), np.full((1, 16, 16, 3), 255, np.uint8)
    assert psnr(black, white)[0] == pytest.approx(0, abs=1e-12)
    assert ssim(black, white)[0] == pytest.approx(6.5025 / (255**2 + 6.5025), rel=1e-9)


def test_more_noise_is_farther() -> None:
    original = pair(64, 64, 6)[0][None]
    rng = np.random.default_rng(0)
    noise = rng.normal(size=original.shape)
    found = [
        (psnr(original, worse)[0], ssim(original, worse)[0], -gmsd(original, worse)[0])
        for worse in (np.clip(original + size * noise, 0, 255).astype(np.uint8) for size in (2, 8, 30))
    ]
    assert found == sorted(found, reverse=True)
    assert all(near > far for near, far in zip(found[0], found[1], strict=True))


@pytest.mark.parametrize("measure", [psnr, ssim, gmsd])
def test_what_cannot_be_compared(measure: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
    good = np.zeros((2, 16, 16, 3), np.uint8)
    for wrong in (good[:1], good[:, :8], good[..., :1], good[0], good[:0]):
        with pytest.raises(ShapeError, match=r"twice|at least"):
            measure(good, wrong)
        with pytest.raises(ShapeError, match=r"twice|at least"):
            measure(wrong, good)
    with pytest.raises(ShapeError):
        measure(good[:0], good[:0])
    for wrong in (good.astype(float), good.tolist()):
        with pytest.raises(ArgumentTypeError, match="give an array of uint8"):
            measure(good, wrong)  # type: ignore[arg-type]


def test_pictures_that_a_window_does_not_fit() -> None:
    for measure, side in ((ssim, 11), (gmsd, 3)):
        for shape in ((side - 1, 40), (40, side - 1)):
            small = np.zeros((1, *shape, 3), np.uint8)
            with pytest.raises(ShapeError, match=f"at least {side} × {side}"):
                measure(small, small)
    assert psnr(np.zeros((1, 1, 1, 3), np.uint8), np.ones((1, 1, 1, 3), np.uint8))[0] == pytest.approx(48.13, abs=0.01)
