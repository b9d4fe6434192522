"""The operators are the kernels, pass PyTorch's own check of operators, and break no graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import foretoken as ft
from foretoken.errors import ForetokenError, InvalidArgument

SAMPLERS = [
    ft.Sampler(),
    ft.Sampler(temperature=0),
    ft.Sampler(temperature=0.7, top_k=5, top_p=0.9, min_p=0.01),
    ft.Sampler(logit_bias={3: 2.0, 1: -1.0}, allowed_tokens=(1, 3, 5), bad_words=((5,),), xtc_probability=0.5),
]
ROWS, PLACES, VOCABULARY = 3, 4, 11


def arguments(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    logits = (3 * torch.randn(ROWS, PLACES, VOCABULARY, generator=generator)).to(dtype)
    draft = torch.randint(0, VOCABULARY, (ROWS, PLACES - 1), generator=generator)
    return logits, draft, torch.arange(ROWS), 10 * torch.arange(ROWS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_operators_choose_what_the_kernels_choose(sampler: ft.Sampler, dtype: torch.dtype) -> None:
    logits, draft, seeds, positions = arguments(dtype)
    compiled = ft.kernels.compile_sampler(sampler, vocab_size=VOCABULARY)
    keys: dict[str, Any] = {"seeds": seeds, "positions": positions}
    chosen = ft.kernels.sample(logits[:, 0].contiguous(), compiled, **keys).tokens
    np.testing.assert_array_equal(ft.ops.sample(logits[:, 0], seeds, positions, ft.ops.key(sampler)), chosen)
    out = ft.kernels.verify(logits, draft, compiled, **keys)
    tokens, accepted = torch.ops.foretoken.verify(logits, draft, seeds, positions, ft.ops.key(sampler))
    np.testing.assert_array_equal(tokens, out.tokens)
    np.testing.assert_array_equal(accepted, out.accepted)


def test_pytorch_finds_nothing_wrong() -> None:
    logits, draft, seeds, positions = arguments()
    key = ft.ops.key(SAMPLERS[2])
    torch.library.opcheck(ft.ops.sample, (logits[:, 0], seeds, positions, key))
    torch.library.opcheck(ft.ops.verify, (logits, draft, seeds, positions, key))


def test_no_graph_breaks() -> None:
    logits, draft, seeds, positions = arguments()
    key = ft.ops.key(SAMPLERS[2])

    def step(weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scores = logits @ weights
        first = ft.ops.sample(scores[:, 0], seeds, positions, key)
        tokens, accepted = ft.ops.verify(scores, draft, seeds, positions, key)
        return tokens + first[:, None], accepted

    weights = torch.eye(VOCABULARY)
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    for ours, theirs in zip(compiled(weights), step(weights), strict=True):
        assert torch.equal(ours, theirs)


def test_equal_samplers_have_equal_keys() -> None:
    keys = [ft.ops.key(sampler) for sampler in SAMPLERS]
    assert len(set(keys)) == len(keys)
    assert ft.ops.key(ft.Sampler(logit_bias={1: -1.0, 3: 2.0})) == ft.ops.key(ft.Sampler(logit_bias={3: 2.0, 1: -1.0}))
    assert ft.ops.key(ft.Sampler()) == "{}"


@pytest.mark.parametrize(
    "fields",
    [
        {"repetition_penalty": 1.1}, {"presence_penalty": 0.1}, {"frequency_penalty": 0.1}, {"dry_multiplier": 1.0},
        {"mirostat_tau": 3.0}, {"bad_words": ((1, 2),)}, {"processor": lambda tokens, logits: logits},
    ],
)  # fmt: skip
def test_what_needs_the_past_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=r"before"):
        ft.ops.key(ft.Sampler(**fields))


def test_errors_keep_their_class() -> None:
    logits, draft, seeds, positions = arguments()
    with pytest.raises(ForetokenError, match="draft"):
        ft.ops.verify(logits, draft + VOCABULARY, seeds, positions, "{}")
    with pytest.raises(ForetokenError, match="NaN"):
        ft.ops.sample(torch.full((3, 4), torch.nan), seeds, positions, "{}")
