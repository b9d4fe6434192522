"""A weight matrix, laid out for products with one row, a few, or many."""

from __future__ import annotations

import torch
from torch import Tensor

FEW = 4
"""Rows up to which the other order is faster, if there is more than one thread."""


class Product:
    """x → x·Wᵀ for x (rows, inputs) and W (outputs, inputs).

    One row, and many, are multiplied fastest by Wᵀ in its own memory. A few rows, as a draft has, MKL multiplies so in
    one thread whatever their number, and as W·xᵀ in all: with two threads and 7 M weights four rows took 1.3 ms
    instead of 2.4. So on a CPU W is kept in both orders, which doubles its memory, up to `BOTH` bytes of it.

    Args:
        weight: (outputs, inputs); copied.
    """

    BOTH = 2**24

    def __init__(self, weight: Tensor) -> None:
        weight = weight.detach()
        self.columns = weight.t().contiguous()
        both = weight.is_cpu and weight.nbytes <= self.BOTH
        self.weight = weight.clone() if both else None

    def __call__(self, x: Tensor) -> Tensor:
        """(rows, inputs) → (rows, outputs), contiguous."""
        if self.weight is not None and 1 < len(x) <= FEW:
            return torch.mm(self.weight, x.t()).t().contiguous()
        return torch.mm(x, self.columns)

    def add(self, to: Tensor, x: Tensor) -> Tensor:
        """`to` (rows, outputs) plus the product, contiguous."""
        if self.weight is not None and 1 < len(x) <= FEW:
            return to + torch.mm(self.weight, x.t()).t()
        return torch.addmm(to, x, self.columns)
