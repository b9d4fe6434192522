"""A strategy that somebody looks at while it works."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ..canvas import Step
from .protocol import Request, Strategy


class Watched:
    """A strategy that shows every step when it is complete, and else does what the one inside does.

    Args:
        strategy: what decides.
        show: called with each step, cut where its row ends and with its text.
    """

    def __init__(self, strategy: Strategy, show: Callable[[Step], None]) -> None:
        self.strategy, self.show = strategy, show
        self.fills = getattr(strategy, "fills", False)

    def run(self, model: Any, request: Request) -> Iterator[Step]:
        """Yield the steps of the strategy inside; see `Strategy.run`."""
        steps = self.strategy.run(model, request)
        try:
            for step in steps:
                yield step  # comes back cut, with its text
                self.show(step)
        finally:
            steps.close()  # type: ignore[attr-defined]
