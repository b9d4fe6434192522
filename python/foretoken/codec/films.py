"""Films of people's files, and pictures in a row, as pixels: (frames, height, width, 3) bytes at an even rate."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..errors import ArgumentTypeError, InvalidArgument, LimitExceeded, ShapeError
from .pictures import MOST_PIXELS, decoding, read

MOST_FRAMES = 4096
_STILL = 100
"""Milliseconds that browsers show a frame which says 0."""


def read_film(film: Any, *, rate: float = 12.0, max_frames: int = MOST_FRAMES) -> np.ndarray:
    """A film as pixels, red, green and blue.

    An animated GIF, WebP or PNG says for each frame how long it is shown: at an even rate, frame k is what is to be
    seen in the middle of its time, at (k + ½) / rate, so that a film of varying rate keeps its pace. Arrays and
    pictures are taken as evenly spaced.

    Args:
        film: a path of an animation, (frames, height, width, 3) uint8, or a sequence of pictures of one size, each as
            `codec.pictures.read` takes it.
        rate: frames a second that are wanted of a file; above 0.
        max_frames: how many frames a film may have, in the file and at the wanted rate.

    Returns:
        frames: (frames, height, width, 3) uint8, at least one.

    Raises:
        LimitExceeded: it has more frames, or the file more pixels a frame than `codec.pictures` allows.
        InvalidArgument: the file is missing, cut short, or no picture; the rate is no number above 0.
        ShapeError, ArgumentTypeError: it is no film, or its frames differ in size.

    Example:
        >>> read_film([np.zeros((2, 2, 3), np.uint8), np.ones((2, 2, 3), np.uint8)]).shape
        (2, 2, 2, 3)
    """
    if isinstance(film, (str, os.PathLike)):
        return _opened(film, rate, max_frames)
    if isinstance(film, torch.Tensor):
        film = film.numpy(force=True)
    if isinstance(film, np.ndarray):
        if film.ndim != 4 or film.shape[3] != 3 or not film.size:
            raise ShapeError(f"a film has shape {film.shape}: give (frames, height, width, 3), none of them 0")
        if film.dtype != np.uint8:
            raise ArgumentTypeError(f"a film is an array of {film.dtype}: convert it to uint8")
        frames = list(film)
    elif isinstance(film, Sequence):
        frames = [read(frame) for frame in film]
    else:
        raise ArgumentTypeError(f"a film is a {type(film).__name__}: give a path, an array, or a sequence of pictures")
    if not frames or len({frame.shape for frame in frames}) > 1:
        raise ShapeError(f"a film has frames of one size, got {sorted({frame.shape[:2] for frame in frames})}")
    if len(frames) > max_frames:
        raise LimitExceeded(f"a film has {len(frames)} frames, at most {max_frames}: cut it")
    return film if isinstance(film, np.ndarray) else np.stack(frames)


def _opened(path: str | os.PathLike[str], rate: float, max_frames: int) -> np.ndarray:
    if not rate > 0 or rate == float("inf"):
        raise InvalidArgument(f"rate is {rate}: give frames a second, above 0")
    with decoding(path, MOST_PIXELS) as picture:
        count = getattr(picture, "n_frames", 1)
        if count > max_frames:
            raise LimitExceeded(f"{path} has {count} frames, at most {max_frames}: cut it")
        frames, ends, end = [], [], 0.0
        for place in range(count):
            picture.seek(place)
            frames.append(read(picture))
            end += float(picture.info.get("duration", 0) or _STILL) / 1000
            ends.append(end)
    wanted = max(1, round(end * rate))
    if wanted > max_frames:
        raise LimitExceeded(f"{path} lasts {end:.1f} s, {wanted} frames at {rate} a second; at most {max_frames}")
    shown = np.searchsorted(ends, (np.arange(wanted) + 0.5) / rate, side="right")
    return np.stack([frames[min(place, count - 1)] for place in shown])
