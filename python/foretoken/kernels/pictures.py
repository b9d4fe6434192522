"""The arguments of `patchify` and `unpatchify`, checked, as the core takes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch

from ..errors import ArgumentTypeError, InvalidArgument, ShapeError
from .arrays import Array

Side: TypeAlias = int | tuple[int, int]
Size: TypeAlias = Side | Callable[[int, int], tuple[int, int]]

# By dtype, for a dtype's name takes ten microseconds to ask for.
_PIXELS = {np.dtype(np.uint8): True, torch.uint8: True, np.dtype(np.float32): False, torch.float32: False}
_NUMBERS = {
    np.dtype(np.float32): "float32", torch.float32: "float32", np.dtype(np.float16): "float16",
    torch.float16: "float16", torch.bfloat16: "bfloat16",
}  # fmt: skip


def films_of(images: Any) -> tuple[list[Any], bool]:
    """Pictures and films as films, in memory of the CPU if they lie there, and whether they are of bytes."""
    if isinstance(images, (np.ndarray, torch.Tensor)):
        images = [images]
    if not isinstance(images, Sequence) or isinstance(images, (str, bytes)):
        raise ArgumentTypeError(f"images is a {type(images).__name__}: give arrays (height, width, channels)")
    if not images:
        raise InvalidArgument("images is empty: give at least one")
    films = []
    for place, image in enumerate(images):
        if isinstance(image, torch.Tensor):
            image = image.detach()
            image = image.numpy() if image.is_cpu and image.dtype is not torch.bfloat16 else image
        if not isinstance(image, (np.ndarray, torch.Tensor)):
            raise ArgumentTypeError(f"picture {place} is a {type(image).__name__}: give an array, or numpy.asarray(it)")
        if image.dtype not in _PIXELS:
            raise ArgumentTypeError(f"picture {place} is {image.dtype}: convert it to uint8 or float32")
        if image.ndim not in (3, 4):
            shape = tuple(image.shape)
            raise ShapeError(f"picture {place} has shape {shape}: give (height, width, channels), or frames of such")
        film = image[None] if image.ndim == 3 else image
        if films and (type(film) is not type(films[0]) or film.dtype != films[0].dtype):
            raise ArgumentTypeError(
                f"picture {place} is {film.dtype}, the first {films[0].dtype}: give one kind a call"
            )
        films.append(film)
    return films, _PIXELS[films[0].dtype]


def geometry(patch: Side, stride: Side | None, merge: int, frames: int, *, repeat: bool) -> Any:
    """How pictures are cut, as the core takes it."""
    sides = pair("patch", patch)
    wide = sides if stride is None else pair("stride", stride)
    return sides, wide, pair("merge", merge)[0], pair("frames", frames)[0], repeat


def pair(name: str, value: Any) -> tuple[int, int]:
    """Height and width."""
    pair = value if isinstance(value, (tuple, list)) else (value, value)
    if len(pair) != 2 or not (isinstance(pair[0], _WHOLE) and isinstance(pair[1], _WHOLE)):
        raise ArgumentTypeError(f"{name} is {value!r}: give an integer, or two of them")
    high, wide = int(pair[0]), int(pair[1])
    if not (0 < high < 2**31 and 0 < wide < 2**31):
        raise InvalidArgument(f"{name} is {value}: give 1 or more")
    return high, wide


_WHOLE = (int, np.integer)


def size_of(size: Size, height: int, width: int) -> tuple[int, int]:
    """What a picture is resized to."""
    return pair("size", size(height, width) if callable(size) else size)


def numbers(name: str, values: Any) -> list[float]:
    """One number or several as a list."""
    try:
        return [float(values)] if isinstance(values, (int, float)) else [float(value) for value in values]
    except (TypeError, ValueError):
        raise ArgumentTypeError(f"{name} is {values!r}: give a number, or a sequence of them") from None


def grids_of(grid: Any) -> list[tuple[int, int, int]]:
    """The grids of pictures."""
    array = np.asarray(grid.cpu() if isinstance(grid, torch.Tensor) else grid)
    if array.ndim != 2 or array.shape[1] != 3 or array.dtype.kind not in "iu":
        raise ShapeError(f"grid has shape {array.shape} of {array.dtype}, expected (pictures, 3) integers")
    if array.size and not 0 < array.min() <= array.max() < 2**31:
        raise InvalidArgument(f"grid holds {array.min()} to {array.max()}: give numbers above 0")
    return [(int(time), int(height), int(width)) for time, height, width in array]


def name_of(dtype: Any) -> str:
    """The name of a dtype, of numpy or of torch, that patches may have."""
    found = _NUMBERS.get(dtype if isinstance(dtype, (torch.dtype, np.dtype)) else np.dtype(dtype))
    if found is None:
        raise ArgumentTypeError(f"dtype is {dtype}: give float32, float16 or torch.bfloat16")
    return found


def empty(shape: tuple[int, int], dtype: Any) -> Array:
    """Memory of a dtype: an array for one of numpy, a tensor for one of torch."""
    name_of(dtype)
    return torch.empty(shape, dtype=dtype) if isinstance(dtype, torch.dtype) else np.empty(shape, dtype)


def memory_of(rows: Any) -> tuple[np.ndarray, str]:
    """The memory of rows on the CPU as the core takes it, and the name of their dtype."""
    if not isinstance(rows, (np.ndarray, torch.Tensor)) or (isinstance(rows, torch.Tensor) and not rows.is_cpu):
        raise ArgumentTypeError(f"expected an array or a tensor on the CPU, got a {type(rows).__name__}")
    name = name_of(rows.dtype)
    if isinstance(rows, torch.Tensor):
        rows = rows.detach()
        return (rows if name == "float32" else rows.view(torch.uint16)).numpy(), name
    return (rows if name == "float32" else rows.view(np.uint16)), name
