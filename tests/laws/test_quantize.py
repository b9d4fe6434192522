"""Codes: what the kernels find is what the definitions find, to the bit, and what was packed comes back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foretoken import kernels
from foretoken.errors import ArgumentTypeError, InvalidArgument, LimitExceeded, ShapeError
from foretoken.reference import quantize as reference


def numbers(rng: np.random.Generator, kind: str, *shape: int) -> np.ndarray:
    """Numbers that spread, tie, crowd far from zero, or have all sizes."""
    if kind == "ties":
        return rng.integers(-2, 3, shape).astype(np.float32)
    spread = rng.normal(size=shape)
    if kind == "crowded":
        return (1000 + spread * 1e-3).astype(np.float32)
    if kind == "sizes":
        return (spread * 10.0 ** rng.integers(-40, 30, shape)).astype(np.float32)
    return spread.astype(np.float32)


KINDS = st.sampled_from(["spread", "ties", "crowded", "sizes"])


@settings(max_examples=300)
@given(KINDS, st.integers(0, 120), st.integers(1, 200), st.integers(1, 40), st.integers(1, 12), st.integers(0, 2**32))
def test_the_nearest_are_those_of_all_distances(
    kind: str, rows: int, codes: int, width: int, k: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    vectors, codebook = numbers(rng, kind, rows, width), numbers(rng, kind, codes, width)
    k = min(k, codes)
    found = kernels.nearest(vectors, codebook, k=k, threads=1 + seed % 3)
    ids, distances = reference.nearest(torch.from_numpy(vectors), torch.from_numpy(codebook), k=k)
    np.testing.assert_array_equal(found.ids, ids.numpy())
    np.testing.assert_array_equal(found.distances, distances.numpy())


@pytest.mark.parametrize("kind", ["spread", "crowded"])
def test_a_large_book_is_searched_exactly(kind: str) -> None:
    """More codes than fit a cache; and vectors on which the coarse comparison leaves everything open."""
    rng = np.random.default_rng(0)
    vectors, codebook = numbers(rng, kind, 300, 64), numbers(rng, kind, 5000, 64)
    found = kernels.nearest(vectors, codebook)
    ids, distances = reference.nearest(torch.from_numpy(vectors), torch.from_numpy(codebook))
    np.testing.assert_array_equal(found.ids, ids[:, 0].numpy())
    np.testing.assert_array_equal(found.distances, distances[:, 0].numpy())
    again = kernels.nearest(vectors, codebook, threads=3)
    np.testing.assert_array_equal(found.ids, again.ids)


@pytest.mark.parametrize("scales", [(1e37, 1e-40), (1e-40, 1e37), (1e37, 1e37), (1e20, 1.0), (1e-40, 1e-40)])
@pytest.mark.parametrize("width", [3, 20])
def test_numbers_at_the_ends_of_their_range(scales: tuple[float, float], width: int) -> None:
    rng = np.random.default_rng(0)
    vectors, codebook = ((rng.normal(size=(9, width)) * scale).astype(np.float32) for scale in scales)
    found = kernels.nearest(vectors, codebook, k=3)
    ids, distances = reference.nearest(torch.from_numpy(vectors), torch.from_numpy(codebook), k=3)
    np.testing.assert_array_equal(found.ids, ids.numpy())
    np.testing.assert_array_equal(found.distances, distances.numpy())


def test_what_lies_elsewhere_is_searched_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The path of tensors on other devices, walked on this one."""
    rng = np.random.default_rng(0)
    vectors, books = numbers(rng, "spread", 2, 5, 4), numbers(rng, "spread", 3, 9, 4)
    here = kernels.nearest(vectors, books[0]), kernels.nearest(vectors, books[0], k=2)
    ids = kernels.residual_encode(vectors, books)
    monkeypatch.setattr("foretoken.kernels.quantize.away", lambda *_: torch.device("cpu"))
    tensor = torch.from_numpy(vectors)
    there = kernels.nearest(tensor, books[0]), kernels.nearest(tensor, books[0], k=2)
    for one, other in zip(here, there, strict=True):
        np.testing.assert_array_equal(one.ids, other.ids)
        np.testing.assert_array_equal(one.distances, other.distances)
    np.testing.assert_array_equal(kernels.residual_encode(tensor, books), ids)


def test_among_equal_codes_the_lowest_is_nearest() -> None:
    codebook = np.ones((500, 24), dtype=np.float32)
    found = kernels.nearest(np.zeros((7, 24), dtype=np.float32), codebook, k=4)
    assert found.ids.tolist() == [[0, 1, 2, 3]] * 7
    assert found.distances.tolist() == [[24.0] * 4] * 7


