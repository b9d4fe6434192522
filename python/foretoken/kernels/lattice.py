"""The best chains and trees through a few candidates a position."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from .. import _rust
from .arrays import Array, Integers, to_float32


class Bigram(NamedTuple):
    """A score for each pair of neighbouring tokens, of low rank: left[a] @ right[b] for a followed by b.

    Args:
        left: (vocabulary, rank) float32.
        right: (vocabulary, rank) float32.
    """

    left: Array
    right: Array


class Chains(NamedTuple):
    """What `lattice_chains` found, best first.

    Args:
        tokens: (rows, n, positions) int64, padded with -1.
        scores: (rows, n) float64, padded with -inf.
    """

    tokens: np.ndarray
    scores: np.ndarray


class Tree(NamedTuple):
    """What `lattice_tree` found, in that order.

    Args:
        tokens: (rows, nodes) int64, padded with -1.
        parents: (rows, nodes) int64, the place of each node's parent, lower than its own; -1 at the first position.
        scores: (rows, nodes) float64, of the chain that ends there; padded with -inf.
        counts: (rows,) int64, how many nodes there are.
    """

    tokens: np.ndarray
    parents: np.ndarray
    scores: np.ndarray
    counts: np.ndarray


def lattice_chains(
    ids: Array,
    logprobs: Array,
    transitions: Array | Bigram | None = None,
    *,
    lengths: Integers | None = None,
    n: int = 1,
) -> Chains:
    """The n best chains through k candidates a position, exactly (Viterbi 1967; Seshadri & Sundberg 1994).

    A chain takes one candidate of each position; its score is the sum, in float64, of their log-probabilities and of
    its transitions. Among equals the chain with the lower candidate comes first, at the first position where they
    differ. A row without positions has one chain, the empty one. On another device only a bigram is worked out there:
    the rest is a few thousand numbers, and is fetched.

    Args:
        ids: (rows, positions, k) int64 in [0, 2**31).
        logprobs: (rows, positions, k) float32 below +inf; -inf for what is impossible.
        transitions: (rows, positions - 1, k, k) float32 below +inf, entry (c, d) for candidate c followed by d; or a
            `Bigram`; or None for zeros.
        lengths: (rows,) how many positions each row has; all of them unless given. What lies behind is not read.
        n: how many chains, in [1, 65536].

    Raises:
        LogitsError: a number is NaN or +inf.
        LimitExceeded: the result, or positions × k × n, is larger than 2^26.
        ShapeError, ArgumentTypeError, InvalidArgument: an argument is not as above.

    Example:
        >>> ids, logprobs = np.array([[[5, 6], [7, 8]]]), np.array([[[-1, -2], [-1, -3]]], dtype=np.float32)
        >>> lattice_chains(ids, logprobs).tokens
        array([[[5, 7]]])
        >>> follow = np.array([[[[-9, -9], [0, -9]]]], dtype=np.float32)
        >>> lattice_chains(ids, logprobs, follow, n=2).scores
        array([[ -3., -11.]])
    """
    return Chains(*_rust.lattice_chains(*_lattice(ids, logprobs, transitions), lengths, n))


def lattice_tree(
    ids: Array,
    logprobs: Array,
    transitions: Array | Bigram | None = None,
    *,
    lengths: Integers | None = None,
    nodes: int,
) -> Tree:
    """A tree of drafts that grows by what has the highest score of all that could be added (EAGLE-2, 2406.16858).

    A node's score is that of the chain from the first position to it. Among equals the one whose parent was found first
    comes first, then the lower candidate. As long as no step's score is above zero, no other tree with as many nodes
    has a higher sum of scores. Other arguments, and errors, are those of `lattice_chains`.

    Args:
        nodes: how many at most, in [0, 65536].

    Example:
        >>> ids, logprobs = np.array([[[5, 6], [7, 8]]]), np.array([[[-1, -3], [-1, -1.5]]], dtype=np.float32)
        >>> tree = lattice_tree(ids, logprobs, nodes=4)
        >>> tree.tokens, tree.parents
        (array([[5, 7, 8, 6]]), array([[-1,  0,  0, -1]]))
    """
    return Tree(*_rust.lattice_tree(*_lattice(ids, logprobs, transitions), lengths, nodes))


def _lattice(ids: Any, logprobs: Any, transitions: Any) -> tuple[Any, Any, Any, Any]:
    """The arguments of a lattice as arrays on the CPU: ids, log-probabilities, transitions, the tables of a bigram."""
    if not isinstance(transitions, Bigram):
        return _fetched(ids), _fetched(logprobs), None if transitions is None else _fetched(transitions), None
    left, right = transitions
    if isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor) and not (left.is_cpu and right.is_cpu):
        from ..reference.lattice import transitions_of

        # The tables are as long as the vocabulary: they stay where they are.
        scores = transitions_of(torch.as_tensor(ids, device=left.device), to_float32(left), to_float32(right))
        return _fetched(ids), _fetched(logprobs), _fetched(scores), None
    return _fetched(ids), _fetched(logprobs), None, (_fetched(left), _fetched(right))


def _fetched(value: Any) -> Any:
    """A tensor as an array, on the CPU without a copy but for a conversion to float32; anything else as it is."""
    if not isinstance(value, torch.Tensor):
        return value
    return (to_float32(value) if value.is_floating_point() else value).cpu().numpy()
