"""Colours to numbers and back: 24 bits as they are, 16 bits as 5-6-5, and fewer by a palette."""

from __future__ import annotations

import numpy as np

from .. import _rust
from .arrays import Array, wholes


def rgb24_encode(pixels: Array) -> np.ndarray:
    """A number of 24 bits for each pixel, red << 16 | green << 8 | blue: nothing is lost.

    Args:
        pixels: (..., 3) uint8, or other integers in [0, 256); red, green, blue.

    Returns:
        ids: (...) int64 in [0, 2^24).

    Raises:
        ShapeError: the last axis is not 3 long.
        InvalidArgument: a number is not in [0, 256).
        ArgumentTypeError: the pixels are no integers.

    Example:
        >>> rgb24_encode(np.array([[255, 0, 16]], dtype=np.uint8))
        array([16711696])
    """
    return _rust.rgb24_encode(wholes("pixels", pixels, np.uint8))


def rgb24_decode(ids: Array) -> np.ndarray:
    """The pixels (..., 3) uint8 of numbers (...) of 24 bits; a number of more is an `InvalidArgument`.

    Example:
        >>> rgb24_decode(np.array([16711696]))
        array([[255,   0,  16]], dtype=uint8)
    """
    return _rust.rgb24_decode(wholes("ids", ids))


def rgb565_encode(pixels: Array) -> np.ndarray:
    """A number of 16 bits for each pixel: five of red, six of green, five of blue, each rounded to the nearest.

    Takes and raises what `rgb24_encode` does. No part is off by more than 4 of 255 (green: 2) after `rgb565_decode`.

    Example:
        >>> rgb565_encode(np.array([[255, 0, 16]], dtype=np.uint8))
        array([63490])
    """
    return _rust.rgb565_encode(wholes("pixels", pixels, np.uint8))


def rgb565_decode(ids: Array) -> np.ndarray:
    """The pixels (..., 3) uint8 of numbers (...) of 16 bits, each part rounded to the nearest of 0 to 255.

    Example:
        >>> rgb565_decode(np.array([63490]))
        array([[255,   0,  16]], dtype=uint8)
    """
    return _rust.rgb565_decode(wholes("ids", ids))


def palette_encode(pixels: Array, palette: Array, *, threads: int = 1) -> np.ndarray:
    """The number of the palette's nearest colour for each pixel: by squared distance, the lowest among equals.

    Args:
        pixels: (..., 3) uint8, or other integers in [0, 256).
        palette: (colours, 3) of the same, 1 to 4096 of them: see `uniform_palette` and `fit_palette`.
        threads: over how many the pixels are spread, ≥ 1.

    Returns:
        ids: (...) int64 in [0, colours).

    Raises:
        InvalidArgument: the palette is empty, or a number out of range.
        LimitExceeded: the palette has more colours.
        ShapeError, ArgumentTypeError: an argument is not as above.

    Example:
        >>> palette_encode(np.array([[250, 9, 0]], dtype=np.uint8), uniform_palette())
        array([180])
    """
    return _rust.palette_encode(wholes("pixels", pixels, np.uint8), wholes("palette", palette, np.uint8), threads)


def palette_decode(ids: Array, palette: Array) -> np.ndarray:
    """The colours (..., 3) uint8 of numbers (...); one that the palette does not have is an `InvalidArgument`.

    Example:
        >>> palette_decode(np.array([180]), uniform_palette())
        array([[255,   0,   0]], dtype=uint8)
    """
    return _rust.palette_decode(wholes("ids", ids), wholes("palette", palette, np.uint8))


def uniform_palette() -> np.ndarray:
    """A palette (256, 3) uint8 for any image: six levels each of red, green and blue, then 40 greys between theirs.

    Example:
        >>> uniform_palette()[[1, 6, 36, 216]].tolist()
        [[0, 0, 51], [0, 51, 0], [51, 0, 0], [6, 6, 6]]
    """
    from ..reference.pixel import uniform_palette as twin

    return twin().numpy()


def fit_palette(pixels: Array, colours: int = 256, *, rounds: int = 8, threads: int = 1) -> np.ndarray:
    """A palette made for some images: median cut (Heckbert 1982), then rounds of k-means.

    All in whole numbers: the same pixels, in any order, give the same palette on any machine.

    Args:
        pixels: (..., 3) uint8, or other integers in [0, 256); at least one pixel.
        colours: how many at most, in [1, 4096]; there are fewer where the pixels have fewer, or colours meet.
        rounds: of k-means, in [0, 1000]; it ends sooner when nothing moves.
        threads: over how many the colours are spread, ≥ 1.

    Returns:
        palette: (at most colours, 3) uint8, in the order of `rgb24_encode`.

    Raises:
        InvalidArgument: there are no pixels, or a number is out of range.
        ShapeError, ArgumentTypeError: an argument is not as above.

    Example:
        >>> fit_palette(np.array([[0, 0, 0], [2, 0, 0], [255, 0, 9]], dtype=np.uint8), 2).tolist()
        [[1, 0, 0], [255, 0, 9]]
    """
    return _rust.fit_palette(wholes("pixels", pixels, np.uint8), colours, rounds, threads)
