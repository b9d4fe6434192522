"""Resizing with antialiasing, to the bit as Pillow and torchvision do it."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

PRECISION = 22
"""Bits behind the point of a weight, where pixels are bytes and rounding is Pillow's."""


def resize(film: torch.Tensor, size: tuple[int, int], filter: str, *, rounding: str = "PILLOW") -> torch.Tensor:
    """A film whose frames have another height and width: resized in one direction after the other.

    Args:
        film: (frames, height, width, channels) uint8, rounded after each direction, or float32.
        size: the new height and width.
        filter: BOX, BILINEAR, HAMMING, BICUBIC or LANCZOS.
        rounding: PILLOW, of version 13: weights of 22 bits, and along the columns first where the height loses more
            than twice the pixels that the width loses; PILLOW_12, along the rows first always; TORCH, so too, with
            weights of 16 bits.

    Example:
        >>> resize(torch.tensor([0, 0, 90, 90], dtype=torch.uint8).reshape(1, 1, 4, 1), (1, 2), "BILINEAR").flatten()
        tensor([13, 77], dtype=torch.uint8)
    """
    high, wide = film.shape[1] - size[0], film.shape[2] - size[1]
    passes = [(2, size[1]), (1, size[0])]
    if rounding == "PILLOW" and high > 0 and high > 2 * wide:
        passes.reverse()
    for axis, side in passes:
        if film.shape[axis] != side:
            film = _along(film, axis, taps(film.shape[axis], side, filter), rounding)
    return film


def _along(film: torch.Tensor, axis: int, made: tuple[list[int], list[list[float]]], rounding: str) -> torch.Tensor:
    starts, weights = made
    exact = film.dtype == torch.float32
    kind = torch.float64 if exact else torch.int64
    bits = PRECISION
    if rounding == "TORCH":  # as many as the largest weight leaves room for in 16 bits
        largest = max(map(max, weights))
        bits = next((bits for bits in range(PRECISION) if int(0.5 + largest * 2 ** (bits + 1)) >= 2**15), PRECISION)
    if not exact:
        # Half away from zero.
        weights = [[math.trunc(w * 2**bits + math.copysign(0.5, w)) for w in row] for row in weights]
    widest = max(map(len, weights))
    table = torch.tensor([[*row, *[0] * (widest - len(row))] for row in weights], dtype=kind, device=film.device)
    first = torch.tensor(starts, device=film.device)
    shape = [1] * film.dim()
    shape[axis] = len(starts)
    # One tap of every new pixel at a time, so that each sum runs along the row.
    total = torch.zeros(1, dtype=kind, device=film.device)
    for tap in range(widest):
        pixels = film.index_select(axis, (first + tap).clamp(max=film.shape[axis] - 1))
        total = total + table[:, tap].reshape(shape) * pixels
    if exact:
        return total.float()
    return ((total + 2 ** (bits - 1)) >> bits).clamp(0, 255).to(torch.uint8)


def taps(old: int, new: int, filter: str) -> tuple[list[int], list[list[float]]]:
    """Of which pixels each new one is made, and how much each of them counts.

    Args:
        old: how many pixels there are.
        new: how many there will be.
        filter: the name of one.

    Returns:
        starts: (new,) the first pixel of each.
        weights: (new, some) of it and those behind; they add up to 1.
    """
    support, curve = FILTERS[filter]
    scale = old / new
    stretch = max(scale, 1.0)  # a filter covers what becomes one pixel
    starts, weights = [], []
    for pixel in range(new):
        center = (pixel + 0.5) * scale
        start = max(0, int(center - support * stretch + 0.5))
        end = min(old, int(center + support * stretch + 0.5))
        row = [curve((place - center + 0.5) * (1.0 / stretch)) for place in range(start, end)]
        total = 0.0
        for weight in row:
            total += weight
        starts.append(start)
        weights.append([weight / total if total else weight for weight in row])
    return starts, weights


def _box(x: float) -> float:
    return 1.0 if -0.5 < x <= 0.5 else 0.0


def _bilinear(x: float) -> float:
    return max(1.0 - abs(x), 0.0)


def _hamming(x: float) -> float:
    x = abs(x)
    if x == 0 or x >= 1:
        return float(x == 0)
    x *= math.pi
    return math.sin(x) / x * (_HAMMING[0] + _HAMMING[1] * math.cos(x))


_HAMMING = tuple(torch.tensor([0.54, 0.46]).tolist())  # of single precision, as in Pillow


def _bicubic(x: float) -> float:
    """With a = -1/2 (Keys 1981)."""
    x = abs(x)
    if x < 1:
        return (1.5 * x - 2.5) * x * x + 1
    return (((x - 5) * x + 8) * x - 4) * -0.5 if x < 2 else 0.0


def _lanczos(x: float) -> float:
    return _sinc(x) * _sinc(x / 3) if -3 <= x < 3 else 0.0


def _sinc(x: float) -> float:
    return math.sin(x * math.pi) / (x * math.pi) if x else 1.0


FILTERS: dict[str, tuple[float, Callable[[float], float]]] = {
    "BOX": (0.5, _box),
    "BILINEAR": (1.0, _bilinear),
    "HAMMING": (1.0, _hamming),
    "BICUBIC": (2.0, _bicubic),
    "LANCZOS": (3.0, _lanczos),
}
"""Beyond how many pixels each filter is zero, and what it is before."""
