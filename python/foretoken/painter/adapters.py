"""Adapters on a painter: any number, in any order; each counts only where its name stands."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..codec.prompts import Prompts
from ..errors import ArgumentTypeError, CheckpointError, InvalidArgument, LimitExceeded
from ..model.masked import MaskedLlama, MaskedModule
from .adapter import Adapter, checked_name, checksum

_ROWS = "embed_tokens.weight"
_SIGNS = set("*<>#_@$%^+=~|{}[]\\")
"""What a name must have one of: no word that people write has any."""

_MOST = 8
"""Models that are kept, one for each set of names that stood in a row: the painter's has some 13 MB."""


class Worn(NamedTuple):
    """An adapter that is on.

    Args:
        adapter: it.
        scale: how much its changes of weights count.
        id: of its name, among all ids of the model.
    """

    adapter: Adapter
    scale: float
    id: int


class Named:
    """Reads each row with the adapters whose names stand in it; a row without any is read by the model itself.

    The weights of the model are never written to: a set of names has a copy of its own, whose changes are added up by
    name. So neither the order of adapters counts, nor what else is on, and a text that says no name means, to the last
    bit, what it meant before.

    Args:
        model: what reads rows without names.
        worn: adapters by name.
    """

    def __init__(self, model: MaskedLlama, worn: Mapping[str, Worn]) -> None:
        self.model, self.worn = model, dict(worn)
        self.vocab_size, self.context, self.end_tokens = model.vocab_size, model.context, model.end_tokens
        self._made: dict[tuple[str, ...], MaskedLlama] = {}

    def predict(self, canvas: np.ndarray, lengths: np.ndarray) -> Tensor:
        """Logits of every position; see `ParallelModel.predict`."""
        said = [self.names(row) for row in canvas]
        if len(set(said)) == 1:
            return self.reader(said[0]).predict(canvas, lengths)
        logits = torch.zeros(*canvas.shape, self.vocab_size)
        for names in sorted(set(said)):
            lines = [line for line, each in enumerate(said) if each == names]
            logits[lines] = self.reader(names).predict(canvas[lines], np.asarray(lengths)[lines])
        return logits

    def names(self, row: np.ndarray) -> tuple[str, ...]:
        """Those that stand in a row, sorted."""
        return tuple(sorted(name for name, worn in self.worn.items() if (row == worn.id).any()))

    def reader(self, names: tuple[str, ...]) -> MaskedLlama:
        """The model that reads rows with these names and no others."""
        if not names:
            return self.model
        if names not in self._made:
            made = dict(list(self._made.items())[-(_MOST - 1) :])
            made[names] = self._changed(names)
            self._made = made  # whoever reads in another thread has the old one
        return self._made[names]

    @torch.inference_mode(mode=False)
    @torch.no_grad()
    def _changed(self, names: tuple[str, ...]) -> MaskedLlama:
        made = MaskedLlama(self.model.module, dtype=self.model.module.embed_tokens.weight.dtype)
        weights = dict(made.module.named_parameters())
        own = {name: weight.float() for name, weight in weights.items()}
        for worn in (self.worn[name] for name in names):
            for name in worn.adapter.pairs:
                own[name] = own[name] + worn.scale * worn.adapter.change(name)
            own[_ROWS] = own[_ROWS].index_copy(0, torch.tensor([worn.id]), worn.adapter.row[None])
        for name, weight in weights.items():
            weight.copy_(own[name])
        return made


class Adapters:
    """What is put on a model, whose names join those that its prompts know.

    Args:
        model: whose weights stay as they are.
        prompts: whose names the adapters join.

    Attributes:
        reading: what reads rows with all that is on.
    """

    def __init__(self, model: MaskedLlama, prompts: Prompts) -> None:
        self._model, self._prompts = model, prompts
        self.reading = Named(model, {})

    @functools.cached_property
    def painter(self) -> str:
        """Checksum of the model's own weights, which never change; only adapters ask for it."""
        return checksum(self._model.module)

    @property
    def names(self) -> list[str]:
        """Of the adapters that are on."""
        return sorted(self.reading.worn)

    def add(self, adapter: Adapter | str | os.PathLike[str], scale: float = 1.0) -> Adapter:
        """Put an adapter on; see `Painter.add`."""
        if isinstance(adapter, (str, os.PathLike)):
            adapter = Adapter.load(adapter)
        if not isinstance(adapter, Adapter):
            raise ArgumentTypeError(f"an adapter is an Adapter or the path of its file, got {adapter!r}")
        if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not abs(scale) <= 100:
            raise InvalidArgument(f"scale must be a number in [-100, 100], got {scale!r}")
        refuse_taken(adapter.name, self._prompts)
        if adapter.painter != self.painter:
            raise CheckpointError(
                f"the adapter of {adapter.name!r} belongs to the painter {adapter.painter[:12]}, this one is "
                f"{self.painter[:12]}: learn it again from its pictures"
            )
        module = self._model.module
        weights = dict(module.named_parameters())
        for name in adapter.pairs:
            down, up = adapter.pairs[name]
            if name not in weights or weights[name].shape != (up.shape[0], down.shape[1]):
                raise CheckpointError(f"the adapter of {adapter.name!r} changes {name!r}, which does not fit")
        if adapter.row.shape != weights[_ROWS].shape[1:]:
            raise CheckpointError(f"the word of {adapter.name!r} has {adapter.row.numel()} numbers, which do not fit")
        spare = spare_id(module, self._prompts)
        worn = Worn(adapter, float(scale), module.config.units + spare)
        self.reading = Named(self._model, {**self.reading.worn, adapter.name: worn})
        self._prompts.names[adapter.name] = spare
        return adapter

    def remove(self, name: str) -> None:
        """Take an adapter off; see `Painter.remove`."""
        if name not in self.reading.worn:
            raise InvalidArgument(f"there is no adapter of {name!r}; there are {self.names}")
        del self._prompts.names[name]
        self.reading = Named(self._model, {each: worn for each, worn in self.reading.worn.items() if each != name})


def spare_id(module: MaskedModule, prompts: Prompts) -> int:
    """An id of the text part that no word has, the lowest.

    Raises:
        LimitExceeded: all have one.
    """
    last = module.config.first_latent - module.config.units
    taken = set(prompts.names.values())
    free = next((known for known in range(prompts.vocab_size, last) if known not in taken), None)
    if free is None:
        raise LimitExceeded(
            f"the painter has room for {last - prompts.vocab_size} names, all taken by {sorted(prompts.names)}: "
            "remove one first"
        )
    return free


def refuse_taken(name: str, prompts: Prompts) -> None:
    """Refuse a name that another adapter has, or that is a word or a part of one.

    Raises:
        InvalidArgument: it is.
    """
    checked_name(name)
    if name in prompts.names:
        raise InvalidArgument(f"the name {name!r} is taken: choose another one, or remove that adapter first")
    if not set(name) & _SIGNS:
        raise InvalidArgument(
            f"the name {name!r} may be a word like any other, or part of one: give it a sign, such as '{name}*'"
        )
    pieces = (prompts.tokenizer.decode([known]) for known in range(prompts.vocab_size))
    if word := next((piece.strip() for piece in pieces if name.lower() in piece.lower()), None):
        raise InvalidArgument(f"the name {name!r} is part of {word!r}, which the painter knows: choose another one")
