"""Pictures of people's files as pixels: (height, width, 3) bytes, upright, without transparency."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ..errors import ArgumentTypeError, ForetokenError, InvalidArgument, LimitExceeded, MissingExtra, ShapeError

FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM")
"""What files may be: Pillow knows others, some of which run programs (EPS) or ask for what we do not have."""

MOST_PIXELS = 2**26
"""How many pixels a file may say it has: 8192 × 8192, whose bytes take 200 MB."""


def read(picture: Any, *, max_pixels: int = MOST_PIXELS) -> np.ndarray:
    """A picture as pixels, red, green and blue.

    Grey becomes three equal channels, transparency is laid on white (in arrays, too), CMYK and palettes are converted,
    16 bits are cut to the upper 8. Files are turned upright as their EXIF says; a picture of Pillow is taken as it is,
    for its owner may have turned it already.

    Args:
        picture: a path, a picture of Pillow, or a uint8 array or tensor (height, width) or (height, width, channels)
            with 1, 3 or 4 channels, or what says that it is one (`__array__`).
        max_pixels: how many a file may have; read off its header before anything is decoded.

    Returns:
        pixels: (height, width, 3) uint8, contiguous; the memory of an array that is so already.

    Raises:
        LimitExceeded: the file has more pixels.
        InvalidArgument: the file is missing, cut short, or no picture.
        ShapeError, ArgumentTypeError: the array has another shape or dtype, or it is something else.
        MissingExtra: a path is given, but Pillow is not installed.

    Example:
        >>> read(np.array([[0, 255]], dtype=np.uint8)).tolist()
        [[[0, 0, 0], [255, 255, 255]]]
    """
    if isinstance(picture, torch.Tensor):
        picture = picture.detach().cpu().numpy()
    elif hasattr(picture, "__array__") and not hasattr(picture, "getbands"):  # a painter's Picture, say
        picture = np.asarray(picture)
    if isinstance(picture, np.ndarray):
        return _opaque(picture)
    if isinstance(picture, (str, os.PathLike)):
        return _opened(picture, max_pixels)
    if not hasattr(picture, "getbands"):
        kind = type(picture).__name__
        raise ArgumentTypeError(f"a picture is a {kind}: give a path, a picture of Pillow, or an array of uint8")
    with _ours(f"picture of {type(picture).__name__}"):  # it may not be decoded yet
        _check_size("a picture", picture, max_pixels)
        return _converted(picture)


def _opaque(array: np.ndarray) -> np.ndarray:
    if array.dtype != np.uint8:
        raise ArgumentTypeError(f"a picture is an array of {array.dtype}: convert it to uint8")
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise ShapeError(f"a picture has shape {array.shape}: give (height, width) and 1, 3 or 4 channels")
    if array.shape[2] == 4:
        alpha = array[..., 3:] / 255
        array = np.round(alpha * array[..., :3] + (1 - alpha) * 255).astype(np.uint8)
    elif array.shape[2] == 1:
        array = np.repeat(array, 3, axis=2)
    return np.ascontiguousarray(array)


def _opened(path: str | os.PathLike[str], max_pixels: int) -> np.ndarray:
    with decoding(path, max_pixels) as picture:
        from PIL import ImageOps

        return _converted(ImageOps.exif_transpose(picture))


@contextlib.contextmanager
def decoding(path: str | os.PathLike[str], max_pixels: int) -> Iterator[Any]:
    """A file opened by Pillow, its size checked before anything is decoded; whatever Pillow says of it becomes ours.

    Raises:
        LimitExceeded, InvalidArgument, MissingExtra: as `read` does.
    """
    try:
        from PIL import Image
    except ImportError:
        raise MissingExtra("pictures of files need Pillow; install it with: pip install 'foretoken[image]'") from None
    with _ours(f"picture {path}"), warnings.catch_warnings():
        # Pillow warns from 89 million pixels on, and refuses twice as many; what is too large is said below.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            with Image.open(path, formats=FORMATS) as picture:
                _check_size(path, picture, max_pixels)
                yield picture
        except Image.DecompressionBombError as error:
            raise LimitExceeded(f"{path} is too large: {error}") from None


def _check_size(what: object, picture: Any, max_pixels: int) -> None:
    width, height = picture.size
    if width * height > max_pixels:
        raise LimitExceeded(f"{what} is {height} × {width}, more than {max_pixels} pixels: make it smaller")


@contextlib.contextmanager
def _ours(what: str) -> Iterator[None]:
    """What Pillow's readers raise of broken files becomes our error."""
    try:
        yield
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        if isinstance(error, ForetokenError):
            raise
        raise InvalidArgument(f"cannot read the {what}: {error}") from None


def _converted(picture: Any) -> np.ndarray:
    """A picture of Pillow in red, green and blue, laid on white where it is transparent."""
    if picture.mode.startswith(("I;16", "I")):
        upper = np.asarray(picture).astype(np.int64) >> 8
        return _opaque(np.clip(upper, 0, 255).astype(np.uint8))
    if "A" in picture.getbands() or "a" in picture.getbands() or picture.info.get("transparency") is not None:
        from PIL import Image

        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, (255, 255, 255, 255)), picture)
    return np.array(picture.convert("RGB"))
