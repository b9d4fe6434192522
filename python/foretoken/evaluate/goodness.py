"""Whether draws follow a law: the G-test, and how small a fault it would notice."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import torch

_FEWEST = 10.0  # expected draws of a cell; below, G is far from chi-square
_TRIALS = 300


@dataclasses.dataclass(frozen=True, eq=False)
class Drawn:
    """What was drawn again and again from one law.

    Args:
        counts: (outcomes,) how often each was drawn.
        law: (outcomes,) its probability.
    """

    counts: np.ndarray
    law: np.ndarray

    @property
    def cells(self) -> np.ndarray:
        """(outcomes,) the cell that each is counted in: the rare ones share cells that are expected often enough."""
        order = np.argsort(-self.law, kind="stable")
        expected = self.law[order] * self.counts.sum()
        cells, cell, mass = np.empty(len(order), dtype=np.int64), 0, 0.0
        for place, share in enumerate(expected):
            if mass >= _FEWEST and expected[place:].sum() >= _FEWEST:
                cell, mass = cell + 1, 0.0
            cells[order[place]] = cell
            mass += share
        return cells


def g_test(samples: Sequence[Drawn]) -> float:
    """How probable draws at least as far from their laws are if they follow them; all samples together.

    Example:
        >>> half = np.array([0.5, 0.5])
        >>> g_test([Drawn(np.array([50, 50]), half)]), g_test([Drawn(np.array([90, 10]), half)]) < 1e-12
        (1.0, True)
    """
    if any(sample.counts[sample.law == 0].any() for sample in samples):
        return 0.0
    statistic, freedom = 0.0, 0
    for sample in samples:
        cells = sample.cells
        law, counts = np.bincount(cells, sample.law), np.bincount(cells, sample.counts)
        statistic += float(_statistics(counts[None], law)[0])
        freedom += len(law) - 1
    return float(tails(np.array([statistic]), freedom)[0])


def noticed(samples: Sequence[Drawn], others: Sequence[np.ndarray], *, alarm: float, power: float) -> float | None:
    """The smallest share of draws from another law that a G-test of this size notices with this power, in (0, 1].

    Args:
        samples: whose sizes and laws count.
        others: (outcomes,) for each, what is drawn instead.
        alarm: the probability of a false alarm, below which a draw is suspicious.
        power: the share of trials that must be noticed; trials are simulated.

    Returns:
        The share, None if not even the other law alone is noticed.

    Example:
        >>> even = Drawn(np.array([500, 500]), np.array([0.5, 0.5]))
        >>> 0.1 < noticed([even], [np.array([1.0, 0.0])], alarm=1e-3, power=0.9) < 0.2
        True
    """
    random, parts = np.random.default_rng(0), []
    for sample, other in zip(samples, others, strict=True):
        cells = sample.cells
        parts.append((int(sample.counts.sum()), np.bincount(cells, sample.law), np.bincount(cells, other)))
    freedom = sum(len(law) - 1 for _, law, _ in parts)

    def suffices(share: float) -> bool:
        statistics = np.zeros(_TRIALS)
        for count, law, other in parts:
            mixed = (1 - share) * law / law.sum() + share * other / other.sum()
            statistics += _statistics(random.multinomial(count, mixed / mixed.sum(), size=_TRIALS), law)
        return bool((tails(statistics, freedom) < alarm).mean() >= power)

    low, high = 0.0, 1.0
    if not suffices(high):
        return None
    while high - low > 0.002:
        middle = (low + high) / 2
        low, high = (low, middle) if suffices(middle) else (middle, high)
    return high


def _statistics(counts: np.ndarray, law: np.ndarray) -> np.ndarray:
    """G of each line of counts (trials, cells)."""
    expected = law / law.sum() * counts.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(counts > 0, counts * np.log(counts / expected), 0.0)
    return np.maximum(0.0, 2 * terms.sum(axis=1))


def tails(statistics: np.ndarray, freedom: int) -> np.ndarray:
    """The probability that chi-square with these degrees of freedom exceeds each number."""
    if freedom == 0:
        return np.ones(len(statistics))
    half = torch.tensor(freedom / 2, dtype=torch.float64)
    return torch.special.gammaincc(half, torch.from_numpy(statistics / 2)).numpy()


def never_seen(count: int, *, power: float) -> float:
    """The smallest rate of an event that among so many chances is seen at least once with this probability.

    Example:
        >>> round(never_seen(1000, power=0.9), 5)
        0.0023
    """
    return 1 - math.pow(1 - power, 1 / count)
