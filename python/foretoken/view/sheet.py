"""What a page or a picture shows: figures, and panels of pixels, with no word on how they are drawn."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Coding:
    """What a codec made of a signal, in words and numbers.

    Args:
        codec: its name.
        unit: what one unit is called.
        units: how many there are.
        vocab_size: how many symbols there are; None where units are vectors.
        width: numbers of a vector.
        bits: of all units.
    """

    codec: str
    unit: str
    units: int
    vocab_size: int | None
    width: int
    bits: float

    @property
    def plural(self) -> str:
        """Several units."""
        return self.unit + ("es" if self.unit.endswith("ch") else "s")

    def figures(self, signal_bits: float | None = None) -> dict[str, str]:
        """Units, what each is, and what they take; beside the bits of the signal as it is, if they are given."""
        each = f"{self.width} numbers" if self.vocab_size is None else f"1 of {self.vocab_size:,}"
        found = {self.plural: f"{self.units:,}", f"a {self.unit} is": each, "bytes": f"{self.bits / 8:,.0f}"}
        if signal_bits is not None and self.bits:
            found["of its size"] = f"1/{signal_bits / self.bits:,.0f}" if signal_bits > 1.95 * self.bits else (
                f"{100 * self.bits / signal_bits:.0f} %"
            )  # fmt: skip
        return found


@dataclasses.dataclass(frozen=True, eq=False)
class Panel:
    """A picture with what it is.

    Args:
        title: what it shows.
        pixels: (height, width, 3 or 4) uint8.
        note: how to read it.
        cells: rows and columns that lines divide it into; None for no lines.
        labels: (rows, columns) numbers to write into the cells, or None.
        wide: whether it takes a line of its own.
        smooth: whether its pixels may be blurred when it is enlarged.
        sound: a WAV file of what it shows, to listen to, or None.
    """

    title: str
    pixels: np.ndarray
    note: str = ""
    cells: tuple[int, ...] | None = None
    labels: np.ndarray | None = None
    wide: bool = False
    smooth: bool = False
    sound: bytes | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Sheet:
    """All that is shown of one signal.

    Args:
        title: the name of the file.
        kind: what is said of it below the title.
        figures: name → value.
        panels: in order.
        pieces: a text's tokens: what each looks like, and its id.
    """

    title: str
    kind: str
    figures: dict[str, str]
    panels: Sequence[Panel] = ()
    pieces: Sequence[tuple[str, int]] = ()


def decibels(value: float) -> str:
    """A ratio for people.

    Example:
        >>> decibels(23.456), decibels(math.inf)
        ('23.5 dB', 'exact')
    """
    return "exact" if math.isinf(value) else f"{value:.1f} dB"
