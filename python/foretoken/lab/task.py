"""What an experiment found: one line for each way to answer, and what is shown beside the table."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..evaluate.report import Table


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One way to answer, measured.

    Args:
        name: of it.
        figures: column → number; None where there is nothing to say.
        curve: conditional acceptance by position, from the first; empty if it was not measured.
        samples: texts, or (height, width, 3) uint8 pictures, of seeds that nobody picked; in pairs of what it was for
            and what came out.
        cure: whether something is asked of it.
    """

    name: str
    figures: dict[str, float | None]
    curve: Sequence[float] = ()
    samples: Sequence[tuple[str, str | np.ndarray]] = ()
    cure: bool = False


@dataclasses.dataclass(frozen=True)
class Task:
    """One experiment.

    Args:
        title: what it asks.
        about: in a few sentences: the data, the model, the measures.
        outcomes: one for each way to answer; empty if `missing`.
        floors: measure → what real answers have, or the law itself: to be held beside the table.
        goals: (what, measured, ">=" or "<=", asked) each, as `evaluate.report.asked` takes them.
        missing: why it was not run, or "".
    """

    title: str
    about: str
    outcomes: Sequence[Outcome] = ()
    floors: dict[str, float] = dataclasses.field(default_factory=dict)
    goals: Sequence[tuple[str, float, str, float]] = ()
    missing: str = ""

    @property
    def measured(self) -> list[Outcome]:
        """The outcomes that have figures; others have a curve alone."""
        return [each for each in self.outcomes if each.figures]

    def table(self) -> Table:
        """The outcomes as a table."""
        columns = list(dict.fromkeys(name for each in self.measured for name in each.figures))
        rows = [(each.name, *(each.figures.get(name) for name in columns)) for each in self.measured]
        return Table(self.title, ("answered", *columns), rows)

    def results(self) -> dict[str, Any]:
        """Plain values."""
        if self.missing:
            return {"missing": self.missing}
        rows = {
            each.name: {**each.figures, "acceptance by position": [_plain(share) for share in each.curve]}
            for each in self.outcomes
        }
        goals = [dict(zip(("what", "measured", "sign", "asked"), goal, strict=True)) for goal in self.goals]
        return {"rows": rows, "floors": self.floors, "goals": goals}


def _plain(share: float) -> float | None:
    return None if np.isnan(share) else round(float(share), 4)
