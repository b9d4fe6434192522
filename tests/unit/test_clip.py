"""The judge of pictures and texts: its arithmetic on towers that are known, its files, and weights of transformers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from tokenizers import processors
from torch.nn import functional as F

import foretoken as ft
from foretoken import shipped
from foretoken.cli import info
from foretoken.errors import (
    ArgumentTypeError,
    CheckpointError,
    InvalidArgument,
    LimitExceeded,
    ShapeError,
    UnknownModel,
)
from foretoken.evaluate.clip import Clip, area_under_curve
from foretoken.model.clip import ClipConfig, ClipModule, load_clip, save_clip
from tests.unit.test_text import byte_level

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "grey": (128, 128, 128)}


class Known:
    """Pictures are what their first pixel is, texts name colours; "any" is as near to each."""

    scale = 20.0

    def images(self, pictures: Sequence[np.ndarray]) -> torch.Tensor:
        return F.normalize(torch.from_numpy(np.stack([picture[0, 0] for picture in pictures])).float(), dim=1)

    def texts(self, texts: Sequence[str]) -> torch.Tensor:
        return F.normalize(torch.tensor([COLOURS.get(text, (1, 1, 1)) for text in texts]).float(), dim=1)


def plain(*names: str) -> np.ndarray:
    return np.stack([np.full((4, 4, 3), COLOURS[name], dtype=np.uint8) for name in names])


def toy(folder: Path, **changes: Any) -> Path:
    """A folder of a judge of 16 × 16 pixels and 12 ids a text, with random weights."""
    shape = {
        "vocab_size": 330, "positions": 12, "side": 16, "stem": (8, 16), "image_size": 16, "image_inner": 32,
        "image_layers": 1, "image_heads": 2, "text_size": 8, "text_inner": 16, "text_layers": 1, "text_heads": 2,
        "width": 6,
    }  # fmt: skip
    module = ClipModule(ClipConfig(**{**shape, **changes}))
    module.initialise(torch.Generator().manual_seed(3))
    save_clip(module, folder)
    byte_level().save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def judge(tmp_path: Path) -> Clip:
    return Clip(toy(tmp_path / "toy"))


def test_scores_are_cosines() -> None:
    found = Clip(Known()).score(plain("red", "red", "grey"), ["red", "green", "any"])
    np.testing.assert_allclose(found, [1, 0, 1], atol=1e-6)


def test_retrieval_counts_who_comes_first() -> None:
    judge, names = Clip(Known()), ["red", "green", "blue"]
    assert judge.retrieval(plain(*names), names, among=3) == 1
    assert judge.retrieval(plain("green", "red", "blue"), names, among=3) == pytest.approx(1 / 3)
    yellow = np.concatenate((np.full((1, 4, 4, 3), (200, 255, 0), np.uint8), plain("green", "blue")))
    assert judge.retrieval(yellow, names, among=3) == pytest.approx(2 / 3)
    # Against one of the others, what is more green than red is lost to that only.
    found = [judge.retrieval(yellow, names, among=2, seed=seed) for seed in range(60)]
    assert set(found) == {2 / 3, 1}
    assert 15 < found.count(1) < 45
    assert judge.retrieval(yellow, names, among=2, seed=5) == found[5]
    # A tie is no first place, and a text of two pictures is one candidate.
    assert judge.retrieval(plain("red", "red", "grey"), ["red", "red", "any"], among=2) == 1
    assert judge.retrieval(plain("grey", "grey"), ["any", "whatever"], among=2) == 0


def test_labels_are_probabilities() -> None:
    chances = Clip(Known()).labels(plain("red", "blue"), ["red", "blue", "any"])
    logits = 20 * np.array([[1, 0, 3**-0.5], [0, 1, 3**-0.5]])
    np.testing.assert_allclose(chances, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), rtol=1e-4)


def test_area_under_the_curve_is_the_share_of_pairs_in_order() -> None:
    random = np.random.default_rng(0)
    matched, mismatched = random.integers(0, 9, 40) / 8, random.integers(-3, 7, 70) / 8
    slow = np.mean([(one > other) + (one == other) / 2 for one in matched for other in mismatched])
    assert area_under_curve(matched, mismatched) == pytest.approx(slow, abs=1e-12)
    assert area_under_curve(mismatched, matched) == pytest.approx(1 - slow, abs=1e-12)
    with pytest.raises(InvalidArgument, match="0 mismatched"):
        area_under_curve(matched, np.array([]))


def test_vectors_have_length_one_and_depend_on_nothing_beside(judge: Clip) -> None:
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    texts = ["a red heart", "no", "flat style"]
    seen, said = judge.images(pictures), judge.texts(texts)
    assert (seen.dtype, seen.shape, said.shape) == (np.float32, (5, 6), (3, 6))
    for found in (seen, said):
        np.testing.assert_allclose(np.square(found).sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(judge.images(pictures[3:4])[0], seen[3], atol=1e-6)
    np.testing.assert_allclose(judge.texts(texts[1:2])[0], said[1], atol=1e-6)  # what pads a row counts for nothing
    assert np.abs(seen[0] - seen[1]).max() > 1e-4
    assert np.abs(said[0] - said[1]).max() > 1e-4


def test_pictures_of_other_sizes_and_modes_are_seen(judge: Clip, tmp_path: Path) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    larger = picture.repeat(2, axis=0).repeat(3, axis=1)
    grey = Image.fromarray(picture).convert("L")
    grey.resize((40, 20)).save(tmp_path / "grey.png")
    found = judge.images([picture, larger, grey, tmp_path / "grey.png", torch.from_numpy(picture)])
    assert found.shape == (5, 6)
    np.testing.assert_allclose(found[4], found[0], atol=1e-6)
    np.testing.assert_allclose(
        judge.images([np.repeat(np.asarray(grey)[..., None], 3, axis=2)])[0], found[2], atol=1e-6
    )
    assert found[1] @ found[0] > 0.9


def test_files_bring_the_judge_back(tmp_path: Path, judge: Clip) -> None:
    module = load_clip(tmp_path / "toy")
    state = torch.get_rng_state()
    save_clip(module, tmp_path / "small", dtype=torch.int8)
    shutil.copy(tmp_path / "toy/tokenizer.json", tmp_path / "small")
    rounded = Clip(tmp_path / "small")
    assert torch.equal(state, torch.get_rng_state())
    pictures = np.random.default_rng(2).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    assert (rounded.images(pictures) * judge.images(pictures)).sum(axis=1).min() > 0.999
    config = json.loads((tmp_path / "toy/config.json").read_text())
    assert config["model"] == "clip"
    (tmp_path / "toy/config.json").write_text(json.dumps({**config, "width": 7}))
    with pytest.raises(CheckpointError, match="does not fit"):
        Clip(tmp_path / "toy")
    (tmp_path / "toy/config.json").write_text(json.dumps({**config, "model": "masked"}))
    with pytest.raises(CheckpointError, match="expected 'clip'"):
        Clip(tmp_path / "toy")


def test_others_say_what_a_judge_is(tmp_path: Path, judge: Clip) -> None:
    with pytest.raises(CheckpointError, match=r"a judge of pictures and texts: ft\.evaluate\.Clip reads it"):
        ft.load(tmp_path / "toy")
    facts = info.model(tmp_path / "toy")
    assert (facts["model"], facts["vocabulary"]) == ("clip", 330)
    assert facts["parameters"] == sum(weight.numel() for weight in load_clip(tmp_path / "toy").parameters())


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda judge: judge.images([]), InvalidArgument, "no picture"),
        (lambda judge: judge.images("heart.png"), ArgumentTypeError, "several"),
        (lambda judge: judge.images(np.zeros((16, 16, 3), np.uint8)), ShapeError, "height, width, 3"),
        (lambda judge: judge.images(np.zeros((1, 16, 16, 3))), ArgumentTypeError, "uint8"),
        (lambda judge: judge.texts([]), InvalidArgument, "no text"),
        (lambda judge: judge.texts("red heart"), ArgumentTypeError, "several"),
        (lambda judge: judge.texts([" "]), InvalidArgument, "empty"),
        (lambda judge: judge.texts([None]), ArgumentTypeError, "string"),
        (lambda judge: judge.texts(["word " * 40]), LimitExceeded, "at most 12"),
        (lambda judge: judge.score(plain("red"), ["red", "blue"]), ShapeError, "1 pictures and 2 texts"),
        (lambda judge: judge.retrieval(plain("red"), ["red"], among=100), InvalidArgument, "1 different"),
        (lambda judge: judge.labels(plain("red"), ["red"]), InvalidArgument, "two or more"),
        (lambda judge: Clip("nothing"), UnknownModel, "nothing"),
    ],
)
def test_refusals(judge: Clip, call: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        call(judge)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"stem": (8, 12)}, "multiples"),
        ({"side": 18}, "halved"),
        ({"image_heads": 3}, "divide"),
        ({"width": 0}, "width"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        toy(tmp_path, **changes)


@pytest.mark.skipif("clip" not in shipped.names(), reason="the shipped judge is not there")
def test_the_shipped_judge_names_what_is_drawn_here() -> None:
    """Shapes that it was never shown, by words that it was."""
    drawn = {
        "red circle": ("ellipse", (221, 46, 68)), "green circle": ("ellipse", (120, 177, 89)),
        "blue circle": ("ellipse", (85, 172, 238)), "red square": ("rectangle", (221, 46, 68)),
        "blue square": ("rectangle", (85, 172, 238)),
    }  # fmt: skip
    pictures = []
    for shape, colour in drawn.values():
        pictures.append(Image.new("RGB", (64, 64), "white"))
        getattr(ImageDraw.Draw(pictures[-1]), shape)((6, 6, 58, 58), fill=colour)
    judge = Clip()
    assert judge.labels(pictures, list(drawn)).diagonal().min() > 0.8
    assert judge.score(pictures, list(drawn)).min() > 0.4
    assert judge.score(pictures, ["fish cake with swirl"] * 5).max() < 0.3


def huggingface(folder: Path, **preparation: Any) -> Any:
    """A tiny `CLIPModel` with random weights in a folder, and itself."""
    transformers = pytest.importorskip("transformers")
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        text_config={**shape, "vocab_size": 330, "max_position_embeddings": 24, "eos_token_id": 0, "bos_token_id": 1},
        vision_config={**shape, "image_size": 32, "patch_size": 8},
        projection_dim=12,
    )
    torch.manual_seed(0)
    model = transformers.CLIPModel(config).eval()
    with torch.no_grad():
        for weight in model.parameters():  # far enough from each other to tell texts apart
            weight.add_(torch.randn_like(weight) / 20)
    model.save_pretrained(folder)
    tokenizer = byte_level()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <end>", special_tokens=[("<end>", 0)])  # type: ignore[assignment]
    tokenizer.save(str(folder / "tokenizer.json"))
    if preparation:
        (folder / "preprocessor_config.json").write_text(json.dumps(preparation))
    return model


def test_weights_of_transformers_say_what_they_say_there(tmp_path: Path) -> None:
    model = huggingface(tmp_path)
    judge = Clip.from_transformers(tmp_path)
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 256, shape, dtype=np.uint8) for shape in ((32, 32, 3), (50, 41, 3), (33, 90, 3))]
    texts = ["a red heart", "no", "abab, flat style"]
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    pixels = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=32)(pictures, return_tensors="pt")
    rows = [judge.towers.codec.encode(text) for text in texts]  # type: ignore[attr-defined]
    assert all(row[-1] == 0 for row in rows)
    ids = torch.zeros(3, max(map(len, rows)), dtype=torch.int64)
    there = torch.zeros_like(ids)
    for line, row in enumerate(rows):
        ids[line, : len(row)], there[line, : len(row)] = torch.from_numpy(row), 1
    with torch.inference_mode():
        out = model(input_ids=ids, attention_mask=there, **pixels)
    np.testing.assert_allclose(judge.images(pictures), out.image_embeds.numpy(), atol=1e-5)
    np.testing.assert_allclose(judge.texts(texts), out.text_embeds.numpy(), atol=1e-5)
    np.testing.assert_allclose(
        judge.labels(pictures, texts), out.logits_per_image.softmax(dim=1).numpy(), rtol=1e-4, atol=1e-5
    )
    assert np.abs(np.diff(out.image_embeds.numpy(), axis=0)).max() > 1e-3
    assert np.abs(np.diff(out.text_embeds.numpy(), axis=0)).max() > 1e-3


def test_weights_of_transformers_that_are_none_are_refused(tmp_path: Path, judge: Clip) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(CheckpointError, match="model_type is None"):
        Clip.from_transformers(tmp_path / "toy")
    huggingface(tmp_path / "whole", crop_size=30)
    with pytest.raises(CheckpointError, match="crop_size 30"):
        Clip.from_transformers(tmp_path / "whole")
    for wrong, match in (({"rescale_factor": 0.5}, "rescale_factor"), ({"resample": [3]}, "resample \\[3\\]")):
        (tmp_path / "whole/preprocessor_config.json").write_text(json.dumps(wrong))
        with pytest.raises(CheckpointError, match=match):
            Clip.from_transformers(tmp_path / "whole")
    (tmp_path / "whole/preprocessor_config.json").unlink()
    for one in (judge, Clip.from_transformers(tmp_path / "whole")):
        with pytest.raises(ShapeError, match="no pixels"):
            one.images([np.zeros((0, 4, 3), dtype=np.uint8)])
    with pytest.raises(LimitExceeded, match="at most 24"):
        Clip.from_transformers(tmp_path / "whole").texts(["a" * 40])
    weights = tmp_path / "whole/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        Clip.from_transformers(tmp_path / "whole")
    weights.unlink()
    with pytest.raises(CheckpointError, match="missing"):
        Clip.from_transformers(tmp_path / "whole")
