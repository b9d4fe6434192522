"""The recipe of rows of units: patterns of what is asked, that it learns, and that no break changes it."""

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
from foretoken.model.checkpoint import load_llama
from foretoken.model.masked import MaskedModule, load_masked
from foretoken.recipes import catalogue, conditions, masking
from foretoken.recipes import rows as kept
from foretoken.recipes.rows import Rows
from foretoken.recipes.units import Run, UnitsConfig
from foretoken.strategy.cascade import first, rest

FIELDS: dict[str, Any] = {
    "source": "toy", "codec": "", "causal": False, "latents": 0, "imagination": 0, "untold": 0.0, "start": "",
    "hidden_size": 16, "intermediate_size": 32, "layers": 2, "heads": 2, "batch": 8,
    "steps": (60,), "warmup": 2, "cooldown": 0.5, "rate": 0.02, "save_every": 10, "seed": 1,
}  # fmt: skip


BLOCK = "layers.0.mlp.up_proj.weight"


def toy(*, end: int = -1) -> Rows:
    """Condition 8 or 9; the body says 1 2 3 4 or 4 3 2 1, whatever the condition."""
    bodies = [np.array([1, 2, 3, 4]) if index % 2 else np.array([4, 3, 2, 1]) for index in range(40)]
    if end >= 0:
        bodies = [body[: 2 + index % 3] for index, body in enumerate(bodies)]
    return Rows([np.array([8 + index // 2 % 2]) for index in range(40)], bodies, 8, 11, end=end, untold=10)


def of_two() -> Rows:
    """The body says 1 2 1 2 or 4 3 4 3."""
    rows = toy()
    bodies = [np.array([1, 2, 1, 2]) if index % 2 else np.array([4, 3, 4, 3]) for index in range(40)]
    return dataclasses.replace(rows, bodies=bodies)


@pytest.fixture(autouse=True)
def source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(conditions.SOURCES, "toy", lambda data, codec, out: toy())
    monkeypatch.setitem(conditions.SOURCES, "toy of two", lambda data, codec, out: of_two())
    monkeypatch.setitem(conditions.SOURCES, "toy with ends", lambda data, codec, out: toy(end=0))


def run(out: Path, **changes: Any) -> Run:
    return Run(UnitsConfig(**{**FIELDS, **changes}), out, out / "run")


def trained(out: Path, **changes: Any) -> Path:
    made = run(out, **changes)
    made.train(lambda *_: None)
    made.export(out / "checkpoint")
    return out / "checkpoint"


def test_patterns_ask_for_what_decoding_will_ask() -> None:
    random = np.random.default_rng(0)
    seen = {"all": 0, "behind": 0, "between": 0, "other": 0}
    for _ in range(3000):
        asked = masking.unknown(random, 12)
        assert asked.any()
        places = np.arange(12)
        kinds = {
            "all": asked.all(), "behind": (asked == (places >= asked.argmax())).all(),
            "between": asked[places % masking.EVERY != 0].all(),
        }  # fmt: skip
        seen[next((kind for kind, matches in kinds.items() if matches), "other")] += 1
    assert min(seen.values()) > 100


def test_one_unit_is_asked_for_even_of_the_shortest_body() -> None:
    random = np.random.default_rng(0)
    assert all(masking.unknown(random, 1).tolist() == [True] for _ in range(200))


def test_a_masked_model_learns_that_answers_hang_together(tmp_path: Path) -> None:
    model = ft.MaskedLlama(trained(tmp_path, latents=2, hidden_size=32, steps=(600,), rate=0.003))
    right = {(1, 2, 3, 4), (4, 3, 2, 1)}

    def valid(strategy: Any, front: int) -> float:
        out = ft.generate(model, ft.Canvas([[front, 8, -1, -1, -1, -1]]), strategy, n=80, seed=3)
        return float(np.mean([tuple(row.units[2:].tolist()) in right for row in out.rows]))

    none = model.config.untold
    assert valid(ft.OneShot(), none) < 0.5
    assert valid(ft.Masked(None, select=ft.rules.EntropyBound(0.1)), none) > 0.9
    assert valid(ft.Cascade([ft.Stage(first(1)), ft.Stage(rest)]), -1) > 0.9


def test_a_vector_that_all_positions_know_is_an_imagination_too(tmp_path: Path) -> None:
    folder = trained(tmp_path, source="toy of two", latents=64, imagination=2, steps=(400,), rate=0.01, batch=32)
    model = ft.MaskedLlama(folder)
    imagined = ft.Cascade([ft.Stage(first(1)), ft.Stage(rest)])
    out = ft.generate(model, ft.Canvas([[-1, 8, -1, -1, -1, -1]]), imagined, n=120, seed=3)
    right = {(1, 2, 1, 2), (4, 3, 4, 3)}
    bodies = [tuple(row.units[2:].tolist()) for row in out.rows]
    assert np.mean([body in right for body in bodies]) > 0.7
    assert all(0.2 < bodies.count(body) / 120 for body in right)
    assert len({int(row.units[0]) for row in out.rows}) > 40


def test_a_causal_model_learns_the_same_rows_and_is_a_llama(tmp_path: Path) -> None:
    model = ft.Native(load_llama(trained(tmp_path, causal=True)))
    out = ft.generate(model, ft.Canvas([[8], [9]]), max_tokens=4, n=40, seed=2)
    assert np.mean([tuple(row.tokens.tolist()) in {(1, 2, 3, 4), (4, 3, 2, 1)} for row in out.rows]) > 0.9


def test_a_model_of_bodies_that_end_says_how_long_they_are(tmp_path: Path) -> None:
    model = ft.MaskedLlama(trained(tmp_path, source="toy with ends", steps=(120,)))
    law = model.predict_lengths(np.array([[8]]), np.array([1])).exp()[0]
    assert law[2:5].sum() > 0.9
    out = ft.generate(model, ft.Canvas([[8]]), ft.Masked(None, length=ft.UntilEnd(5)), n=50)
    assert np.mean([row.finish_reason == "end" and 3 <= len(row.tokens) <= 5 for row in out.rows]) > 0.8


@pytest.mark.parametrize(
    "changes", [{"latents": 2}, {"causal": True}, {"source": "toy with ends"}, {"latents": 8, "imagination": 2}]
)
def test_a_run_that_is_cut_goes_on_as_if_it_had_not_been(tmp_path: Path, changes: dict[str, Any]) -> None:
    whole = run(tmp_path / "a", steps=(14,), **changes)
    whole.train(lambda *_: None)

    def cut(step: int, last: int, loss: float) -> None:
        if step == 12:
            raise KeyboardInterrupt

    torn = run(tmp_path / "b", steps=(14,), **changes)
    with pytest.raises(KeyboardInterrupt):
        torn.train(cut)
    again = run(tmp_path / "b", steps=(14,), **changes)
    assert again.step == 10
    again.train(lambda *_: None)
    assert (tmp_path / "a/run/loss.jsonl").read_text() == (tmp_path / "b/run/loss.jsonl").read_text()
    for name, weight in whole.module.state_dict().items():
        assert torch.equal(weight, again.module.state_dict()[name])


def test_rows_come_back_from_their_file(tmp_path: Path) -> None:
    rows = toy(end=0)
    kept.save(rows, tmp_path / "train.npz")
    back = kept.read(tmp_path / "train.npz")
    for name in ("conditions", "bodies"):
        for one, other in zip(getattr(rows, name), getattr(back, name), strict=True):
            assert (one == other).all()
    assert dataclasses.astuple(back)[2:] == dataclasses.astuple(rows)[2:]


def test_shipped_configurations_are_whole() -> None:
    folder = Path(catalogue.__file__).parent / "configs"
    for name in ("emoji-masked", "emoji-ar", "tldr-masked", "tldr-ar"):
        config = UnitsConfig.from_file(folder / f"{name}.json")
        assert json.loads(config.as_json())["recipe"] == "units"


@pytest.mark.parametrize(
    "changes", [{"source": "nothing"}, {"causal": True, "latents": 2}, {"causal": 1}, {"untold": 1.5}, {"batch": 0}]
)
def test_refusals(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        UnitsConfig(**{**FIELDS, **changes})


def test_conditions_of_emoji() -> None:
    assert conditions.emoji_condition(1000, "blob", "").tolist() == [1000, 1010]
    with pytest.raises(InvalidArgument, match="style"):
        conditions.emoji_condition(1000, "cubist", "Flags")


def test_a_model_goes_on_from_another_that_met_the_same_units(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    folder = trained(tmp_path / "first", latents=2)
    other = load_masked(folder)
    module = run(tmp_path / "second", latents=2, source="toy of two", start="{out}/../first/checkpoint").module
    assert isinstance(module, MaskedModule)
    assert torch.equal(dict(module.named_parameters())[BLOCK], dict(other.named_parameters())[BLOCK])
    assert torch.equal(module.embed_places[-4:], other.embed_places[-4:])
    assert not torch.equal(module.embed_places[1], other.embed_places[1])  # conditions differ, and so do their places
    with pytest.raises(InvalidArgument, match="latents 2, not 0"):
        run(tmp_path / "third", start=str(folder))


def test_conditions_that_say_the_same_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = dataclasses.replace(toy(), conditions=[np.array([8, 9, 10])] * 40, variants=3, untold=-1)
    monkeypatch.setitem(conditions.SOURCES, "toy", lambda data, codec, out: rows)
    made, random = run(tmp_path), np.random.default_rng(0)
    told = {tuple(made._told(made.rows.conditions[0], random)) for _ in range(40)}
    assert told == {(8,), (9,), (10,)}
    assert isinstance(made.module, MaskedModule)
    assert made.module.config.context == 5
