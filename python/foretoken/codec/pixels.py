"""Pictures as pixels: each pixel one symbol of 8, 16 or 24 bits, row after row."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from .. import kernels
from ..errors import ArgumentTypeError, InvalidArgument, ShapeError
from .pictures import read
from .protocol import Codec

_COLOURS = 256


class Pixels(Codec[Any]):
    """Picture ↔ a symbol for each pixel, as a page is read.

    A signal is whatever `pictures.read` takes: a path, a picture of Pillow, a uint8 array (height, width, channels).
    With 24 bits nothing is lost; with fewer each pixel gets the nearest colour that there is, without dithering.

    Args:
        bits: 24 for every colour, 16 for 5-6-5, 8 for a palette.
        palette: (at most 256, 3) uint8, for 8 bits; the same 256 colours for any picture unless given.

    Raises:
        InvalidArgument: `bits` is none of these, a palette is given for other bits, or it has no or too many colours.
        ShapeError, ArgumentTypeError: the palette is not as above.

    Example:
        >>> picture = np.array([[[255, 0, 0], [250, 9, 0]]], dtype=np.uint8)
        >>> codec = Pixels(8)
        >>> codec.encode(picture).tolist(), codec.grid(picture)
        ([180, 180], (1, 2))
        >>> codec.decode(codec.encode(picture), (1, 2)).tolist()
        [[[255, 0, 0], [255, 0, 0]]]
    """

    unit, width = "pixel", 1

    def __init__(self, bits: int = 24, palette: Any = None) -> None:
        if isinstance(bits, bool) or not isinstance(bits, (int, np.integer)):
            raise ArgumentTypeError(f"bits is {bits!r}: give 8, 16 or 24")
        if bits not in (8, 16, 24):
            raise InvalidArgument(f"bits is {bits}: give 8, 16 or 24")
        if palette is not None and bits != 8:
            raise InvalidArgument(f"a palette is given for {bits} bits: give bits=8, or no palette")
        self.bits_of_pixel = int(bits)
        self.palette = None if bits != 8 else kernels.uniform_palette() if palette is None else _colours(palette)

    @staticmethod
    def fitted(pictures: Iterable[Any], colours: int = _COLOURS) -> Pixels:
        """8 bits a pixel, with a palette made for some pictures; see `kernels.fit_palette`.

        Args:
            pictures: at least one, each as for `encode`.
            colours: how many at most, in [1, 256].

        Raises:
            InvalidArgument: there is no picture, or `colours` is out of range.
            ShapeError: a picture has no pixels.
        """
        if not 1 <= colours <= _COLOURS:
            raise InvalidArgument(f"colours is {colours}: give 1 to {_COLOURS}")
        pixels = [_read(picture).reshape(-1, 3) for picture in pictures]
        if not pixels:
            raise InvalidArgument("there is no picture to fit a palette to: give at least one")
        return Pixels(8, kernels.fit_palette(np.concatenate(pixels), colours))

    @property
    def vocab_size(self) -> int:
        """How many colours there are."""
        return 2**self.bits_of_pixel if self.palette is None else len(self.palette)

    def encode(self, signal: Any) -> np.ndarray:
        """The colours of a picture, (height × width,) int64.

        Raises:
            ShapeError: the picture has no pixels.
            InvalidArgument, LimitExceeded, ArgumentTypeError, MissingExtra: it cannot be read, see `pictures.read`.
        """
        pixels = _read(signal)
        if self.palette is not None:
            return kernels.palette_encode(pixels, self.palette).reshape(-1)
        encode = kernels.rgb24_encode if self.bits_of_pixel == 24 else kernels.rgb565_encode
        return encode(pixels).reshape(-1)

    def decode(self, units: np.ndarray, grid: tuple[int, ...] | None = None) -> np.ndarray:
        """The picture of colours, (height, width, 3) uint8.

        Args:
            units: (height × width,) integers.
            grid: height and width; a row of pixels does not tell them.

        Raises:
            InvalidArgument: the grid is missing, or a number has no colour.
            ShapeError: there are more or fewer units than the grid says.
            ArgumentTypeError: the units are no integers.
        """
        units = np.asarray(units)
        if grid is None:
            raise InvalidArgument(f"{units.size} pixels may lie in many ways: give grid=(height, width)")
        if len(grid) != 2 or units.shape != (math.prod(grid),) or min(grid) < 1:
            raise ShapeError(f"units of shape {units.shape} do not fill a grid of {tuple(grid)}")
        ids = units.reshape(grid)
        if self.palette is not None:
            return kernels.palette_decode(ids, self.palette)
        return (kernels.rgb24_decode if self.bits_of_pixel == 24 else kernels.rgb565_decode)(ids)

    def grid(self, signal: Any) -> tuple[int, ...]:
        """Height and width of a picture."""
        return _read(signal).shape[:2]


def _read(signal: Any) -> np.ndarray:
    pixels = read(signal)
    if not pixels.size:
        raise ShapeError(f"a picture is {pixels.shape[0]} × {pixels.shape[1]}: it has no pixels")
    return pixels


def _colours(palette: Any) -> np.ndarray:
    array = np.asarray(palette)
    if array.dtype.kind not in "iu":
        raise ArgumentTypeError(f"the palette is of {array.dtype}: give uint8")
    if array.ndim != 2 or array.shape[1] != 3:
        raise ShapeError(f"the palette has shape {array.shape}: give (colours, 3)")
    if not 1 <= len(array) <= _COLOURS:
        raise InvalidArgument(f"the palette has {len(array)} colours: give 1 to {_COLOURS}")
    if array.min() < 0 or array.max() > 255:
        raise InvalidArgument(f"the palette holds {array.min()} to {array.max()}: give numbers in [0, 256)")
    return array.astype(np.uint8)
