"""Adapters on a painter: any number, in any order, and off again without a trace."""

from __future__ import annotations

import os
from typing import NamedTuple

import torch
from torch import Tensor

from ..codec.prompts import Prompts
from ..errors import ArgumentTypeError, CheckpointError, InvalidArgument, LimitExceeded
from ..model.masked import MaskedModule
from .adapter import Adapter, checked_name, checksum

_ROWS = "embed_tokens.weight"


class _Worn(NamedTuple):
    adapter: Adapter
    scale: float
    id: int


class Adapters:
    """What is put on a module beside its own weights, of which those that change are kept as they were.

    Weights are a function of which adapters are on and how strongly, not of the order of their coming or of what was
    on before: they are added up from the kept ones, by name.

    Args:
        module: whose weights change in place.
        prompts: whose names the adapters join.

    Attributes:
        painter: checksum of the module's own weights.
    """

    def __init__(self, module: MaskedModule, prompts: Prompts) -> None:
        self._module, self._prompts = module, prompts
        self._worn: dict[str, _Worn] = {}
        self._kept: dict[str, Tensor] = {}
        self.painter = checksum(module)

    @property
    def names(self) -> list[str]:
        """Of the adapters that are on."""
        return sorted(self._worn)

    def own(self) -> dict[str, Tensor]:
        """All weights as they are without adapters, by name; not to be written to."""
        return {**self._module.state_dict(), **self._kept}

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
        weights = dict(self._module.named_parameters())
        for name in adapter.pairs:
            if name not in weights or weights[name].shape != adapter.change(name).shape:
                raise CheckpointError(f"the adapter of {adapter.name!r} changes {name!r}, which does not fit")
        if adapter.row.shape != weights[_ROWS].shape[1:]:
            raise CheckpointError(f"the word of {adapter.name!r} has {adapter.row.numel()} numbers, which do not fit")
        spare = spare_id(self._module, self._prompts)
        self._worn[adapter.name] = _Worn(adapter, float(scale), spare)
        self._prompts.names[adapter.name] = spare
        self._renew({_ROWS, *adapter.pairs})
        return adapter

    def remove(self, name: str) -> None:
        """Take an adapter off; see `Painter.remove`."""
        if name not in self._worn:
            raise InvalidArgument(f"there is no adapter of {name!r}; there are {self.names}")
        worn = self._worn.pop(name)
        del self._prompts.names[name]
        self._renew({_ROWS, *worn.adapter.pairs})

    @torch.no_grad()
    def _renew(self, names: set[str]) -> None:
        """Make some weights anew from the kept ones."""
        weights = dict(self._module.named_parameters())
        for name in sorted(names):
            if name not in self._kept:
                self._kept[name] = weights[name].detach().clone()
            found = self._kept[name].float()
            for worn in (self._worn[each] for each in self.names):
                if name in worn.adapter.pairs:
                    found = found + worn.scale * worn.adapter.change(name)
                if name == _ROWS:
                    found = found.index_copy(
                        0, torch.tensor([self._module.config.units + worn.id]), worn.adapter.row[None]
                    )
            weights[name].copy_(found)
            if not any(name in worn.adapter.pairs or name == _ROWS for worn in self._worn.values()):
                del self._kept[name]


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
    if name.isalpha() or name.isnumeric():
        raise InvalidArgument(
            f"the name {name!r} is a word like any other, or part of one: give it a sign, such as '{name}*'"
        )
    pieces = (prompts.tokenizer.decode([known]) for known in range(prompts.vocab_size))
    if word := next((piece.strip() for piece in pieces if name.lower() in piece.lower()), None):
        raise InvalidArgument(f"the name {name!r} is part of {word!r}, which the painter knows: choose another one")
