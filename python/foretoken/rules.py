"""Which unknown positions of a canvas a masked step reveals first.

A rule is an object that `kernels.reveal` knows, or a function of yours from `kernels.Confidences` to scores (rows,
positions), of which the highest are revealed.

Rules that look at laws alone (`EntropyBound`, `MaxProbability`, `Margin`, `Order`) leave the law of what is revealed as
the model says it. One that looks at the token just drawn does not: what was drawn and not revealed is drawn again, so
probable tokens have more than one chance.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from .errors import InvalidArgument, ShapeError


def _within(name: str, value: float | None, most: float, expected: str) -> None:
    if value is not None and not 0 <= value <= most:
        raise InvalidArgument(f"{name} is {value}: give {expected}")


@dataclasses.dataclass(frozen=True)
class EntropyBound:
    """By rising entropy: as many as have, but for the last, entropies that sum to at most a bound.

    What positions revealed together can get wrong about each other is at most that sum (EB-Sampler, 2505.24857). A
    position that is certain costs nothing, so steps are as long as the model is sure.

    Args:
        bound: in nats, ≥ 0; 0 reveals one position beside the certain ones.

    Raises:
        InvalidArgument: the bound is negative or NaN.

    Example:
        >>> EntropyBound(0.3)
        EntropyBound(bound=0.3)
    """

    bound: float = 0.1

    def __post_init__(self) -> None:
        _within("bound", self.bound, float(np.finfo(np.float64).max), "a number of nats, 0 or more")


@dataclasses.dataclass(frozen=True)
class MaxProbability:
    """By falling largest probability.

    Args:
        threshold: reveal all of at least this; None leaves it to a count.

    Raises:
        InvalidArgument: the threshold is outside [0, 1].
    """

    threshold: float | None = None

    def __post_init__(self) -> None:
        _within("threshold", self.threshold, 1, "a number in [0, 1], or None")


@dataclasses.dataclass(frozen=True)
class Margin:
    """By falling difference of the two largest probabilities.

    Args:
        threshold: reveal all of at least this; None leaves it to a count.

    Raises:
        InvalidArgument: the threshold is outside [0, 1].
    """

    threshold: float | None = None

    def __post_init__(self) -> None:
        _within("threshold", self.threshold, 1, "a number in [0, 1], or None")


@dataclasses.dataclass(frozen=True)
class SampledConfidence:
    """By falling probability of the token just drawn: the classic of MaskGIT and LLaDA, which changes the law.

    Even of a model whose positions do not depend on each other it does not give the model's law: what is improbable is
    drawn again until it is probable, or the steps run out. At temperature 0 it is `MaxProbability`.

    Args:
        temperature: of the choice among positions; ln p + temperature · Gumbel noise decides, and as it rises the order
            becomes random. ≥ 0.
        threshold: reveal all of at least this probability; None leaves it to a count. Not with a temperature.

    Raises:
        InvalidArgument: a number is out of range, or both are given.
    """

    temperature: float = 0.0
    threshold: float | None = None

    def __post_init__(self) -> None:
        _within("temperature", self.temperature, 1e30, "a number in [0, 1e30]")
        _within("threshold", self.threshold, 1, "a number in [0, 1], or None")
        if self.temperature > 0 and self.threshold is not None:
            raise InvalidArgument(
                "temperature and threshold contradict each other: a threshold leaves nothing to chance"
            )


@dataclasses.dataclass(frozen=True, eq=False)
class Order:
    """In an order that is given: `halton.ranks`, `range` for raster, a permutation for a random one.

    Args:
        ranks: (positions,) or (rows, positions) integers, the lowest first; among equals the lower position. Or a
            function from the number of positions to that.

    Raises:
        ShapeError: ranks have no axis, or more than two.
        InvalidArgument: a rank is NaN.

    Example:
        >>> Order([2, 0, 1]).scores((1, 3))
        array([[-2.,  0., -1.]])
        >>> Order(range).scores((1, 3))
        array([[ 0., -1., -2.]])
    """

    ranks: Sequence[int] | np.ndarray | Callable[[int], Sequence[int] | np.ndarray]

    def __post_init__(self) -> None:
        if not callable(self.ranks):
            _checked(self.ranks)

    def scores(self, shape: tuple[int, int]) -> np.ndarray:
        """Falling with the rank: (rows, positions) float64.

        Raises:
            ShapeError: the ranks are those of another canvas.
        """
        given = 0.0 - _checked(self.ranks(shape[1]) if callable(self.ranks) else self.ranks)
        if given.shape not in (shape, shape[1:]):
            raise ShapeError(
                f"ranks has shape {given.shape}, expected {shape[1:]} or {shape}: pass those of this canvas"
            )
        return np.array(np.broadcast_to(given, shape), order="C")


def _checked(ranks: object) -> np.ndarray:
    given = np.asarray(ranks, dtype=np.float64)
    if given.ndim not in (1, 2):
        raise ShapeError(f"ranks has {given.ndim} dimensions: give (positions,) or (rows, positions)")
    if np.isnan(given).any():
        raise InvalidArgument("ranks holds NaN: give integers")
    return given


def bound_of(rule: object) -> float | None:
    """Where a rule ends by itself; None if a count has to say it."""
    value = rule.bound if isinstance(rule, EntropyBound) else getattr(rule, "threshold", None)
    return None if value is None else float(value)
