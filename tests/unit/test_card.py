"""Model cards: every figure comes from the bench's file, and every sample is shown as it was drawn."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import foretoken as ft
from foretoken.recipes import card
from tests.unit.test_recipes import config

MEASURED = {"model": 1.53349, "5-gram": 1.6, "xz -9e": 2.7, "xz -9e, primed": 2.04, "bytes": 316220, "documents": 24}


def test_a_card_says_what_was_measured_and_shows_what_was_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "tales-draft"
    folder.mkdir()
    for file in ft.path("tales-draft").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr(card, "OPENINGS", {"stories": ("One <morning>",)})
    drawn = card.samples(folder, ("One <morning>",), max_tokens=120)[0][1]
    card.write_card(folder, config(), name="tales-draft", figures=card.figures(MEASURED))
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "| bits per byte, 24 held-out documents (316 KB) | 1.533 |" in text
    assert f"> **One \\<morning\\>**{card._inline(drawn)}" in text
    assert "0.7 M parameters" in text
    assert json.loads((folder / "figures.json").read_text())["xz -9 alone"] == 2.7
    assert all(source in card.SOURCES for source in ("stories", "tldr", "docs"))
