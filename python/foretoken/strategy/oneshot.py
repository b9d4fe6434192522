"""All units at once: non-autoregressive generation (1711.02281)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar

from ..canvas import Step
from ..errors import ArgumentTypeError
from ..model.protocol import ParallelModel
from ..rules import Order
from .filling import Filling
from .lengths import Length, Predicted, UntilEnd
from .protocol import Request


@dataclasses.dataclass(frozen=True)
class OneShot:
    """Fills all unknown units from one forward, each as if it did not know of the others.

    What several answers fit, it mixes: each position draws its own (the multi-modality problem). A unit in front that
    is found first and that all others look at, a shared imagination, is one cure: see `Cascade`. `Masked` is another.

    Args:
        length: `Predicted()`, `UntilEnd(n)`, or None where the canvas has its unknown positions.

    Raises:
        ArgumentTypeError: `length` is none of them.

    Example:
        >>> from foretoken.model.masked import MaskedConfig, MaskedLlama, MaskedModule
        >>> config = MaskedConfig(vocab_size=9, units=8, latents=0, imagination=0, lengths=4, end=7, hidden_size=8,
        ...     intermediate_size=16, layers=1, heads=2, context=12)
        >>> import foretoken as ft
        >>> canvas = ft.Canvas([[8, -1, -1, 3, -1]])
        >>> out = ft.generate(MaskedLlama(MaskedModule(config)), canvas, OneShot(), seed=7)
        >>> len(out.tokens), out.stats.forwards
        (3, 1)
    """

    length: Length = None
    fills: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_length(self.length)

    def run(self, model: ParallelModel, request: Request) -> Iterator[Step]:
        """Yield one step a row; see `Strategy.run`."""
        filling = Filling(model, request, self.length)
        yield from at_once(filling)
        yield from filling.best()


def check_length(length: Any) -> None:
    """Refuse what says no length."""
    if length is not None and not isinstance(length, (Predicted, UntilEnd)):
        raise ArgumentTypeError(f"length must be Predicted(), UntilEnd(n) or None, got {length!r}")


def at_once(
    filling: Filling, among: Any = None, model: ParallelModel | None = None, *, step: int = 0
) -> Iterator[Step]:
    """Find all that is unknown, or the part `among` of it (lines, positions), in one forward."""
    among = filling.unknown() if among is None else among & filling.unknown()
    (lines,) = among.any(axis=1).nonzero()
    if len(lines):
        logits = filling.predict(lines, model)
        yield from filling.reveal(lines, logits, among, select=Order(range), count=among[lines].sum(axis=1), step=step)
