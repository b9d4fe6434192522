"""The cache of a transformers model, and which of its slots each row may see."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InvalidArgument, LimitExceeded, ShapeError

if TYPE_CHECKING:
    from .huggingface import HuggingFace

# Packing copies the cache once, about what `DynamicLayer` does in every step; below this it does not pay.
_FEW_HOLES = 32


class HuggingFaceSession:
    """The cache of some rows: `_visible[row, slot]` says which of the cache's slots hold a unit of the row."""

    def __init__(self, model: HuggingFace, rows: int, capacity: int) -> None:
        self._owner, self._capacity = model, capacity
        room = capacity + capacity // 8 + 2 * _FEW_HOLES
        self._cache = _growing_cache(model.model.config, room)
        self._lengths = np.zeros(rows, dtype=np.int64)
        self._width = 0  # slots of the cache
        self._visible = np.zeros((rows, room), dtype=bool)

    @property
    def lengths(self) -> np.ndarray:
        """Units read by each row, (rows,) int64."""
        return self._lengths.copy()

    @torch.inference_mode()
    def forward(self, tokens: np.ndarray, counts: np.ndarray | None = None, *, last: bool = False) -> Tensor:
        """Read (rows, width) ids and predict what follows each; see `Session.forward`.

        Raises:
            ShapeError: the rows do not fit this session, or a count is not in [1, width].
            InvalidArgument: an id is outside the vocabulary.
            LimitExceeded: a row would grow beyond the session's capacity.
        """
        tokens, added = self._check(tokens, counts)
        longest = int(added.max())
        if last:
            tokens = tokens[:, :longest]
        if self._width - int(self._lengths.max()) > max(_FEW_HOLES, self._width // 8):
            self._pack()
        start, width, owner = self._width, tokens.shape[1], self._owner
        visible = self._show_new(width, added)
        arguments: dict[str, Any] = {owner._cache_name: self._cache}
        # Padding stands behind what counts, where causal attention does not look: only holes in the past need a mask.
        if bool((self._lengths == start).all()):
            if start + width > owner.context:
                arguments["position_ids"] = self._positions(width)
        else:
            arguments["attention_mask"] = torch.from_numpy(visible).to(owner.device)
            arguments["position_ids"] = self._positions(width)
        by_row = last and bool((added != longest).any())
        inverse = None
        if last and owner._keeps:
            if not by_row:
                arguments["logits_to_keep"] = 1
            elif owner._keeps_by_row:
                arguments["logits_to_keep"] = torch.from_numpy(added - 1).to(owner.device)[:, None]
            else:
                places, inverse = np.unique(added - 1, return_inverse=True)
                arguments["logits_to_keep"] = torch.from_numpy(places).to(owner.device)
        logits = owner.model(
            input_ids=torch.tensor(tokens, device=owner.device),
            use_cache=True,
            return_dict=True,
            **arguments,
        ).logits
        self._lengths = self._lengths + added
        self._cut(start + longest, have=start + width)
        if inverse is not None or (last and not owner._keeps):
            places = torch.from_numpy(added - 1 if inverse is None else inverse).to(logits.device)
            logits = logits[torch.arange(len(added), device=logits.device), places][:, None]
        return logits.float()

    def truncate(self, lengths: np.ndarray) -> None:
        """Forget, row by row, everything behind `lengths` (rows,) units."""
        lengths = np.asarray(lengths, dtype=np.int64)
        if lengths.shape != self._lengths.shape or (lengths < 0).any():
            raise ShapeError(f"truncate takes {len(self._lengths)} lengths ≥ 0, got {lengths.tolist()}")
        kept = np.minimum(self._lengths, lengths)
        surplus = self._lengths - kept
        most = int(surplus.max())
        if most == 0:
            return
        is_level = bool((self._lengths == self._width).all())
        self._lengths = kept
        if is_level and bool((surplus == most).all()):
            self._cut(self._width - most)
            return
        span = most
        while True:  # holes may lie between the units to forget
            start = max(0, self._width - span)
            tail = self._visible[:, start : self._width]
            from_here = tail[:, ::-1].cumsum(axis=1)[:, ::-1]  # the row's units in this slot and behind it
            if start == 0 or bool((from_here[:, 0] >= surplus).all()):
                break
            span *= 2
        tail &= from_here > surplus[:, None]
        self._cut(self._used())

    @torch.inference_mode()
    def select(self, rows: np.ndarray) -> None:
        """Keep these rows, in this order; a row may be named more than once."""
        rows = np.asarray(rows, dtype=np.int64)
        count = len(self._lengths)
        if rows.ndim != 1 or not len(rows) or rows.min() < 0 or rows.max() >= count:
            raise ShapeError(f"select takes rows in [0, {count}), at least one, got {rows.tolist()}")
        if len(rows) == count and bool((rows == np.arange(count)).all()):
            return
        index = torch.from_numpy(rows)
        for layer in self._cache.layers:
            layer.take_rows(index)
        self._lengths, self._visible = self._lengths[rows], self._visible[rows]
        self._cut(self._used())

    def _check(self, tokens: np.ndarray, counts: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """The ids with padding made harmless, and how many of them each row adds."""
        rows = len(self._lengths)
        if tokens.ndim != 2 or len(tokens) != rows or not tokens.shape[1]:
            raise ShapeError(f"tokens must be ({rows}, width ≥ 1), got {tokens.shape}")
        width = tokens.shape[1]
        if counts is None:
            added = np.full(rows, width, dtype=np.int64)
        else:
            added = np.asarray(counts, dtype=np.int64)
            if added.shape != (rows,) or added.min() < 1 or added.max() > width:
                raise ShapeError(f"counts must be {rows} numbers in [1, {width}], got {added.tolist()}")
            if added.min() < width:
                tokens = np.where(np.arange(width) < added[:, None], tokens, 0)
        low, high = tokens.min(), tokens.max()
        if low < 0 or high >= self._owner.vocab_size:  # on a GPU this would end the process
            raise InvalidArgument(f"ids in [{low}, {high}], the vocabulary is [0, {self._owner.vocab_size})")
        need = int((self._lengths + added).max())
        if need > self._capacity:
            raise LimitExceeded(f"{need} units do not fit the capacity of {self._capacity}")
        return tokens, added

    def _show_new(self, width: int, added: np.ndarray) -> np.ndarray:
        """Give each row its next `added` slots; returns what the rows may see, (rows, slots) bool."""
        end = self._width + width
        if end > self._visible.shape[1]:
            self._visible = np.pad(self._visible, ((0, 0), (0, end)))
        self._visible[:, self._width : end] = np.arange(width) < added[:, None]
        return self._visible[:, :end]

    def _positions(self, width: int) -> Tensor:
        positions = self._lengths[:, None] + np.arange(width)
        # Padding may reach beyond the context, where a learned position has no embedding.
        return torch.from_numpy(np.minimum(positions, self._owner.context - 1)).to(self._owner.device)

    def _used(self) -> int:
        """Number of slots up to the last one that a row still needs."""
        slots = np.flatnonzero(self._visible[:, : self._width].any(axis=0))
        return int(slots[-1]) + 1 if len(slots) else 0

    def _cut(self, width: int, have: int | None = None) -> None:
        if width != (self._width if have is None else have):
            for layer in self._cache.layers:
                layer.cut(width)
        self._width = width

    def _pack(self) -> None:
        """Move each row's units to the right end of as few slots as the longest row needs."""
        width = int(self._lengths.max())
        # A stable sort of the flags puts holes first and keeps the units in order.
        slots = np.argsort(self._visible[:, : self._width], axis=1, kind="stable")[:, self._width - width :]
        index = torch.from_numpy(np.ascontiguousarray(slots))
        for layer in self._cache.layers:
            layer.take_slots(index)
        self._visible[:, :width] = np.arange(width) >= width - self._lengths[:, None]
        self._width = width


@functools.cache
def _layer_class() -> type:
    from transformers.cache_utils import DynamicLayer

    class GrowingLayer(DynamicLayer):
        """A `DynamicLayer` that writes into spare room; the original copies all keys and values in every step."""

        def __init__(self, room: int) -> None:
            super().__init__()
            self._room = room  # slots the owner expects to need; more are made if they come
            self._width = 0

        def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
            start, end = self._width, self._width + key_states.shape[-2]
            if not self.is_initialized:
                self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True
                self._all_keys, self._all_values = self._spare(key_states, end), self._spare(value_states, end)
            elif end > self._all_keys.shape[-2]:
                self._all_keys, self._all_values = self._grown(self._all_keys, end), self._grown(self._all_values, end)
            self._all_keys[..., start:end, :] = key_states
            self._all_values[..., start:end, :] = value_states
            self._width = end
            self.keys, self.values = shown = self._all_keys[..., :end, :], self._all_values[..., :end, :]
            return shown

        def _spare(self, like: Tensor, end: int) -> Tensor:
            slots = max(end, min(self._room, end + end // 2 + 64))
            return like.new_empty((*like.shape[:-2], slots, like.shape[-1]))

        def _grown(self, old: Tensor, end: int) -> Tensor:
            new = self._spare(old, end)
            new[..., : self._width, :] = old[..., : self._width, :]
            return new

        def cut(self, width: int) -> None:
            if self.is_initialized:
                self._width = width
                self.keys, self.values = self._all_keys[..., :width, :], self._all_values[..., :width, :]

        def take_rows(self, rows: Tensor) -> None:
            if self.is_initialized:
                rows = rows.to(self.device)
                self._all_keys = self._all_keys.index_select(0, rows)
                self._all_values = self._all_values.index_select(0, rows)
                self.cut(self._width)

        def take_slots(self, slots: Tensor) -> None:  # (rows, new width)
            if self.is_initialized:
                slots, width = slots.to(self.device)[:, None, :, None], slots.shape[1]
                for kept in (self._all_keys, self._all_values):
                    kept[..., :width, :] = kept.gather(2, slots.expand(-1, kept.shape[1], -1, kept.shape[-1]))
                self.cut(width)

    return GrowingLayer


def _growing_cache(config: Any, room: int) -> Any:
    from transformers.cache_utils import DynamicCache

    cache = DynamicCache(config=config)
    cache.layers = [_layer_class()(room) for _ in cache.layers]
    return cache
