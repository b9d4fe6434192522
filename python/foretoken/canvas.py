"""The nouns every room shares: the canvas that is filled in, the steps that fill it, and what they cost."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np

from .errors import ArgumentTypeError, InvalidArgument, ShapeError

UNKNOWN = -1
"""The value of a position that is still to be filled."""

FinishReason = Literal["end", "stop", "length"]
"""Why a row ended: the model's END token, a stop token or string, or `max_tokens`."""


@dataclasses.dataclass(frozen=True, eq=False)
class Canvas:
    """Rows of units, some known, some `UNKNOWN`; a row that only has known units is open to the right.

    Args:
        rows: 1-D arrays (or sequences) of unit ids in [0, 2^31), or `UNKNOWN`; or, where units are vectors, 2-D arrays
            (units, width) of finite floats, or of NaN in all of a unit that is unknown. Of any lengths, none empty.

    Raises:
        InvalidArgument: there is no row, a row is empty, an id is out of range, or a vector is not as above.
        ArgumentTypeError: a row holds neither integers nor vectors, or some rows hold ids and others vectors.
        ShapeError: the vectors of two rows differ in width.

    Example:
        >>> Canvas([[5, 3, 8], [2]]).lengths
        (3, 1)
    """

    rows: Sequence[np.ndarray]

    def __init__(self, rows: Iterable[Sequence[int] | np.ndarray]) -> None:
        if not isinstance(rows, Iterable):
            raise ArgumentTypeError(f"a canvas takes several rows, got {type(rows).__name__}")
        object.__setattr__(self, "rows", tuple(_row(i, row) for i, row in enumerate(rows)))
        if not self.rows:
            raise InvalidArgument("the canvas has no rows; pass at least one prompt")
        if len({row.ndim for row in self.rows}) > 1:
            raise ArgumentTypeError("some rows of the canvas hold ids, others vectors; give one kind")
        if len(widths := {row.shape[1:] for row in self.rows}) > 1:
            raise ShapeError(
                f"vectors of one canvas have {sorted(width for (width,) in widths)} numbers; give one width"
            )

    @property
    def lengths(self) -> tuple[int, ...]:
        """Number of units of each row."""
        return tuple(len(row) for row in self.rows)

    @property
    def is_prefix(self) -> bool:
        """Whether every unit is known, so that only what follows is to be filled in."""
        return all(known(row).all() for row in self.rows)

    @property
    def width(self) -> int | None:
        """How many numbers a unit is where units are vectors, None where they are symbols."""
        return self.rows[0].shape[1] if self.rows[0].ndim == 2 else None


def known(row: np.ndarray) -> np.ndarray:
    """Which units of a row are known, (units,) bool."""
    return row != UNKNOWN if row.ndim == 1 else ~np.isnan(row[:, 0])


def _row(index: int, units: Sequence[int] | np.ndarray) -> np.ndarray:
    try:
        array = np.asarray(units)
    except (ValueError, TypeError) as error:  # rows within the row, or a tensor that is not on the CPU
        raise ArgumentTypeError(f"row {index} of the canvas is no row of integers: {error}") from None
    if array.size == 0:
        raise InvalidArgument(f"row {index} of the canvas is empty; a row needs at least one known unit")
    if array.ndim == 2 and array.dtype.kind == "f":
        return _vectors(index, array)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ArgumentTypeError(f"row {index} must be a 1-D row of integers, got {array.ndim}-D {array.dtype}")
    if array.min() < UNKNOWN or array.max() >= 2**31:
        raise InvalidArgument(f"row {index} holds ids in [{array.min()}, {array.max()}], allowed is [-1, 2^31)")
    frozen = array.astype(np.int64)
    frozen.setflags(write=False)
    return frozen


def _vectors(index: int, array: np.ndarray) -> np.ndarray:
    unknown = np.isnan(array)
    if (unknown.any(axis=1) != unknown.all(axis=1)).any() or np.isinf(array).any():
        raise InvalidArgument(f"row {index} holds a vector with infinity, or with NaN in a part of it")
    frozen = array.astype(np.float32)
    frozen.setflags(write=False)
    return frozen


