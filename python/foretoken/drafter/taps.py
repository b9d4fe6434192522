"""The way by which a drafter sees what the target's layers made of the text."""

from __future__ import annotations

from torch import Tensor

KEPT = 128
"""Units of each row whose states are remembered; a drafter looks back no further."""


class Taps:
    """States of the last units of each row; the loop puts them in, drafters look at them.

    Args:
        layers: which of the target's layers are tapped.

    Example:
        >>> import torch
        >>> taps = Taps((2, 5))
        >>> taps.put(0, torch.zeros(3, 2, 8))
        >>> taps.put(0, torch.ones(2, 2, 8))
        >>> first, pieces = taps.since(0, 2)
        >>> first, [len(states) for states in pieces]
        (2, [1, 2])
    """

    def __init__(self, layers: tuple[int, ...]) -> None:
        self.layers = layers
        self._parts: dict[int, list[tuple[int, Tensor]]] = {}

    def put(self, row: int, states: Tensor) -> None:
        """Tell the states (n, layers, hidden) of the units by which a row has grown, those that stay."""
        parts = self._parts.setdefault(row, [])
        start = self.end(row)
        end = start + len(states)
        if len(states) > KEPT:
            start, states = end - KEPT, states[-KEPT:].clone()
        parts.append((start, states))
        while parts[0][0] + len(parts[0][1]) <= end - KEPT:
            del parts[0]

    def end(self, row: int) -> int:
        """How many units of a row were read."""
        parts = self._parts.get(row)
        return parts[-1][0] + len(parts[-1][1]) if parts else 0

    def since(self, row: int, unit: int) -> tuple[int, list[Tensor]]:
        """The states of a row's units from one on, in pieces, and the first unit that they are of.

        It is a later one than was asked for where that is forgotten.
        """
        pieces, first = [], self.end(row)
        for start, states in reversed(self._parts.get(row, [])):
            if start + len(states) <= unit:
                break
            first = max(start, unit)
            pieces.append(states[first - start :])
        return first, pieces[::-1]

    def stop(self, row: int) -> None:
        """Forget a row."""
        self._parts.pop(row, None)
