"""Vectors to code numbers and back: nearest codes, books in a row, FSQ digits, ids packed in bits."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def nearest(vectors: Tensor, codebook: Tensor, *, k: int = 1, block: int = 256) -> tuple[Tensor, Tensor]:
    """The k nearest codes of each vector, by all distances.

    Args:
        vectors: (n, width).
        codebook: (codes, width).
        k: how many, in [1, codes].
        block: vectors whose distances are in memory at a time.

    Returns:
        ids: (n, k) int64, nearest first; among equals the lower number.
        distances: (n, k) float64, squared: the terms in float64, added up one after another.

    Example:
        >>> nearest(torch.tensor([[0.9]]), torch.tensor([[0.0], [1.0], [1.0]]), k=2)[0]
        tensor([[1, 2]])
    """
    ids, distances = [], []
    codes = codebook.double()
    for some in vectors.double().split(block):
        total = torch.zeros(len(some), len(codes), dtype=torch.float64, device=some.device)
        for column in range(codes.shape[1]):
            difference = some[:, column, None] - codes[None, :, column]
            total = total + difference * difference
        ordered = total.sort(dim=1, stable=True)
        ids.append(ordered.indices[:, :k])
        distances.append(ordered.values[:, :k])
    return torch.cat(ids), torch.cat(distances)


def residual_encode(vectors: Tensor, codebooks: Tensor) -> Tensor:
    """Code numbers (n, books) of vectors (n, width) float32 by codebooks (books, codes, width) float32.

    Example:
        >>> residual_encode(torch.tensor([[3.2]]), torch.tensor([[[0.0], [4.0]], [[-1.0], [1.0]]]))
        tensor([[1, 0]])
    """
    rest, ids = vectors.float(), []
    for codes in codebooks.float():
        ids.append(nearest(rest, codes)[0][:, 0])
        rest = rest - codes[ids[-1]]
    return torch.stack(ids, dim=1)


def residual_decode(ids: Tensor, codebooks: Tensor) -> Tensor:
    """Vectors (n, width) float32 of code numbers (n, books).

    Example:
        >>> residual_decode(torch.tensor([[1, 0]]), torch.tensor([[[0.0], [4.0]], [[-1.0], [1.0]]]))
        tensor([[3.]])
    """
    first, *others = (codes[ids[:, book]] for book, codes in enumerate(codebooks.float()))
    for code in others:
        first = first + code
    return first


def fsq_quantize(values: Tensor, levels: Sequence[int]) -> Tensor:
    """Digits (..., m) of values (..., m) by finite scalar quantisation (2309.15505).

    Digit d of L levels stands for (d - L//2) / (L//2). Ties go to the even distance from the middle.

    Example:
        >>> fsq_quantize(torch.tensor([0.4, -1.0]), [5, 4])
        tensor([3, 0])
    """
    count = torch.tensor(levels, device=values.device)
    half = count // 2
    return ((values.float() * half).round().long().clamp(min=-half, max=count - 1 - half)) + half


def fsq_dequantize(digits: Tensor, levels: Sequence[int]) -> Tensor:
    """Values (..., m) float32 of digits (..., m).

    Example:
        >>> fsq_dequantize(torch.tensor([3, 0]), [5, 4])
        tensor([ 0.5000, -1.0000])
    """
    half = torch.tensor(levels, device=digits.device) // 2
    return (digits - half).float() / half.float()


def fsq_index(digits: Tensor, levels: Sequence[int]) -> Tensor:
    """The number (...) of each row of digits (..., m); the first digit counts least.

    Example:
        >>> fsq_index(torch.tensor([[3, 0], [0, 1]]), [5, 4])
        tensor([3, 5])
    """
    worth = [math.prod(levels[:place]) for place in range(len(levels))]
    return (digits * torch.tensor(worth, device=digits.device)).sum(dim=-1)


def fsq_digits(ids: Tensor, levels: Sequence[int]) -> Tensor:
    """The digits (..., m) of numbers (...).

    Example:
        >>> fsq_digits(torch.tensor([3, 5]), [5, 4])
        tensor([[3, 0],
                [0, 1]])
    """
    worth = torch.tensor([math.prod(levels[:place]) for place in range(len(levels))], device=ids.device)
    return ids[..., None] // worth % torch.tensor(levels, device=ids.device)


def fsq_encode(values: Tensor, levels: Sequence[int]) -> Tensor:
    """The numbers (...) of values (..., m).

    Example:
        >>> fsq_encode(torch.tensor([0.4, -1.0]), [5, 4])
        tensor(3)
    """
    return fsq_index(fsq_quantize(values, levels), levels)


def fsq_decode(ids: Tensor, levels: Sequence[int]) -> Tensor:
    """The values (..., m) of numbers (...).

    Example:
        >>> fsq_decode(torch.tensor(3), [5, 4])
        tensor([ 0.5000, -1.0000])
    """
    return fsq_dequantize(fsq_digits(ids, levels), levels)


def pack_bits(ids: Tensor, *, bits: int) -> Tensor:
    """Ids as bytes (⌈n·bits/8⌉,) uint8: one after another, the lowest bit first.

    Example:
        >>> pack_bits(torch.tensor([1, 2, 3]), bits=4)
        tensor([33,  3], dtype=torch.uint8)
    """
    each = ids.reshape(-1, 1) >> torch.arange(bits, device=ids.device) & 1
    row = torch.nn.functional.pad(each.flatten(), (0, -each.numel() % 8))
    return (row.reshape(-1, 8) << torch.arange(8, device=ids.device)).sum(dim=1).to(torch.uint8)


def unpack_bits(packed: Tensor, *, bits: int, count: int, skip: int = 0) -> Tensor:
    """The ids (count,) int64 of `pack_bits`, behind `skip` others.

    Example:
        >>> unpack_bits(torch.tensor([33, 3], dtype=torch.uint8), bits=4, count=2, skip=1)
        tensor([2, 3])
    """
    each = packed.long()[:, None] >> torch.arange(8, device=packed.device) & 1
    own = each.flatten()[skip * bits : (skip + count) * bits].reshape(count, bits)
    return (own << torch.arange(bits, device=packed.device)).sum(dim=1)
