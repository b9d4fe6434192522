"""What known models are fed: pictures in, and out comes to the bit what their processor in transformers returns."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from .. import kernels
from ..errors import ArgumentTypeError, ShapeError
from ..kernels import Filter, Rounding
from .pictures import read

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HALF = (0.5, 0.5, 0.5)


def qwen2_vl(
    images: Any,
    *,
    resize: bool = True,
    min_pixels: int = 56 * 56,
    max_pixels: int = 28 * 28 * 1280,
    patch: int = 14,
    merge: int = 2,
    frames: int = 2,
    mean: Sequence[float] = CLIP_MEAN,
    std: Sequence[float] = CLIP_STD,
    rounding: Rounding = Rounding.TORCH,
    dtype: torch.dtype = torch.float32,
    threads: int = 1,
) -> dict[str, torch.Tensor]:
    """Pictures for Qwen2-VL and its kin, as `Qwen2VLImageProcessor` makes them.

    Args:
        images: a picture or a sequence of them: paths, pictures of Pillow, or uint8 arrays (height, width, channels).
        resize: whether they are resized; otherwise their sides must be multiples of `patch` × `merge`.
        min_pixels: resized to no fewer than about so many.
        max_pixels: and to no more.
        patch: height and width of a patch; 16 in Qwen3-VL.
        merge: as many by as many patches become one token, and stand together.
        frames: how many frames a patch spans; a picture stands for each.
        mean: for red, green and blue; 0.5 in Qwen3-VL.
        std: likewise.
        rounding: TORCH for what the processor does where torchvision is installed, PILLOW where it is not.
        dtype: of the numbers.
        threads: over how many the patches are spread.

    Returns:
        `pixel_values` (patches, numbers of a patch) and `image_grid_thw` (pictures, 3), for `model(**…)`.

    Raises:
        ShapeError: a picture is 200 times as long as it is wide, or without resizing is not filled by patches.
        InvalidArgument, LimitExceeded, ArgumentTypeError, MissingExtra: a picture cannot be read.

    Example:
        >>> found = qwen2_vl(np.zeros((100, 200, 3), dtype=np.uint8))
        >>> found["pixel_values"].shape, found["image_grid_thw"].tolist()
        (torch.Size([112, 1176]), [[1, 8, 14]])
    """
    size = functools.partial(qwen2_vl_size, factor=patch * merge, least=min_pixels, most=max_pixels)
    found = kernels.patchify(
        _pictures(images), patch=patch, size=size if resize else None, merge=merge, frames=frames, mean=mean, std=std,
        rounding=rounding, dtype=_kind(dtype), threads=threads,
    )  # fmt: skip
    return {"pixel_values": torch.as_tensor(found.rows), "image_grid_thw": torch.from_numpy(found.grid)}


def qwen2_vl_film(
    films: Any,
    *,
    resize: bool = True,
    min_pixels: int = 128 * 28 * 28,
    max_pixels: int = 28 * 28 * 768,
    patch: int = 14,
    merge: int = 2,
    frames: int = 2,
    mean: Sequence[float] = CLIP_MEAN,
    std: Sequence[float] = CLIP_STD,
    rounding: Rounding = Rounding.TORCH,
    dtype: torch.dtype = torch.float32,
    threads: int = 1,
) -> dict[str, torch.Tensor]:
    """Films for Qwen2-VL and its kin, as `Qwen2VLVideoProcessor` makes them of frames that are chosen already.

    Where the last patch lacks frames, the last one stands for them. Other arguments, and errors, are those of
    `qwen2_vl`; the numbers of pixels are those of one frame.

    Args:
        films: a film or a sequence of them: uint8 arrays (frames, height, width, 3).

    Returns:
        `pixel_values_videos` (patches, numbers of a patch) and `video_grid_thw` (films, 3).

    Example:
        >>> qwen2_vl_film(np.zeros((5, 280, 392, 3), dtype=np.uint8))["video_grid_thw"].tolist()
        [[3, 20, 28]]
    """
    size = functools.partial(qwen2_vl_size, factor=patch * merge, least=min_pixels, most=max_pixels)
    films = [films] if isinstance(films, (np.ndarray, torch.Tensor)) else list(films)
    if any(film.ndim != 4 for film in films):
        raise ShapeError("a film is no (frames, height, width, channels)")
    found = kernels.patchify(
        films, patch=patch, size=size if resize else None, merge=merge, frames=frames, mean=mean, std=std,
        rounding=rounding, dtype=_kind(dtype), threads=threads,
    )  # fmt: skip
    return {"pixel_values_videos": torch.as_tensor(found.rows), "video_grid_thw": torch.from_numpy(found.grid)}


def qwen2_vl_size(height: int, width: int, *, factor: int, least: int, most: int) -> tuple[int, int]:
    """What Qwen2-VL resizes a picture to: multiples of `factor`, from `least` to `most` pixels, of nearly that shape.

    Raises:
        ShapeError: the picture is empty, or more than 200 times as long as it is wide.

    Example:
        >>> qwen2_vl_size(1024, 1024, factor=28, least=3136, most=1003520)
        (980, 980)
    """
    if min(height, width) < 1 or max(height, width) > 200 * min(height, width):
        raise ShapeError(f"a picture is {height} × {width}: Qwen2-VL takes none 200 times as long as it is wide")
    sides = [round(side / factor) * factor for side in (height, width)]
    pixels = sides[0] * sides[1]
    if pixels > most:
        shrink = math.sqrt(height * width / most)
        sides = [max(factor, math.floor(side / shrink / factor) * factor) for side in (height, width)]
    elif pixels < least:
        grow = math.sqrt(least / (height * width))
        sides = [math.ceil(side * grow / factor) * factor for side in (height, width)]
    return sides[0], sides[1]


def clip(
    images: Any,
    *,
    size: int = 224,
    crop: int = 224,
    resize: bool = True,
    mean: Sequence[float] = CLIP_MEAN,
    std: Sequence[float] = CLIP_STD,
    rounding: Rounding = Rounding.TORCH,
    dtype: torch.dtype = torch.float32,
    threads: int = 1,
) -> dict[str, torch.Tensor]:
    """Pictures for CLIP, as `CLIPImageProcessor` makes them: the shorter side is resized, the middle cut out.

    Other arguments, and errors, are those of `qwen2_vl`.

    Args:
        size: of the shorter side; the longer one follows, and what is behind its point is cut off.
        crop: height and width of what is cut out; a picture that is smaller is refused.

    Returns:
        `pixel_values` (pictures, 3, crop, crop).

    Example:
        >>> clip(np.zeros((300, 200, 3), dtype=np.uint8))["pixel_values"].shape
        torch.Size([1, 3, 224, 224])
    """

    def shorter(height: int, width: int) -> tuple[int, int]:
        if height < width:
            return size, int(size * width / height)
        return int(size * height / width), size

    return _whole(
        images, crop, size=shorter if resize else None, crop=crop, resize=Filter.BICUBIC, mean=mean, std=std,
        rounding=rounding, dtype=dtype, threads=threads,
    )  # fmt: skip


def vit(
    images: Any,
    *,
    size: int = 224,
    resize: bool = True,
    mean: Sequence[float] = HALF,
    std: Sequence[float] = HALF,
    rounding: Rounding = Rounding.TORCH,
    dtype: torch.dtype = torch.float32,
    threads: int = 1,
) -> dict[str, torch.Tensor]:
    """Pictures for the first vision transformers, as `ViTImageProcessor` makes them: resized to a square.

    Other arguments, and errors, are those of `qwen2_vl`.

    Args:
        size: height and width; without `resize` pictures must have them already.

    Returns:
        `pixel_values` (pictures, 3, size, size).

    Example:
        >>> vit([np.zeros((300, 200, 3), dtype=np.uint8)] * 2)["pixel_values"].shape
        torch.Size([2, 3, 224, 224])
    """
    return _whole(
        images, size, size=size if resize else None, resize=Filter.BILINEAR, mean=mean, std=std, rounding=rounding,
        dtype=dtype, threads=threads,
    )  # fmt: skip


def _whole(images: Any, side: int, *, dtype: torch.dtype, **options: Any) -> dict[str, torch.Tensor]:
    """Pictures as one patch each, which is the picture itself, channel after channel."""
    found = kernels.patchify(_pictures(images), patch=side, dtype=_kind(dtype), **options)
    if len(found.grid) != len(found.rows):
        raise ShapeError(f"without resizing, pictures must be {side} × {side}")
    return {"pixel_values": torch.as_tensor(found.rows).view(-1, 3, side, side)}


def _pictures(images: Any) -> list[np.ndarray]:
    if isinstance(images, (list, tuple)):
        return [read(image) for image in images]
    return [read(images)]


def _kind(dtype: Any) -> Any:
    """The dtype to ask for: large arrays of numpy are allocated in large pages, tensors are not."""
    if not isinstance(dtype, torch.dtype):
        raise ArgumentTypeError(f"dtype is {dtype!r}: give one of torch")
    return {torch.float32: np.float32, torch.float16: np.float16}.get(dtype, dtype)
