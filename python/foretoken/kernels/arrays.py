"""Arrays as the core takes them: borrowed where they lie on the CPU, converted where they must be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch

from ..errors import ArgumentTypeError

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
