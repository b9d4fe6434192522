"""What comes out of a generation: rows, what they cost, and how they came about."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from .canvas import FinishReason, Stats
from .trace import Trace
from .trace.marks import rate

_SHORT = 72  # characters of a signal that a repr shows


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Row:
    """One row, filled in.

    Args:
        tokens: the units that were generated, in the order in which they stand, (length,) int64.
        signal: what they are: for text, a string; of a row with unknown units inside, all of it.
        finish_reason: why the row ended.
        logprobs: natural-log probability of each token under the model's raw law, if asked for.
        top_logprobs: for each token the most probable (id, logprob) pairs, if asked for.
        prompt: index of the prompt that this row continues.
        sample: which of the prompt's n samples it is.
        units: the whole row, what was known and what was generated, (units,) int64.
    """

    tokens: np.ndarray
    signal: Any
    finish_reason: FinishReason
    logprobs: list[float] | None = None
    top_logprobs: list[list[tuple[int, float]]] | None = None
    prompt: int = 0
    sample: int = 0
    units: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0, dtype=np.int64))

    def __repr__(self) -> str:
        shown = repr(self.signal)
        if len(shown) > _SHORT:
            shown = f"{shown[: _SHORT // 2]} … {shown[-_SHORT // 2 :]}"
        place = f", prompt {self.prompt}, sample {self.sample}" if self.prompt or self.sample else ""
        return f"Row({shown}, {len(self.tokens)} tokens, {self.finish_reason}{place})"


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Generation:
    """The result of a generation.

    For one row, `signal`, `tokens`, `units`, `finish_reason` and log-probabilities are that row's; for several, lists.

    Args:
        rows: in the order of the prompts, the samples of a prompt side by side.
        stats: what it cost, and what the drafters were worth.
        trace: how each token came; `trace.save("trace.html")` makes a page of it.

    Example:
        >>> row = Row(np.array([66, 67]), "BC", "length")
        >>> stats = Stats(prompt_tokens=1, tokens=2, forwards=2, row_forwards=2)
        >>> Generation([row], stats, Trace([], [np.array([65])], stats, chr))
        Generation(Row('BC', 2 tokens, length); 2 tokens in 2 forwards, 1.00 a forward)
    """

    rows: list[Row]
    stats: Stats
    trace: Trace

    @property
    def signal(self) -> Any:
        """What was generated: for text, strings without the prompt."""
        return self._of_rows("signal")

    @property
    def tokens(self) -> Any:
        """The generated units, (length,) int64."""
        return self._of_rows("tokens")

    @property
    def units(self) -> Any:
        """The whole rows, what was known and what was generated, (units,) int64."""
        return self._of_rows("units")

    @property
    def finish_reason(self) -> Any:
        """Why each row ended."""
        return self._of_rows("finish_reason")

    @property
    def logprobs(self) -> Any:
        """Log-probabilities of the tokens, or None if they were not asked for."""
        return self._of_rows("logprobs")

    @property
    def top_logprobs(self) -> Any:
        """The most probable tokens at each place, or None if they were not asked for."""
        return self._of_rows("top_logprobs")

    @property
    def figures(self) -> str:
        """The stats in one line."""
        stats = self.stats
        rows = "" if len(self.rows) == 1 else f"{len(self.rows)} rows, "
        each = "a forward" if len(self.rows) == 1 else "a forward and row"
        parts = [f"{rows}{stats.tokens:,} tokens in {stats.forwards:,} forwards, {stats.tokens_per_forward:.2f} {each}"]
        if stats.drafted:
            parts.append(f"{100 * stats.acceptance:.0f} % of {stats.drafted:,} guesses right")
        if stats.seconds["total"]:
            parts.append(f"{rate(stats.tokens_per_second)} tokens/s")
        if stats.near_ties:
            parts.append(f"{stats.near_ties:,} near tie{'' if stats.near_ties == 1 else 's'}")
        return ", ".join(parts)

    def __repr__(self) -> str:
        row = f"{self.rows[0]!r}; " if len(self.rows) == 1 else ""
        return f"Generation({row}{self.figures})"

    def __str__(self) -> str:
        if len(self.rows) == 1:
            return f"{self.signal}\n\n[{self.figures}]"
        texts = [f"[{index}] {row.signal}" for index, row in enumerate(self.rows)]
        return "\n\n".join([*texts, f"[{self.figures}]"])

    def _repr_html_(self) -> str:
        return self.trace._repr_html_()

    def _of_rows(self, name: str) -> Any:
        values = [getattr(row, name) for row in self.rows]
        return values[0] if len(values) == 1 else values
