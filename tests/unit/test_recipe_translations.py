"""The pairs of the translation recipe: aligned lines only, and a held-out side that training has not seen."""

from __future__ import annotations

import json
import lzma
import zlib
from pathlib import Path
from typing import Any

import pytest

from foretoken.errors import CheckpointError, InvalidArgument
from foretoken.recipes.translations import Pair, by_language, pairs


def lists(*lines: str, about: str = "") -> dict[str, Any]:
    return {"about": [about] if about else [], "steps": list(lines), "commands": ["x"] * len(lines)}


def write(folder: Path, rows: list[dict[str, Any]]) -> Path:
    with lzma.open(folder / "tldr.jsonl.xz", "wt", encoding="utf-8") as file:
        file.write("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    return folder


def page(held_out: bool, number: int = 0) -> str:
    """The number-th page name of a side."""
    names = (f"common/page{i}" for i in range(1000))
    return [name for name in names if (zlib.crc32(name.encode()) % 25 == 0) == held_out][number]


def test_lines_are_paired_where_lists_are_of_one_length(tmp_path: Path) -> None:
    row = {
        "page": page(False),
        "en": lists("Show", "Hide", about="A tool"),
        "de": lists("Zeige", "Verstecke ", about="Ein Werkzeug"),
        "fr": lists("Affiche", about="Un outil"),
        "es": lists("Muestra", "Hide", about="Una herramienta"),
    }
    train, held_out = pairs(write(tmp_path, [row]))
    assert held_out == []
    assert train == [
        Pair("A tool", "de", "Ein Werkzeug"), Pair("Show", "de", "Zeige"), Pair("Hide", "de", "Verstecke"),
        Pair("A tool", "es", "Una herramienta"), Pair("Show", "es", "Muestra"),
    ]  # fmt: skip
    assert {language: len(found) for language, found in by_language(train).items()} == {"de": 3, "fr": 0, "es": 2}


def test_what_is_held_out_was_never_trained_on(tmp_path: Path) -> None:
    rows = [
        {"page": page(True), "en": lists("Display help", "Fly"), "fr": lists("Affiche l'aide", "Vole")},
        {"page": page(False), "en": lists("display help"), "de": lists("Zeige Hilfe an")},
        {"page": page(False, 1), "en": lists("Walk")},
    ]
    train, held_out = pairs(write(tmp_path, rows))
    assert train == [Pair("display help", "de", "Zeige Hilfe an")]
    assert held_out == [Pair("Fly", "fr", "Vole")]


def test_what_is_wrong_with_the_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="--data"):
        pairs(tmp_path)
    for wrong in ({"page": 3, "en": lists()}, {"page": "a", "de": lists()}, {"page": "a", "en": {}, "de": {}}):
        with pytest.raises(CheckpointError, match="another kind"):
            pairs(write(tmp_path, [wrong]))
