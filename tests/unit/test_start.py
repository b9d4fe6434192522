"""A masked model that goes on from another: what is taken, and what does not fit."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from foretoken.errors import InvalidArgument
from foretoken.model.masked import MaskedConfig, MaskedModule
from foretoken.recipes import start

CONFIG = MaskedConfig(
    vocab_size=13, units=8, latents=2, imagination=0, lengths=0, end=-1, hidden_size=8, intermediate_size=16, layers=1,
    heads=2, context=7,
)  # fmt: skip
BODY = 4


def module(seed: int, **changes: int) -> MaskedModule:
    made = MaskedModule(dataclasses.replace(CONFIG, **changes))
    made.initialise(torch.Generator().manual_seed(seed))
    torch.nn.init.normal_(made.embed_places, generator=torch.Generator().manual_seed(seed))
    return made


def test_what_means_the_same_is_taken() -> None:
    own, other = module(0, vocab_size=20, context=9), module(1)
    before = own.embed_tokens.weight.detach().clone()
    start.take(own, other, BODY)
    assert torch.equal(own.embed_tokens.weight[:8], other.embed_tokens.weight[:8])
    assert torch.equal(own.embed_tokens.weight[8:17], before[8:17])  # words of its own
    assert torch.equal(own.embed_tokens.weight[17:], other.embed_tokens.weight[10:])
    assert torch.equal(own.embed_places[-BODY:], other.embed_places[-BODY:])
    assert torch.equal(own.embed_places[0], other.embed_places[0])
    assert torch.equal(own.layers[0].mlp.up_proj.weight, other.layers[0].mlp.up_proj.weight)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"layers": 2}, "layers 2, not 1"),
        ({"units": 7}, "units 7"),
        ({"context": 4}, "4 places"),
        ({"end": 3}, "end 3"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, int], match: str) -> None:
    own = module(0)
    before = {name: weight.clone() for name, weight in own.state_dict().items()}
    with pytest.raises(InvalidArgument, match=match):
        start.take(own, module(1, **changes), BODY)
    assert all(torch.equal(weight, before[name]) for name, weight in own.state_dict().items())
