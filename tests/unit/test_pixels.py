"""Pixels as units: exact with 24 bits, the nearest colours with fewer, files of any kind, and no picture of nothing."""

from __future__ import annotations

import io
import pickle
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretoken import kernels
from foretoken.canvas import Canvas
from foretoken.codec.pixels import Pixels
from foretoken.errors import ArgumentTypeError, InvalidArgument, LimitExceeded, ShapeError


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 2**32))
def test_24_bits_come_back(height: int, width: int, seed: int) -> None:
    codec, original = Pixels(24), picture(height, width, seed)
    ids = codec.encode(original)
    assert (ids.dtype, ids.shape, codec.grid(original)) == (np.int64, (height * width,), (height, width))
    red, green, blue = original[height - 1, 0].tolist()
    assert ids[(height - 1) * width] == red << 16 | green << 8 | blue  # as a page is read
    np.testing.assert_array_equal(codec.decode(ids, (height, width)), original)


@given(st.sampled_from(["8", "16", "fitted"]), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32))
def test_what_was_decoded_stays(kind: str, height: int, width: int, seed: int) -> None:
    original = picture(height, width, seed)
    codec = Pixels.fitted([original], 7) if kind == "fitted" else Pixels(int(kind))
    once = codec.decode(codec.encode(original), codec.grid(original))
    np.testing.assert_array_equal(codec.decode(codec.encode(once), codec.grid(once)), once)
    ids = np.random.default_rng(seed).integers(0, codec.vocab_size, height * width)
    shown = codec.decode(ids, (height, width))
    np.testing.assert_array_equal(codec.decode(codec.encode(shown), (height, width)), shown)
    if kind == "16":
        assert np.abs(once.astype(int) - original).max(axis=(0, 1)).max() <= 4


def test_sizes_and_bits() -> None:
    original = picture(4, 5)
    assert [Pixels(bits).vocab_size for bits in (8, 16, 24)] == [2**8, 2**16, 2**24]
    assert [Pixels(bits).bits(original) for bits in (8, 16, 24)] == [20 * bits for bits in (8, 16, 24)]
    few = Pixels(8, np.array([[0, 0, 0], [255, 255, 255]]))
    assert (few.vocab_size, few.bits(original), few.unit, few.width) == (2, 20.0, "pixel", 1)
    assert Pixels().bits_of_pixel == 24


def test_a_palette_made_for_pictures_fits_them_better() -> None:
    warm = picture(30, 30)
    warm[..., 2] //= 16
    fitted, plain = Pixels.fitted([warm, warm[:3]]), Pixels(8)
    errors = [
        np.square(codec.decode(codec.encode(warm), (30, 30)).astype(float) - warm).mean() for codec in (fitted, plain)
    ]
    assert errors[0] < errors[1] / 2
    assert Pixels.fitted([warm], 3).vocab_size == 3
    np.testing.assert_array_equal(fitted.palette, kernels.fit_palette(np.concatenate([warm, warm[:3]])))


