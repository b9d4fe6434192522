"""Captioned pictures: what texts say of them, which are held out, and rows of texts and patches or pixels."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest

from foretoken.codec.pixels import Pixels
from foretoken.codec.prompts import NONE, Prompts
from foretoken.errors import LimitExceeded
from foretoken.recipes import captions
from foretoken.recipes.captions import Caption

from .test_patches import toy
from .test_recipe_patches import disc, write_archive, write_sprites

HEART = Caption(("red heart",), "noto style", ("love", "like"))
WOMAN = Caption(("old tan woman", "black page hair", "yellow t-shirt"), "walking left")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    emoji = [
        ({"file": f"{style}/{i}.webp", "caption": f"Disc {i}", "style": style, "tags": ["round", f"Disc {i}"]}, disc(i))
        for i in range(40)
        for style in ("noto", "fluent-flat")
    ]
    write_archive(folder / "emoji64.zip", "captions.jsonl", emoji)
    write_sprites(folder / "walk64.zip")
    return folder


def said(caption: Caption, count: int = 400) -> list[str]:
    random = np.random.default_rng(0)
    return [caption.drawn(random) for _ in range(count)]


def test_an_emoji_is_said_in_many_ways() -> None:
    texts = said(HEART)
    assert set(texts) == {
        "", "red heart", "noto style", "red heart, noto style", "love, noto style", "like, noto style",
        "love, like, noto style", "like, love, noto style",
    }  # fmt: skip
    assert 0.06 < texts.count("") / len(texts) < 0.14
    assert texts.count("red heart, noto style") > 200


def test_a_character_is_said_whole_or_in_part() -> None:
    texts = said(WOMAN)
    assert str(WOMAN) == "old tan woman, black page hair, yellow t-shirt, walking left"
    assert WOMAN.kind == "old woman"
    assert texts.count(str(WOMAN)) > 180
    assert {"a old woman walking left", "old woman, walking left", "old tan woman"} <= set(texts)
    assert not any("hair, walking" not in text and "hair" in text and "yellow" not in text and "," in text
                   and not text.endswith(("hair", "left")) for text in texts)  # fmt: skip


def test_the_splits_are_those_that_were_given(data: Path) -> None:
    train, train_said = captions.emoji(data)
    held, held_said = captions.emoji(data, held_out=True)
    assert len(train) + len(held) == 80
    names = {"noto style": "noto", "flat style": "fluent-flat"}
    for caption in held_said:
        assert zlib.crc32(f"{names[caption.last]}/{caption.parts[0]}".encode()) % 20 == 0
        assert caption.tags == ("round",)
    assert str(train_said[0]) == "Disc 0, noto style"
    pixels, who = captions.characters(data, 12, seed=1, held_out=True)
    assert pixels.shape == (12, 64, 64, 3)
    for caption in who:
        assert zlib.crc32(", ".join(sorted(caption.parts)).encode()) % 10 == 0


def test_rows_are_a_text_and_a_picture(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captions, "_CHARACTERS", 10)
    codec = captions_codec(tmp_path)
    rows = captions.paintings(data, tmp_path, codec=str(codec))
    pictures, texts = captions.emoji(data)
    assert len(rows.bodies) == len(pictures) + 10
    assert rows.units == 20
    prompts = Prompts.from_file(tmp_path / "tokenizer.json", positions=captions.POSITIONS)
    condition = rows.conditions[0].reshape(rows.variants, -1) - rows.units
    known = {tuple(prompts([text or None])[0]) for text in said(texts[0])}
    assert {tuple(row) for row in condition} <= known
    small = captions.thumbnails(data, tmp_path)
    assert (small.units, len(small.bodies[0])) == (256, 256)
    back = Pixels(8).decode(small.bodies[0], (16, 16)).astype(int)
    assert np.abs(back - captions.thumbnail(pictures[0])).mean() < 25


def captions_codec(folder: Path) -> Path:
    import foretoken as ft

    ft.Patches(toy()).save(folder / "codec")
    return folder / "codec"


def test_a_text_is_cut_alike_whatever_its_case_and_place() -> None:
    cut = captions.tokenizer([HEART, WOMAN], 400)
    prompts = Prompts(cut, positions=12, names={"S*": 999})
    one, other = prompts(["Red Heart", "red heart"])
    assert one.tolist() == other.tolist()
    row = prompts(["S*, walking left"])[0]
    whole = prompts(["woman, walking left"])[0].tolist()
    assert row[0] == 999
    with pytest.raises(LimitExceeded, match="at most 12"):
        prompts(["S* " * 5000])
    longer = Prompts(cut, positions=12, names={"S*": 999, "S*2": 998})
    assert longer(["S*2 S*"])[0][[0, 1]].tolist() == [998, 999]
    comma = whole.index(row[1])
    assert whole[comma : comma + 3] == row[1:4].tolist()  # behind a name as behind a word
    assert set(prompts([None])[0]) == {NONE}
    assert prompts.pieces("S* walking")[0] == "S*"
