"""Yardsticks: k-means, PCA, mean colours and WebP do what their names say, and each a little better with more."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest

from foretoken.errors import InvalidArgument, MissingExtra
from foretoken.evaluate.pictures import psnr
from foretoken.evaluate.yardsticks import WEBP_CONTAINER, WEBP_FRAME, PatchCodes, PatchPlane, WebP, mean_colours


def drawn(count: int, height: int = 16, width: int = 24, seed: int = 0) -> np.ndarray:
    """Pictures of a few flat shapes, with a little noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 4, (count, height // 4, width // 4, 3)) * 80
    noise = rng.integers(0, 16, (count, height, width, 3))
    return (coarse.repeat(4, axis=1).repeat(4, axis=2) + noise).astype(np.uint8)


def test_as_many_codes_as_patches_lose_nothing() -> None:
    pictures = drawn(3)
    codes = PatchCodes.fitted(pictures, side=4, codes=3 * 4 * 6, rounds=1)
    assert codes.encode(pictures).shape == (3, 24)
    assert len(np.unique(codes.encode(pictures))) == 72
    np.testing.assert_array_equal(codes.decoded(pictures), pictures)
    with pytest.raises(InvalidArgument, match="72 different patches are fewer than 73 codes"):
        PatchCodes.fitted(pictures, side=4, codes=73)


def test_codes_are_means_of_what_is_nearest_to_them() -> None:
    """A round more changes nothing any more: each code is the mean of its patches."""
    pictures = drawn(8)
    codes = PatchCodes.fitted(pictures, side=4, codes=10, rounds=60)
    patches = pictures.reshape(8, 4, 4, 6, 4, 3).transpose(0, 1, 3, 5, 2, 4).reshape(-1, 48).astype(float)
    ids = np.square(patches[:, None] - codes.codebook[None]).sum(axis=2).argmin(axis=1)
    np.testing.assert_array_equal(codes.encode(pictures).reshape(-1), ids)
    for code in range(10):
        np.testing.assert_allclose(codes.codebook[code], patches[ids == code].mean(axis=0), atol=1e-3)
    rounded = np.floor(codes.codebook + 0.5)  # halves go up
    shown = rounded[ids].reshape(8, 4, 6, 3, 4, 4).transpose(0, 1, 4, 2, 5, 3).reshape(pictures.shape)
    np.testing.assert_array_equal(codes.decoded(pictures), shown.astype(np.uint8))


def test_no_code_stays_without_patches() -> None:
    """Patches of two kinds, one of them rare: random ones alone would leave codes that nothing is near."""
    rng = np.random.default_rng(0)
    pictures = np.full((40, 8, 8, 3), 255, np.uint8)
    pictures[:, :, :, 0] -= rng.integers(0, 3, (40, 8, 8)).astype(np.uint8)
    pictures[:6] = rng.integers(0, 256, (6, 8, 8, 3))
    codes = PatchCodes.fitted(pictures, side=4, codes=24, rounds=20)
    assert len(np.unique(codes.encode(pictures))) >= 23


def test_more_codes_and_other_seeds() -> None:
    train, held = drawn(40), drawn(10, seed=1)
    few, many = (psnr(held, PatchCodes.fitted(train, side=4, codes=n).decoded(held)).mean() for n in (4, 64))
    assert many > few + 1
    same = [PatchCodes.fitted(train, side=4, codes=8, seed=seed, most=200).codebook for seed in (0, 0, 1)]
    np.testing.assert_array_equal(same[0], same[1])
    assert not np.array_equal(same[0], same[2])


def test_pca_is_that_of_svd() -> None:
    train, held = drawn(20), drawn(5, seed=1)
    plane = PatchPlane.fitted(train, side=4, width=6)
    assert plane.encode(held).shape == (5, 24, 6)

    def rows(pictures: np.ndarray) -> np.ndarray:
        return pictures.reshape(len(pictures), 4, 4, 6, 4, 3).transpose(0, 1, 3, 5, 2, 4).reshape(-1, 48).astype(float)

    mean = rows(train).mean(axis=0)
    _, _, directions = np.linalg.svd(rows(train) - mean, full_matrices=False)
    back = (rows(held) - mean) @ directions[:6].T @ directions[:6] + mean
    shown = back.reshape(5, 4, 6, 3, 4, 4).transpose(0, 1, 4, 2, 5, 3).reshape(held.shape)
    assert np.abs(plane.decoded(held) - np.clip(shown, 0, 255)).max() <= 0.5 + 1e-3
    np.testing.assert_array_equal(PatchPlane.fitted(train, side=4, width=48).decoded(held), held)
    for width in (0, 49):
        with pytest.raises(InvalidArgument, match="1 to 48"):
            PatchPlane.fitted(train, side=4, width=width)


def test_mean_colours() -> None:
    pictures = drawn(2)
    shown = mean_colours(pictures, side=8)
    expected = pictures.reshape(2, 2, 8, 3, 8, 3).mean(axis=(2, 4))
    assert np.abs(shown[:, ::8, ::8] - expected).max() <= 0.5 + 1e-4
    np.testing.assert_array_equal(shown, shown[:, ::8, ::8].repeat(8, axis=1).repeat(8, axis=2))
    np.testing.assert_array_equal(mean_colours(pictures, side=1), pictures)


def test_webp_files_are_whole_and_the_nearest() -> None:
    image = pytest.importorskip("PIL.Image")
    picture = drawn(1, 64, 64)[0]
    files = WebP(picture)
    sizes = [len(file) for file in files.files]
    assert len(sizes) == 101
    assert files.smallest == min(sizes) == files.nearest(0)
    assert files.nearest(10**6) == max(sizes)
    for size in (300, 777, 1234):
        assert abs(files.nearest(size) - size) == min(abs(one - size) for one in sizes)
        with image.open(io.BytesIO(files.file(size))) as shown:
            np.testing.assert_array_equal(files.decoded(size), np.array(shown.convert("RGB")))
    near, far = (psnr(picture[None], files.decoded(size)[None])[0] for size in (max(sizes), min(sizes)))
    assert near > far + 3


def test_what_webp_spends_on_headers() -> None:
    """By the file itself: RIFF, its size, WEBP; VP8, its size; a frame tag that says where its first part begins."""
    pytest.importorskip("PIL.Image")
    file = WebP(np.full((16, 16, 3), 200, np.uint8)).file(0)
    assert (file[:4], file[8:16]) == (b"RIFF", b"WEBPVP8 ")
    assert int.from_bytes(file[4:8], "little") == len(file) - 8
    assert file[WEBP_CONTAINER + 3 : WEBP_CONTAINER + 6] == b"\x9d\x01\x2a"
    assert [int.from_bytes(file[WEBP_CONTAINER + i : WEBP_CONTAINER + i + 2], "little") for i in (6, 8)] == [16, 16]
    first_part = int.from_bytes(file[WEBP_CONTAINER : WEBP_CONTAINER + 3], "little") >> 5
    assert WEBP_CONTAINER + WEBP_FRAME + first_part < len(file)


def test_webp_without_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtra, match="foretoken\\[image\\]"):
        WebP(drawn(1)[0])