def test_rows_of_pixels_are_a_canvas() -> None:
    pictures = [picture(2, 3), picture(1, 1)]
    canvas = Pixels(24).canvas(pictures)
    assert isinstance(canvas, Canvas)
    assert canvas.lengths == (6, 1)
    assert canvas.rows[1].tolist() == Pixels(24).encode(pictures[1]).tolist()
    again = pickle.loads(pickle.dumps(Pixels.fitted(pictures, 4)))
    np.testing.assert_array_equal(again.encode(pictures[0]), Pixels.fitted(pictures, 4).encode(pictures[0]))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"bits": 12}, InvalidArgument, "give 8, 16 or 24"),
        ({"bits": 8.0}, ArgumentTypeError, "give 8, 16 or 24"),
        ({"bits": True}, ArgumentTypeError, "give 8, 16 or 24"),
        ({"bits": 24, "palette": np.zeros((2, 3), np.uint8)}, InvalidArgument, "for 24 bits"),
        ({"bits": 8, "palette": np.zeros((0, 3), np.uint8)}, InvalidArgument, "has 0 colours"),
        ({"bits": 8, "palette": np.zeros((257, 3), np.uint8)}, InvalidArgument, "has 257 colours"),
        ({"bits": 8, "palette": np.zeros((4, 4), np.uint8)}, ShapeError, r"\(4, 4\)"),
        ({"bits": 8, "palette": np.zeros((4, 3))}, ArgumentTypeError, "float64"),
        ({"bits": 8, "palette": np.full((4, 3), 256)}, InvalidArgument, "256 to 256"),
    ],
)
def test_codecs_that_cannot_be(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Pixels(**arguments)


def test_palettes_are_made_of_pictures() -> None:
    with pytest.raises(InvalidArgument, match="no picture"):
        Pixels.fitted([])
    with pytest.raises(ShapeError, match="no pixels"):
        Pixels.fitted([np.zeros((0, 0, 3), np.uint8)])
    for colours in (0, 257):
        with pytest.raises(InvalidArgument, match="1 to 256"):
            Pixels.fitted([picture(1, 1)], colours)


@pytest.mark.parametrize("bits", [8, 16, 24])
def test_units_that_are_no_picture(bits: int) -> None:
    codec = Pixels(bits)
    with pytest.raises(InvalidArgument, match=r"give grid=\(height, width\)"):
        codec.decode(np.zeros(6, np.int64))
    for units, grid in ((np.zeros(6, int), (2, 2)), (np.zeros((2, 3), int), (2, 3)), (np.zeros(6, int), (6,))):
        with pytest.raises(ShapeError, match="do not fill"):
            codec.decode(units, grid)
    for grid in ((0, 4), (-2, -3)):
        with pytest.raises(ShapeError, match="do not fill"):
            codec.decode(np.zeros(abs(grid[0] * grid[1]), int), grid)
    for wrong in (-1, 2**bits):
        with pytest.raises(InvalidArgument):
            codec.decode(np.array([wrong]), (1, 1))
    with pytest.raises(ArgumentTypeError):
        codec.decode(np.zeros(6), (2, 3))


def test_pictures_of_nothing_and_of_one_pixel() -> None:
    for shape in ((0, 0, 3), (0, 5, 3), (5, 0, 3)):
        for call in (Pixels(24).encode, Pixels(8).grid):
            with pytest.raises(ShapeError, match="no pixels"):
                call(np.zeros(shape, np.uint8))
    assert Pixels(24).encode(np.array([[[1, 2, 3]]], np.uint8)).tolist() == [0x010203]
    for wrong in (np.zeros((3, 3, 2), np.uint8), np.zeros((3, 3, 5), np.uint8), np.zeros((2, 3, 3, 3), np.uint8)):
        with pytest.raises(ShapeError, match="channels"):
            Pixels(24).encode(wrong)
    for wrong in (np.zeros((3, 3, 3)), np.full((3, 3, 3), np.nan, np.float32), np.zeros((3, 3, 3), np.uint16)):
        with pytest.raises(ArgumentTypeError, match="uint8"):
            Pixels(24).encode(wrong)
    with pytest.raises(ArgumentTypeError, match="a picture is a int"):
        Pixels(24).encode(3)


def test_files_of_many_kinds(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    original, codec = picture(6, 9), Pixels(24)
    upright = image.fromarray(original)

    def shown(name: str, made: Any, **options: Any) -> np.ndarray:
        made.save(tmp_path / name, **options)
        return codec.decode(codec.encode(tmp_path / name), codec.grid(str(tmp_path / name)))

    np.testing.assert_array_equal(shown("plain.png", upright), original)
    np.testing.assert_array_equal(codec.encode(upright), codec.encode(original))
    exif = image.Exif()
    exif[0x0112] = 6
    np.testing.assert_array_equal(
        shown("turned.png", upright.transpose(image.Transpose.ROTATE_90), exif=exif), original
    )
    palette = upright.quantize(5)
    np.testing.assert_array_equal(shown("palette.png", palette), np.array(palette.convert("RGB")))
    cmyk = upright.convert("CMYK")
    np.testing.assert_array_equal(shown("cmyk.tif", cmyk), np.array(cmyk.convert("RGB")))
    deep = (original[..., 0].astype(np.uint16) << 8) + 200
    np.testing.assert_array_equal(shown("deep.png", image.fromarray(deep)), original[..., :1].repeat(3, axis=2))
    clear = upright.copy()
    clear.putalpha(0)
    assert (shown("clear.png", clear) == 255).all()


def bomb(side: int) -> bytes:
    """A PNG of two hundred bytes that says it has side × side pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(999))) + chunk(b"IEND", b"")
    )


def test_hostile_files_are_refused(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    memory = io.BytesIO()
    image.fromarray(picture(60, 60)).save(memory, "png")
    for name, content in {"cut.png": memory.getvalue()[:3000], "text.png": b"no picture", "empty.png": b""}.items():
        (tmp_path / name).write_bytes(content)
        for call in (Pixels(16).encode, Pixels(16).grid):
            with pytest.raises(InvalidArgument, match="cannot read the picture"):
                call(tmp_path / name)
    (tmp_path / "bomb.png").write_bytes(bomb(100_000))
    with pytest.raises(LimitExceeded, match=r"too large|more than"):
        Pixels(8).encode(tmp_path / "bomb.png")
    with pytest.raises(InvalidArgument, match="cannot read the picture"):
        Pixels(8).encode(tmp_path / "missing.png")
