"""The hub and the pipeline: names and folders in, texts out; what is not there or broken is said by name."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import foretoken as ft
from foretoken import hub
from foretoken.errors import ArgumentTypeError, CheckpointError, InvalidArgument, ShapeError, UnknownModel
from foretoken.model.checkpoint import save_llama
from tests.models import tiny_llama
from tests.unit.test_text import byte_level

SHIPPED = hub.names()


def write_folder(folder: Path, *, seed: int = 0, vocab_size: int = 330, layers: int = 2) -> Path:
    save_llama(tiny_llama(seed, vocab_size=vocab_size, layers=layers), folder)
    byte_level().save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "toy")


@pytest.mark.parametrize("kind", [str, Path, lambda path: f"{path}/", lambda path: path / ".." / path.name])
def test_a_folder_is_loaded(kind: Callable[[Path], Any], folder: Path) -> None:
    pipeline = ft.load(kind(folder))
    assert pipeline.name == "toy"
    assert repr(pipeline) == "Pipeline('toy', vocabulary 330, context 256)"
    assert (pipeline.model.vocab_size, pipeline.model.context, pipeline.model.end_tokens) == (330, 256, (0,))
    # The model may have more ids than the tokenizer; they have no text.
    assert pipeline.codec.vocab_size == 316
    out = pipeline("once upon", max_tokens=40, seed=1, end_tokens=())
    assert len(out.tokens) == 40
    assert out.signal == pipeline.codec.decode(out.tokens)
    assert out.tokens.max() > 316


@pytest.mark.parametrize(
    "name", ["", "tails", "../tales", "tales/../tales", "\0", "x" * 5000, "no/such/folder", "tales "]
)
def test_a_name_that_is_none_is_refused(name: str) -> None:
    for load in (ft.load, ft.path):
        with pytest.raises(UnknownModel) as caught:
            load(name)
        assert all(shipped in str(caught.value) for shipped in SHIPPED)
    with pytest.raises(LookupError):
        ft.small_model(name)


@pytest.mark.parametrize("name", [None, 5, ["tales"], object(), b"tales"])
def test_a_name_is_a_string_or_a_path(name: Any) -> None:
    for load in (ft.load, ft.small_model):
        with pytest.raises(ArgumentTypeError, match=type(name).__name__):
            load(name)


def test_a_file_is_no_folder(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="pass the folder"):
        ft.load(folder / "config.json")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_every_file_of_a_folder_is_needed_whole(name: str, folder: Path) -> None:
    whole = (folder / name).read_bytes()
    for part in (0, 3, 19):
        (folder / name).write_bytes(whole[: len(whole) * part // 20])
        with pytest.raises(CheckpointError) as caught:
            ft.load(folder)
        assert str(folder / name) in str(caught.value)
    (folder / name).unlink()
    with pytest.raises(CheckpointError) as caught:
        ft.load(folder)
    assert name in str(caught.value)
    assert str(folder) in str(caught.value)


def test_a_tokenizer_that_is_too_large_for_the_model_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "toy", vocab_size=315)
    with pytest.raises(ShapeError, match="316 ids, the model only 315") as caught:
        ft.load(folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(("far", "error"), [(10**6, ShapeError), (2**31, CheckpointError)])
def test_an_enormous_id_takes_no_memory(far: int, error: type[Exception], folder: Path) -> None:
    raw = json.loads((folder / "tokenizer.json").read_text())
    raw["model"]["vocab"]["far"] = far
    (folder / "tokenizer.json").write_text(json.dumps(raw))
    with pytest.raises(error, match=str(folder)):
        ft.load(folder)


def test_a_drafter_lies_beside_its_model(folder: Path) -> None:
    with pytest.raises(UnknownModel, match="toy-draft"):
        ft.small_model(folder)
    write_folder(folder.with_name("toy-draft"), layers=1)
    target = ft.load(folder)
    plain = target("once upon", max_tokens=30, seed=1)
    for name in (folder, str(folder), f"{folder}/", f"{folder}-draft"):
        drafter = ft.small_model(name)
        assert len(drafter.model.layers) == 1
        out = target("once upon", max_tokens=30, seed=1, strategy=ft.Autoregressive(drafter, length=3))
        assert out.signal == plain.signal
        assert out.stats.drafted


def test_a_folder_of_ones_own_comes_before_what_is_shipped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    shutil.copytree(folder, folder.with_name("tales"))
    assert ft.load("tales").model.vocab_size == 330


# What is shipped


def test_names_are_folders() -> None:
    assert "tales" in SHIPPED
    assert sorted(SHIPPED) == SHIPPED
    for name in SHIPPED:
        assert ft.path(name).name == name
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= {p.name for p in ft.path(name).iterdir()}


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_shipped_writes(name: str) -> None:
    pipeline = ft.load(name)
    assert pipeline.codec.vocab_size == pipeline.model.vocab_size
    (end,) = pipeline.model.end_tokens
    assert pipeline.codec.piece(end) == "<|endoftext|>"
    out = pipeline("The", max_tokens=24, sampler=ft.Sampler(temperature=0.7), seed=7)
    assert out.signal.isprintable() or "\n" in out.signal
    assert "�" not in out.signal
    assert len(out.signal) > 24


@pytest.mark.parametrize("name", [name for name in SHIPPED if name.endswith("-draft")])
def test_a_shipped_drafter_shares_its_targets_tokenizer(name: str) -> None:
    target = ft.path(name.removesuffix("-draft"))
    assert (ft.path(name) / "tokenizer.json").read_bytes() == (target / "tokenizer.json").read_bytes()
    assert ft.small_model(target.name).model.vocab_size == ft.load(target).model.vocab_size


def test_shipped_checkpoints_are_small() -> None:
    files = [path for path in ft.path("tales").parent.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 60e6
    assert not [path for path in files if path.suffix in {".bin", ".pt", ".pkl", ".part"}]


# Pipelines


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> ft.Pipeline:
    return ft.load(write_folder(tmp_path_factory.mktemp("hub") / "toy"))


@pytest.mark.parametrize(
    ("prompt", "error"),
    [
        ("", InvalidArgument),
        ([], InvalidArgument),
        (["a", ""], InvalidArgument),
        ("a\udc80", InvalidArgument),
        (None, ArgumentTypeError),
        (5, ArgumentTypeError),
        (b"once", ArgumentTypeError),
        ([5], ArgumentTypeError),
        ([["a"]], ArgumentTypeError),
        (np.array([1, 2]), ArgumentTypeError),
    ],
)
def test_what_is_no_prompt_is_refused(prompt: Any, error: type[Exception], toy: ft.Pipeline) -> None:
    with pytest.raises(error, match=r"prompt|row"):
        toy(prompt, max_tokens=3)
    with pytest.raises(error):
        toy.stream(prompt, max_tokens=3)
    with pytest.raises(error):
        toy.astream(prompt, max_tokens=3)


def test_a_list_of_texts_is_each_text(toy: ft.Pipeline) -> None:
    prompts = ["once upon a time", "日本", "x", "naïve café\n\n"]
    together = toy(prompts, max_tokens=20, seed=5)
    assert together.signal == [toy(prompt, max_tokens=20, seed=5).signal for prompt in prompts]
    assert isinstance(toy(prompts[0], max_tokens=2).signal, str)
    assert toy(tuple(prompts), max_tokens=20, seed=5).signal == together.signal
    assert toy((text for text in prompts), max_tokens=20, seed=5).signal == together.signal


def test_all_forms_write_the_same(toy: ft.Pipeline) -> None:
    options: dict[str, Any] = {"max_tokens": 20, "seed": 5, "n": 2, "stop": "e"}
    out = toy("once", **options)

    async def forms() -> list[str]:
        steps = [step async for step in toy.astream("once", **options)]
        whole = await toy.agenerate("once", **options)
        return [*whole.signal, "".join(step.text for step in steps if step.row == 0)]

    first, second, streamed = asyncio.run(forms())
    assert [first, second] == out.signal
    assert streamed == "".join(step.text for step in toy.stream("once", **options) if step.row == 0) == first
    strategy = ft.Autoregressive(ft.Suffix(minimum=1), length=4)
    assert toy("once", strategy=strategy, **options).signal == out.signal


def test_an_unknown_option_is_refused(toy: ft.Pipeline) -> None:
    with pytest.raises(TypeError, match="max_token"):
        toy("once", max_token=3)
    with pytest.raises(TypeError):
        toy("once", 3)  # type: ignore[misc]
