"""The bench of thumbnails: it counts bits as they are, and judges every way on the same captions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benches import thumbnails
from foretoken.model.checkpoint import save_llama
from foretoken.model.llama import LlamaModule
from foretoken.model.llama_config import LlamaConfig
from foretoken.recipes.captions import NAMES, POSITIONS, TEXTS, Caption, Captioned
from foretoken.shipped import folder_of
from tests.unit.test_clip import toy as judge


@pytest.fixture
def module() -> LlamaModule:
    """Of thumbnails; what it says is flat."""
    config = LlamaConfig(
        vocab_size=256 + TEXTS + NAMES, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, head_dim=8, max_position_embeddings=POSITIONS + 256,
        rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=True, eos_token_id=(),
    )  # fmt: skip
    made = LlamaModule(config)
    torch.nn.init.zeros_(made.model.embed_tokens.weight)
    return made


def test_a_flat_law_takes_as_many_bits_as_there_are_ids(module: LlamaModule) -> None:
    told, bodies = np.full((3, POSITIONS), 300), np.random.default_rng(0).integers(0, 256, (3, 256))
    assert thumbnails.bits(module, told, bodies) == pytest.approx(np.log2(256 + TEXTS + NAMES), abs=1e-5)


def test_the_bits_are_those_of_the_body(module: LlamaModule) -> None:
    """An embedding that foretells itself: whatever repeats is cheap, wherever it stands."""
    generator = torch.Generator().manual_seed(0)
    torch.nn.init.normal_(module.model.embed_tokens.weight, std=4, generator=generator)
    for weight in module.model.layers.parameters():
        torch.nn.init.zeros_(weight)
    told, bodies = np.full((2, POSITIONS), 300), np.full((2, 256), 7)
    same = thumbnails.bits(module, told, bodies)
    bodies[:, 1::2] = 9
    assert same < 0.5 < 5 < thumbnails.bits(module, told, bodies)


def test_every_way_is_judged(
    module: LlamaModule, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def emoji(data: Path, *, held_out: bool = False) -> Captioned:
        assert held_out
        said = [Caption((thing,), "flat style") for thing in ("red heart", "blue house", "green tree")]
        return np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8), said

    monkeypatch.setattr(thumbnails, "KINDS", {"emoji": emoji})
    folder = tmp_path / "thumbnails"
    save_llama(module, folder, dtype=torch.float32)
    (folder / "tokenizer.json").write_bytes((folder_of("painter") / "tokenizer.json").read_bytes())
    arguments = [
        "--data",
        str(tmp_path),
        "--causal",
        str(folder),
        "--clip",
        str(judge(tmp_path / "judge", positions=64)),
    ]
    report = thumbnails.main([*arguments, "--count", "2", "--sheet", str(tmp_path / "sheet"), "--threads", "1"])
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])["results"]["emoji"]
    assert found == report.results["emoji"]
    ways = {name: each for name, each in found.items() if isinstance(each, dict) and "forwards" in each}
    assert [each["forwards"] for each in ways.values()] == [256, 8, 8]
    assert all(each["ms"] > 0 and np.isfinite(each["Fréchet"]) for each in ways.values())
    assert len(list((tmp_path / "sheet").glob("emoji-*.png"))) == 3
