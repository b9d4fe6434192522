"""One stage after another: what a stage finds is what the next one knows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from .. import kernels
from ..canvas import UNKNOWN, Canvas, Step
from ..errors import ArgumentTypeError, InvalidArgument, UnsupportedModel
from ..model.protocol import CausalModel, ParallelModel
from .autoregressive import Autoregressive
from .filling import Filling
from .lengths import Length
from .masked import Masked
from .oneshot import OneShot, at_once, check_length
from .protocol import Request

_MOST = 16  # stages, each with 2^24 steps of noise of its own

Part = Callable[[np.ndarray], np.ndarray]
"""From the unknown positions of a row, rising, to those that a stage fills."""


@dataclasses.dataclass(frozen=True)
class _Slice:
    """Some of the unknown positions; no closure, which could not be pickled."""

    stop: int | None
    step: int

    def __call__(self, unknown: np.ndarray) -> np.ndarray:
        return unknown[: self.stop : self.step]


def every(step: int) -> Part:
    """A condensed version: every so manieth unknown position.

    Example:
        >>> every(4)(np.arange(3, 12))
        array([ 3,  7, 11])
    """
    if type(step) is not int or step < 1:
        raise InvalidArgument(f"step must be an integer of at least 1, got {step!r}")
    return _Slice(None, step)


def first(count: int) -> Part:
    """The first unknown positions: a shared imagination in front, or the coarse codes before the fine ones.

    Example:
        >>> first(1)(np.arange(3, 12))
        array([3])
    """
    if type(count) is not int or count < 1:
        raise InvalidArgument(f"count must be an integer of at least 1, got {count!r}")
    return _Slice(count, 1)


def rest(unknown: np.ndarray) -> np.ndarray:
    """All that is unknown."""
    return unknown


@dataclasses.dataclass(frozen=True)
class Stage:
    """A part of the row, and how it is filled.

    Args:
        part: `every(n)`, `first(n)`, `rest`, or a function from unknown positions (n,) to some of them.
        strategy: `OneShot()`, `Masked(…)`, or, where the part lies behind nothing but known units, `Autoregressive(…)`.
        model: what predicts; None for the model that `generate` is given.

    Raises:
        ArgumentTypeError: an argument is of another kind.
        InvalidArgument: the strategy has a length, which only the whole cascade can have.
    """

    part: Part
    strategy: OneShot | Masked | Autoregressive = dataclasses.field(default_factory=OneShot)
    model: Any = None

    def __post_init__(self) -> None:
        if not callable(self.part):
            raise ArgumentTypeError(f"part must be a function of unknown positions, got {self.part!r}")
        if not isinstance(self.strategy, (OneShot, Masked, Autoregressive)):
            raise ArgumentTypeError(f"a stage takes OneShot, Masked or Autoregressive, got {self.strategy!r}")
        if not isinstance(self.strategy, Autoregressive) and self.strategy.length is not None:
            raise InvalidArgument("a stage has no length of its own; give it to the Cascade")


@dataclasses.dataclass(frozen=True)
class Cascade:
    """Stages on one row: an autoregressive one writes a condensed version, a non-autoregressive one refines it.

    Every unit of the condensed version is drawn in the knowledge of the others, which settles what the answer is; what
    is left to the second stage is nearly certain, and is drawn at once (HRT, 2310.09141). Several non-autoregressive
    stages may stand in the first one's place, and a stage that finds a shared imagination, too.

    Args:
        stages: one after another; what is unknown behind the last one is an error.
        length: as for `OneShot`.

    Raises:
        InvalidArgument: there is no stage.
        ArgumentTypeError: one is no `Stage`.

    Example:
        >>> import foretoken as ft
        >>> one_by_one = Masked(None, select=ft.rules.Order(range), count=1)
        >>> condensed = Cascade([Stage(every(4), one_by_one), Stage(rest)])
        >>> imagined = Cascade([Stage(first(1)), Stage(rest)])
    """

    stages: Sequence[Stage]
    length: Length = None
    fills: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", tuple(self.stages))
        if not 0 < len(self.stages) <= _MOST:
            raise InvalidArgument(f"a cascade takes 1 to {_MOST} stages, got {len(self.stages)}")
        if wrong := [stage for stage in self.stages if not isinstance(stage, Stage)]:
            raise ArgumentTypeError(f"a cascade takes Stages, got {wrong[0]!r}")
        check_length(self.length)

    def run(self, model: ParallelModel, request: Request) -> Iterator[Step]:
        """Yield one step a row and forward; see `Strategy.run`."""
        traced = any(isinstance(stage.strategy, Masked) and stage.strategy.remask for stage in self.stages)
        filling = Filling(model, request, self.length, traced=traced)
        for index, stage in enumerate(self.stages):
            among, noise = np.zeros_like(filling.found), index << 24
            for line, unknown in enumerate(filling.unknown()):
                if unknown.any():
                    among[line, stage.part(unknown.nonzero()[0])] = True
            if isinstance(stage.strategy, Autoregressive):
                yield from self._left_to_right(filling, stage.strategy, stage.model, among)
            elif isinstance(stage.strategy, Masked):
                yield from stage.strategy.fill(filling, among, stage.model, step=noise)
            else:
                yield from at_once(filling, among, stage.model, step=noise)
        if filling.unknown().any():
            raise InvalidArgument("the stages of this cascade leave positions unknown: let the last one take the rest")
        yield from filling.best()

    def _left_to_right(
        self, filling: Filling, strategy: Autoregressive, model: Any, among: np.ndarray
    ) -> Iterator[Step]:
        """A stage by a model that only looks back: it goes on from what each row knows."""
        request = filling.request
        if not isinstance(model, CausalModel):
            raise UnsupportedModel("an Autoregressive stage needs a causal model: Stage(part, Autoregressive(), model)")
        if filling.beam:
            raise InvalidArgument("an Autoregressive stage takes rows of one length: use Predicted(beam=1)")
        (lines,) = among.any(axis=1).nonzero()
        if not len(lines):
            return
        counts, starts = among[lines].sum(axis=1), among[lines].argmax(axis=1).tolist()
        for line, start, count in zip(lines, starts, counts, strict=True):
            if not among[line, start : start + count].all() or (filling.canvas[line, :start] == UNKNOWN).any():
                raise InvalidArgument(
                    f"an Autoregressive stage fills positions side by side behind known ones; row {line} has others"
                )
        own = dataclasses.replace(
            request,
            canvas=Canvas([filling.canvas[line, :start] for line, start in zip(lines, starts, strict=True)]),
            n=1,
            compiled=kernels.compile_sampler(request.sampler, vocab_size=model.vocab_size, end_tokens=[], min_tokens=0),
            seeds=request.seeds[lines],
            samples=request.samples[lines],
            limits=counts,
            min_tokens=0,
        )
        written = [0] * len(lines)
        for step in strategy.run(model, own):
            index = step.row
            for cut in (step.tokens, step.logprobs or [], step.top or []):
                del cut[counts[index] - written[index] :]
            place = starts[index] + written[index]
            written[index] += len(step.tokens)
            positions = list(range(place, place + len(step.tokens)))
            yield from filling.place([dataclasses.replace(step, row=int(lines[index]), positions=positions)])
            # That a row's part is full ends the stage for it, not the row.
            step.finish_reason = "length" if written[index] >= counts[index] else None
