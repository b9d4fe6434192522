"""Vectors to code numbers and back: nearest codes, books in a row, FSQ digits, ids packed in bits."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from .. import _rust
from .._rust import TokenShard as TokenShard
from .arrays import Array, Integers, away, floats, rows_of, wholes


class Nearest(NamedTuple):
    """What `nearest` found, nearest first.

    Args:
        ids: (...) int64, or (..., k).
        distances: float64 of the same shape, squared.
    """

    ids: np.ndarray
    distances: np.ndarray


def nearest(vectors: Array, codebook: Array, *, k: int | None = None, threads: int = 1) -> Nearest:
    """The nearest codes of each vector, exactly, without the matrix of all distances.

    A squared distance is Σ (v_j - c_j)² in float64, added up in the order of j; among equals the lower number comes
    first. All codes are compared coarsely, with a bound on the error, and only what the bound leaves open is compared
    in float64: ids and distances are those of this definition, to the bit, on any machine and with any number of
    threads.

    Args:
        vectors: (..., width) float32, finite.
        codebook: (codes, width) float32, finite; at least one code.
        k: how many codes, in [1, codes]; None for the nearest alone, without an axis of its own.
        threads: over how many the vectors are spread, ≥ 1; ignored for vectors on another device.

    Raises:
        InvalidArgument: a number is NaN or infinite, the codebook is empty, or `k` is out of range.
        LimitExceeded: more than 2^20 columns, or 2^31 codes.
        ShapeError, ArgumentTypeError: an argument is not as above.

    Example:
        >>> codes = np.array([[0, 0], [1, 0], [1, 1]], dtype=np.float32)
        >>> nearest(np.array([[0.9, 0.2]], dtype=np.float32), codes).ids
        array([1])
        >>> nearest(np.array([[0.5, 0.0]], dtype=np.float32), codes, k=2)
        Nearest(ids=array([[0, 1]]), distances=array([[0.25, 0.25]]))
    """
    device = away(vectors)
    if device is not None:
        from ..reference.quantize import nearest as twin

        assert isinstance(vectors, torch.Tensor)
        lead = vectors.shape[:-1]
        found = twin(vectors.reshape(-1, vectors.shape[-1]), _there(codebook, device), k=1 if k is None else k)
        return Nearest(*(part.reshape(*lead, *([] if k is None else [k])).cpu().numpy() for part in found))
    rows, lead = rows_of("vectors", floats("vectors", vectors))
    parts = _rust.nearest(rows, floats("codebook", codebook), 1 if k is None else k, threads)
    return Nearest(*(part.reshape(lead if k is None else (*lead, k)) for part in parts))


def residual_encode(vectors: Array, codebooks: Array, *, threads: int = 1) -> np.ndarray:
    """Code numbers by residual vector quantisation: each book codes what those before it left over.

    A book's code is the `nearest` to what is left; then it is taken away, in float32.

    Args:
        vectors: (..., width) float32, finite.
        codebooks: (books, codes, width) float32, finite; none of these 0.
        threads: over how many the vectors are spread, ≥ 1; ignored for vectors on another device.

    Returns:
        ids: (..., books) int64.

    Raises:
        InvalidArgument: a number is NaN or infinite, or becomes so on the way; there are no codes.
        ShapeError, ArgumentTypeError, LimitExceeded: an argument is not as above.

    Example:
        >>> books = np.array([[[0], [4]], [[-1], [1]]], dtype=np.float32)
        >>> residual_encode(np.array([[3.2], [0.7]], dtype=np.float32), books)
        array([[1, 0],
               [0, 1]])
    """
    device = away(vectors)
    if device is not None:
        from ..reference.quantize import residual_encode as twin

        assert isinstance(vectors, torch.Tensor)
        ids = twin(vectors.reshape(-1, vectors.shape[-1]), _there(codebooks, device))
        return ids.reshape(*vectors.shape[:-1], ids.shape[1]).cpu().numpy()
    rows, lead = rows_of("vectors", floats("vectors", vectors))
    ids = _rust.residual_encode(rows, floats("codebooks", codebooks), threads)
    return ids.reshape(*lead, ids.shape[1])


def residual_decode(ids: Array, codebooks: Array, *, threads: int = 1) -> np.ndarray:
    """The vectors of code numbers: the sum of the codes in float32, in the order of the books.

    Args:
        ids: (..., books) integers in [0, codes).
        codebooks: (books, codes, width) float32, as for `residual_encode`.
        threads: over how many the vectors are spread, ≥ 1; ignored for ids on another device.

    Returns:
        vectors: (..., width) float32.

    Raises:
        InvalidArgument: an id has no code.
        ShapeError, ArgumentTypeError: an argument is not as above.

    Example:
        >>> books = np.array([[[0], [4]], [[-1], [1]]], dtype=np.float32)
        >>> residual_decode(np.array([[1, 0], [0, 1]]), books)
        array([[3.],
               [1.]], dtype=float32)
    """
    rows, lead = rows_of("ids", wholes("ids", ids))
    vectors = _rust.residual_decode(rows, floats("codebooks", codebooks), threads)
    return vectors.reshape(*lead, vectors.shape[1])


def fsq_quantize(values: Array, levels: Integers) -> np.ndarray:
    """The digits of values by finite scalar quantisation (2309.15505): each is rounded to one of a few levels.

    Digit d of L levels stands for (d - L//2) / (L//2): five levels are -1, -½, 0, ½ and 1; of four, -1, -½, 0 and ½,
    the topmost is missing, as in the paper. Ties go to the even distance from the middle, and what lies beyond an end
    gets the last digit there: bounding the values, by a tanh say, is the model's part.

    Args:
        values: (..., m) float32, finite.
        levels: (m,) how many levels each number has, in [2, 65536]; their product is at most 2^31.

    Returns:
        digits: (..., m) int64 in [0, levels).

    Raises:
        InvalidArgument: a value is NaN or infinite, or a level out of range.
        LimitExceeded: the product of the levels is too large.
        ShapeError, ArgumentTypeError: an argument is not as above.

    Example:
        >>> fsq_quantize(np.array([[0.4, -1.0]], dtype=np.float32), [5, 4])
        array([[3, 0]])
    """
    return _rust.fsq_quantize(floats("values", values), levels)


def fsq_dequantize(digits: Array, levels: Integers) -> np.ndarray:
    """The values (..., m) float32 in [-1, 1] of digits (..., m); levels and errors are those of `fsq_quantize`.

    Example:
        >>> fsq_dequantize(np.array([[3, 0]]), [5, 4])
        array([[ 0.5, -1. ]], dtype=float32)
    """
    return _rust.fsq_dequantize(wholes("digits", digits), levels)


def fsq_index(digits: Array, levels: Integers) -> np.ndarray:
    """The number (...) int64 of each row of digits (..., m); the first digit counts least, as in the authors' code.

    Example:
        >>> fsq_index(np.array([[3, 0], [0, 1]]), [5, 4])
        array([3, 5])
    """
    return _rust.fsq_index(wholes("digits", digits), levels)


def fsq_digits(ids: Array, levels: Integers) -> np.ndarray:
    """The digits (..., m) int64 of numbers (...), each below the product of the levels.

    Example:
        >>> fsq_digits(np.array([3, 5]), [5, 4])
        array([[3, 0],
               [0, 1]])
    """
    return _rust.fsq_digits(wholes("ids", ids), levels)


def fsq_encode(values: Array, levels: Integers) -> np.ndarray:
    """The numbers (...) int64 of values (..., m): `fsq_index` of `fsq_quantize`, in one pass.

    Example:
        >>> fsq_encode(np.array([[0.4, -1.0]], dtype=np.float32), [5, 4])
        array([3])
    """
    return _rust.fsq_encode(floats("values", values), levels)


def fsq_decode(ids: Array, levels: Integers) -> np.ndarray:
    """The values (..., m) float32 of numbers (...): `fsq_dequantize` of `fsq_digits`, in one pass.

    Example:
        >>> fsq_decode(np.array([3]), [5, 4])
        array([[ 0.5, -1. ]], dtype=float32)
    """
    return _rust.fsq_decode(wholes("ids", ids), levels)


def pack_bits(ids: Array, *, bits: int) -> np.ndarray:
    """Ids as bytes: id i takes bits i·bits to (i + 1)·bits, the lowest bit of a byte first.

    Args:
        ids: any shape, integers in [0, 2^bits); read in C order.
        bits: of an id, in [1, 32].

    Returns:
        packed: (⌈n·bits/8⌉,) uint8; what is left of the last byte is zero.

    Raises:
        InvalidArgument: an id does not fit, or `bits` is out of range.
        ArgumentTypeError: the ids are no integers.

    Example:
        >>> pack_bits(np.array([1, 2, 3]), bits=4)
        array([33,  3], dtype=uint8)
    """
    return _rust.pack_bits(wholes("ids", ids), bits)


def unpack_bits(packed: Array, *, bits: int, count: int, skip: int = 0) -> np.ndarray:
    """The ids (count,) int64 of `pack_bits`, behind `skip` others.

    Raises:
        ShapeError: there are fewer bytes.
        InvalidArgument: `bits`, `count` or `skip` is out of range.
        ArgumentTypeError: the bytes are not uint8.

    Example:
        >>> unpack_bits(np.array([33, 3], dtype=np.uint8), bits=4, count=2, skip=1)
        array([2, 3])
    """
    return _rust.unpack_bits(wholes("packed", packed, np.uint8), bits, skip, count)


def _there(codes: Any, device: torch.device) -> torch.Tensor:
    return torch.as_tensor(codes, device=device)
