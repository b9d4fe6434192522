"""The page of the laboratory and the command that writes it."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foretoken.cli import main
from foretoken.evaluate.report import machine
from foretoken.lab.page import page
from foretoken.lab.task import Outcome, Task
from tests.unit.test_lab_oracle import write

VOID = {"meta", "link", "img", "br"}
DRAWN = {"path", "polyline", "rect"}


class Strict(HTMLParser):
    """Every tag is closed, nothing comes from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.append(tag)
        for name, value in attrs:
            assert not name.startswith("on")
            assert name not in ("src", "href") or value.startswith("data:")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def a_task() -> Task:
    picture = np.zeros((8, 8, 3), dtype=np.uint8)
    outcomes = [
        Outcome("plain", {"valid": 1.0, "ms each": 1234.5}, [0.5, 1.0], [("<given>", "<made>")]),
        Outcome("<b>all</b>", {"valid": 0.25, "ms each": None}, [1.0, float("nan")], [("x", picture)], cure=True),
        Outcome("a curve alone", {}, [0.3, 0.2, 0.1]),
    ]
    return Task("Which & what", "about <it>", outcomes, {"law": 4.94}, [("valid", 0.25, ">=", 0.5)])


def test_a_page_shows_all_and_needs_nothing() -> None:
    text = page(
        [a_task(), Task("Later", "", missing="no <model>")], machine(), title="Several <answers>", intro="All & one."
    )
    seen = Strict(text).seen
    assert "script" not in seen
    assert (seen.count("table"), seen.count("svg"), seen.count("img")) == (2, 3, 1)
    assert seen.count("polyline") == 5  # each its own, and the first one's behind the others
    for part in (
        "&lt;b&gt;all&lt;/b&gt;",
        "Which &amp; what",
        "no &lt;model&gt;",
        "1,234",
        "&lt;made&gt;",
        ">NO<",
        "–",
    ):
        assert part in text
    assert text.count("class=cure") == 1


def test_the_command_measures_what_it_can(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ways = [f"{opening} pub {ending}" for opening, ending in zip("ABCDE", "vwxyz", strict=True)]
    write(tmp_path, [{"meaning": str(number), "sentences": ways} for number in range(3)])
    out = tmp_path / "made.html"
    arguments = ["lab", "multimodality", "--data", str(tmp_path), "--meanings", "2", "--out", str(out)]
    assert main([*arguments, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    answer, language, style = said["results"].values()
    assert answer["rows"]["autoregressive"]["valid"] == 1
    assert language == {"missing": f"there is no tldr.jsonl.xz in {tmp_path}"}
    assert "emoji64.zip" in style["missing"]
    Strict(out.read_text(encoding="utf-8"))
    assert main(arguments) == 0
    assert "shared z, one shot" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [(["--out", "x.txt"], "end in .html"), (["--meanings", "0"], "1 or more"), (["--data", "none"], "no e2e.jsonl.xz")],
)
def test_what_is_wrong_is_said_in_one_line(
    changes: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["lab", "multimodality", "--data", str(tmp_path), *changes]) == 1
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.count("\n") == 1
    assert not list(tmp_path.glob("*.html"))
