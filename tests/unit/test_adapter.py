"""Adapters: files of what was learnt, and painters that put it on and take it off."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import foretoken as ft
from foretoken.errors import ArgumentTypeError, CheckpointError, InvalidArgument, LimitExceeded
from foretoken.painter.adapter import Adapter, checksum, rounded

from .test_painter import pixels, written

WEIGHT = "layers.1.mlp.up_proj.weight"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("painter") / "toy")


@pytest.fixture
def paint(folder: Path) -> ft.Painter:
    return ft.Painter.load(folder)


def adapter(paint: ft.Painter, name: str, seed: int, *weights: str) -> Adapter:
    """One with random numbers, of this painter."""
    generator = torch.Generator().manual_seed(seed)
    module = paint.model.module
    shapes = {weight: dict(module.named_parameters())[weight].shape for weight in weights}
    pairs = {
        weight: tuple(rounded(torch.randn(*size, generator=generator)) for size in ((3, inputs), (outputs, 3)))
        for weight, (outputs, inputs) in shapes.items()
    }
    row = rounded(torch.randn(module.config.hidden_size, generator=generator))
    return Adapter(name, "dog", row, pairs, painter=checksum(module), settings={"seed": seed})  # type: ignore[arg-type]


def bits(paint: ft.Painter) -> dict[str, bytes]:
    return {name: tensor.float().numpy().tobytes() for name, tensor in paint.model.module.state_dict().items()}


def test_a_file_keeps_every_bit(paint: ft.Painter, tmp_path: Path) -> None:
    made = adapter(paint, "S*", 1, WEIGHT, "layers.0.self_attn.q_proj.weight")
    made.save(tmp_path / "made.safetensors")
    read = Adapter.load(tmp_path / "made.safetensors")
    assert (read.name, read.class_word, read.painter, read.settings) == ("S*", "dog", made.painter, {"seed": 1})
    assert torch.equal(read.row, made.row)
    assert read.pairs.keys() == made.pairs.keys()
    assert all(torch.equal(read.change(weight), made.change(weight)) for weight in made.pairs)
    assert (tmp_path / "made.safetensors").stat().st_size < 3000


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_off_again_without_a_trace(folder: Path, dtype: torch.dtype) -> None:
    paint = ft.Painter.load(folder)
    paint.model = ft.MaskedLlama(folder, dtype=dtype)
    before, plain = bits(paint), pixels(paint("a woman walking left", seed=1))[0].tobytes()
    for name, seed in (("S*", 1), ("<t>", 2)):
        paint.add(adapter(ft.Painter.load(folder), name, seed, WEIGHT), 0.7)
    assert paint.learnt == ["<t>", "S*"]
    changed = bits(paint)
    assert {name for name in before if before[name] != changed[name]} == {WEIGHT, "embed_tokens.weight"}
    assert pixels(paint("a woman walking left", seed=1))[0].tobytes() != plain
    paint.remove("S*")
    paint.remove("<t>")
    assert bits(paint) == before
    assert pixels(paint("a woman walking left", seed=1))[0].tobytes() == plain
    assert not paint.prompts.names


def test_the_order_does_not_count(paint: ft.Painter) -> None:
    made = [
        adapter(paint, name, seed, WEIGHT, "layers.0.mlp.down_proj.weight") for seed, name in enumerate(("S*", "<t>"))
    ]
    found = set()
    for order in itertools.permutations(made):
        for each in order:
            paint.add(each, 0.3)
        own = bits(paint)
        own.pop("embed_tokens.weight")  # words lie where there was room
        picture = pixels(paint("S* and <t>", seed=3))[0]
        found.add((json.dumps({name: hash(kept) for name, kept in own.items()}), picture.tobytes()))
        paint.remove(order[0].name)  # and what was on before does not, either
        paint.add(order[0], 0.3)
        assert pixels(paint("S* and <t>", seed=3))[0].tobytes() == picture.tobytes()
        for each in order:
            paint.remove(each.name)
    assert len(found) == 1


def test_scale_and_word(paint: ft.Painter) -> None:
    made = adapter(paint, "S*", 1, WEIGHT)
    own = dict(paint.model.module.named_parameters())
    before = own[WEIGHT].detach().clone()
    paint.add(made, -2)
    assert torch.equal(own[WEIGHT], before + -2.0 * made.change(WEIGHT))
    place = paint.model.config.units + paint.prompts.names["S*"]
    assert torch.equal(own["embed_tokens.weight"][place], made.row)
    assert paint.prompts.pieces("a S*")[-1] == "S*"


def test_what_does_not_fit_is_refused(paint: ft.Painter, folder: Path, tmp_path: Path) -> None:
    made, before = adapter(paint, "S*", 1, WEIGHT), bits(paint)
    other = written(tmp_path / "other", latents=0)
    with pytest.raises(CheckpointError, match="belongs to the painter"):
        ft.Painter.load(other).add(made)
    with pytest.raises(ArgumentTypeError, match="path of its file"):
        paint.add(3)  # type: ignore[arg-type]
    for scale in (float("nan"), True, "1", 1e9):
        with pytest.raises(InvalidArgument, match="scale"):
            paint.add(made, scale)  # type: ignore[arg-type]
    narrow = Adapter("S*", "dog", made.row, {WEIGHT: (torch.ones(1, 2), torch.ones(3, 1))}, made.painter, {})
    for wrong in (narrow, Adapter("S*", "dog", torch.ones(3), {}, made.painter, {})):
        with pytest.raises(CheckpointError, match="not fit"):
            paint.add(wrong)
    with pytest.raises(InvalidArgument, match="there is no adapter"):
        paint.remove("S*")
    assert bits(paint) == before
    paint.add(made)
    with pytest.raises(InvalidArgument, match="taken"):
        paint.add(made)
    paint.add(Adapter("<2>", "dog", made.row, {}, made.painter, {}))
    with pytest.raises(LimitExceeded, match="room for 2 names"):
        paint.add(Adapter("<3>", "dog", made.row, {}, made.painter, {}))


def test_damaged_files_are_refused(paint: ft.Painter, tmp_path: Path) -> None:
    path = tmp_path / "made.safetensors"
    adapter(paint, "S*", 1, WEIGHT).save(path)
    whole, tensors = path.read_bytes(), load_file(path)
    with pytest.raises(CheckpointError, match="cannot read"):
        Adapter.load(tmp_path / "nowhere")
    for cut in (0, 7, 100, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(CheckpointError):
            paint.add(path)
    said = {
        "kind": "foretoken adapter",
        "version": "1",
        "name": "S*",
        "class_word": "dog",
        "painter": "",
        "settings": "{}",
    }
    wrong = [
        ({**said, "kind": "lora"}, tensors),
        ({**said, "version": "2"}, tensors),
        ({**said, "settings": "["}, tensors),
        ({**said, "settings": "[]"}, tensors),
        ({**said, "name": "two words"}, tensors),
        ({key: value for key, value in said.items() if key != "painter"}, tensors),
        (said, {name: tensor for name, tensor in tensors.items() if name != "row"}),
        (said, {name: tensor for name, tensor in tensors.items() if not name.endswith(".up")}),
        (said, {**tensors, "stray": torch.ones(2)}),
        (said, {**tensors, WEIGHT + ".up": torch.ones(4, 9)}),
        (said, {**tensors, "row": torch.full((16,), float("nan"))}),
    ]
    for metadata, kept in wrong:
        save_file(kept, path, metadata=metadata)
        with pytest.raises(CheckpointError):
            Adapter.load(path)
