"""Adapters: files of what was learnt, and painters that put it on and take it off."""

from __future__ import annotations

import itertools
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import foretoken as ft
from foretoken.errors import ArgumentTypeError, CheckpointError, InvalidArgument, LimitExceeded
from foretoken.painter.adapter import Adapter, checksum, rounded
from tests.painters import written

from .test_painter import pixels

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


def bits(model: ft.MaskedLlama) -> dict[str, bytes]:
    return {name: tensor.float().numpy().tobytes() for name, tensor in model.module.state_dict().items()}


def reader(paint: ft.Painter, text: str) -> ft.MaskedLlama:
    """What reads a text."""
    return paint.reader(paint.rows.rows([text], np.zeros(16, dtype=np.int64))[0])


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
def test_what_does_not_say_the_name_is_the_same_to_the_bit(folder: Path, dtype: torch.dtype) -> None:
    paint = ft.Painter.load(folder)
    paint.model = ft.MaskedLlama(folder, dtype=dtype)
    before, plain = bits(paint.model), pixels(paint("a woman walking left", seed=1))[0].tobytes()
    for name, seed in (("S*", 1), ("<t>", 2)):
        paint.add(adapter(ft.Painter.load(folder), name, seed, WEIGHT), 0.7)
    assert paint.learnt == ["<t>", "S*"]
    texts = ["a woman walking left", "a S* walking left", "a <t> walking left", "S* and <t>"]
    together = [each.tobytes() for each in pixels(paint(texts, seed=[1, 1, 1, 1]))]
    assert together[0] == plain
    assert len(set(together)) == 4
    assert [pixels(paint(text, seed=1))[0].tobytes() for text in texts] == together
    assert reader(paint, texts[0]) is paint.model
    assert bits(paint.model) == before
    changed = bits(reader(paint, "S*"))
    assert {name for name in before if before[name] != changed[name]} == {WEIGHT, "embed_tokens.weight"}
    stream = paint.stream("S*", seed=1)
    first = next(stream)
    paint.remove("S*")
    paint.remove("<t>")
    last = [first, *stream][-1].picture.pixels.tobytes()  # what was begun goes on as it was
    assert bits(paint.model) == before
    assert pixels(paint("a woman walking left", seed=1))[0].tobytes() == plain
    assert not paint.prompts.names
    paint.add(adapter(ft.Painter.load(folder), "S*", 1, WEIGHT), 0.7)
    assert pixels(paint("S*", seed=1))[0].tobytes() == last


def test_the_order_does_not_count(paint: ft.Painter) -> None:
    made = [
        adapter(paint, name, seed, WEIGHT, "layers.0.mlp.down_proj.weight") for seed, name in enumerate(("S*", "<t>"))
    ]
    found = set()
    for order in itertools.permutations(made):
        for each in order:
            paint.add(each, 0.3)
        own = bits(reader(paint, "S* and <t>"))
        own.pop("embed_tokens.weight")  # words lie where there was room
        picture = pixels(paint("S* and <t>", seed=3))[0]
        found.add((json.dumps({name: hash(kept) for name, kept in own.items()}), picture.tobytes()))
        paint.remove(order[0].name)  # and what was on before does not, either
        paint.add(order[0], 0.3)
        assert pixels(paint("S* and <t>", seed=3))[0].tobytes() == picture.tobytes()
        for each in order:
            paint.remove(each.name)
    assert len(found) == 1


def test_rows_of_one_batch_are_read_each_with_its_names(paint: ft.Painter) -> None:
    for seed, name in enumerate(("S*", "<t>")):
        paint.add(adapter(paint, name, seed, WEIGHT))
    canvas = paint.rows.rows(["S*", None, "<t>", "a S*"], np.full(16, -1))
    reading, lengths = paint._adapters.reading, np.full(4, canvas.shape[1])
    both = reading.predict(canvas, lengths)
    for line in range(4):
        alone = reading.predict(canvas[line : line + 1], lengths[:1])[0]
        assert torch.allclose(both[line][1:], alone[1:], atol=1e-4)
    assert not torch.allclose(both[0][13:], both[1][13:], atol=1e-2)


def test_scale_and_word(paint: ft.Painter) -> None:
    made = adapter(paint, "S*", 1, WEIGHT)
    own = dict(paint.model.module.named_parameters())
    paint.add(made, -2)
    changed = dict(reader(paint, "S*").module.named_parameters())
    assert torch.equal(changed[WEIGHT], own[WEIGHT] + -2.0 * made.change(WEIGHT))
    place = paint.model.config.units + paint.prompts.names["S*"]
    assert torch.equal(changed["embed_tokens.weight"][place], made.row)
    assert paint.prompts.pieces("a S*")[-1] == "S*"


def test_painters_with_adapters_can_be_copied(paint: ft.Painter) -> None:
    paint.add(adapter(paint, "S*", 1, WEIGHT))
    other = pickle.loads(pickle.dumps(paint))
    assert np.array_equal(pixels(other("S*", seed=1))[0], pixels(paint("S*", seed=1))[0])


def test_what_does_not_fit_is_refused(paint: ft.Painter, folder: Path, tmp_path: Path) -> None:
    made, before = adapter(paint, "S*", 1, WEIGHT), bits(paint.model)
    other = written(tmp_path / "other", latents=0)
    with pytest.raises(CheckpointError, match="belongs to the painter"):
        ft.Painter.load(other).add(made)
    with pytest.raises(ArgumentTypeError, match="path of its file"):
        paint.add(3)  # type: ignore[arg-type]
    for scale in (float("nan"), True, "1", 1e9):
        with pytest.raises(InvalidArgument, match="scale"):
            paint.add(made, scale)  # type: ignore[arg-type]
    narrow = Adapter("S*", "dog", made.row, {WEIGHT: (torch.ones(1, 2), torch.ones(3, 1))}, made.painter, {})
    huge = Adapter("S*", "dog", made.row, {WEIGHT: (torch.ones(1, 10**6), torch.ones(10**6, 1))}, made.painter, {})
    with pytest.raises(CheckpointError, match="not fit"):
        paint.add(huge)  # whose product would take 4 TB
    for number in (float("nan"), float("inf")):
        with pytest.raises(InvalidArgument, match="finite"):
            Adapter("S*", "dog", torch.full_like(made.row, number), {}, made.painter, {})
    for wrong in (narrow, Adapter("S*", "dog", torch.ones(3), {}, made.painter, {})):
        with pytest.raises(CheckpointError, match="not fit"):
            paint.add(wrong)
    with pytest.raises(InvalidArgument, match="there is no adapter"):
        paint.remove("S*")
    assert bits(paint.model) == before
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
        (said, {**tensors, "row": torch.full((16,), 1e300, dtype=torch.float64)}),
    ]
    for metadata, kept in wrong:
        save_file(kept, path, metadata=metadata)
        with pytest.raises(CheckpointError):
            Adapter.load(path)
