"""The recipe of the judge: which texts are true of what, that it learns squares, and that no break changes it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from foretoken.errors import InvalidArgument
from foretoken.evaluate.clip import Clip, area_under_curve
from foretoken.recipes import captions, catalogue, clip, corpus, pairs
from foretoken.recipes.captions import Caption
from foretoken.recipes.clip import ClipRecipe, Run, contrast, shifted
from foretoken.recipes.pairs import Pairs, claims_of, truths_of

FIELDS: dict[str, Any] = {
    "source": "toy", "batch": 24, "characters": 0.25, "shift": 1, "stem": (8, 16), "image_size": 16, "image_inner": 32,
    "image_layers": 1, "image_heads": 2, "text_size": 16, "text_inner": 32, "text_layers": 1, "text_heads": 2,
    "width": 8, "steps": (120,), "warmup": 4, "cooldown": 0.5, "rate": 0.01, "save_every": 10, "seed": 1,
}  # fmt: skip
COLOURS = {"red": (220, 30, 30), "green": (30, 160, 40), "blue": (40, 60, 220), "black": (0, 0, 0)}
STYLES = ("flat style", "ringed style")
WOMAN = Caption(("old tan woman", "black page hair", "yellow t-shirt"), "walking left")
HEART = Caption(("red heart",), "noto style", ("heart", "love"))


def squares(count: int, seed: int) -> captions.Captioned:
    """Squares of four colours in two styles, somewhere on white; every fourth is called a character."""
    random, found, said = np.random.default_rng(seed), [], []
    for index in range(count):
        name, style = list(COLOURS)[int(random.integers(4))], STYLES[int(random.integers(2))]
        picture = np.full((16, 16, 3), 255, dtype=np.uint8)
        down, across = random.integers(1, 6, size=2)
        picture[down : down + 9, across : across + 9] = COLOURS[name]
        if style == "ringed style":
            picture[down + 2 : down + 7, across + 2 : across + 7] = 255
        found.append(picture)
        said.append(Caption((f"{name} square", *(["square"] if index % 4 == 0 else [])), style))
    return np.stack(found), said


def toy(data: Path) -> Any:
    captioned = squares(160, 0)
    cut = captions.tokenizer(captioned[1], 300)
    return pairs.made(captioned, cut, seed=1), cut


@pytest.fixture(autouse=True)
def source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(clip.SOURCES, "toy", toy)


def run(out: Path, **changes: Any) -> Run:
    return Run(ClipRecipe(**{**FIELDS, **changes}), out, out / "run")


def test_a_judge_of_squares_tells_their_texts_from_others(tmp_path: Path) -> None:
    made = run(tmp_path)
    made.export(tmp_path / "before")
    made.train(lambda *_: None)
    made.export(tmp_path / "after")
    pictures, said = squares(120, 9)
    own, others = [str(caption) for caption in said], [str(said[index - 1]) for index in range(len(said))]
    wrong = [index for index, (one, other) in enumerate(zip(own, others, strict=True)) if one != other]

    def curve(name: str) -> tuple[float, float]:
        judge = Clip(tmp_path / name)
        matched, mismatched = judge.score(pictures, own), judge.score(pictures, others)[wrong]
        return area_under_curve(matched, mismatched), judge.retrieval(pictures, own, among=8)

    before, after = curve("before"), curve("after")
    assert before[0] < 0.75
    assert before[1] < 0.5
    assert after[0] > 0.9
    assert after[1] > 0.8
    chances = Clip(tmp_path / "after").labels(pictures, [f"{colour} square" for colour in COLOURS])
    np.testing.assert_allclose(chances.sum(axis=1), 1)
    right = [f"{list(COLOURS)[best]} square" for best in chances.argmax(axis=1)]
    assert np.mean([one == caption.parts[0] for one, caption in zip(right, said, strict=True)]) > 0.9


def test_a_run_that_is_cut_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = run(tmp_path / "a", steps=(14,))
    whole.train(lambda *_: None)

    def cut(step: int, last: int, loss: float) -> None:
        if step == 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "b", steps=(14,)).train(cut)
    again = run(tmp_path / "b", steps=(14,))
    assert again.step == 10
    again.train(lambda *_: None)
    assert (tmp_path / "a/run/loss.jsonl").read_text() == (tmp_path / "b/run/loss.jsonl").read_text()
    for name, weight in whole.module.state_dict().items():
        assert torch.equal(weight, again.module.state_dict()[name])


def test_a_text_is_true_of_all_of_which_its_claims_are() -> None:
    said = [HEART, Caption(("blue heart",), "noto style", ("heart",)), Caption(("red heart",), "flat style"), WOMAN]
    cut = captions.tokenizer(said, 600)
    made = pairs.made((np.zeros((4, 8, 8, 3), dtype=np.uint8), said), cut, seed=0)
    texts = ["red heart, noto style", "heart, noto style", "noto style", "red heart", "an old woman"]
    numbers = {claim: int(made.truths[line, place]) for line, caption in enumerate(said)
               for place, claim in enumerate(truths_of(caption))}  # fmt: skip
    claims = [["red heart", "noto style"], ["heart", "noto style"], ["noto style"], ["red heart"], ["old woman"]]
    rows = np.full((4, len(texts), 2), -1)
    for place, found in enumerate(claims):
        rows[:, place, : len(found)] = [numbers[claim] for claim in found]
    asked = dataclasses.replace(made, claims=rows)
    all_of_them = np.arange(4)
    true = [asked.agree(all_of_them, np.full(4, place))[:, 0].tolist() for place in range(len(texts))]
    assert true == [
        [True, False, False, False],
        [True, True, False, False],
        [True, True, False, False],
        [True, False, True, False],
        [False, False, False, True],
    ]
    for place in range(pairs.VARIANTS):
        assert made.agree(all_of_them, np.full(4, place)).diagonal().all()


@pytest.mark.parametrize(
    ("text", "caption", "claims"),
    [
        ("red heart, noto style", HEART, ["red heart", "noto style"]),
        ("love, noto style", HEART, ["love", "noto style"]),
        ("red heart", HEART, ["red heart"]),
        ("a old woman walking left", WOMAN, ["old woman", "walking left"]),
        ("old tan woman, yellow t-shirt", WOMAN, ["old tan woman", "yellow t-shirt"]),
    ],
)
def test_claims_of_a_text(text: str, caption: Caption, claims: list[str]) -> None:
    assert claims_of(text, caption) == claims


def test_whatever_is_drawn_claims_what_is_true() -> None:
    random = np.random.default_rng(0)
    for caption in (HEART, WOMAN):
        texts = {pairs._drawn(caption, random) for _ in range(300)}
        assert "" not in texts
        assert len(texts) > 4
        for text in texts:
            found = claims_of(text, caption)
            assert set(found) <= set(truths_of(caption))
            words = {word for claim in found for word in claim.replace(",", " ").split()}
            assert set(text.replace(",", " ").split()) - {"a"} == words


def test_the_judge_never_sees_some_captions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = [Caption((f"thing {number}",), f"{style} style") for number in range(200) for style in ("noto", "flat")]
    monkeypatch.setattr(captions, "emoji", lambda data: (np.zeros((400, 1, 1, 3), np.uint8), said))
    pictures, kept = pairs.seen(tmp_path)
    left = {caption.parts[0] for caption in said} - {caption.parts[0] for caption in kept}
    assert left == {f"thing {number}" for number in range(200) if corpus.is_held_out(f"thing {number}", one_in=25)}
    assert 2 <= len(left) <= 20
    assert len(pictures) == len(kept) == 400 - 2 * len(left)


def test_what_is_true_by_chance_is_no_candidate() -> None:
    cosines = torch.tensor([[0.5, 0.9, -0.5], [0.9, 0.5, -0.5], [-0.5, -0.5, 0.5]])
    alike = torch.eye(3, dtype=torch.bool)
    alike[:2, :2] = True
    scale = torch.tensor(10.0)
    assert contrast(cosines, alike, scale) < 0.01
    assert contrast(cosines, torch.eye(3, dtype=torch.bool), scale) > 2


def test_pictures_are_moved_onto_white() -> None:
    pictures = np.zeros((50, 4, 4, 3), dtype=np.uint8)
    moved = shifted(pictures, 1, np.random.default_rng(0))
    assert moved.shape == pictures.shape
    assert len({picture.tobytes() for picture in moved}) == 9
    assert set(np.unique(moved)) == {0, 255}
    assert (moved[:, 1:3, 1:3] == 0).all()
    assert shifted(pictures, 0, np.random.default_rng(0)) is pictures


def test_pairs_come_back_from_their_file(tmp_path: Path) -> None:
    made, _ = toy(tmp_path)
    pairs.save(made, tmp_path / "pairs.npz")
    back = pairs.read(tmp_path / "pairs.npz")
    for field in dataclasses.fields(Pairs):
        np.testing.assert_array_equal(getattr(back, field.name), getattr(made, field.name))


def test_the_shipped_configuration_is_whole() -> None:
    config = ClipRecipe.from_file(Path(catalogue.__file__).parent / "configs" / "clip.json")
    assert json.loads(config.as_json())["recipe"] == "clip"


@pytest.mark.parametrize(
    "changes", [{"source": "nothing"}, {"characters": 1.5}, {"stem": (12,)}, {"image_heads": 3}, {"shift": -1}]
)
def test_refusals(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        ClipRecipe(**{**FIELDS, **changes})
