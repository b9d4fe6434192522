"""Lattices: the best chains and the best tree are those that writing down every chain finds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foretoken import kernels
from foretoken.errors import ArgumentTypeError, InvalidArgument, LimitExceeded, LogitsError, ShapeError
from foretoken.reference import lattice as reference

from ..cases import cases

# Halves add up without rounding, and often to the same sum: so ties are decided, and compared to the bit.
SCORES = st.one_of(st.integers(-4, 2).map(lambda number: number / 2), st.just(-np.inf))


@st.composite
def lattices(draw: st.DrawFn) -> dict[str, Any]:
    """A lattice that is small enough to write down every chain."""
    rows, positions, k = draw(st.integers(0, 2)), draw(st.integers(0, 4)), draw(st.integers(0, 3))

    def scores(*shape: int) -> np.ndarray:
        size = int(np.prod(shape))
        return np.array(draw(st.lists(SCORES, min_size=size, max_size=size)), dtype=np.float32).reshape(shape)

    size = rows * positions * k
    ids = np.array(draw(st.lists(st.integers(0, 6), min_size=size, max_size=size)), dtype=np.int64)
    lengths = st.lists(st.integers(0, positions), min_size=rows, max_size=rows)
    kind = draw(st.sampled_from(["free", "dense", "bigram"]))
    transitions: Any = None
    if kind == "dense":
        transitions = scores(rows, max(positions - 1, 0), k, k)
    elif kind == "bigram":
        rank = draw(st.integers(1, 3))
        numbers = st.lists(st.integers(-2, 2), min_size=7 * rank, max_size=7 * rank)
        tables = [np.array(draw(numbers), dtype=np.float32).reshape(7, rank) / 2 for _ in range(2)]
        transitions = kernels.Bigram(*tables)
    return {
        "ids": ids.reshape(rows, positions, k),
        "logprobs": scores(rows, positions, k),
        "transitions": transitions,
        "lengths": draw(st.none() | lengths),
    }


def dense(case: dict[str, Any]) -> dict[str, Any]:
    """The same for the twin, which knows no tables."""
    if not isinstance(case["transitions"], kernels.Bigram):
        return case
    tables = map(torch.from_numpy, case["transitions"])
    return {**case, "transitions": reference.transitions_of(torch.from_numpy(case["ids"]), *tables).numpy()}


@settings(max_examples=cases(300))
@given(lattices(), st.integers(1, 12))
def test_chains_are_those_of_enumeration(case: dict[str, Any], n: int) -> None:
    found, expected = kernels.lattice_chains(**case, n=n), reference.chains(**dense(case), n=n)
    np.testing.assert_array_equal(found.scores, expected[1])
    np.testing.assert_array_equal(found.tokens, expected[0])


@settings(max_examples=cases(300))
@given(lattices(), st.integers(0, 12))
def test_trees_are_those_of_enumeration(case: dict[str, Any], nodes: int) -> None:
    found, expected = kernels.lattice_tree(**case, nodes=nodes), reference.tree(**dense(case), nodes=nodes)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def random_lattice(rows: int, positions: int, k: int, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "ids": rng.integers(0, 1000, (rows, positions, k)),
        "logprobs": np.log(rng.dirichlet(np.ones(k), (rows, positions))).astype(np.float32),
        "transitions": rng.normal(size=(rows, positions - 1, k, k)).astype(np.float32),
    }


def test_long_chains_by_a_plain_recursion() -> None:
    """Too large to enumerate: the best score by the textbook recursion, and the chain has that score."""
    case = random_lattice(2, 64, 16)
    tokens, scores = kernels.lattice_chains(**case)
    for row in range(2):
        best = case["logprobs"][row, 0].astype(np.float64)
        for position in range(1, 64):
            steps = best[:, None] + case["transitions"][row, position - 1]
            best = steps.max(axis=0) + case["logprobs"][row, position]
        assert scores[row, 0] == pytest.approx(best.max(), rel=1e-12)
        places = [list(case["ids"][row, i]).index(token) for i, token in enumerate(tokens[row, 0])]
        total = sum(float(case["logprobs"][row, i, place]) for i, place in enumerate(places))
        total += sum(float(case["transitions"][row, i, places[i], places[i + 1]]) for i in range(63))
        assert total == pytest.approx(scores[row, 0], rel=1e-9)


def test_the_best_tree_holds_the_best_nodes() -> None:
    """Below zero throughout, its nodes are the best of all nodes; and a control that ignores transitions is not."""
    case = random_lattice(1, 4, 5)
    case["transitions"] = np.minimum(case["transitions"], 0) * 3
    every = np.sort(kernels.lattice_tree(**case, nodes=1000).scores[0])[::-1]
    tree = kernels.lattice_tree(**case, nodes=40)
    assert tree.counts[0] == 40
    np.testing.assert_array_equal(np.sort(tree.scores[0])[::-1], every[:40])
    assert np.all(tree.parents[0] < np.arange(40))
    careless = kernels.lattice_tree(case["ids"], case["logprobs"], nodes=40)
    assert not np.array_equal(careless.tokens, tree.tokens)


def test_tensors_are_read_as_arrays_are() -> None:
    case = random_lattice(2, 5, 3)
    tensors = {name: torch.from_numpy(value) for name, value in case.items()}
    for one, other in zip(kernels.lattice_tree(**case, nodes=9), kernels.lattice_tree(**tensors, nodes=9), strict=True):
        np.testing.assert_array_equal(one, other)
    halves = {**tensors, "logprobs": tensors["logprobs"].half().requires_grad_()}
    rounded = {**tensors, "logprobs": tensors["logprobs"].half().float()}
    np.testing.assert_array_equal(kernels.lattice_chains(**halves).scores, kernels.lattice_chains(**rounded).scores)


def test_what_lies_behind_a_row_is_not_read() -> None:
    case = random_lattice(1, 3, 2)
    short = {name: value[:, :2] if name != "transitions" else value[:, :1] for name, value in case.items()}
    case["logprobs"][:, 2], case["transitions"][:, 1], case["ids"][:, 2] = np.nan, np.nan, -5
    tokens, scores = kernels.lattice_chains(**case, lengths=[2], n=4)
    expected = kernels.lattice_chains(**{name: np.ascontiguousarray(value) for name, value in short.items()}, n=4)
    np.testing.assert_array_equal(scores, expected.scores)
    np.testing.assert_array_equal(tokens[..., :2], expected.tokens)
    assert (tokens[..., 2] == -1).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["logprobs", "transitions"])
def test_what_is_no_score_is_refused(name: str, value: float) -> None:
    case = random_lattice(2, 3, 2)
    case[name][1, 1] = value
    for call in (lambda: kernels.lattice_chains(**case), lambda: kernels.lattice_tree(**case, nodes=1)):
        with pytest.raises(
            LogitsError, match=f"{name} of row 1 has {value} at position 1, entry 0".replace("nan", "NaN")
        ):
            call()


def test_tables_that_overflow_are_refused() -> None:
    case = random_lattice(1, 2, 2)
    case["transitions"] = kernels.Bigram(*[np.full((1000, 1), 1e30, dtype=np.float32)] * 2)
    with pytest.raises(LogitsError, match="transitions of row 0 has inf"):
        kernels.lattice_chains(**case)


def test_arguments_are_checked() -> None:
    case = random_lattice(2, 3, 2)

    def refused(error: type[Exception], match: str, **changed: Any) -> None:
        with pytest.raises(error, match=match):
            kernels.lattice_chains(**{**case, **changed})

    table = np.zeros((1000, 2), dtype=np.float32)
    refused(ShapeError, "logprobs has shape", logprobs=case["logprobs"][:, :2].copy())
    refused(ShapeError, "transitions has shape", transitions=case["transitions"][:, :1].copy())
    refused(ShapeError, "logprobs has 2 dimensions", logprobs=case["logprobs"][0])
    refused(ShapeError, "lengths has 3 entries", lengths=[1, 2, 3])
    refused(ShapeError, "right has 1 columns", transitions=kernels.Bigram(table, np.zeros((1000, 1), dtype=np.float32)))
    refused(InvalidArgument, "lengths is 4", lengths=[1, 4])
    refused(InvalidArgument, "lengths is -1", lengths=[-1, 1])
    refused(InvalidArgument, "n is 0", n=0)
    refused(InvalidArgument, "n is 1000000000", n=10**9)
    refused(InvalidArgument, "token -1", ids=case["ids"] * 0 - 1)
    refused(InvalidArgument, "outside the vocabulary", transitions=kernels.Bigram(table[:5].copy(), table[:5].copy()))
    refused(InvalidArgument, "is empty", transitions=kernels.Bigram(table[:, :0].copy(), table[:, :0].copy()))
    refused(ArgumentTypeError, "dtype float64", logprobs=case["logprobs"].astype(np.float64))
    refused(ArgumentTypeError, "dtype int32", ids=case["ids"].astype(np.int32))
    refused(ArgumentTypeError, "contiguous", ids=case["ids"][..., ::-1])
    big = random_lattice(1, 64, 32)
    with pytest.raises(LimitExceeded, match="67108864 is the most"):
        kernels.lattice_chains(**big, n=65536)
    with pytest.raises(InvalidArgument, match="nodes is -1"):
        kernels.lattice_tree(**case, nodes=-1)
