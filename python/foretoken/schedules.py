"""How many positions are still unknown after each of several masked steps.

A schedule is a function from progress in [0, 1] to the share that is still unknown; it falls from 1 to 0.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from .errors import ArgumentTypeError, InvalidArgument

Schedule: TypeAlias = Callable[[float], float]


def cosine(progress: float) -> float:
    """Few at first, when little is known; MaskGIT's (2202.04200).

    Example:
        >>> round(cosine(0.5), 3)
        0.707
    """
    return math.cos(math.pi / 2 * progress)


def linear(progress: float) -> float:
    """The same number each step.

    Example:
        >>> linear(0.25)
        0.75
    """
    return 1 - progress


def arccos(progress: float) -> float:
    """More than the cosine at first and in the very last step, less between; of Halton-MaskGIT (2503.17076).

    Example:
        >>> round(arccos(0.5), 3)
        0.667
    """
    return 2 / math.pi * math.acos(progress)


def counts(schedule: Schedule, steps: int, unknown: int | Sequence[int] | np.ndarray) -> np.ndarray:
    """How many positions each step reveals: whole numbers that sum to all of them, at least one while any is unknown.

    After step i of n a row has at most `schedule(i / n)` of its unknown positions left, rounded down.

    Args:
        schedule: share of the unknown by progress.
        steps: how many, ≥ 1.
        unknown: how many positions are to be found, ≥ 0; a number, or one for each row.

    Returns:
        (steps,) int64, or (rows, steps).

    Raises:
        InvalidArgument: a number is out of range, or the schedule gives one outside [0, 1].
        ArgumentTypeError: a number is no integer.

    Example:
        >>> counts(cosine, 8, 256)
        array([ 5, 15, 24, 31, 39, 45, 48, 49])
        >>> counts(linear, 4, [2, 9])
        array([[1, 1, 0, 0],
               [3, 2, 2, 2]])
    """
    steps = _whole("steps", steps, least=1)
    if isinstance(unknown, (Sequence, np.ndarray)):
        return np.array([_row(schedule, steps, number) for number in unknown], dtype=np.int64).reshape(-1, steps)
    return np.array(_row(schedule, steps, unknown), dtype=np.int64)


def _row(schedule: Schedule, steps: int, unknown: int) -> list[int]:
    left, found = _whole("unknown", unknown, least=0), []
    total = left
    for step in range(1, steps + 1):
        share = schedule(step / steps) if step < steps else 0.0
        if not -1e-9 <= share <= 1 + 1e-9:
            raise InvalidArgument(f"the schedule gives {share} at {step / steps}: give a share in [0, 1]")
        # What rounding takes from a whole number is given back, or 3 of 10 steps would be 2.9999999999999996.
        after = max(0, min(left - 1, math.floor(share * total + 1e-9)))
        found.append(left - after)
        left = after
    return found


def _whole(name: str, value: int, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError as error:
        raise ArgumentTypeError(f"{name} is {value!r}: give an integer") from error
    if number < least:
        raise InvalidArgument(f"{name} is {number}: give {least} or more")
    return number
