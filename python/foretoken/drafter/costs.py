"""What a forward of the target costs, and how far a draft may go."""

from __future__ import annotations

import dataclasses

from ..errors import InvalidArgument

_WIDENING = 0.05  # a unit more is believed to cost this share of a forward, until it is measured

_EACH, _DOUBT = 0.7, 0.05


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


class ForwardCosts:
    """Seconds of a forward of the target, by the number of units each row reads."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}

    def note(self, width: int, seconds: float) -> None:
        """Learn one measurement; a hiccup counts at most double.

        A quick forward tells more than a slow one, which the machine may have held up; and a plain forward that is
        believed slow would make every draft look worth its cost, so that it is never measured again.
        """
        known = self._seconds.get(width)
        if known is not None:
            weight = 0.7 if seconds < known else 0.15
            seconds = known + weight * (min(seconds, 2 * known) - known)
        self._seconds[width] = seconds

    def of(self, width: int) -> float:
        """The expected seconds; widths never seen are extrapolated from the nearest one."""
        known = self._seconds.get(width)
        if known is not None:
            return known
        if not self._seconds:
            return 1.0 + _WIDENING * width
        nearest = min(self._seconds, key=lambda seen: abs(seen - width))
        return self._seconds[nearest] * (1 + _WIDENING * width) / (1 + _WIDENING * nearest)


class DraftCosts:
    """Seconds of a draft: so much to begin with, and so much for each guess; the line through recent measurements."""

    def __init__(self) -> None:
        # Sums over the measurements, each weighing less than the next: 1, guesses, guesses², seconds, their product.
        self._sums = (0.0,) * 5

    def note(self, guesses: int, seconds: float) -> None:
        """Learn one measurement; a hiccup counts at most double."""
        if self._sums[0]:
            seconds = min(seconds, 2 * self.of(guesses))
        new = (1, guesses, guesses * guesses, seconds, guesses * seconds)
        self._sums = tuple(0.85 * old + add for old, add in zip(self._sums, new, strict=True))

    def of(self, guesses: int) -> float:
        """The expected seconds; 0 before anything was measured."""
        weight, k, kk, s, ks = self._sums
        if not weight:
            return 0.0
        k, kk, s, ks = k / weight, kk / weight, s / weight, ks / weight
        # Drafts of one length tell nothing of the slope: until others were seen, `_EACH` of the cost is the guesses'.
        each = (ks - k * s + _DOUBT * _EACH * s / k) / (kk - k * k + _DOUBT)
        return s + min(max(0.0, each), s / k) * (guesses - k)
