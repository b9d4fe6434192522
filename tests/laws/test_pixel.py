"""Colours as numbers: exact where they must be, the nearest where not, and palettes that the twin would make."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foretoken import kernels
from foretoken.errors import ArgumentTypeError, InvalidArgument, LimitExceeded, ShapeError
from foretoken.reference import pixel as reference

EVERY = np.arange(256, dtype=np.uint8)


def colours(rng: np.random.Generator, count: int, kinds: int = 256) -> np.ndarray:
    return (rng.integers(0, kinds, (count, 3)) * (255 // max(1, kinds - 1))).astype(np.uint8)


def test_ten_thousand_shapes_of_24_bits_come_back() -> None:
    rng = np.random.default_rng(0)
    for _ in range(10_000):
        pixels = rng.integers(0, 256, (*rng.integers(0, 9, rng.integers(0, 4)), 3), dtype=np.uint8)
        ids = kernels.rgb24_encode(pixels)
        assert ids.shape == pixels.shape[:-1]
        np.testing.assert_array_equal(kernels.rgb24_decode(ids), pixels)


def test_24_bits_are_red_green_and_blue() -> None:
    pixels = colours(np.random.default_rng(0), 1000)
    np.testing.assert_array_equal(
        kernels.rgb24_encode(pixels), reference.rgb24_encode(torch.from_numpy(pixels)).numpy()
    )
    assert kernels.rgb24_encode(np.array([[1, 2, 3], [255, 255, 255]])).tolist() == [0x010203, 0xFFFFFF]


def test_565_rounds_to_the_nearest_both_ways() -> None:
    grey = np.repeat(EVERY[:, None], 3, axis=1)
    ids = kernels.rgb565_encode(grey)
    for part, levels in ((ids >> 11, 31), (ids >> 5 & 63, 63), (ids & 31, 31)):
        exact = EVERY * (levels / 255)
        assert np.abs(part - exact).max() < 0.5
    np.testing.assert_array_equal(ids, reference.rgb565_encode(torch.from_numpy(grey)).numpy())
    every = np.arange(1 << 16)
    pixels = kernels.rgb565_decode(every)
    np.testing.assert_array_equal(pixels, reference.rgb565_decode(torch.from_numpy(every)).numpy())
    np.testing.assert_array_equal(kernels.rgb565_encode(pixels), every)
    for channel, (part, levels) in enumerate(((every >> 11, 31), (every >> 5 & 63, 63), (every & 31, 31))):
        assert np.abs(pixels[:, channel] - part * (255 / levels)).max() < 0.5
    assert np.abs(kernels.rgb565_decode(ids).astype(int) - grey).max(axis=0).tolist() == [4, 2, 4]


def test_565_has_the_corners_of_the_cube() -> None:
    corners = np.array([[r, g, b] for r in (0, 255) for g in (0, 255) for b in (0, 255)], dtype=np.uint8)
    ids = kernels.rgb565_encode(corners)
    assert ids.tolist() == [0, 0x1F, 0x7E0, 0x7FF, 0xF800, 0xF81F, 0xFFE0, 0xFFFF]
    np.testing.assert_array_equal(kernels.rgb565_decode(ids), corners)


@settings(max_examples=100)
@given(st.integers(0, 200), st.integers(1, 80), st.integers(1, 256), st.integers(0, 2**32))
def test_the_nearest_colour_is_that_of_the_twin(count: int, size: int, kinds: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pixels, palette = colours(rng, count, kinds), colours(rng, size, kinds)
    ids = kernels.palette_encode(pixels, palette, threads=1 + seed % 3)
    expected = reference.palette_encode(torch.from_numpy(pixels), torch.from_numpy(palette)).numpy()
    np.testing.assert_array_equal(ids, expected)
    np.testing.assert_array_equal(kernels.palette_decode(ids, palette), palette[expected])
    # The same as among vectors.
    found = kernels.nearest(pixels.astype(np.float32), palette.astype(np.float32))
    np.testing.assert_array_equal(ids, found.ids)


def test_large_palettes_and_many_pixels() -> None:
    rng = np.random.default_rng(0)
    pixels, palette = colours(rng, 5000).reshape(50, 100, 3), colours(rng, 4096)
    ids = kernels.palette_encode(pixels, palette, threads=3)
    assert ids.shape == (50, 100)
    np.testing.assert_array_equal(ids, kernels.palette_encode(pixels, palette))
    far = np.square(pixels[..., None, :].astype(int) - palette).sum(axis=-1)
    np.testing.assert_array_equal(ids, far.argmin(axis=-1))
    same = np.zeros((4096, 3), dtype=np.uint8)
    assert kernels.palette_encode(pixels, same).max() == 0


def test_the_uniform_palette_has_256_colours() -> None:
    palette = kernels.uniform_palette()
    assert palette.shape == (256, 3)
    assert len(np.unique(palette, axis=0)) == 256
    np.testing.assert_array_equal(kernels.palette_encode(palette, palette), np.arange(256))
    pixels = colours(np.random.default_rng(0), 20_000)
    back = kernels.palette_decode(kernels.palette_encode(pixels, palette), palette)
    # No farther than the nearest corner of the cube.
    assert np.square(back.astype(int) - pixels).sum(axis=1).max() <= 3 * 26**2
    grey = np.repeat(EVERY[:, None], 3, axis=1)
    back = kernels.palette_decode(kernels.palette_encode(grey, palette), palette)
    assert np.abs(back.astype(int) - grey).max() <= 4


@settings(max_examples=60)
@given(st.integers(1, 300), st.integers(1, 40), st.integers(2, 256), st.integers(0, 5), st.integers(0, 2**32))
def test_fitted_palettes_are_those_of_the_twin(count: int, size: int, kinds: int, rounds: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = colours(rng, count, kinds)
    found = kernels.fit_palette(pixels, size, rounds=rounds, threads=1 + seed % 3)
    expected = reference.fit_palette(torch.from_numpy(pixels), size, rounds=rounds)
    np.testing.assert_array_equal(found, expected.numpy())
    np.testing.assert_array_equal(found, kernels.fit_palette(rng.permutation(pixels), size, rounds=rounds))


def test_few_colours_are_kept_exactly() -> None:
    pixels = colours(np.random.default_rng(0), 3000, kinds=6)
    palette = kernels.fit_palette(pixels, 256)
    assert len(palette) == len(np.unique(pixels, axis=0)) <= 216
    np.testing.assert_array_equal(kernels.palette_decode(kernels.palette_encode(pixels, palette), palette), pixels)


def test_a_fitted_palette_is_better_than_a_fixed_one() -> None:
    """And k-means better than the cut alone."""
    ramp = np.linspace(0, 1, 128)
    red, blue = np.meshgrid(ramp, ramp)
    image = np.stack([60 + 100 * red, 90 + 60 * red * blue, 200 - 90 * blue], axis=-1).astype(np.uint8)

    def error(palette: np.ndarray) -> float:
        back = kernels.palette_decode(kernels.palette_encode(image, palette), palette)
        return float(np.square(back.astype(float) - image).mean())

    cut, fitted = (kernels.fit_palette(image, 256, rounds=rounds) for rounds in (0, 20))
    assert error(fitted) < error(cut) < error(kernels.uniform_palette()) / 10


def test_what_is_no_colour_is_refused() -> None:
    pixels, palette = np.zeros((2, 3), dtype=np.uint8), kernels.uniform_palette()

    def refused(error: type[Exception], match: str, call, *arguments, **keywords) -> None:
        with pytest.raises(error, match=match):
            call(*arguments, **keywords)

    for encode in (kernels.rgb24_encode, kernels.rgb565_encode, lambda p: kernels.palette_encode(p, palette)):
        refused(ShapeError, "last axis must be red, green and blue", encode, np.zeros((3, 4), dtype=np.uint8))
        refused(ShapeError, "last axis", encode, np.zeros((), dtype=np.uint8))
        refused(InvalidArgument, "pixels holds 0 to 256", encode, np.array([[0, 0, 256]]))
        refused(InvalidArgument, "pixels holds -1 to 0", encode, np.array([[0, 0, -1]]))
        refused(ArgumentTypeError, "pixels is of float32", encode, np.zeros((1, 3), dtype=np.float32))
        assert encode(pixels[:0]).shape == (0,)
    refused(ShapeError, "palette has shape", kernels.palette_encode, pixels, palette[:, :2].copy())
    refused(InvalidArgument, "palette is empty", kernels.palette_encode, pixels, palette[:0])
    refused(InvalidArgument, "threads is 0", kernels.palette_encode, pixels, palette, threads=0)
    refused(LimitExceeded, "4096 is the most", kernels.palette_encode, pixels, np.zeros((4097, 3), dtype=np.uint8))
    for decode, limit in (
        (kernels.rgb24_decode, 2**24),
        (kernels.rgb565_decode, 2**16),
        (lambda ids: kernels.palette_decode(ids, palette), 256),
    ):
        for wrong in (-1, limit, 2**62):
            refused(
                InvalidArgument,
                rf"ids holds {wrong} in place 1: give numbers in 0\.\.{limit}",
                decode,
                np.array([0, wrong]),
            )
    for colours_ in (0, -1, 4097):
        refused(InvalidArgument, f"colours is {colours_}", kernels.fit_palette, pixels, colours_)
    refused(InvalidArgument, "rounds is -1", kernels.fit_palette, pixels, rounds=-1)
    refused(InvalidArgument, "pixels is empty", kernels.fit_palette, pixels[:0])
