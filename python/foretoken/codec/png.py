"""Pictures as PNG files in memory, so that a page can hold them without Pillow."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np

from ..errors import ShapeError

_COLOUR = {3: 2, 4: 6}  # channels → colour type


def png(pixels: np.ndarray) -> bytes:
    """A PNG of 8 bits a channel.

    Args:
        pixels: (height, width, 3 or 4) uint8; the fourth is how opaque it is.

    Raises:
        ShapeError: the pixels are not as above, or there are none.

    Example:
        >>> png(np.zeros((1, 1, 3), dtype=np.uint8))[:4]
        b'\\x89PNG'
    """
    if pixels.ndim != 3 or pixels.shape[2] not in _COLOUR or not pixels.size or pixels.dtype != np.uint8:
        raise ShapeError(f"pixels are {pixels.dtype} of shape {pixels.shape}: give (height, width, 3 or 4) uint8")
    height, width, channels = pixels.shape
    # Rows are stored less what stands above them (filter 2), which suits enlarged pictures.
    above = np.concatenate([np.zeros_like(pixels[:1]), pixels[:-1]])
    rows = np.full((height, 1 + width * channels), 2, dtype=np.uint8)
    rows[:, 1:] = (pixels - above).reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOUR[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in chunks)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def data_uri(media: str, content: bytes) -> str:
    """Content as a link that needs no network.

    Example:
        >>> data_uri("text/plain", b"hi")
        'data:text/plain;base64,aGk='
    """
    return f"data:{media};base64,{base64.b64encode(content).decode()}"
