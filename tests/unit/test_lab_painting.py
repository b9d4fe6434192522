"""The painters' experiment on toys: what is compared with what, and what is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import foretoken as ft
from foretoken.cli import evaluate
from foretoken.cli.main import main
from foretoken.errors import InvalidArgument
from foretoken.evaluate.characters import CharacterJudge
from foretoken.lab import painting, real_pictures
from foretoken.lab.painting import measure, ways
from foretoken.lab.real_pictures import Truth, yardsticks
from foretoken.recipes import captions
from foretoken.recipes.captions import Caption
from tests.painters import tiny_painter


class Colours:
    """A judge that sees the mean colour, and takes every text for one of two."""

    def images(self, pictures: np.ndarray) -> np.ndarray:
        seen = pictures.reshape(len(pictures), -1, 3).mean(axis=1) / 255 - 0.5
        return seen / np.linalg.norm(seen, axis=1, keepdims=True)

    def texts(self, texts: list[str]) -> np.ndarray:
        return np.array([[1.0, 0, 0] if "red" in text else [0, 0, 1.0] for text in texts])


def truth(count: int = 12) -> Truth:
    random = np.random.default_rng(0)
    pictures = np.zeros((3 * count, 16, 16, 3), dtype=np.uint8)
    red = np.arange(3 * count) % 3 == 0
    pictures[red, ..., 0] = pictures[~red, ..., 2] = 255
    pictures += random.integers(0, 9, pictures.shape, dtype=np.uint8) * (pictures == 0)
    said = [Caption(("red thing" if i % 3 == 0 else "house",), "flat style") for i in range(count)]
    clip: Any = Colours()
    return Truth(pictures[:count], said, pictures[count:], clip.images(pictures))


def test_every_way_is_held_beside_real_pictures() -> None:
    painter, clip = tiny_painter(), Colours()
    chosen = ways(painter, guidance=2, temperature=1)
    task = measure("Toys", truth(), painter, clip, chosen, n=2)  # type: ignore[arg-type]
    found = {each.name: each for each in task.outcomes}
    assert [*found] == ["real, held out", *(way.name for way in chosen)]
    real = found["real, held out"].figures
    assert real["CLIP score"] == pytest.approx(task.floors["matched real pairs"])
    assert real["CLIP score"] > task.floors["mismatched real pairs"] + 0.3
    assert real["share of the way"] == 1
    expected = {"one shot": 1, "8 steps": 8, "8 steps, shared z": 9, "one patch after another": 16}
    assert {name: found[name].figures["forwards"] for name in expected} == expected
    assert len(found["8 steps"].samples) == 12
    assert len(found["one patch after another"].samples) == 3
    for way in chosen:
        figures = found[way.name].figures
        assert figures["share of the way"] < 1  # a painter that learnt nothing
        assert figures["diversity"] >= 0
        assert figures["Fréchet"] > real["Fréchet"]
    asked = [goal[0] for goal in task.goals]
    assert "Toys, 8 steps: share of the way" in asked
    assert "Toys: time of one after another beside 8 steps" in asked


def test_the_slow_way_is_held_beside_the_pictures_of_its_own_captions() -> None:
    painter, clip, real = tiny_painter(), Colours(), truth()
    task = measure("Toys", real, painter, clip, ways(painter, guidance=2, temperature=1), n=2)  # type: ignore[arg-type]
    figures = {each.name: each.figures for each in task.outcomes}["one patch after another"]
    words, pictures = clip.texts([str(caption) for caption in real.said])[::4], clip.images(real.pictures)[::4]
    matched, shifted = yardsticks(pictures, words)
    share = (figures["CLIP score"] - shifted) / (matched - shifted)  # type: ignore[operator]
    assert figures["share of the way"] == pytest.approx(share)
    assert (matched, shifted) != pytest.approx(tuple(task.floors.values()))
    goal = next(each for each in task.goals if each[0] == "Toys: score of 8 steps beside one after another")
    assert goal[3] == pytest.approx(figures["CLIP score"])


def test_yardsticks_are_the_pairs_that_belong_together_and_all_others() -> None:
    real, words = np.random.default_rng(0).normal(size=(2, 5, 3))
    apart = [real[i] @ words[j] for i in range(5) for j in range(5) if i != j]
    assert yardsticks(real, words) == pytest.approx(
        (np.mean([a @ b for a, b in zip(real, words, strict=True)]), np.mean(apart))
    )


def test_characters_are_judged_by_their_attributes() -> None:
    random = np.random.default_rng(0)
    words = ("black", "red"), ("left", "right")
    said, pictures = [], np.full((64, 16, 16, 3), 255, dtype=np.uint8)
    for picture in pictures:
        hair, side = (choice[int(random.integers(2))] for choice in words)
        said.append(Caption((f"tan {random.choice(['man', 'woman'])}", f"{hair} page hair", "red polo", "red pants",
                             "red shoes"), f"walking {side}"))  # fmt: skip
        picture[:6, :8] = (0, 0, 0) if hair == "black" else (250, 0, 0)
        if side == "right":
            picture[:] = picture[:, ::-1].copy()
    known = {name: told for name, told in captions.labels(said).items() if name in ("hair colour", "direction")}
    judge, clip = CharacterJudge(pictures, known), Colours()
    real = Truth(pictures, said, pictures, clip.images(pictures), judge)
    shares = real.right(pictures, np.arange(64))
    assert shares["hair colour right"] == shares["direction right"] == 1
    mirrored = real.right(pictures[:, :, ::-1].copy(), np.arange(64))
    assert (mirrored["direction right"], mirrored["hair colour right"]) == (0, 1)


def test_the_command_writes_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: dict[str, Any] = {}

    def run(data: Path, painter: ft.Painter, clip: Any, **options: Any) -> list[Any]:
        seen.update(options)
        few = ways(painter, guidance=options["guidance"], temperature=options["temperature"])[:2]
        return [measure("Toys", truth(), painter, clip, few, n=options["n"])]

    monkeypatch.setattr(painting, "run", run)
    monkeypatch.setattr(evaluate, "Clip", lambda source: Colours())
    monkeypatch.setattr(evaluate.Painter, "load", lambda source: tiny_painter())
    page = tmp_path / "painter.html"
    assert main(["evaluate", "painter", "--data", str(tmp_path), "--out", str(page), "-n", "2", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert seen["count"] == 100
    assert result["results"]["Toys"]["rows"]["2 steps"]["forwards"] == 2
    text = page.read_text(encoding="utf-8")
    assert "How well does painter paint?" in text
    assert text.count("<img") == 36
    assert main(["evaluate", "painter", "--data", ".", "--out", "page.txt"]) == 1
    assert main(["evaluate", "painter", "--data", ".", "--captions", "2"]) == 1


def test_more_captions_than_are_held_out_are_refused_before_anything_is_painted() -> None:
    def make(data: Path, *, held_out: bool = False) -> captions.Captioned:
        return np.zeros((20, 16, 16, 3), dtype=np.uint8), [Caption(("house",), "flat style")] * 20

    painter, clip = tiny_painter(), Colours()
    for count, n in ((17, 2), (20, 1), (12, 1), (8, 1)):
        with pytest.raises(InvalidArgument, match="at most 16 of the 20"):
            real_pictures.truth(make, Path(), painter, clip, count=count, n=n)  # type: ignore[arg-type]
    found = real_pictures.truth(make, Path(), painter, clip, count=16, n=1)  # type: ignore[arg-type]
    assert (len(found.pictures), len(found.others), len(found.seen)) == (16, 4, 20)
