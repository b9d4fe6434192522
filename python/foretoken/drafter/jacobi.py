"""No model and no look-up: the guesses are what the target itself drew there the last time, with the same noise."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from ..errors import ArgumentTypeError, InvalidArgument
from .protocol import Draft, DraftRequest

Start = Callable[[Sequence[int]], int]
"""The first guess for a place, from the units before it: those of the row, then guesses."""


def repeat(units: Sequence[int]) -> int:
    """The newest unit once more.

    Example:
        >>> repeat([7, 8])
        8
    """
    return units[-1]


def above(columns: int, *, prefix: int = 0) -> Start:
    """Of a picture in raster order, the unit one row above; in its first row, the newest one.

    Args:
        columns: units of a row of the picture, ≥ 1.
        prefix: units in front of the picture, ≥ 0.

    Raises:
        InvalidArgument: a number is out of range.

    Example:
        >>> start = above(3, prefix=1)
        >>> start([9, 1, 2, 3, 4]), start([9, 1])
        (2, 1)
    """
    if type(columns) is not int or columns < 1 or type(prefix) is not int or prefix < 0:
        raise InvalidArgument(f"need integers columns >= 1 and prefix >= 0, got {columns!r} and {prefix!r}")

    return _Above(columns, prefix)


@dataclasses.dataclass(frozen=True)
class _Above:
    """The unit one row above; no closure, which could not be pickled."""

    columns: int
    prefix: int

    def __call__(self, units: Sequence[int]) -> int:
        return units[-self.columns] if len(units) - self.columns >= self.prefix else units[-1]


@dataclasses.dataclass(frozen=True)
class Jacobi:
    """Reads a window of guesses at once, replaces each by what the target draws there, and again: Jacobi iteration.

    Noise belongs to a place (2510.24211), so a guess stays as soon as what it hangs on has settled; what plain decoding
    would write is the fixed point (2002.03629, 2305.10427). It pays where a unit depends little on the ones just before
    it: pictures more than texts. Under `Rejection` the guesses come from noise of their own and count as certain, so
    fewer of them are kept than under `Coupled`.

    Args:
        width: the most guesses, in [1, 64].
        start: the first guess for a place: `repeat`, `above(columns)`, or a function of one's own.

    Raises:
        InvalidArgument: `width` is out of range.
        ArgumentTypeError: `start` is no function.

    Example:
        >>> import foretoken as ft
        >>> tale = ft.load("tales")
        >>> fast = ft.Autoregressive(ft.Jacobi(), length=4)
        >>> tale("Once", max_tokens=8, strategy=fast).signal == tale("Once", max_tokens=8).signal
        True
    """

    width: int = 16
    start: Start = repeat

    def __post_init__(self) -> None:
        if type(self.width) is not int or not 1 <= self.width <= 64:
            raise InvalidArgument(f"width must be an integer in [1, 64], got {self.width!r}")
        if not callable(self.start):
            raise ArgumentTypeError(f"start must be a function from units to an id, got {self.start!r}")

    @property
    def name(self) -> str:
        """What statistics and traces call it."""
        return "jacobi"

    def open(self, request: DraftRequest) -> JacobiSession:
        """A session for one generation."""
        return JacobiSession(self.width, self.start)


class JacobiSession:
    """The windows of some rows."""

    def __init__(self, width: int, start: Start) -> None:
        self._width, self._start = width, start
        self._units: dict[int, list[int]] = {}
        self._window: dict[int, list[int]] = {}  # guesses behind them
        self._drawn: dict[int, list[int]] = {}  # what takes their place once the row is told its new units

    def start(self, row: int, prompt: np.ndarray) -> None:
        """Begin a row that starts with these ids."""
        self._units[row], self._window[row], self._drawn[row] = prompt.tolist(), [], []

    def drew(self, row: int, tokens: Sequence[int]) -> None:
        """Be told what the target would draw behind wrong guesses, whoever made them."""
        self._drawn[row] = list(tokens)

    def extend(self, row: int, tokens: Sequence[int]) -> None:
        """Tell what the row was continued with."""
        self._units[row].extend(tokens)
        left, drawn = self._window[row][len(tokens) :], self._drawn[row]
        self._window[row], self._drawn[row] = drawn + left[len(drawn) :], []

    def propose(self, rows: Sequence[int], k: int) -> list[Draft]:
        """Guess `k` ids for each of these rows, at most the width of the window."""
        count = min(k, self._width)
        drafts = []
        for row in rows:
            units, window = self._units[row], self._window[row]
            if len(window) < count:
                units = units + window
                while len(window) < count:
                    window.append(self._start(units))
                    units.append(window[-1])
            # Redrawn guesses are right more often than first ones. Told apart by `evidence`, adaptive lengths learn of
            # each kind by itself, and too slowly: on a toy with cheap guesses 3.1 units a forward became 1.8.
            drafts.append(Draft(np.array(window[:count], dtype=np.int64)))
        return drafts

    def judge(self, row: int, draft: Draft, accepted: int) -> None:
        """There is nothing to learn from it but what `drew` tells."""

    def stop(self, row: int) -> None:
        """Forget a row."""
        del self._units[row], self._window[row], self._drawn[row]
