"""Cards of codecs: every figure comes from the bench's file, and the pictures are what the codec makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from foretoken.codec.patches import Film, Patches
from foretoken.recipes import codec_card
from tests.unit.test_patches import noise, toy
from tests.unit.test_recipe_patches import config

pytest.importorskip("PIL")

FOUND = {"psnr": 22.514, "ssim": 0.8761, "gmsd": 0.1, "units": 64, "bits": 637.9, "codes_used": 990}
MEASURED = {"emoji": {"mine": FOUND, "other": FOUND}, "walk": {"other": FOUND}, "tiles": {"mine": {**FOUND, "psnr": 9}}}


def test_figures_are_those_of_the_codec() -> None:
    assert codec_card.figures(MEASURED, "mine") == {
        "emoji": "PSNR 22.51 dB, SSIM 0.876, GMSD 0.100; 64 units, 638 bits, 990 codes used",
        "tiles": "PSNR 9.00 dB, SSIM 0.876, GMSD 0.100; 64 units, 638 bits, 990 codes used",
    }


def test_a_card_says_data_recipe_and_figures(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    codec = Patches(toy(levels=(), width=3))
    codec.save(folder)
    made = config(levels=(), width=3, sources=("emoji", "tiles"), shares=(1, 1), steps=(7, 4321))
    codec_card.write_card(folder, made, codec, figures=codec_card.figures(MEASURED, "mine"))
    text = (folder / "README.md").read_text(encoding="utf-8")
    for part in ("# mine", "each 3 numbers", "4,321 steps of 4", codec_card.SOURCES["tiles"], "| tiles | PSNR 9.00 dB"):
        assert part in text
    assert codec_card.SOURCES["walk"] not in text


def test_samples_are_the_originals_above_what_comes_back() -> None:
    stills = noise(3, 8, 8, 3)
    codec = Patches(toy())
    shown = codec_card.samples(codec, stills)
    assert shown.shape == (16, 24, 3)
    assert (shown[:8, 8:16] == stills[1]).all()
    assert np.abs(shown[8:, 8:16].astype(int) - codec.decode(codec.encode(stills[1]))).max() <= 1
    film = codec_card.samples(Film(toy(frames=2)), stills)
    assert film.shape == (16, 24, 3)
    assert (film[:8, 16:] == stills[2]).all()
