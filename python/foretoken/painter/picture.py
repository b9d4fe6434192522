"""What a painter makes."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from ..codec.png import png
from ..files import whole


class Picture:
    """Pixels that can be saved and shown.

    Args:
        pixels: (height, width, 3) uint8.

    Example:
        >>> picture = Picture(np.zeros((2, 3, 3), dtype=np.uint8))
        >>> picture, picture.enlarged(4).pixels.shape, np.asarray(picture).dtype
        (Picture(2 × 3), (8, 12, 3), dtype('uint8'))
    """

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels

    def __repr__(self) -> str:
        return f"Picture({self.pixels.shape[0]} × {self.pixels.shape[1]})"

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.array(self.pixels, dtype=dtype) if copy is not False else np.asarray(self.pixels, dtype=dtype)

    def _repr_png_(self) -> bytes:
        return png(self.enlarged(4).pixels)

    def enlarged(self, times: int) -> Picture:
        """The same with each pixel a square of so many."""
        return Picture(self.pixels.repeat(times, axis=0).repeat(times, axis=1))

    def save(self, path: str | os.PathLike[str], *, times: int = 1) -> None:
        """Write it as PNG; an older file stays as it is until the new one is whole.

        Args:
            path: of the file.
            times: the side of the square that each pixel becomes.

        Raises:
            OSError: the file cannot be written.
        """
        with whole(path) as part:
            part.write_bytes(png(self.enlarged(times).pixels))
