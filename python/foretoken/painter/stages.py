"""What can be learnt of a thing: its word, or small changes of the weights that understand it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InvalidArgument
from ..model.masked import MaskedModule


def _check(stage: Any) -> None:
    if type(stage.steps) is not int or not 1 <= stage.steps <= 100_000:
        raise InvalidArgument(f"steps must be an integer in [1, 100000], got {stage.steps!r}")
    if isinstance(stage.rate, bool) or not isinstance(stage.rate, (int, float)) or not 0 < stage.rate <= 1:
        raise InvalidArgument(f"rate must be in (0, 1], got {stage.rate!r}")


@dataclasses.dataclass(frozen=True)
class Inversion:
    """Learns the embedding of the name and nothing else (textual inversion, 2208.01618).

    Args:
        steps: how many, ≥ 1.
        rate: the largest learning rate of Adam, > 0.

    Raises:
        InvalidArgument: a number is out of range.
    """

    steps: int = 80
    rate: float = 0.02

    def __post_init__(self) -> None:
        _check(self)


@dataclasses.dataclass(frozen=True)
class LowRank:
    """Learns products of two thin matrices beside those of attention and feed-forward (LoRA, 2106.09685).

    Args:
        steps: how many, ≥ 1; with more, or at a higher rate, the four pictures of a character are soon learnt by heart,
            and the same character in other directions gets less probable again (2.41 nats a patch with 40, 2.49 with
            80, 2.81 with 160, 3.21 with 200 at a rate of 0.002).
        rate: the largest learning rate of Adam, > 0.
        rank: of the products, in [1, 64].

    Raises:
        InvalidArgument: a number is out of range.
    """

    steps: int = 40
    rate: float = 0.001
    rank: int = 8

    def __post_init__(self) -> None:
        _check(self)
        if type(self.rank) is not int or not 1 <= self.rank <= 64:
            raise InvalidArgument(f"rank must be an integer in [1, 64], got {self.rank!r}")


Stage = Inversion | LowRank

METHODS: dict[str, tuple[Stage, ...]] = {
    "inversion": (Inversion(),),
    "lora": (LowRank(),),
    "pivotal": (Inversion(), LowRank()),
}
"""Stages by the name of what they are together; "pivotal": first the word, then what reads it (2106.05744)."""


def stages_of(method: Any) -> tuple[Stage, ...]:
    """Stages by name, or given one by one.

    Raises:
        InvalidArgument: there is no such method.
    """
    found = METHODS.get(method) if isinstance(method, str) else method
    found = (found,) if isinstance(found, (Inversion, LowRank)) else found
    if not isinstance(found, (tuple, list)) or not found or not all(isinstance(e, (Inversion, LowRank)) for e in found):
        raise InvalidArgument(
            f"method is one of {[*METHODS]} or stages such as (Inversion(), LowRank()), got {method!r}"
        )
    if sum(isinstance(each, LowRank) for each in found) > 1:
        raise InvalidArgument("method has several LowRank stages: give one, with more steps")
    return tuple(found)


class Learner:
    """A frozen module with what is learnt beside it: weights stay as they are, to the bit.

    Args:
        module: of its own; not trained.
        known: the id of the name.
        row: (hidden,) what its embedding begins as.
        seed: of the first weights of the pairs.
    """

    def __init__(self, module: MaskedModule, known: int, row: Tensor, *, seed: int) -> None:
        self.module, self.known, self.seed = module.requires_grad_(False), known, seed
        self.row = row.clone().requires_grad_(True)
        self.pairs: dict[str, tuple[Tensor, Tensor]] = {}

    def weights(self, stage: Stage) -> list[Tensor]:
        """What a stage trains; pairs are made when they are first asked for, and change nothing at first."""
        if isinstance(stage, Inversion):
            return [self.row]
        generator = torch.Generator().manual_seed(self.seed)
        for name, layer in self._matrices():
            outputs, inputs = layer.weight.shape
            down = torch.randn(stage.rank, inputs, generator=generator) / inputs**0.5
            self.pairs[f"{name}.weight"] = (
                down.requires_grad_(True),
                torch.zeros(outputs, stage.rank, requires_grad=True),
            )
        return [weight for pair in self.pairs.values() for weight in pair]

    def _matrices(self) -> list[tuple[str, nn.Linear]]:
        found = ((name, layer) for name, layer in self.module.named_modules() if name.startswith("layers."))
        return [(name, layer) for name, layer in found if isinstance(layer, nn.Linear)]

    def states(self, ids: Tensor) -> Tensor:
        """Normed states of rows with what was learnt."""
        with self._worn():
            return self.module.hidden(ids)

    @contextlib.contextmanager
    def _worn(self) -> Iterator[None]:
        hooks = [self.module.embed_tokens.register_forward_hook(self._named)]
        for name, layer in self._matrices():
            if f"{name}.weight" in self.pairs:
                hooks.append(layer.register_forward_hook(_beside(*self.pairs[f"{name}.weight"])))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _named(self, layer: nn.Module, inputs: tuple[Tensor, ...], found: Tensor) -> Tensor:
        return torch.where((inputs[0] == self.known)[..., None], self.row, found)


def _beside(down: Tensor, up: Tensor) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    def hook(layer: nn.Module, inputs: tuple[Tensor, ...], found: Tensor) -> Tensor:
        return found + inputs[0] @ down.T @ up.T

    return hook