def pad(rows: Sequence[Sequence[int] | np.ndarray], *, width: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Rows of any lengths as one (rows, width) int64 array, filled up with 0, and their lengths.

    Args:
        rows: ids of each row.
        width: of the result, at least the longest row; None for just that.
    """
    counts = np.array([len(row) for row in rows], dtype=np.int64)
    padded = np.zeros((len(rows), int(counts.max()) if width is None else width), dtype=np.int64)
    for line, row in enumerate(rows):
        padded[line, : len(row)] = row
    return padded, counts


@dataclasses.dataclass(slots=True)
class Step:
    """What one model forward added to one row.

    Attributes:
        row: index of the row: sample j of prompt i of n is row i·n + j.
        tokens: the units that became known, in order; cut where the row ends.
        drafted: the guesses that were checked; of a tree those on the branch that went furthest.
        accepted: how many of the guesses, from the first, were right.
        source: name of the drafter that guessed, or "" if nothing was drafted.
        gaps: for each token, how far the runner-up was behind in score (nats); small is a near tie.
        logprobs: for each token, its natural-log probability under the model's raw law, if asked for.
        top: for each token, the most probable (id, logprob) pairs, if asked for.
        text: for text, the characters that became certain with this step; never half a character.
        finish_reason: why the row ended with this step, or None.
        positions: where the tokens stand in the row, rising; None where they follow what there is.
    """

    row: int
    tokens: list[int]
    drafted: list[int]
    accepted: int
    source: str
    gaps: list[float]
    logprobs: list[float] | None = None
    top: list[list[tuple[int, float]]] | None = None
    text: str = ""
    finish_reason: FinishReason | None = None
    positions: list[int] | None = None


@dataclasses.dataclass(slots=True)
class Stats:
    """What a generation cost and what its drafters were worth.

    Attributes:
        prompt_tokens: units given.
        tokens: units generated and kept.
        forwards: forwards of the model, the one over the prompt included.
        row_forwards: the same, counted once for each row that took part.
        drafted, accepted: guesses checked, and found right.
        drafted_at, accepted_at: the same by place in the draft, from 0.
        by_source: name of the drafter → [drafted, accepted].
        near_ties: tokens whose runner-up was closer than `TIE` nats: rounding could have changed them.
        seconds: "prompt" and "model" (forwards), "draft", "sample" (choice and verification) and "total".
    """

    prompt_tokens: int = 0
    tokens: int = 0
    forwards: int = 0
    row_forwards: int = 0
    drafted: int = 0
    accepted: int = 0
    drafted_at: Counter[int] = dataclasses.field(default_factory=Counter)
    accepted_at: Counter[int] = dataclasses.field(default_factory=Counter)
    by_source: dict[str, list[int]] = dataclasses.field(default_factory=dict)
    near_ties: int = 0
    seconds: dict[str, float] = dataclasses.field(
        default_factory=lambda: dict.fromkeys(("prompt", "model", "draft", "sample", "total"), 0.0)
    )

    @property
    def tokens_per_forward(self) -> float:
        """Units that one forward of one row brought, on average; 1 without a drafter."""
        return self.tokens / self.row_forwards if self.row_forwards else 0.0

    @property
    def acceptance(self) -> float:
        """Share of the drafted guesses that were right."""
        return self.accepted / self.drafted if self.drafted else 0.0

    @property
    def acceptance_by_position(self) -> list[float]:
        """Share of the guesses at each place in a draft that were right, all before them right too."""
        return [self.accepted_at[i] / self.drafted_at[i] for i in range(len(self.drafted_at))]

    @property
    def tokens_per_second(self) -> float:
        """Generated units a second, the prompt's forward included."""
        return self.tokens / self.seconds["total"] if self.seconds["total"] else 0.0

    @property
    def overhead(self) -> float:
        """Seconds outside the forwards of the model and of the drafters."""
        inside = self.seconds["prompt"] + self.seconds["model"] + self.seconds["draft"]
        return self.seconds["total"] - inside

    def count(self, step: Step) -> None:
        """Add one step, as it is kept, to the sums."""
        self.tokens += len(step.tokens)
        for gap in step.gaps:
            if gap < TIE:
                self.near_ties += 1
        if step.drafted:
            drafted, accepted = len(step.drafted), step.accepted
            self.drafted += drafted
            self.accepted += accepted
            for place in range(min(drafted, accepted + 1)):  # a guess behind a wrong one was never judged
                self.drafted_at[place] += 1
            for place in range(accepted):
                self.accepted_at[place] += 1
            record = self.by_source.setdefault(step.source, [0, 0])
            record[0] += drafted
            record[1] += accepted


TIE = 1e-5
"""Nats under which the lead of a chosen token is called a near tie: float32 forwards differ by about this much."""
