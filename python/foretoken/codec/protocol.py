"""What a codec is: signals to rows of units, and back."""

from __future__ import annotations

import abc
import math
from collections.abc import Iterable
from typing import Generic, TypeVar

import numpy as np

from ..canvas import Canvas
from ..errors import ArgumentTypeError

Signal = TypeVar("Signal")


class Codec(abc.ABC, Generic[Signal]):
    """Signal ↔ a row of units, each a symbol or a vector.

    A row is in the order in which an autoregressive model would write it; `grid` says where its units lie in the
    signal.

    Attributes:
        unit: what one unit is called: "token", "pixel", "patch", "tubelet", "sample", "code".
        width: how many numbers a unit is: 1 for a symbol.
    """

    unit: str
    width: int

    @property
    @abc.abstractmethod
    def vocab_size(self) -> int | None:
        """How many symbols there are; None where units are vectors."""

    @abc.abstractmethod
    def encode(self, signal: Signal) -> np.ndarray:
        """The units of a signal: (units,) int64, or (units, width) float32."""

    @abc.abstractmethod
    def decode(self, units: np.ndarray, grid: tuple[int, ...] | None = None) -> Signal:
        """The signal of units.

        Args:
            units: as `encode` gives them.
            grid: how they lie; needed only where their number does not tell.
        """

    @abc.abstractmethod
    def grid(self, signal: Signal) -> tuple[int, ...]:
        """How many units a signal has along each of its axes; their product is the length of its row."""

    def canvas(self, signals: Iterable[Signal]) -> Canvas:
        """The signals as rows of known units.

        Raises:
            InvalidArgument: there is none, or one is empty.
            ArgumentTypeError: they are no sequence.
        """
        if isinstance(signals, (str, bytes)) or not isinstance(signals, Iterable):
            raise ArgumentTypeError(
                f"a canvas takes a sequence of signals, one for each row, got {type(signals).__name__}"
            )
        return Canvas([self.encode(signal) for signal in signals])

    def bits(self, signal: Signal) -> float:
        """How many bits the units of a signal take, if each symbol costs the same; 32 for each number of a vector."""
        each = 32 * self.width if self.vocab_size is None else math.log2(self.vocab_size)
        return math.prod(self.grid(signal)) * each
