"""What a strategy is given, and what it must do with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from ..canvas import Canvas, Stats, Step
from ..sampler import Sampler


@dataclasses.dataclass(frozen=True)
class Request:
    """One generation, checked: everything a strategy may look at.

    Args:
        canvas: one row for each prompt.
        n: samples of each prompt; output row i·n + j is sample j of prompt i.
        sampler: the user's parameters.
        compiled: the same as the kernels take them.
        seeds, samples: (rows,) uint64 and int64 noise keys of the output rows.
        limits: (rows,) most units to add to each row.
        min_tokens: units a row has before it may end.
        logprobs: how many alternatives to report for each token, or None for no log-probabilities.
        threads: threads of the kernels.
        stats: where costs are counted.
    """

    canvas: Canvas
    n: int
    sampler: Sampler
    compiled: Any
    seeds: np.ndarray
    samples: np.ndarray
    limits: np.ndarray
    min_tokens: int
    logprobs: int | None
    threads: int
    stats: Stats


class Strategy(Protocol):
    """Decides which positions become known next."""

    def run(self, model: Any, request: Request) -> Iterator[Step]:
        """Yield one step a row and forward; a row whose step comes back with a `finish_reason` is done.

        The caller may cut the tokens of a step and set its `finish_reason` before it asks for the next one. Closing
        the iterator ends the generation.

        Raises:
            UnsupportedModel: the model lacks what this strategy needs; the message names it.
        """
        ...
