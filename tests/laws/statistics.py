"""The G-test, with the tail of chi-square from the regularised incomplete gamma function (no scipy needed)."""

from __future__ import annotations

import math

import numpy as np

# A right kernel fails a test once in a million; with fixed seeds a test that passes, passes for ever.
FALSE_ALARM = 1e-6
_FEWEST = 10.0  # expected draws of a cell; the chi-square limit of G is poor below


def tail(counts: np.ndarray, law: np.ndarray) -> float:
    """How probable a G statistic this large is if the draws follow the law.

    Args:
        counts: (cells,) how often each outcome was drawn.
        law: (cells,) its probability; outcomes of probability 0 must not have been drawn.

    Example:
        >>> round(tail(np.array([50, 50]), np.array([0.5, 0.5])), 3)
        1.0
        >>> tail(np.array([90, 10]), np.array([0.5, 0.5])) < 1e-12
        True
    """
    if counts[law == 0].any():
        return 0.0
    counts, expected = _merged(counts, law / law.sum() * counts.sum())
    drawn = counts > 0
    statistic = 2 * float((counts[drawn] * np.log(counts[drawn] / expected[drawn])).sum())
    return chi_square_tail(max(0.0, statistic), len(counts) - 1)


def _merged(counts: np.ndarray, expected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(-expected, kind="stable")
    counts, expected = counts[order].astype(float), expected[order]
    # Rare outcomes are added up, rarest last, into cells that are each expected often enough.
    starts, mass = [], math.inf
    for place, share in enumerate(expected):
        if mass >= _FEWEST:
            starts.append(place)
            mass = 0.0
        mass += share
    if mass < _FEWEST and len(starts) > 1:
        starts.pop()
    return np.add.reduceat(counts, starts), np.add.reduceat(expected, starts)


def chi_square_tail(x: float, freedom: int) -> float:
    """The probability that chi-square with this many degrees of freedom exceeds x.

    Example:
        >>> [round(chi_square_tail(x, k), 5) for x, k in ((3.841459, 1), (18.307038, 10), (1074.679, 1000))]
        [0.05, 0.05, 0.05]
    """
    if freedom == 0:
        return 1.0
    return upper_gamma(freedom / 2, x / 2)


def upper_gamma(a: float, x: float) -> float:
    """The regularised upper incomplete gamma function Q(a, x): a series below a + 1, a continued fraction above."""
    if x == 0:
        return 1.0
    front = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x < a + 1:
        term = total = 1 / a
        n = a
        while abs(term) > 1e-16 * abs(total):
            n += 1
            term *= x / n
            total += term
        return 1 - front * total
    # Lentz's method for 1/(x+1-a- 1(1-a)/(x+3-a- 2(2-a)/(x+5-a- …)))
    b = x + 1 - a
    c, d = 1e300, 1 / b
    fraction = d
    for i in range(1, 100_000):
        b += 2
        step = -i * (i - a)
        d = 1 / (step * d + b)
        c = b + step / c
        fraction *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return front * fraction
