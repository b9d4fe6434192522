"""What drafters said about every row: a tree of tokens and the laws they were drawn from; and what they may not say."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import ArgumentTypeError, DraftError, ShapeError
from .noise import integers

TOLERANCE = 1e-6
"""How far a drafter's probabilities may sum from one."""


class Guesses:
    """The guesses of all rows, checked.

    Args:
        tokens: (rows, k) int64.
        lengths: (rows,) how many of them count; k unless given.
        parents: (rows, k) int64, the place of each guess's parent, before its own, or -1; a chain unless given.
        probs: (rows, k, vocabulary) float64, or (ids, probs) of some tokens (rows, k, m); certain unless given.
        rows, places, vocabulary: what they must fit.
        device: where the laws are wanted.

    Raises:
        DraftError: a token or a parent is out of its range, or probs are no law that could have drawn the tokens.
        ShapeError, ArgumentTypeError: an argument is not as above.
    """

    def __init__(
        self,
        tokens: Tensor | np.ndarray,
        lengths: Iterable[int] | None,
        parents: Tensor | np.ndarray | None,
        probs: Any,
        *,
        rows: int,
        places: int,
        vocabulary: int,
        device: torch.device,
    ) -> None:
        shape = (rows, places)
        self.vocabulary, self.device = vocabulary, device
        self.tokens: list[list[int]] = _tensor("draft", tokens, torch.int64, shape, device).tolist()
        self.lengths = [places] * rows if lengths is None else integers("lengths", lengths, rows)
        if parents is None:
            self.parents = [list(range(-1, places - 1)) for _ in range(rows)]
        else:
            self.parents = _tensor("parents", parents, torch.int64, shape, device).tolist()
        self.ids: Tensor | None = None
        if isinstance(probs, tuple):
            wide = (*shape, np.shape(probs[0])[-1] if np.ndim(probs[0]) == 3 else 0)
            self.ids = _tensor("ids of draft_probs", probs[0], torch.int64, wide, device)
            probs = _tensor("draft_probs", probs[1], torch.float64, wide, device)
        elif probs is not None:
            probs = _tensor("draft_probs", probs, torch.float64, (*shape, vocabulary), device)
        self.probs: Tensor | None = probs
        for row in range(rows):
            self._check(row, places)

    def after(self, row: int, parents: list[int]) -> list[int]:
        """The places of the guesses whose parent is one of these."""
        return [place for place in range(self.lengths[row]) if self.parents[row][place] in parents]

    def path(self, row: int, place: int) -> list[int]:
        """The places that lead to this one, itself included; none to -1."""
        return [] if place < 0 else [*self.path(row, self.parents[row][place]), place]

    def laws(self, rows: list[int], places: list[int]) -> Tensor:
        """What a guess of each of these rows was drawn from, (n, vocabulary) float64."""
        if self.probs is None:
            tokens = [self.tokens[row][place] for row, place in zip(rows, places, strict=True)]
            one_hot = torch.nn.functional.one_hot(torch.tensor(tokens, device=self.device), self.vocabulary)
            return one_hot.double()
        if self.ids is None:
            return self.probs[rows, places]
        ids = self.ids[rows, places]
        dense = torch.zeros(len(rows), self.vocabulary + 1, dtype=torch.float64, device=self.device)
        return dense.scatter(1, torch.where(ids < 0, self.vocabulary, ids), self.probs[rows, places])[:, :-1]

    def _check(self, row: int, places: int) -> None:
        length = self.lengths[row]
        if not 0 <= length <= places:
            raise DraftError(f"row {row} says it drafted {length} tokens: give a length in 0..={places}")
        for i, token in enumerate(self.tokens[row][:length]):
            if not 0 <= token < self.vocabulary:
                raise DraftError(f"row {row} has token {token} drafted in place {i}: give ids in 0..{self.vocabulary}")
            parent = self.parents[row][i]
            if not -1 <= parent < i:
                raise DraftError(f"row {row} has parent {parent} in place {i}: give an earlier place, or -1")
            if self.probs is not None:
                name = f"row {row}, place {i}"
                _check_probabilities(self.probs[row, i], name)
                if self.ids is not None:
                    _check_ids(self.ids[row, i].tolist(), self.vocabulary, name)
                _check_law(self.laws([row], [i])[0], token, name)


def _tensor(name: str, value: Any, dtype: torch.dtype, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Refuses what is not a contiguous tensor or array of this dtype and shape; brings it to the device."""
    tensor = torch.as_tensor(value) if isinstance(value, np.ndarray) else value
    if not isinstance(tensor, Tensor) or tensor.dtype != dtype or not tensor.is_contiguous():
        given = f"{tensor.dtype}, strides {tensor.stride()}" if isinstance(tensor, Tensor) else type(value).__name__
        raise ArgumentTypeError(f"{name} is {given}: give a contiguous tensor of {dtype}")
    if tensor.shape != shape:
        raise ShapeError(f"{name} has shape {tuple(tensor.shape)}, expected {shape}: pass one that fits the logits")
    return tensor.to(device)


def _check_probabilities(probs: Tensor, name: str) -> None:
    if not ((probs >= 0) & (probs <= 1)).all():  # NaN fails both
        raise DraftError(f"{name}: the drafter gives {probs.tolist()}, expected probabilities in [0, 1]")


def _check_ids(ids: list[int], vocabulary: int, name: str) -> None:
    named = [token for token in ids if token != -1]
    if not all(0 <= token < vocabulary for token in named):
        raise DraftError(f"{name}: the drafter's law names tokens {named}: give ids in 0..{vocabulary}, -1 as padding")
    if len(set(named)) < len(named):
        raise DraftError(f"{name}: the drafter's law names tokens {named}: give each once")


def _check_law(law: Tensor, drawn: int, name: str) -> None:
    if abs(float(law.sum()) - 1) > TOLERANCE:
        raise DraftError(f"{name}: the drafter's probabilities sum to {float(law.sum())}, expected 1 within 1e-6")
    if law[drawn] == 0:
        raise DraftError(f"{name}: the drafter drew token {drawn}, to which it gives probability 0")
