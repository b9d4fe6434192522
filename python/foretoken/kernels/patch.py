"""Pictures and films to patches, and back."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch

from .. import _rust
from ..errors import ArgumentTypeError, ShapeError
from .arrays import Array, Integers
from .pictures import Side, Size, empty, films_of, geometry, grids_of, memory_of, name_of, numbers, pair, size_of

Window: TypeAlias = Callable[[int], np.ndarray]
Number: TypeAlias = Any  # a dtype of numpy or of torch


class Filter(enum.Enum):
    """How a picture is resized: antialiased, with Pillow's filter of this name."""

    BOX = 0
    BILINEAR = 1
    HAMMING = 2
    BICUBIC = 3
    LANCZOS = 4


class Rounding(enum.Enum):
    """How bytes are rounded on the way to another size, which is all that tells libraries apart.

    PILLOW is version 13 of it: weights of 22 bits, and along the columns first where the height loses more than twice
    the pixels that the width loses. PILLOW_12 and older go along the rows first, always. So does TORCH, with weights of
    16 bits: what torchvision and the processors of transformers that use it do.
    """

    PILLOW = 0
    PILLOW_12 = 1
    TORCH = 2


class Patches(NamedTuple):
    """What `patchify` cut, packed.

    Args:
        rows: (patches, channels × frames × height × width of a patch), of all pictures one after another.
        grid: (pictures, 3) int64, how many patches each has in time, down and across.
        offsets: (pictures + 1,) int64, where the rows of each picture begin, and where the last ones end.
    """

    rows: Array
    grid: np.ndarray
    offsets: np.ndarray


def flat(size: int) -> np.ndarray:
    """A window under which overlapping patches count alike everywhere."""
    return np.ones(size)


def triangle(size: int) -> np.ndarray:
    """A window that falls off linearly from the middle of a patch.

    Example:
        >>> triangle(4)
        array([0.25, 0.75, 0.75, 0.25])
    """
    return 1 - np.abs(2 * np.arange(size) + 1 - size) / size if size > 1 else np.ones(1)


def hann(size: int) -> np.ndarray:
    """A window that falls off as a cosine does, flat in the middle and at the edges.

    Example:
        >>> hann(4).round(3)
        array([0.146, 0.854, 0.854, 0.146])
    """
    return np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2


def patchify(
    images: Array | Sequence[Array],
    *,
    patch: Side,
    size: Size | None = None,
    crop: Side | None = None,
    resize: Filter = Filter.BICUBIC,
    rounding: Rounding = Rounding.PILLOW,
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    scale: float | None = None,
    stride: Side | None = None,
    merge: int = 1,
    frames: int = 1,
    repeat_last: bool = True,
    dtype: Number = np.float32,
    out: Array | None = None,
    threads: int = 1,
) -> Patches:
    """Resize pictures, crop them, normalise and cut them into patches, in one pass.

    A row holds (pixel × scale - mean) / std as (channels, frames, height, width) of a patch: what a convolution's
    weight is multiplied with when it is flattened. Nothing of the size of a picture is kept in between, and the numbers
    do not depend on `threads`. Pictures on another device are cut there, by the twin.

    Args:
        images: a picture (height, width, channels), a film (frames, height, width, channels), or a sequence of such of
            any sizes but with the same channels; uint8, or float32 without NaN and infinities.
        patch: height and width of a patch, or one number for both.
        size: what pictures are resized to: (height, width), one number for both, or a function (height, width) →
            (height, width); None to leave them as they are. Channels are resized each by itself: transparent pixels are
            not weighed down.
        crop: height and width that are then cut out of the middle.
        resize: the filter, of Pillow to the bit; floats are resized as in its mode F.
        rounding: of which library, where bytes are resized.
        mean: for each channel, or one for all.
        std: for each channel, or one for all; above 0.
        scale: what a pixel is multiplied with first; 1/255 for uint8 and 1 for float32 unless given.
        stride: how far apart patches begin, `patch` unless given; less if they overlap.
        merge: patches come in blocks of so many by so many, row by row; 2 is the order of Qwen2-VL, 1 that of a page.
        frames: how many neighbouring frames of a film a patch spans; 2 in Qwen2-VL.
        repeat_last: whether the last frame stands for those that a film, or a picture, lacks; otherwise it is refused.
        dtype: float32 or float16 of numpy for an array; float32, float16 or bfloat16 of torch for a tensor.
        out: where to write instead, (patches, width) and contiguous; its dtype counts then.
        threads: over how many the rows of patches are spread, ≥ 1; ignored on another device.

    Raises:
        ShapeError: a picture is empty, is not filled by patches, lacks frames, or has other channels.
        InvalidArgument: there is no picture, a float is NaN or infinite, or a number is out of range.
        LimitExceeded: the result would have more than 2^31 numbers.
        ArgumentTypeError: an argument has another type or dtype, or other strides.

    Example:
        >>> picture = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
        >>> found = patchify(picture, patch=2, scale=1)
        >>> found.rows.shape, found.grid.tolist(), found.rows[1, :4]
        ((6, 12), [[1, 2, 3]], array([ 6.,  9., 24., 27.], dtype=float32))
    """
    if not isinstance(resize, Filter):
        raise ArgumentTypeError(f"resize is {resize!r}: give one of {', '.join(map(str, Filter))}")
    if not isinstance(rounding, Rounding):
        raise ArgumentTypeError(f"rounding is {rounding!r}: give one of {', '.join(map(str, Rounding))}")
    films, bytewise = films_of(images)
    shapes = [tuple(film.shape) for film in films]
    sizes = None if size is None else [size_of(size, height, width) for _, height, width, _ in shapes]
    cut = geometry(patch, stride, merge, frames, repeat=repeat_last)
    limits = None if crop is None else pair("crop", crop)
    grid, offsets = _rust.patch_grid(shapes, sizes, limits, cut)
    if scale is None:
        scale = 1 / 255 if bytewise else 1.0
    shading = (numbers("mean", mean), numbers("std", std), float(scale))
    width = shapes[0][3] * frames * cut[0][0] * cut[0][1]
    if isinstance(films[0], torch.Tensor):
        from ..reference.patch import patchify as twin

        rows = twin(
            films, sizes=sizes, crop=limits, filter=resize.name, rounding=rounding.name, patch=cut[0], stride=cut[1],
            merge=merge, frames=frames, mean=shading[0], std=shading[1], scale=shading[2],
        )  # fmt: skip
        rows = rows.to(getattr(torch, name_of(dtype if out is None else out.dtype)))
        return Patches(rows if out is None else out.copy_(rows), grid, offsets)  # type: ignore[union-attr]
    rows = empty((int(offsets[-1]), width), dtype) if out is None else out
    memory, kind = memory_of(rows)
    if memory.shape != (offsets[-1], width):
        raise ShapeError(f"out has shape {memory.shape}, expected {(int(offsets[-1]), width)}")
    _rust.patchify(films, sizes, limits, resize.value, rounding.value, cut, shading, kind, memory, threads)
    return Patches(rows, grid, offsets)