def test_axes_before_the_last_are_kept() -> None:
    rng = np.random.default_rng(0)
    vectors, codebook = numbers(rng, "spread", 2, 3, 4), numbers(rng, "spread", 9, 4)
    assert kernels.nearest(vectors, codebook).ids.shape == (2, 3)
    assert kernels.nearest(torch.from_numpy(vectors), torch.from_numpy(codebook), k=2).distances.shape == (2, 3, 2)
    assert kernels.nearest(vectors[0, 0], codebook).ids.shape == ()
    assert kernels.nearest(vectors[:, :0], codebook, k=1).ids.shape == (2, 0, 1)
    books = numbers(rng, "spread", 5, 9, 4)
    ids = kernels.residual_encode(vectors, books)
    assert ids.shape == (2, 3, 5)
    assert kernels.residual_decode(ids, books).shape == (2, 3, 4)


@settings(max_examples=100)
@given(
    st.sampled_from(["spread", "ties", "crowded"]),
    st.integers(0, 120),
    st.integers(1, 5),
    st.integers(1, 60),
    st.integers(1, 24),
    st.integers(0, 2**32),
)
def test_books_in_a_row_are_those_of_the_twin(
    kind: str, rows: int, books: int, codes: int, width: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    vectors, codebooks = numbers(rng, kind, rows, width), numbers(rng, kind, books, codes, width)
    ids = kernels.residual_encode(vectors, codebooks, threads=1 + seed % 3)
    expected = reference.residual_encode(torch.from_numpy(vectors), torch.from_numpy(codebooks))
    np.testing.assert_array_equal(ids, expected.numpy())
    decoded = kernels.residual_decode(ids, codebooks, threads=1 + seed % 3)
    np.testing.assert_array_equal(decoded, reference.residual_decode(expected, torch.from_numpy(codebooks)).numpy())


def test_more_books_leave_less() -> None:
    rng = np.random.default_rng(0)
    vectors = numbers(rng, "spread", 500, 8)
    codebooks = numbers(rng, "spread", 6, 64, 8) * np.float32(0.6) ** np.arange(6, dtype=np.float32)[:, None, None]
    ids = kernels.residual_encode(vectors, codebooks)
    left = [np.square(vectors - kernels.residual_decode(ids[:, :n].copy(), codebooks[:n])).mean() for n in range(1, 7)]
    assert left == sorted(left, reverse=True)
    assert left[-1] < left[0] / 4


LEVELS = st.lists(st.integers(2, 17), min_size=1, max_size=6)


@settings(max_examples=300)
@given(LEVELS, st.integers(0, 50), st.integers(0, 2**32))
def test_fsq_is_that_of_the_twin(levels: list[int], rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Half of the values stand on an edge between two levels.
    edges = rng.integers(-20, 21, (rows, len(levels))) / 2 / (np.array(levels) // 2)
    values = np.where(rng.random(edges.shape) < 0.5, edges, rng.normal(size=edges.shape)).astype(np.float32)
    digits = kernels.fsq_quantize(values, levels)
    np.testing.assert_array_equal(digits, reference.fsq_quantize(torch.from_numpy(values), levels).numpy())
    ids = kernels.fsq_index(digits, levels)
    np.testing.assert_array_equal(ids, reference.fsq_index(torch.from_numpy(digits), levels).numpy())
    np.testing.assert_array_equal(ids, kernels.fsq_encode(values, levels))
    np.testing.assert_array_equal(kernels.fsq_digits(ids, levels), digits)
    decoded = kernels.fsq_decode(ids, levels)
    np.testing.assert_array_equal(decoded, reference.fsq_decode(torch.from_numpy(ids), levels).numpy())
    np.testing.assert_array_equal(decoded, kernels.fsq_dequantize(digits, levels))
    assert np.all(np.abs(decoded) <= 1)
    # A level is what it stands for, and no other level is nearer than the one that was chosen.
    np.testing.assert_array_equal(kernels.fsq_encode(decoded, levels), ids)
    every = [np.arange(n) / (n // 2) - 1 for n in levels]
    for column, grid in enumerate(every):
        nearest = np.abs(values[:, column, None].astype(np.float64) - grid).min(axis=1, initial=np.inf)
        np.testing.assert_allclose(np.abs(values[:, column] - decoded[:, column]), nearest, rtol=1e-5, atol=1e-6)


def test_all_codes_of_the_paper_come_back() -> None:
    levels = [8, 5, 5, 5]
    ids = np.arange(1000)
    values = kernels.fsq_decode(ids, levels)
    assert len(np.unique(values, axis=0)) == 1000
    np.testing.assert_array_equal(kernels.fsq_encode(values, levels), ids)
    # As the authors' code has it: the first level counts least.
    assert kernels.fsq_digits(np.array([1, 8, 40]), levels).tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]
    assert kernels.fsq_dequantize(np.array([[0, 0, 2, 4], [4, 2, 2, 2], [7, 4, 4, 4]]), levels).tolist() == [
        [-1, -1, 0, 1],
        [0, 0, 0, 0],
        [0.75, 1, 1, 1],
    ]


def test_the_largest_product_of_levels_works() -> None:
    levels = [65536, 32768]
    ids = np.array([0, 2**31 - 1, 65536, 65535])
    digits = kernels.fsq_digits(ids, levels)
    assert digits.tolist() == [[0, 0], [65535, 32767], [0, 1], [65535, 0]]
    np.testing.assert_array_equal(kernels.fsq_encode(kernels.fsq_decode(ids, levels), levels), ids)


def test_ten_thousand_shapes_come_back_from_bits() -> None:
    rng = np.random.default_rng(0)
    for _ in range(10_000):
        bits, shape = int(rng.integers(1, 33)), rng.integers(0, 9, rng.integers(0, 4))
        ids = rng.integers(0, 2**bits, shape)
        packed = kernels.pack_bits(np.asarray(ids), bits=bits)
        assert packed.nbytes == -(-np.size(ids) * bits // 8)
        skip = int(rng.integers(0, np.size(ids) + 1))
        back = kernels.unpack_bits(packed, bits=bits, skip=skip, count=np.size(ids) - skip)
        np.testing.assert_array_equal(back, np.ravel(ids)[skip:])


@settings(max_examples=200)
@given(st.integers(1, 32), st.integers(0, 200), st.integers(0, 2**32))
def test_bits_are_those_of_the_twin_and_of_numpy(bits: int, count: int, seed: int) -> None:
    ids = np.random.default_rng(seed).integers(0, 2**bits, count)
    packed = kernels.pack_bits(ids, bits=bits)
    np.testing.assert_array_equal(packed, reference.pack_bits(torch.from_numpy(ids), bits=bits).numpy())
    np.testing.assert_array_equal(packed, np.packbits((ids[:, None] >> np.arange(bits)) & 1, bitorder="little"))
    back = reference.unpack_bits(torch.from_numpy(packed), bits=bits, count=count - count // 3, skip=count // 3)
    np.testing.assert_array_equal(back.numpy(), ids[count // 3 :])


def test_integers_of_other_kinds_are_read() -> None:
    ids = np.array([[1, 0], [0, 1]])
    books = np.array([[[0], [4]], [[-1], [1]]], dtype=np.float32)
    for kind in (np.uint8, np.int32, np.uint64, np.uint16):
        np.testing.assert_array_equal(
            kernels.residual_decode(ids.astype(kind), books), kernels.residual_decode(ids, books)
        )
        assert kernels.fsq_index(ids.astype(kind), [2, 2]).tolist() == [1, 2]
    assert kernels.fsq_index(torch.tensor([[1, 1]], dtype=torch.int32), torch.tensor([2, 3])).tolist() == [3]
    half = torch.tensor([[0.5, -0.25]], dtype=torch.bfloat16, requires_grad=True)
    assert kernels.fsq_quantize(half, [5, 8]).tolist() == [[3, 3]]


def refused(error: type[Exception], match: str, call: Any, *arguments: Any, **keywords: Any) -> None:
    with pytest.raises(error, match=match):
        call(*arguments, **keywords)


def test_what_is_no_vector_is_refused() -> None:
    vectors, codes = np.zeros((3, 2), dtype=np.float32), np.zeros((4, 2), dtype=np.float32)
    for wrong, text in ((np.nan, "NaN"), (np.inf, "inf"), (-np.inf, "-inf")):
        bad = vectors.copy()
        bad[1, 1] = wrong
        refused(InvalidArgument, f"vectors holds {text} in place 3", kernels.nearest, bad, codes)
        refused(InvalidArgument, f"codebook holds {text} in place 3", kernels.nearest, vectors, bad)
        refused(InvalidArgument, f"values holds {text} in place 3", kernels.fsq_quantize, bad, [5, 5])
        refused(InvalidArgument, f"values holds {text} in place 3", kernels.fsq_encode, bad, [5, 5])
        refused(InvalidArgument, f"vectors holds {text}", kernels.residual_encode, bad, codes[None])
    refused(InvalidArgument, "codebook is empty", kernels.nearest, vectors, codes[:0])
    refused(InvalidArgument, "codebook is empty", kernels.nearest, vectors[:, :0].copy(), codes[:, :0].copy())
    refused(InvalidArgument, "k is 0", kernels.nearest, vectors, codes, k=0)
    refused(InvalidArgument, "k is 5", kernels.nearest, vectors, codes, k=5)
    refused(InvalidArgument, "threads is 0", kernels.nearest, vectors, codes, threads=0)
    refused(ShapeError, "vectors have 2 columns, the codes ask for 1", kernels.nearest, vectors, codes[:, :1].copy())
    refused(ShapeError, "codebook has 1 dimensions", kernels.nearest, vectors, codes[0])
    refused(ShapeError, "vectors has no axes", kernels.nearest, np.zeros((), dtype=np.float32), codes)
    refused(ArgumentTypeError, "float64", kernels.nearest, vectors.astype(np.float64), codes)
    refused(ArgumentTypeError, "contiguous", kernels.nearest, vectors[:, ::-1], codes)
    refused(ArgumentTypeError, "torch.int64", kernels.nearest, torch.zeros(2, 2, dtype=torch.int64), codes)
    wide = np.zeros((1, 2**20 + 1), dtype=np.float32)
    refused(LimitExceeded, "1048576 is the most", kernels.nearest, wide, wide)


def test_ids_that_no_code_has_are_refused() -> None:
    books = np.zeros((2, 3, 1), dtype=np.float32)
    for wrong in (3, -1):
        refused(
            InvalidArgument, f"ids holds {wrong} in place 1", kernels.residual_decode, np.array([[0, wrong]]), books
        )
        refused(InvalidArgument, f"digits holds {wrong} in place 1", kernels.fsq_index, np.array([[0, wrong]]), [5, 3])
        refused(InvalidArgument, f"digits holds {wrong}", kernels.fsq_dequantize, np.array([[0, wrong]]), [5, 3])
    for wrong in (15, -1):
        refused(InvalidArgument, f"ids holds {wrong} in place 0", kernels.fsq_digits, np.array([wrong]), [5, 3])
        refused(InvalidArgument, f"ids holds {wrong} in place 0", kernels.fsq_decode, np.array([wrong]), [5, 3])
        refused(InvalidArgument, f"ids holds {wrong} in place 2", kernels.pack_bits, np.array([1, 2, wrong]), bits=2)
    refused(InvalidArgument, "ids holds", kernels.fsq_digits, np.array([2**63], dtype=np.uint64), [5, 3])
    refused(InvalidArgument, "codebooks is empty", kernels.residual_decode, np.zeros((1, 2), int), books[:, :0].copy())
    refused(ShapeError, "ids have 1 columns, the books ask for 2", kernels.residual_decode, np.array([[0]]), books)
    refused(ShapeError, "codebooks has 2 dimensions", kernels.residual_decode, np.array([[0]]), books[0])
    refused(ArgumentTypeError, "float64", kernels.residual_decode, np.array([[0.0, 1.0]]), books)


def test_what_leaves_float32_is_refused() -> None:
    huge = np.array([[3e38]], dtype=np.float32)
    refused(InvalidArgument, "what a codebook leaves of vectors holds inf", kernels.residual_encode, huge, -huge[None])


def test_levels_are_checked() -> None:
    values = np.zeros((1, 2), dtype=np.float32)
    refused(InvalidArgument, "levels is empty", kernels.fsq_quantize, values, [])
    refused(InvalidArgument, "levels is 1", kernels.fsq_quantize, values, [5, 1])
    refused(InvalidArgument, "levels is 0", kernels.fsq_quantize, values, [0, 5])
    refused(InvalidArgument, "levels is -3", kernels.fsq_decode, np.array([0]), [-3])
    refused(InvalidArgument, "levels is 65537", kernels.fsq_decode, np.array([0]), [65537])
    refused(LimitExceeded, "2147483648 is the most", kernels.fsq_decode, np.array([0]), [65536, 32769])
    refused(LimitExceeded, "2147483648 is the most", kernels.fsq_decode, np.array([0]), [60000] * 50)
    refused(ShapeError, "values have 2 columns, the levels ask for 3", kernels.fsq_quantize, values, [5, 5, 5])
    refused(ShapeError, "values has no axes", kernels.fsq_quantize, np.zeros((), dtype=np.float32), [5])


def test_bits_are_checked() -> None:
    ids, packed = np.array([1, 0, 1]), np.array([5], dtype=np.uint8)
    for bits in (0, 33, -1):
        refused(InvalidArgument, f"bits is {bits}", kernels.pack_bits, ids, bits=bits)
        refused(InvalidArgument, f"bits is {bits}", kernels.unpack_bits, packed, bits=bits, count=1)
    refused(ShapeError, "packed has 1 bytes, expected 2", kernels.unpack_bits, packed, bits=1, count=9)
    refused(ShapeError, "packed has 1 bytes", kernels.unpack_bits, packed, bits=32, count=2**62)
    refused(ShapeError, "packed has 1 bytes", kernels.unpack_bits, packed, bits=1, count=2**63 - 1, skip=2**63 - 1)
    refused(InvalidArgument, "count is -1", kernels.unpack_bits, packed, bits=1, count=-1)
    refused(ArgumentTypeError, "ids is of float64", kernels.pack_bits, np.array([1.0]), bits=1)
    refused(ArgumentTypeError, "ids is of list", kernels.pack_bits, [1], bits=1)
