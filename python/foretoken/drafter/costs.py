"""What a forward of the target costs, and how far a draft may go."""

from __future__ import annotations

import dataclasses

from ..errors import InvalidArgument

_WIDENING = 0.05  # a unit more is believed to cost this share of a forward, until it is measured


@dataclasses.dataclass(frozen=True)
class Adaptive:
    """A draft length that follows the measured gain; a drafter that does not pay is switched off.

    Only speed depends on it: under `Coupled` the tokens are the same whatever it decides.

    Args:
        maximum: the longest draft, in [1, 64].

    Raises:
        InvalidArgument: `maximum` is out of range.
    """

    maximum: int = 8

    def __post_init__(self) -> None:
        if isinstance(self.maximum, bool) or not isinstance(self.maximum, int) or not 1 <= self.maximum <= 64:
            raise InvalidArgument(f"maximum must be an integer in [1, 64], got {self.maximum!r}")


def averaged(known: float | None, seconds: float) -> float:
    """A moving average of times, one measurement further; a hiccup counts at most double."""
    return seconds if known is None else known + 0.15 * (min(seconds, 2 * known) - known)


class ForwardCosts:
    """Seconds of a forward of the target, by the number of units each row reads."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}

    def note(self, width: int, seconds: float) -> None:
        """Learn one measurement."""
        self._seconds[width] = averaged(self._seconds.get(width), seconds)

    def of(self, width: int) -> float:
        """The expected seconds; widths never seen are extrapolated from the nearest one."""
        known = self._seconds.get(width)
        if known is not None:
            return known
        if not self._seconds:
            return 1.0 + _WIDENING * width
        nearest = min(self._seconds, key=lambda seen: abs(seen - width))
        return self._seconds[nearest] * (1 + _WIDENING * width) / (1 + _WIDENING * nearest)
