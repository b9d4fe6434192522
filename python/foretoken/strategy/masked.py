"""Several non-autoregressive steps: each reveals what the model is sure of, and looks again."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from ..canvas import Step
from ..errors import ArgumentTypeError, InvalidArgument
from ..kernels.reveal import Rule
from ..model.protocol import ParallelModel
from ..rules import EntropyBound, Margin, MaxProbability, Order, SampledConfidence, bound_of
from ..schedules import Schedule, cosine, counts
from .filling import Filling
from .lengths import Length
from .oneshot import check_length
from .protocol import Request


@dataclasses.dataclass(frozen=True)
class Masked:
    """Fills unknown units in several forwards (MaskGIT, 2202.04200; LLaDA, 2502.09992); `Masked(1)` is `OneShot`.

    Args:
        steps: how many forwards; None reveals as many units each time as the rule's bound allows, or `count`.
        select: which units first: `EntropyBound()`, `MaxProbability()`, `Margin()`, `Order(ranks)`, the biased classic
            `SampledConfidence()`, or a function from `kernels.Confidences` to scores.
        schedule: with `steps`, the share that is still unknown by progress: `schedules.cosine`, `linear`, `arccos`.
        count: without `steps`, how many units each forward reveals, ≥ 1; 1 is one after another, in any order.
        block: positions that are filled before those behind them are begun, each block in so many steps; None for all.
        remask: share in [0, 1) of the found units that after each step but the last become unknown again, those of the
            smallest probability when they were found (Mask-Predict, 1904.09324).
        length: as for `OneShot`.

    Raises:
        InvalidArgument: a number is out of range, or nothing says how many units a step reveals.
        ArgumentTypeError: an argument is of another kind.

    Example:
        >>> Masked(8).steps, Masked(None, select=EntropyBound(0.3)).select
        (8, EntropyBound(bound=0.3))
    """

    steps: int | None = 8
    _: dataclasses.KW_ONLY
    select: Rule = dataclasses.field(default_factory=EntropyBound)
    schedule: Schedule = cosine
    count: int | None = None
    block: int | None = None
    remask: float = 0.0
    length: Length = None
    fills: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_length(self.length)
        for name in ("steps", "count", "block"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or not 1 <= value <= 2**16):
                raise InvalidArgument(f"{name} must be an integer in [1, 65536], or None, got {value!r}")
        known = (EntropyBound, MaxProbability, Margin, SampledConfidence, Order)
        if not isinstance(self.select, known) and not callable(self.select):
            raise ArgumentTypeError(f"select must be a rule, or a function from Confidences, got {self.select!r}")
        if not callable(self.schedule):
            raise ArgumentTypeError(f"schedule must be a function from progress to a share, got {self.schedule!r}")
        if self.steps is not None and self.count is not None:
            raise InvalidArgument(f"steps {self.steps} and count {self.count} contradict each other; give one")
        if self.steps is None and self.count is None and bound_of(self.select) is None:
            raise InvalidArgument(f"{self.select} does not say how many units to reveal: give steps or a count")
        if type(self.remask) not in (int, float) or not 0 <= self.remask < 1 or (self.remask and self.steps is None):
            raise InvalidArgument(f"remask must be a share in [0, 1), and above 0 takes steps, got {self.remask!r}")

    def run(self, model: ParallelModel, request: Request) -> Iterator[Step]:
        """Yield one step a row and forward; see `Strategy.run`."""
        filling = Filling(model, request, self.length, traced=self.remask > 0)
        yield from self.fill(filling)
        yield from filling.best()

    def fill(
        self, filling: Filling, among: np.ndarray | None = None, model: ParallelModel | None = None, *, step: int = 0
    ) -> Iterator[Step]:
        """Find all that is unknown, or the part `among` of it (lines, positions), with the noise of `step` and on."""
        among = filling.unknown() if among is None else among & filling.unknown()
        if self.block is None:
            yield from self._part(filling, among, model, step)
            return
        starts = np.where(among.any(axis=1), among.argmax(axis=1), 0)[:, None]
        places = np.arange(among.shape[1]) - starts
        for first in range(0, int(np.where(among, places, 0).max(initial=0)) + 1, self.block):
            within = among & (places >= first) & (places < first + self.block)
            # A block takes no more steps than it has units, or than it is told to.
            yield from self._part(filling, within, model, step + first // self.block * max(self.block, self.steps or 0))

    def _part(self, filling: Filling, among: np.ndarray, model: ParallelModel | None, noise: int) -> Iterator[Step]:
        total = among.sum(axis=1)
        plan = None if self.steps is None else counts(self.schedule, self.steps, total)
        step = 0
        while (lines := (among & filling.unknown()).any(axis=1).nonzero()[0]).size:
            logits = filling.predict(lines, model)
            left = (among & filling.unknown())[lines].sum(axis=1)
            count = None
            if plan is not None:
                after = total[lines] - plan[lines, : step + 1].sum(axis=1)  # unknown behind this step
                count = np.clip(left - after, 1, left)
            elif self.count is not None:
                count = np.minimum(self.count, left)
            among = among & filling.unknown()
            yield from filling.reveal(lines, logits, among, select=self.select, count=count, step=noise + step)
            step += 1
            if self.remask and plan is not None and step < plan.shape[1]:
                among = among | self._forgotten(filling)

    def _forgotten(self, filling: Filling) -> np.ndarray:
        """Make the least probable of the found units of each unfinished line unknown again; which ones."""
        assert filling.logprobs is not None
        chosen = np.zeros_like(filling.found)
        for line in filling.unknown().any(axis=1).nonzero()[0]:
            (places,) = filling.found[line].nonzero()
            count = math.floor(self.remask * len(places))
            chosen[line, places[np.argsort(filling.logprobs[line, places], kind="stable")[:count]]] = True
        filling.forget(chosen)
        return chosen
