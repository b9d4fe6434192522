"""What happened in a generation, step by step, and the way to look at it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ..canvas import Stats, Step
from ..files import whole
from .page import Page


class Trace:
    """The steps of a generation, with what is needed to look at them.

    Args:
        steps: in the order in which they happened, rows interleaved.
        prompts: the known units of each row, (length,) int64.
        stats: what the generation cost.
        piece: token id → what the token looks like on its own.
        texts: what each prompt says, so that characters cut into several tokens are shown whole.

    Example:
        >>> step = Step(row=0, tokens=[66, 67], drafted=[66, 90], accepted=1, source="ngram", gaps=[1.0, 1.0])
        >>> trace = Trace([step], [np.array([65])], Stats(), piece=chr)
        >>> len(trace), trace[0].accepted
        (1, 1)
        >>> "ngram" in trace.to_html()
        True
    """

    def __init__(
        self,
        steps: Sequence[Step],
        prompts: Sequence[np.ndarray],
        stats: Stats,
        piece: Callable[[int], str],
        *,
        texts: Sequence[str] = (),
    ) -> None:
        self.steps, self.prompts, self.stats, self.piece = list(steps), list(prompts), stats, piece
        self.texts = list(texts)

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __getitem__(self, index: int) -> Step:
        return self.steps[index]

    def __repr__(self) -> str:
        return f"Trace({len(self.steps)} steps; save('trace.html') makes a page of it)"

    def __getstate__(self) -> dict[str, object]:
        # A pickle takes the pieces that occur instead of the tokenizer, which may be large, or a lambda.
        ids = {int(unit) for prompt in self.prompts for unit in prompt}
        for step in self.steps:
            ids.update(step.tokens, step.drafted, *([unit for unit, _ in best] for best in step.top or ()))
        return {**self.__dict__, "piece": {unit: self.piece(unit) for unit in ids}.__getitem__}

    def to_html(self) -> str:
        """The page: one HTML document that needs nothing from outside."""
        return self._page().document()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the page; an older file stays as it is until the new one is whole.

        Args:
            path: of the HTML file.

        Raises:
            OSError: the file cannot be written.
        """
        with whole(path) as part:
            part.write_text(self.to_html(), encoding="utf-8", newline="\n")

    def _repr_html_(self) -> str:
        return self._page().fragment()

    def _page(self) -> Page:
        return Page(self.steps, self.prompts, self.stats, self.piece, self.texts)
