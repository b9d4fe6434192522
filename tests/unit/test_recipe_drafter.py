"""The drafter recipe: it learns what its target says, from text and from what the target writes, and can be cut."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import foretoken as ft
from foretoken.errors import InvalidArgument
from foretoken.model.checkpoint import save_llama
from foretoken.recipes import catalogue
from foretoken.recipes.corpus import split
from foretoken.recipes.drafter import DrafterConfig, Run
from foretoken.recipes.language import train_tokenizer
from tests.models import tiny_llama
from tests.unit.test_recipes import write_data

FIELDS: dict[str, Any] = {
    "recipe": "drafter", "target": "", "sources": ["stories"], "read": 3000, "written": 500, "taps": [0, 1],
    "layers": 1, "heads": 4, "kv_heads": 2, "intermediate_size": 32, "block": 4, "reach": 6, "rank": 8, "order": 2,
    "latents": 1, "window": 24, "batch": 4, "anchors": 12, "steps": [8], "warmup": 2, "cooldown": 0.5, "rate": 0.01,
    "save_every": 3, "seed": 1,
}  # fmt: skip
VOCABULARY = 300


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with toy data, and a toy target in `target`."""
    folder = write_data(tmp_path_factory.mktemp("home"))
    save_llama(tiny_llama(vocab_size=VOCABULARY), folder / "target")
    train_tokenizer(split(folder, ("stories",))[0], VOCABULARY).save(str(folder / "target" / "tokenizer.json"))
    return folder


def config(home: Path, **changes: Any) -> DrafterConfig:
    raw = FIELDS | {"target": str(home / "target")} | changes
    return DrafterConfig.from_raw(raw, Path("here"))


def train(home: Path, out: Path, **changes: Any) -> Run:
    run = Run(config(home, **changes), home, out)
    run.train(lambda *_: None)
    return run


@pytest.mark.parametrize("shape", [{}, {"layers": 0}, {"latents": 2}], ids=["block", "heads", "imaginations"])
def test_training_lowers_the_loss(home: Path, tmp_path: Path, shape: dict[str, Any]) -> None:
    run = train(home, tmp_path, steps=[60], **shape)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "loss.jsonl").read_text().splitlines()]
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])
    run.export(tmp_path / "checkpoint")
    drafter = ft.BlockDrafter(tmp_path / "checkpoint", chains=run.config.latents)
    assert (drafter.config.target, drafter.taps) == ("target", (0, 1))
    target = ft.load(home / "target", model=ft.Llama)
    keys = {"sampler": ft.Sampler(temperature=1), "seed": 3, "max_tokens": 60, "end_tokens": ()}
    prompt = ft.Canvas([run.tokens[:20].astype(np.int64)])
    plain = ft.generate(target.model, prompt, **keys)
    drafted = ft.generate(target.model, prompt, ft.Autoregressive(drafter, length=4), **keys)
    assert drafted.tokens.tolist() == plain.tokens.tolist()
    assert drafted.stats.accepted > 0


def test_a_run_that_was_cut_goes_on_as_if_it_had_not(home: Path, tmp_path: Path) -> None:
    whole = train(home, tmp_path / "whole")
    cut = Run(config(home), home, tmp_path / "cut")
    for _ in range(3):
        cut.advance()
    cut.save()
    cut.advance()
    again = train(home, tmp_path / "cut")
    assert again.step == whole.step == 8
    for name, weight in whole.module.named_parameters():
        assert torch.equal(again.module.get_parameter(name), weight), name


def test_the_text_is_followed_by_what_the_target_writes(home: Path, tmp_path: Path) -> None:
    run = Run(config(home), home, tmp_path / "both")
    alone = Run(config(home, written=0), home, tmp_path / "alone")
    read = len(alone.tokens)
    assert len(run.tokens) == read + 500
    np.testing.assert_array_equal(run.tokens[:read], alone.tokens)
    written = run.tokens[read:].astype(np.int64)
    assert written[0] == 0
    # Behind 24 tokens of the text the target goes on as it would by itself, at temperature 1 to begin with.
    opening = ft.Canvas([written[:25]])
    out = ft.generate(
        ft.Native(tiny_llama(vocab_size=VOCABULARY)), opening, sampler=ft.Sampler(), seed=0, max_tokens=40
    )
    assert out.tokens.tolist() == written[25 : 25 + len(out.tokens)].tolist()


def test_what_does_not_fit_is_refused(home: Path, tmp_path: Path) -> None:
    for change in ({"anchors": 20}, {"block": 0}, {"steps": []}, {"sources": [1]}):
        with pytest.raises((InvalidArgument, ft.errors.CheckpointError)):
            config(home, **change)
    with pytest.raises(InvalidArgument, match="layers"):
        Run(config(home, taps=[0, 2]), home, tmp_path)


def test_the_shipped_configurations_are_for_shipped_models() -> None:
    folder = Path(catalogue.__file__).parent / "configs"
    for name in ("tales", "manual"):
        shipped = DrafterConfig.from_file(folder / f"{name}-block.json")
        assert shipped.target == name
        language = json.loads((folder / f"{name}.json").read_text())
        assert list(shipped.sources) == language["sources"]
        assert max(shipped.taps) < language["layers"]
        assert dataclasses.asdict(shipped)["block"] <= 8
