"""What the nearest pictures say of a set: is it like the real ones, does it reach all of them, is it copied?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..errors import InvalidArgument, ShapeError

NEIGHBOURS = 3
"""How many precision and recall look at by default: a set must have more pictures."""


class Coverage(NamedTuple):
    """Precision and recall of pictures (1904.06991).

    Args:
        precision: share of the made ones that lie among the real ones.
        recall: share of the real ones that lie among the made ones.
    """

    precision: float
    recall: float


def coverage(real: np.ndarray, made: np.ndarray, *, k: int = NEIGHBOURS) -> Coverage:
    """Whether each picture lies as near to one of the other set as that one's k-th neighbour in its own.

    Args:
        real, made: features (n, width) and (m, width), more than k of each.
        k: which neighbour.

    Raises:
        ShapeError: they differ in width.
        InvalidArgument: there are too few.

    Example:
        >>> cloud = np.random.default_rng(0).normal(size=(60, 2))
        >>> coverage(cloud, cloud[:20]), coverage(cloud, cloud + 99)
        (Coverage(precision=1.0, recall=0.8833333333333333), Coverage(precision=0.0, recall=0.0))
    """
    if real.ndim != 2 or made.ndim != 2 or real.shape[1] != made.shape[1]:
        raise ShapeError(f"features have shapes {real.shape} and {made.shape}: give (n, width) and (m, width)")
    if k < 1 or min(len(real), len(made)) <= k:
        raise InvalidArgument(f"sets of {len(real)} and {len(made)} have no {k}-th neighbours: give more")
    between = distances(real, made)
    return Coverage(
        float((between <= _reach(real, k)[:, None]).any(axis=0).mean()),
        float((between <= _reach(made, k)[None]).any(axis=1).mean()),
    )


def _reach(points: np.ndarray, k: int) -> np.ndarray:
    """The distance of each point to its k-th neighbour; the 0-th is itself."""
    return np.partition(distances(points, points), k, axis=1)[:, k]


def distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Euclidean distances (n, m) of features (n, width) and (m, width).

    Example:
        >>> distances(np.array([[0.0, 0.0]]), np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
        [[5.0, 0.0]]
    """
    squares = (one**2).sum(axis=1)[:, None] - 2 * one @ other.T + (other**2).sum(axis=1)[None]
    return np.sqrt(np.maximum(squares, 0))


def copied(train: np.ndarray, real: np.ndarray, made: np.ndarray, *, share: float = 0.05) -> float:
    """The share of made pictures that lie nearer to a training picture than all but a few new real ones do.

    Args:
        train: features of what was trained on.
        real: of new pictures of the same kind.
        made: of the pictures in question.
        share: of the real ones that count as being that near; a set that copies nothing has about as many.
    """
    nearest = [distances(part, train).min(axis=1) for part in (real, made)]
    return float((nearest[1] < np.quantile(nearest[0], share)).mean())


def diversity(features: np.ndarray, groups: np.ndarray) -> float:
    """The mean distance of two pictures of one group, beside that of two of any: 0 if all of a group are the same.

    Args:
        features: (n, width).
        groups: (n,) what each was made for, some of them more than once.

    Raises:
        InvalidArgument: no group has two.
    """
    apart = distances(features, features)
    upper = np.triu(np.ones(apart.shape, dtype=bool), 1)
    same = groups[:, None] == groups
    if not (upper & same).any():
        raise InvalidArgument("each group has one picture: paint two or more of each")
    return float(apart[upper & same].mean() / apart[upper].mean())
