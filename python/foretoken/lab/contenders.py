"""Who takes part: autoregressive, all at once, and every cure, as strategies."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from ..rules import EntropyBound, MaxProbability, Order, SampledConfidence
from ..sampler import Sampler
from ..strategy.autoregressive import Autoregressive
from ..strategy.cascade import Cascade, Stage, every, first, rest
from ..strategy.lengths import Length
from ..strategy.masked import Masked
from ..strategy.oneshot import OneShot

CONDENSED = 4
"""Of a condensed version: every so manieth unit."""


@dataclasses.dataclass(frozen=True)
class Contender:
    """A way to answer.

    Args:
        name: for tables.
        strategy: how.
        sampler: how choices are made.
        causal: whether it runs the model that looks back.
        shared: whether rows begin with a shared imagination.
        cure: whether it is one of the cures, of which something is asked; the others are yardsticks.
    """

    name: str
    strategy: Any
    sampler: Sampler = dataclasses.field(default_factory=Sampler)
    causal: bool = False
    shared: bool = False
    cure: bool = False


def one_by_one() -> Masked:
    """One position after another, from left to right, by a model that looks both ways."""
    return Masked(None, select=Order(range), count=1)


def contenders(
    *, bound: float, length: Length = None, shared: bool = True, temperature: float = 1.0
) -> list[Contender]:
    """All of them, the yardsticks first.

    Args:
        bound: nats of the steps by entropy.
        length: how long answers of the non-autoregressive ones are, as for `OneShot`.
        shared: whether there is a shared imagination.
        temperature: of all draws; "argmax" has none.

    Example:
        >>> [each.name for each in contenders(bound=0.1)][:3]
        ['autoregressive', 'one shot, argmax', 'one shot, sampled']
    """
    found = [
        Contender("autoregressive", Autoregressive(), causal=True),
        Contender("one shot, argmax", OneShot(length), Sampler(temperature=0)),
        Contender("one shot, sampled", OneShot(length)),
        Contender(
            "8 steps, sampled confidence", Masked(8, select=SampledConfidence(), length=length)
        ),
        Contender(
            "sampled confidence ≥ 0.8", Masked(None, select=SampledConfidence(threshold=0.8), length=length)
        ),
    ]  # fmt: skip
    if shared:
        imagined = Cascade([Stage(first(1)), Stage(rest)], length)
        found.append(Contender("shared z, one shot", imagined, shared=True, cure=True))
    ordered = Cascade([Stage(every(CONDENSED), one_by_one()), Stage(rest)], length)
    staged = Cascade([Stage(every(CONDENSED), Masked(None, select=EntropyBound(bound))), Stage(rest)], length)
    found += [
        Contender(f"every {CONDENSED}th AR, rest NAR", ordered, cure=True),
        Contender(f"every {CONDENSED}th NAR in steps, rest NAR", staged, cure=True),
        Contender(f"steps by entropy ≤ {bound:g}", Masked(None, select=EntropyBound(bound), length=length), cure=True),
        Contender("largest probability ≥ 0.8", Masked(None, select=MaxProbability(0.8), length=length), cure=True),
        Contender("8 steps, lowest entropy", Masked(8, length=length), cure=True),
    ]
    return warmed(found, temperature)


def warmed(ways: Sequence[Contender], temperature: float) -> list[Contender]:
    """The same, drawing at a temperature, but for those that draw nothing."""
    sampler = Sampler(temperature=temperature)
    return [way if way.sampler.is_greedy else dataclasses.replace(way, sampler=sampler) for way in ways]
