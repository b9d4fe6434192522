"""Units, errors and sound as pixels: arrays in, (height, width, 3 or 4) uint8 out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

_GOLDEN = (math.sqrt(5) - 1) / 2
_HEAT = np.array([[0, 0, 0], [61, 13, 92], [159, 42, 99], [227, 89, 51], [249, 168, 37], [252, 255, 235]])
WAVE = (42, 120, 214)
FLOOR = -80.0
"""dB below the loudest, where a spectrogram is black."""


def symbol_colours(ids: np.ndarray) -> np.ndarray:
    """A colour (..., 3) uint8 for each symbol (...): the same for the same, hues of neighbours far apart.

    Example:
        >>> symbol_colours(np.array([0, 1, 0])).tolist()
        [[230, 103, 103], [132, 152, 198], [230, 103, 103]]
    """
    hue = ids * _GOLDEN % 1
    value = 0.9 - 0.3 * (ids * math.sqrt(2) % 1)
    saturation = 0.55 - 0.3 * (ids * math.sqrt(3) % 1)
    turned = (hue[..., None] * 6 + np.array([0, 4, 2])) % 6
    parts = value[..., None] * (1 - saturation[..., None] * (1 - np.clip(np.abs(turned - 3) - 1, 0, 1)))
    return np.round(255 * parts).astype(np.uint8)


def vector_colours(vectors: np.ndarray) -> np.ndarray:
    """A colour (n, 3) uint8 for each vector (n, width): the directions in which they differ most as red, green, blue.

    Each direction is stretched from its 2nd to its 98th percentile.
    """
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    found = np.zeros((len(vectors), 3))
    found[:, : min(3, len(directions))] = centred @ directions[:3].T
    low, high = np.percentile(found, [2, 98], axis=0)
    return np.round(255 * np.clip((found - low) / np.maximum(high - low, 1e-9), 0, 1)).astype(np.uint8)


def heat(values: np.ndarray) -> np.ndarray:
    """A colour (..., 3) uint8 for each number (...) in [0, 1]: black, violet, red, orange, nearly white.

    Example:
        >>> heat(np.array([0.0, 0.5, 1.0])).tolist()
        [[0, 0, 0], [193, 66, 75], [252, 255, 235]]
    """
    places = np.clip(values, 0, 1) * (len(_HEAT) - 1)
    mixed = [np.interp(places, np.arange(len(_HEAT)), _HEAT[:, channel]) for channel in range(3)]
    return np.round(np.stack(mixed, axis=-1)).astype(np.uint8)


def errors(original: np.ndarray, decoded: np.ndarray) -> tuple[np.ndarray, float]:
    """How far off each pixel is, as heat, and the error that is shown brightest: the largest there is.

    Args:
        original: (..., 3) uint8.
        decoded: the same.

    Returns:
        (..., 3) uint8, and the largest mean over the channels of |difference|.
    """
    off = np.abs(original.astype(np.int16) - decoded).mean(axis=-1)
    largest = float(off.max())
    return heat(off / max(largest, 1e-9)), largest


def strip(frames: Sequence[np.ndarray], *, gap: int = 2) -> np.ndarray:
    """Pictures of one size in a row, (height, width, 4), with nothing between them."""
    height, _, channels = frames[0].shape
    between = np.zeros((height, gap, 4), dtype=np.uint8)
    parts: list[np.ndarray] = []
    for frame in frames:
        opaque = np.full((*frame.shape[:2], 4 - channels), 255, dtype=np.uint8)
        parts += [between, np.concatenate([frame, opaque], axis=2)]
    return np.concatenate(parts[1:], axis=1)


def waveform(samples: np.ndarray, *, peak: float = 1.0, width: int = 900, height: int = 120) -> np.ndarray:
    """Samples in [-peak, peak] as a wave (height, width, 4), clear where none is: least to most of each column."""
    columns = np.array_split(samples, width) if len(samples) >= width else np.split(samples, len(samples))
    middle = (height - 1) / 2
    made = np.zeros((height, len(columns), 4), dtype=np.uint8)
    made[..., :3] = WAVE
    made[round(middle), :, 3] = 90
    rows = np.arange(height)[:, None]
    extent = np.array([(column.max(), column.min()) for column in columns]).clip(-peak, peak)
    top, bottom = (middle * (1 - extent / peak)).T
    made[(rows >= np.floor(top)) & (rows <= np.ceil(bottom)), 3] = 255
    return made


def spectrogram(samples: np.ndarray, rate: int, *, loudest: float | None = None) -> tuple[np.ndarray, float]:
    """Loudness (frequencies, times, 3) over time, high frequencies on top, as heat from `FLOOR` dB to the loudest.

    Windows of Hann are 32 ms long, 8 ms apart.

    Args:
        samples: (n,) float32.
        rate: samples a second.
        loudest: the power that is brightest, so that two may be compared; that of these samples unless given.

    Returns:
        The picture, and the power that is brightest.
    """
    size = max(16, round(0.032 * rate))
    padded = np.pad(samples, (0, max(0, size - len(samples))))
    window = torch.hann_window(size)
    power = torch.stft(
        torch.from_numpy(padded.astype(np.float32)), size, max(1, size // 4), window=window, center=False,
        return_complex=True,
    ).abs().square().numpy()  # fmt: skip
    loudest = float(power.max()) if loudest is None else loudest
    decibels = 10 * np.log10(np.maximum(power, 1e-20) / max(loudest, 1e-20))
    return heat(1 - decibels[::-1] / FLOOR), loudest


def enlarged(picture: np.ndarray, least: int) -> np.ndarray:
    """Each pixel as a square, so many times that the picture is at least so wide, or as it is."""
    times = max(1, math.ceil(least / picture.shape[1]))
    return picture.repeat(times, axis=0).repeat(times, axis=1)
