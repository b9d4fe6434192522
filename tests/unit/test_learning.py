"""Learning a name from pictures: what changes and what does not, and what is refused."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import foretoken as ft
from foretoken.errors import ArgumentTypeError, ForetokenError, InvalidArgument, LimitExceeded
from foretoken.painter import learning, shown
from foretoken.painter.learning import Learned
from foretoken.painter.stages import Inversion, LowRank
from tests.painters import written

from .test_adapter import bits, reader
from .test_painter import pixels

STAGES: dict[str, Any] = {
    "inversion": Inversion(steps=40, rate=0.5),
    "lora": LowRank(steps=30, rate=0.02, rank=2),
    "pivotal": (Inversion(steps=20, rate=0.1), LowRank(steps=20, rate=0.02, rank=2)),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("painter") / "toy")


@pytest.fixture
def paint(folder: Path) -> ft.Painter:
    return ft.Painter.load(folder)


def images(count: int = 2) -> list[np.ndarray]:
    """Plain squares on white, each at a place of its own."""
    made = np.full((count, 16, 16, 3), 255, dtype=np.uint8)
    for place, picture in enumerate(made):
        picture[4 : 8 + place, 4:12] = (200, 30, 40)
    return list(made)


@pytest.mark.parametrize("method", STAGES)
def test_learning_lowers_the_loss_and_leaves_the_painter_alone(paint: ft.Painter, method: str) -> None:
    before, seen, random = bits(paint.model), [], torch.get_rng_state()
    adapter = paint.learn("S*", images(), class_word="woman", method=STAGES[method], progress=seen.append)
    assert bits(paint.model) == before
    assert torch.equal(torch.get_rng_state(), random)
    assert not paint.prompts.names
    losses = [each.loss for each in seen]
    assert np.mean(losses[-8:]) < 0.98 * np.mean(losses[:8])
    assert (seen[-1].step, seen[-1].steps) == (len(seen), len(seen))
    assert bool(adapter.pairs) == (method != "inversion")
    paint.add(adapter)
    changed = bits(reader(paint, "S*"))
    moved = {name for name in before if before[name] != changed[name]}
    assert moved == {"embed_tokens.weight", *adapter.pairs}
    assert len(adapter.pairs) == (0 if method == "inversion" else 14)
    paint.remove("S*")
    assert bits(paint.model) == before


def test_inversion_changes_one_row_and_no_other_text(paint: ft.Painter) -> None:
    before, plain = paint.model.module.embed_tokens.weight, pixels(paint("a woman walking left", seed=1))[0]
    paint.add(paint.learn("S*", images(), class_word="woman", method=STAGES["inversion"]))
    found = reader(paint, "S*").module.embed_tokens.weight
    (rows,) = (found != before).any(dim=1).nonzero(as_tuple=True)
    assert rows.tolist() == [paint.model.config.units + paint.prompts.names["S*"]]
    assert np.array_equal(pixels(paint("a woman walking left", seed=1))[0], plain)
    assert not np.array_equal(pixels(paint("a S* walking left", seed=1))[0], plain)


def test_learning_is_a_function_of_the_seed_and_not_of_what_is_on(paint: ft.Painter) -> None:
    def learnt(seed: int) -> list[bytes]:
        made = paint.learn("S*", images(), class_word="woman", method=STAGES["pivotal"], seed=seed)
        return [made.row.numpy().tobytes(), *(made.change(name).numpy().tobytes() for name in sorted(made.pairs))]

    first = learnt(3)
    paint.add(paint.learn("<other>", images(1), class_word="house", method=STAGES["lora"]))
    assert learnt(3) == first
    assert learnt(4) != first


def test_prior_preservation_keeps_what_other_words_mean_beside_the_name(paint: ft.Painter) -> None:
    method = LowRank(steps=40, rate=0.03, rank=2)

    def moved(prior: float) -> float:
        before = logits(paint, paint.model)
        paint.add(paint.learn("S*", images(), class_word="woman", method=method, prior=prior))
        after = logits(paint, reader(paint, "S*"))
        paint.remove("S*")
        return float((after - before).square().mean())

    assert moved(3.0) < 0.5 * moved(0.0)


def logits(paint: ft.Painter, model: ft.MaskedLlama) -> torch.Tensor:
    canvas = paint.rows.rows(["a woman", "woman"], np.full(16, -1))
    found = model.predict(canvas, np.full(2, canvas.shape[1]))
    return found[:, paint.rows.body :, : paint.rows.units].log_softmax(dim=-1)


def test_images_of_any_kind(paint: ft.Painter, tmp_path: Path) -> None:
    picture = Image.fromarray(images()[0])
    for mode in ("RGB", "RGBA", "L", "P", "CMYK", "1"):
        picture.convert(mode).resize((40, 23)).save(tmp_path / f"{mode}.{'jpg' if mode == 'CMYK' else 'png'}")
    files = sorted(tmp_path.iterdir())
    given = [*files, picture, np.zeros((5, 90), dtype=np.uint8), np.zeros((1, 1, 4), dtype=np.uint8)]
    assert shown.pictures(given, (16, 16)).shape == (9, 16, 16, 3)
    paint.learn("S*", given, class_word="woman", method=Inversion(steps=1))


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        ([], InvalidArgument, "no images"),
        (images(1) * 100, LimitExceeded, "more than 32 images"),
        (images(1)[0][None][:0], InvalidArgument, "no images"),
        (images(1)[0], ForetokenError, "images have shape"),
        (itertools.repeat(images(1)[0]), LimitExceeded, "more than 32 images"),
        ("picture.png", ArgumentTypeError, "put it in a list"),
        (None, ArgumentTypeError, "several pictures"),
        (["nowhere.png"], InvalidArgument, "image 0: cannot read"),
        ([*images(1), 3], ArgumentTypeError, "image 1: a picture is a int"),
        ([np.zeros((4, 4))], ArgumentTypeError, "image 0.*float64"),
        ([np.zeros((0, 4, 3), dtype=np.uint8)], ForetokenError, "image 0.*no pixels"),
    ],
)
def test_no_images_or_broken_ones_are_refused(paint: ft.Painter, given: Any, error: Any, match: str) -> None:
    with pytest.raises(error, match=match):
        paint.learn("S*", given, class_word="woman", method=Inversion(steps=1))


def test_pictures_that_pillow_has_not_read_yet_are_checked_as_files_are(paint: ft.Painter, tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with Image.open(path) as lazy, pytest.raises(InvalidArgument, match="image 0: cannot read the picture"):
        paint.learn("S*", [lazy], class_word="woman", method=Inversion(steps=1))
    with pytest.raises(LimitExceeded, match="more than 67108864 pixels"):
        paint.learn("S*", [Image.new("1", (2**14, 2**14))], class_word="woman", method=Inversion(steps=1))
    Image.new("RGB", (4, 4)).save(tmp_path / "page.eps")
    with pytest.raises(InvalidArgument, match="cannot read"):
        paint.learn("S*", [tmp_path / "page.eps"], class_word="woman", method=Inversion(steps=1))


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("", "1 to 64 characters"),
        ("S *", "without white space"),
        ("S\n*", "white space"),
        ("\x00*", "white space"),
        (7, "1 to 64 characters"),
        ("x" * 65 + "*", "1 to 64 characters"),
        ("woman", "a word like any other"),
        ("t-shirt", "a word like any other"),
        ("3d", "a word like any other"),
        ("n,", "a word like any other"),
        ("o'clock", "a word like any other"),
        ("sks", "a word like any other"),
        ("2017", "a word like any other"),
        (",", "a word like any other"),
        ("*", "part of"),
    ],
)
def test_names_that_are_words_are_refused(paint: ft.Painter, name: Any, match: str) -> None:
    with pytest.raises(InvalidArgument, match=match):
        paint.learn(name, images(), class_word="woman", method=Inversion(steps=1))


def test_other_arguments_are_checked(paint: ft.Painter) -> None:
    def learn(**options: Any) -> None:
        paint.learn("S*", images(), **{"class_word": "woman", "method": Inversion(steps=1), **options})

    learn(captions=["S* walking left", "a S*"], others=["blue house"])
    for options, match in (
        ({"class_word": " "}, "class_word"),
        ({"class_word": "S* woman"}, "class_word"),
        ({"method": "dreambooth"}, "method is one of"),
        ({"method": ()}, "method is one of"),
        ({"method": [LowRank(), LowRank()]}, "several"),
        ({"captions": ["a S*"]}, "2 images have 1 captions"),
        ({"captions": ["a S*", "a woman"]}, "caption 1.*must say 'S\\*'"),
        ({"captions": ["a S*", 3]}, "caption 1 must be a text"),
        ({"captions": "a S*"}, "a text for each"),
        ({"others": "a"}, "several texts"),
        ({"others": ["a S* house"]}, "without 'S\\*'"),
        ({"others": ["a"] * 65}, "at most 64"),
        ({"class_word": "<|endoftext|>"}, "says nothing"),
        ({"batch": 0}, "batch"),
        ({"seed": -1}, "seed"),
        ({"prior": -1}, "prior"),
        ({"progress": 3}, "progress"),
        ({"rank": 3}, "other options"),
        ({"captions": ["S* " + "long " * 30, "S*"]}, "tokens"),
    ):
        with pytest.raises(ForetokenError, match=match):
            learn(**options)
    for stage, options in ((Inversion, {"steps": 0}), (LowRank, {"rank": 65}), (LowRank, {"rate": float("nan")})):
        with pytest.raises(InvalidArgument, match=next(iter(options))):
            stage(**options)  # type: ignore[arg-type]


def test_every_text_that_is_to_stay_is_painted(paint: ft.Painter, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []

    class Prior(learning._Prior):
        def __init__(self, module: Any, rows: Any, texts: Any, seed: int) -> None:
            super().__init__(module, rows, texts, seed)
            told.append((len(self.ids), len(texts)))

    monkeypatch.setattr(learning, "_Prior", Prior)
    others = [f"blue house {number}" for number in range(40)]
    paint.learn("S*", images(), class_word="woman", method=LowRank(steps=1), others=others)
    assert told == [(43, 43)]  # and "woman", "a woman", and nothing


def test_it_learns_where_the_caller_takes_no_gradients(paint: ft.Painter) -> None:
    learnt = []
    for outside in (contextlib.nullcontext, torch.no_grad, torch.inference_mode):
        with outside():
            learnt.append(paint.learn("S*", images(), class_word="woman", method=LowRank(steps=2), seed=1))
    for other in learnt[1:]:
        assert torch.equal(other.row, learnt[0].row)
        assert all(torch.equal(other.change(name), learnt[0].change(name)) for name in learnt[0].pairs)


def test_progress_may_stop_it(paint: ft.Painter) -> None:
    def stop(at: Learned) -> None:
        if at.step == 2:
            raise KeyboardInterrupt

    before = bits(paint.model)
    with pytest.raises(KeyboardInterrupt):
        paint.learn("S*", images(), class_word="woman", method=STAGES["lora"], progress=stop)
    assert bits(paint.model) == before
