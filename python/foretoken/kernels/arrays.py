"""Arrays as the core takes them: borrowed where they lie on the CPU, converted where they must be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch

from ..errors import ArgumentTypeError, InvalidArgument, ShapeError

Array: TypeAlias = np.ndarray | torch.Tensor
Integers: TypeAlias = Sequence[int] | np.ndarray | torch.Tensor

_FLOAT32 = np.dtype(np.float32)
_FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def borrow(logits: Any) -> np.ndarray | None:
    """The memory of logits on the CPU as an array, without a copy but for a conversion; None if on another device."""
    if type(logits) is np.ndarray:
        return logits
    try:
        # Asked first, because each look at a tensor's device, dtype or gradient takes a tenth of a microsecond.
        array = logits.numpy()
        if array.dtype is _FLOAT32:
            return array
    except (AttributeError, RuntimeError, TypeError):
        pass  # another device, a dtype that numpy lacks, a gradient, or no tensor: looked at one by one below
    if not isinstance(logits, torch.Tensor):
        if hasattr(logits, "__dlpack__"):  # an array of another library
            return borrow(torch.from_dlpack(logits))
        raise ArgumentTypeError(f"logits is a {type(logits).__name__}: give a numpy array or a tensor of float32")
    return to_float32(logits).numpy() if logits.is_cpu else None


def to_float32(logits: torch.Tensor) -> torch.Tensor:
    """A tensor of another floating dtype as float32."""
    if logits.dtype not in _FLOATS:
        raise ArgumentTypeError(f"logits is {logits.dtype}: give one of {', '.join(map(str, _FLOATS))}")
    if logits.is_meta or logits.layout is not torch.strided:
        raise ArgumentTypeError("logits is a meta or sparse tensor, without numbers to borrow: give a dense one")
    return logits.detach().float()


def away(*values: Any) -> torch.device | None:
    """The device of the first tensor that does not lie on the CPU; None if all do."""
    return next((value.device for value in values if isinstance(value, torch.Tensor) and not value.is_cpu), None)


def floats(name: str, value: Any) -> Any:
    """A tensor as an array of float32, on the CPU without a copy but for a conversion; anything else as it is."""
    if not isinstance(value, torch.Tensor):
        return value
    if not value.is_floating_point() or value.is_meta or value.layout is not torch.strided:
        raise ArgumentTypeError(f"{name} is a tensor of {value.dtype}: give a dense one of floating point")
    return value.detach().float().cpu().numpy()


def wholes(name: str, value: Any, dtype: type[np.integer[Any]] = np.int64) -> Any:
    """Whole numbers as an array of one dtype, without a copy if they are that already.

    Raises:
        ArgumentTypeError: the value is no array or tensor of integers.
        InvalidArgument: a number does not fit.
    """
    array = value.cpu().numpy() if isinstance(value, torch.Tensor) and not value.is_meta else value
    array = np.asarray(array) if isinstance(array, np.generic) else array
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iu":
        kind = getattr(value, "dtype", type(value).__name__)
        raise ArgumentTypeError(f"{name} is of {kind}: give an array of integers")
    if array.dtype == dtype:
        return array
    limits = np.iinfo(dtype)
    if array.size and not (limits.min <= int(array.min()) and int(array.max()) <= limits.max):
        raise InvalidArgument(f"{name} holds {array.min()} to {array.max()}: give numbers that fit {limits.dtype}")
    return np.ascontiguousarray(array, dtype=dtype).reshape(array.shape)


def rows_of(name: str, array: Any) -> tuple[Any, tuple[int, ...]]:
    """An array (..., width) as rows (n, width), and the shape without the last axis.

    Raises:
        ArgumentTypeError: the array is not C-contiguous, so that this would need a copy.
        ShapeError: the array has no axes.
    """
    if not isinstance(array, np.ndarray):
        return array, ()
    if array.ndim == 0:
        raise ShapeError(f"{name} has no axes: the last one is that of the numbers of a vector")
    if not array.flags.c_contiguous:
        raise ArgumentTypeError(f"{name} is not C-contiguous: call .contiguous() or numpy.ascontiguousarray first")
    *lead, width = array.shape
    return array.reshape(math.prod(lead), width), tuple(lead)
