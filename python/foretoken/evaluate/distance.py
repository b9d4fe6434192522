"""How far a set of pictures is from another, in the features of a judge: Fréchet and kernel distances."""

from __future__ import annotations

import numpy as np

from ..errors import InvalidArgument, ShapeError


def frechet(one: np.ndarray, other: np.ndarray) -> float:
    """The Fréchet distance of two sets of features, taken as Gaussians (1706.08500); it falls with their number.

    Args:
        one, other: (n, width) and (m, width), n and m at least 2.

    Raises:
        ShapeError: they differ in width, or are no stacks.
        InvalidArgument: a set has fewer than two.

    Example:
        >>> cloud = np.random.default_rng(0).normal(size=(500, 4))
        >>> round(frechet(cloud, cloud), 6), round(frechet(cloud, cloud + 1), 6)
        (0.0, 4.0)
    """
    _same_width(one, other)
    first, second = (np.cov(part, rowvar=False) for part in (one, other))
    # The trace of the root of a product of covariances is that of the roots of its eigenvalues, all real and ≥ 0.
    values, vectors = np.linalg.eigh(first)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ second @ root), 0)).sum()
    apart = one.mean(axis=0) - other.mean(axis=0)
    return float(max(0.0, apart @ apart + np.trace(first) + np.trace(second) - 2 * shared))


def kernel_distance(one: np.ndarray, other: np.ndarray) -> float:
    """The unbiased squared maximum mean discrepancy under (x·y / width + 1)³ (1801.01401): about 0 for one law.

    Raises:
        ShapeError, InvalidArgument: as for `frechet`.
    """
    _same_width(one, other)

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x @ y.T / x.shape[1] + 1) ** 3

    def within(x: np.ndarray) -> float:
        table = kernel(x, x)
        return float((table.sum() - np.trace(table)) / (len(x) * (len(x) - 1)))

    return within(one) + within(other) - 2 * float(kernel(one, other).mean())


def _same_width(one: np.ndarray, other: np.ndarray) -> None:
    if one.ndim != 2 or other.ndim != 2 or one.shape[1] != other.shape[1]:
        raise ShapeError(f"features have shapes {one.shape} and {other.shape}: give (n, width) and (m, width)")
    if min(len(one), len(other)) < 2:
        raise InvalidArgument(f"sets of {len(one)} and {len(other)} have no covariance: give two or more of each")
