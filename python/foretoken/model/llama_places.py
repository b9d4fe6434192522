"""Where new units go in a cache, which positions they have, and what they may look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from .llama_session import LlamaSession


class LevelPlace:
    """Where new units go when all rows are equally long: one slice.

    Args:
        start: the first slot.
        width: how many units there are.
        turn: their rotation, (…, width, heads, head_dim/2) complex64.
        mask: which slots they may look at, (…, width · group, start + width), or None for all.
    """

    def __init__(self, start: int, width: int, turn: Tensor, mask: Tensor | None) -> None:
        self.start, self.end, self.turn, self.mask = start, start + width, turn, mask

    def write(self, cache: Tensor, kv: Tensor) -> tuple[Tensor, Tensor]:
        """Put keys and values (2, rows, K, width, D) into a block's cache; all keys and values there are."""
        filled = cache.narrow(3, 0, self.end)
        filled.narrow(3, self.start, self.end - self.start).copy_(kv)
        keys, values = filled.unbind(0)
        return keys, values


class RaggedPlace:
    """Where new units go when rows differ in length: an index per unit.

    Args:
        slots: (rows, width) int64.
        longest: how many slots may be looked at.
        turn: the rotation of each unit, (rows, width, heads, head_dim/2) complex64.
        mask: which slots each unit may look at, (rows, 1, width · group, longest).
    """

    def __init__(self, slots: Tensor, longest: int, turn: Tensor, mask: Tensor) -> None:
        self.slots, self.longest, self.turn, self.mask = slots, longest, turn, mask
        self.rows = torch.arange(len(slots), device=slots.device)[:, None]

    def write(self, cache: Tensor, kv: Tensor) -> tuple[Tensor, Tensor]:
        """As `LevelPlace.write`."""
        # Advanced indices around a slice put the indexed axes first: (rows, width, 2, K, D).
        cache[:, self.rows, :, self.slots] = kv.permute(1, 3, 0, 2, 4)
        return cache[0, :, :, : self.longest], cache[1, :, :, : self.longest]


def causal_place(session: LlamaSession, start: int | None, width: int, longest: int) -> LevelPlace | RaggedPlace:
    """The place of units that follow one another, all from the slot `start`, or each row from its own."""
    group = _group(session)
    if start is not None:
        # A single unit may look at everything there is, and needs no mask.
        end = start + width
        mask = None if width == 1 else session.causal[start * group : end * group, :end]
        return LevelPlace(start, width, session.turn[start:end], mask)
    slots, positions = _slots(session, np.arange(width)[None])
    index = (positions[:, :, None] * group + torch.arange(group, device=positions.device)).flatten(1)
    return RaggedPlace(slots, longest, session.turn[positions], session.causal[index, :longest][:, None])


def tree_place(session: LlamaSession, parents: np.ndarray) -> tuple[LevelPlace | RaggedPlace, np.ndarray]:
    """The place of trees, and the depth of each unit, (rows, width) int64: what lies before it in its row's tree.

    A unit may look at the row's text, at those that lead to it and at itself.
    """
    rows, width = parents.shape
    sees = np.zeros((rows, width, width), dtype=bool)
    for unit in range(width):
        (lines,) = (parents[:, unit] >= 0).nonzero()
        sees[lines, unit] = sees[lines, parents[lines, unit]]
        sees[:, unit, unit] = True
    depths = sees.sum(axis=2) - 1
    lengths = session.lengths
    longest = int(lengths.max()) + width
    shown = np.zeros((rows, width, longest), dtype=bool)
    for row, length in enumerate(lengths.tolist()):
        shown[row, :, :length] = True
        shown[row, :, length : length + width] = sees[row]
    level = longest <= session.slots and bool((lengths == lengths[0]).all())
    longest = min(longest, session.slots)
    mask = torch.from_numpy(shown[:, :, :longest].repeat(_group(session), axis=1)).to(session.turn.device)[:, None]
    slots, positions = _slots(session, np.arange(width)[None], depths)
    turn = session.turn[positions]
    if level:
        return LevelPlace(int(lengths[0]), width, turn, mask), depths
    return RaggedPlace(slots, longest, turn, mask), depths


def _group(session: LlamaSession) -> int:
    config = session.model.config
    return config.num_attention_heads // config.num_key_value_heads


def _slots(session: LlamaSession, order: np.ndarray, depths: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
    """Slots and positions of units, by their order and depth behind each row's text.

    Padding may reach beyond the capacity: it goes to the spare slot behind it, which no mask shows.
    """
    lengths = session.lengths[:, None]
    slots = np.minimum(lengths + order, session.slots)
    positions = np.minimum(lengths + (order if depths is None else depths), session.capacity - 1)
    slots, positions = (torch.from_numpy(part).to(session.turn.device) for part in (slots, positions))
    return slots, positions
