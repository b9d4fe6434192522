"""The best chains and the best tree of a lattice: a few candidates a position, and how well neighbours go together."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch


def transitions_of(ids: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """The score of each pair of neighbours under a bigram of low rank.

    Args:
        ids: (rows, positions, k) int64 candidates.
        left: (vocabulary, rank) what a token asks of the next one.
        right: (vocabulary, rank) what a token offers to the one before.

    Returns:
        scores: (rows, max(positions - 1, 0), k, k); entry (c, d) is of candidate c followed by candidate d.
    """
    return torch.einsum("rpcj,rpdj->rpcd", left[ids[:, :-1]], right[ids[:, 1:]])


def chains(
    ids: np.ndarray,
    logprobs: np.ndarray,
    transitions: np.ndarray | None = None,
    *,
    lengths: Sequence[int] | None = None,
    n: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """The n best chains of each row, found by writing down all of them.

    A chain takes one candidate of each position; its score is the sum of their log-probabilities and of its
    transitions. Among equals the chain with the lower candidate comes first, at the first position where they differ.

    Args:
        ids: (rows, positions, k) int64.
        logprobs: (rows, positions, k) float, below +inf; -inf for what is impossible.
        transitions: (rows, positions - 1, k, k) float, below +inf, or None for zeros.
        lengths: (rows,) how many positions each row has; all of them unless given.
        n: how many chains, at least 1.

    Returns:
        tokens: (rows, n, positions) int64, padded with -1.
        scores: (rows, n) float64 in descending order, padded with -inf.

    Example:
        >>> ids, logprobs = np.array([[[5, 6], [7, 8]]]), np.array([[[-1.0, -2.0], [-1.0, -3.0]]])
        >>> chains(ids, logprobs, n=2)
        (array([[[5, 7],
                [6, 7]]]), array([[-2., -3.]]))
    """
    rows, positions, candidates = ids.shape
    tokens = np.full((rows, n, positions), -1, dtype=np.int64)
    scores = np.full((rows, n), -np.inf)
    for row in range(rows):
        length = positions if lengths is None else lengths[row]
        found = []
        for chain in itertools.product(range(candidates), repeat=length):
            score = sum(_step(logprobs, transitions, row, chain[: place + 1]) for place in range(length))
            if score > -np.inf:
                found.append((-score, chain))
        for rank, (score, chain) in enumerate(sorted(found)[:n]):
            scores[row, rank] = -score
            tokens[row, rank, :length] = [ids[row, place, candidate] for place, candidate in enumerate(chain)]
    return tokens, scores


def tree(
    ids: np.ndarray,
    logprobs: np.ndarray,
    transitions: np.ndarray | None = None,
    *,
    lengths: Sequence[int] | None = None,
    nodes: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A tree of each row that grows by what has the highest score of all that could be added (EAGLE-2, 2406.16858).

    A node's score is that of the chain from the first position to it. Among equals the one whose parent was found first
    comes first, then the lower candidate. Arguments are those of `chains`.

    Args:
        nodes: how many nodes at most, at least 0.

    Returns:
        tokens: (rows, nodes) int64 in the order in which they were found, padded with -1.
        parents: (rows, nodes) int64, the place of each node's parent, which is lower; -1 at the first position.
        scores: (rows, nodes) float64, padded with -inf.
        counts: (rows,) int64, how many nodes there are.

    Example:
        >>> ids, logprobs = np.array([[[5, 6], [7, 8]]]), np.array([[[-1.0, -3.0], [-1.0, -1.5]]])
        >>> tree(ids, logprobs, nodes=3)[:2]
        (array([[5, 7, 8]]), array([[-1,  0,  0]]))
    """
    rows, positions, candidates = ids.shape
    tokens, parents = np.full((rows, nodes), -1, dtype=np.int64), np.full((rows, nodes), -1, dtype=np.int64)
    scores, counts = np.full((rows, nodes), -np.inf), np.zeros(rows, dtype=np.int64)
    for row in range(rows):
        length = positions if lengths is None else lengths[row]
        found: list[tuple[int, ...]] = []
        while len(found) < nodes:
            chains = [(parent, chain) for parent, chain in [(-1, ()), *enumerate(found)] if len(chain) < length]
            added = [(parent, (*chain, candidate)) for parent, chain in chains for candidate in range(candidates)]
            best, best_score = None, -np.inf
            for parent, chain in added:
                score = sum(_step(logprobs, transitions, row, chain[: place + 1]) for place in range(len(chain)))
                if chain not in found and score > best_score:
                    best, best_score = (parent, chain), score
            if best is None:
                break
            place = len(found)
            parents[row, place], chain = best
            tokens[row, place], scores[row, place] = ids[row, len(chain) - 1, chain[-1]], best_score
            found.append(chain)
        counts[row] = len(found)
    return tokens, parents, scores, counts


def _step(logprobs: np.ndarray, transitions: np.ndarray | None, row: int, chain: tuple[int, ...]) -> float:
    """What the last candidate of a chain adds to its score."""
    place, candidate = len(chain) - 1, chain[-1]
    before = 0.0 if transitions is None or place == 0 else float(transitions[row, place - 1, chain[-2], candidate])
    return before + float(logprobs[row, place, candidate])