def unpatchify(
    patches: Array,
    grid: Integers | np.ndarray | Sequence[Sequence[int]],
    *,
    patch: Side,
    lengths: Integers | None = None,
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    scale: float | None = None,
    stride: Side | None = None,
    merge: int = 1,
    frames: int = 1,
    window: Window = hann,
    dtype: Number = np.uint8,
    threads: int = 1,
) -> list[Any]:
    """Put patches together again: the inverse of `patchify` without resizing.

    Where patches overlap, a pixel is the mean of theirs weighted by `window`. What was cut from uint8 comes back as it
    was, from float32 and float16 rows.

    Args:
        patches: (patches, channels × frames × height × width of a patch) float32, float16 or bfloat16, finite.
        grid: (pictures, 3) of positive integers, as `patchify` returns it.
        patch: height and width of a patch, or one number for both.
        lengths: (pictures,) how many frames each film has; without it they are pictures, each the first frame of its
            patches.
        mean: for each channel, or one for all; as it was subtracted.
        std: for each channel, or one for all; as it was divided by.
        scale: what pixels were multiplied with; 1/255 for uint8 and 1 for float32 unless given.
        stride: how far apart patches begin, `patch` unless given.
        merge: as for `patchify`.
        frames: as for `patchify`.
        window: how much each row and each column of a patch counts where patches overlap: a function of their number to
            as many numbers above 0, such as `hann`, `triangle` and `flat`.
        dtype: uint8, to which numbers are rounded and limited, or float32.
        threads: over how many the rows of pixels are spread, ≥ 1; ignored on another device.

    Returns:
        A list of pictures (height, width, channels), or of films (frames, height, width, channels) if `lengths` are
        given: arrays, or tensors if the patches are on another device.

    Raises:
        ShapeError: sizes do not fit each other.
        InvalidArgument: a number is NaN or infinite, or out of range.
        ArgumentTypeError: an argument has another type or dtype, or other strides.

    Example:
        >>> picture = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
        >>> rows, grid, _ = patchify(picture, patch=2, stride=1)
        >>> bool((unpatchify(rows, grid, patch=2, stride=1)[0] == picture).all())
        True
    """
    cut = geometry(patch, stride, merge, frames, repeat=True)
    rounded = dtype in (np.uint8, torch.uint8, "uint8", np.dtype(np.uint8))
    if not rounded and dtype not in (np.float32, torch.float32, "float32", np.dtype(np.float32)):
        raise ArgumentTypeError(f"dtype is {dtype}: give uint8 or float32")
    if scale is None:
        scale = 1 / 255 if rounded else 1.0
    shading = (numbers("mean", mean), numbers("std", std), float(scale))
    grids = grids_of(grid)
    counts = [1 + (time - 1) * frames for time, _, _ in grids] if lengths is None else [int(n) for n in lengths]
    if lengths is None and any(time != 1 for time, _, _ in grids):
        raise ShapeError("a grid spans more than one patch in time: give lengths, the frames of each film")
    area = frames * cut[0][0] * cut[0][1]
    if patches.ndim != 2 or not patches.shape[1] or patches.shape[1] % area:
        raise ShapeError(f"patches has shape {tuple(patches.shape)}, expected rows of a multiple of {area} numbers")
    channels = patches.shape[1] // area
    shaped = flat if cut[0] == cut[1] else window  # where nothing overlaps, nothing is weighed
    windows = (numbers("window", shaped(cut[0][0])), numbers("window", shaped(cut[0][1])))
    shapes = _rust.patch_shapes(grids, counts, cut, shading, channels, windows)
    if isinstance(patches, torch.Tensor) and not patches.is_cpu:
        from ..reference.patch import unpatchify as twin

        made = twin(
            patches, grids, lengths=counts, patch=cut[0], stride=cut[1], merge=merge, frames=frames,
            mean=shading[0], std=shading[1], scale=shading[2], windows=windows, round=rounded,
        )  # fmt: skip
    else:
        memory, kind = memory_of(patches)
        made = [np.empty(shape, np.uint8 if rounded else np.float32) for shape in shapes]
        _rust.unpatchify(memory, kind, grids, counts, cut, shading, channels, windows, made, threads)
    return made if lengths is not None else [film[0] for film in made]
