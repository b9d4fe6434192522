"""A picture while it is painted."""

from __future__ import annotations

import dataclasses

import numpy as np

from ..canvas import UNKNOWN, Step
from .picture import Picture
from .rows import Rows


@dataclasses.dataclass(frozen=True, eq=False)
class Preview:
    """What one forward brought to one picture.

    Args:
        row: of which picture: sample j of prompt i of n is i·n + j.
        step: how many forwards it has seen.
        fresh: (down, across) bool, the patches that this one found.
        known: (down, across) bool, those that are found or were given; under remasking what was forgotten stays, as
            steps do not say what they forget.
        units: (patches,) int64, what they are; `UNKNOWN` elsewhere.
    """

    row: int
    step: int
    fresh: np.ndarray
    known: np.ndarray
    units: np.ndarray
    _rows: Rows = dataclasses.field(repr=False)

    @property
    def picture(self) -> Picture:
        """What is there; the rest is grey."""
        return Picture(self._rows.paint(self.units))

    @property
    def progress(self) -> float:
        """Share of the patches that are there."""
        return float(self.known.mean())


class Previews:
    """Follows pictures, step by step.

    Args:
        rows: how they stand in a row.
        begun: the row of each, as it is given.
    """

    def __init__(self, rows: Rows, begun: list[np.ndarray]) -> None:
        self.rows = rows
        self._bodies = [row[rows.body :].copy() for row in begun]
        self._steps = [0] * len(begun)

    def after(self, step: Step) -> Preview:
        """The picture of this step's row as it is now."""
        body = self._bodies[step.row]
        fresh = np.zeros(len(body), dtype=bool)
        for place, unit in zip(step.positions or (), step.tokens, strict=True):
            if place >= self.rows.body:
                body[place - self.rows.body] = unit
                fresh[place - self.rows.body] = True
        self._steps[step.row] += 1
        shape, units = self.rows.grid, body.copy()
        return Preview(
            step.row, self._steps[step.row], fresh.reshape(shape), (units != UNKNOWN).reshape(shape), units, self.rows
        )
