"""Sound as its samples: μ-law of 8 bits, or linear codes of 16."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import kernels
from ..errors import InvalidArgument, ShapeError
from . import sounds
from .protocol import Codec


class Samples(Codec[np.ndarray]):
    """Sound ↔ a unit for each sample: the way of WaveNet (1609.03499).

    A signal is (n,) float32 at `rate`; `signal` makes one of a file, of stereo, of another rate. What lies beyond
    [-1, 1] is clipped. Of 16 bits, samples that came from a 16-bit file return exactly; of 8 bits, but for 1 / 45 of
    their value and 1 / 11,000. Silence is a row of the middle code; an empty signal has no units.

    Args:
        rate: samples a second, 8000 or 16000 as a rule.
        bits: of a unit: 8 for μ-law (256 symbols), 16 for linear codes (65,536).

    Raises:
        InvalidArgument: a number is out of range.

    Example:
        >>> codec = Samples(bits=16)
        >>> codec.encode(np.array([0.0, 0.5, -1.0], dtype=np.float32))
        array([32768, 49152,     0])
        >>> codec.decode(np.array([32768, 49152, 0]))
        array([ 0. ,  0.5, -1. ], dtype=float32)
    """

    unit, width = "sample", 1

    def __init__(self, *, rate: int = 8000, bits: int = 8) -> None:
        if type(bits) is not int or bits not in (8, 16):
            raise InvalidArgument(f"bits is {bits!r}: a sample is of 8 bits (μ-law) or 16 (linear)")
        if type(rate) is not int or not 0 < rate <= 2**20:
            raise InvalidArgument(f"rate is {rate!r}: give samples a second, up to {2**20}")
        self.rate, self.each = rate, bits

    def __repr__(self) -> str:
        return f"Samples(rate={self.rate}, bits={self.each})"

    @property
    def vocab_size(self) -> int:
        """256 or 65,536."""
        return 1 << self.each

    def signal(self, sound: Any, *, source_rate: int | None = None) -> np.ndarray:
        """A file, or an array of another rate or of several channels, as a signal of this codec.

        Args:
            sound, source_rate: as for `sounds.at_rate`.
        """
        return sounds.at_rate(sound, self.rate, source_rate=source_rate)

    def encode(self, signal: np.ndarray) -> np.ndarray:
        """The code of each sample, (n,) int64.

        Raises:
            InvalidArgument: a sample is NaN or infinite.
            ShapeError, ArgumentTypeError: the signal is not (n,) float32.
        """
        signal = sounds.checked(signal)
        return (kernels.mu_law_encode(signal) if self.each == 8 else kernels.pcm_encode(signal, bits=16)).ids

    def decode(self, units: np.ndarray, grid: tuple[int, ...] | None = None) -> np.ndarray:
        """The samples (n,) float32 of codes.

        Raises:
            InvalidArgument: a code is out of range.
            ShapeError: the codes are no row, or not as many as the grid says.
            ArgumentTypeError: they are no integers.
        """
        samples = kernels.mu_law_decode(units) if self.each == 8 else kernels.pcm_decode(units, bits=16)
        if samples.ndim != 1 or (grid is not None and tuple(grid) != samples.shape):
            raise ShapeError(f"units have shape {samples.shape}, the grid is {grid}: give a row of samples")
        return samples

    def grid(self, signal: np.ndarray) -> tuple[int, ...]:
        """How many samples it has."""
        return (len(sounds.checked(signal)),)
