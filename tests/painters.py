"""A painter of toy size: 16 × 16 pixels in 16 patches, with random weights."""

from __future__ import annotations

from pathlib import Path

import torch

import foretoken as ft
from foretoken.codec.prompts import Prompts
from foretoken.model.masked import MaskedConfig, MaskedModule, save_masked
from foretoken.recipes.language import train_tokenizer
from foretoken.weights import write_object
from tests.unit.test_patches import toy

TEXTS = ["red heart, flat style", "blue house, noto style", "a woman walking left"]
POSITIONS, NAMES = 12, 2


def tiny_painter(*, latents: int = 2) -> ft.Painter:
    """It knows the bytes and the words of `TEXTS`, and has room for two names."""
    codec, tokenizer = ft.Patches(toy()), train_tokenizer(TEXTS, 300)
    units, texts = codec.vocab_size, tokenizer.get_vocab_size()
    assert units is not None
    config = MaskedConfig(
        vocab_size=units + texts + NAMES + (latents + 1 if latents else 0), units=units, latents=latents,
        imagination=0, lengths=0, end=-1, hidden_size=16, intermediate_size=32, layers=2, heads=2,
        context=(latents > 0) + POSITIONS + 16,
    )  # fmt: skip
    module = MaskedModule(config)
    module.initialise(torch.Generator().manual_seed(0))
    for weight in module.parameters():
        weight.data.mul_(6)  # laws that are neither flat nor certain
    return ft.Painter(codec, ft.MaskedLlama(module), Prompts(tokenizer, positions=POSITIONS), name="toy")


def written(folder: Path, *, latents: int = 2) -> Path:
    """The same as a checkpoint folder."""
    painter = tiny_painter(latents=latents)
    painter.codec.save(folder / "codec")
    save_masked(painter.model.module, folder, dtype=torch.float32)
    painter.prompts.tokenizer.save(str(folder / "tokenizer.json"))
    write_object(folder / "painter.json", {"codec": str(folder / "codec"), "positions": POSITIONS})
    return folder
