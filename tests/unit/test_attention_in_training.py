"""Attention under autocast, row by row in bfloat16: the same as torch's kernel in float32, forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from foretoken.model.llama import Attention, rotary_tables
from foretoken.model.llama_config import LlamaConfig

CONFIG = LlamaConfig(
    vocab_size=8, hidden_size=32, intermediate_size=8, num_hidden_layers=1, num_attention_heads=4,
    num_key_value_heads=2, head_dim=8, max_position_embeddings=24, rms_norm_eps=1e-5, rope_theta=10000.0,
    tie_word_embeddings=True, eos_token_id=(),
)  # fmt: skip
ROWS, LENGTH = 3, 11
TOLERANCE = 0.02  # of values near 1: bfloat16 has 8 bits


def seen(*lengths: int) -> Tensor:
    """Which positions rows of some lengths show, (rows, 1, 1, positions)."""
    return (torch.arange(LENGTH) < torch.tensor(lengths)[:, None])[:, None, None]


SEES = {
    "causal": None,
    "all": torch.ones(1, 1, 1, LENGTH, dtype=torch.bool),
    "ragged": seen(LENGTH, 4, 7),
    "block": torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril(3)[None, None],
}


def outcome(sees: Tensor | None, *, halves: bool) -> list[Tensor]:
    """What comes out of the attention, and the gradients of its input and weights."""
    generator = torch.Generator().manual_seed(1)
    layer = Attention(CONFIG)
    with torch.no_grad():
        for weight in layer.parameters():
            weight.normal_(std=0.3, generator=generator)
    x = torch.randn(ROWS, LENGTH, 32, generator=generator).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=halves):
        y = layer(x, *rotary_tables(CONFIG, LENGTH), sees)
    pull = torch.randn(y.shape, generator=generator)
    (y.float() * pull).sum().backward()
    gradients = [weight.grad for weight in layer.parameters() if weight.grad is not None]
    assert x.grad is not None
    assert len(gradients) == 4
    return [y.float().detach(), x.grad, *gradients]


def apart(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """The largest difference, beside the size of what differs."""
    pairs = zip(ours, theirs, strict=True)
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


@pytest.mark.parametrize("name", SEES)
def test_halves_agree_with_the_kernel_of_torch(name: str) -> None:
    assert apart(outcome(SEES[name], halves=True), outcome(SEES[name], halves=False)) < TOLERANCE


@pytest.mark.parametrize("name", ["causal", "ragged", "block"])
def test_a_mask_that_is_forgotten_is_caught(name: str) -> None:
    assert apart(outcome(SEES["all"], halves=True), outcome(SEES[name], halves=False)) > 5 * TOLERANCE


def test_what_is_not_seen_changes_nothing() -> None:
    layer, sees = Attention(CONFIG), seen(LENGTH, 4, 7)
    x = torch.randn(ROWS, LENGTH, 32, generator=torch.Generator().manual_seed(2))
    other = torch.where(sees[:, 0, 0, :, None], x, torch.randn(x.shape))
    tables = rotary_tables(CONFIG, LENGTH)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        before, after = layer(x, *tables, sees), layer(other, *tables, sees)
    there = sees[:, 0, 0, :]
    assert torch.equal(before[there], after[there])
