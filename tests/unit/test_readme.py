"""The README is true: its Python runs, its commands exist, its tree is the tree."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from foretoken.cli import main

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> Iterator[tuple[int, str]]:
    """(first line, text) of each fenced block of a language."""
    for match in re.finditer(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL):
        yield README.count("\n", 0, match.start(1)), match[1]


def test_python_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In their order, as one program; each block's lines keep their numbers for the traceback."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    found = list(blocks("python"))
    assert len(found) >= 3
    for line, text in found:
        exec(compile("\n" * line + text, str(ROOT / "README.md"), "exec"), names)


def commands() -> list[str]:
    """Every command the README tells: the lines of its shell blocks, and `make …`, `foretoken …` in its text."""
    lines = [line for _, text in blocks("sh") for line in text.splitlines()]
    lines += re.findall(r"`((?:make|foretoken|python) [^`]+)`", README)
    return sorted({line.split("#")[0].strip() for line in lines} - {""})


def test_there_are_commands() -> None:
    """The test below has something to look at."""
    assert {"make demo", "make test"} <= set(commands())


@pytest.mark.parametrize("command", commands())
def test_commands_exist(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A target of the Makefile, a command of the program, or a file."""
    program, *words = re.sub(r"^(\w+=\S+ )+", "", command).split()
    if program == "make":
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert words[0] in targets
    elif program == "foretoken":
        of_several = words[0] in ("codec", "evaluate", "lab")  # commands that have commands
        with pytest.raises(SystemExit) as end:
            main([*words[: 1 + of_several], "--help"])
        assert end.value.code == 0
        told = capsys.readouterr().out
        assert [word for word in words if word.startswith("--") and word.split("=")[0] not in told] == []
    elif program == "python":
        assert (ROOT / words[0]).is_file()
    else:
        assert program in ("pip", "cargo", "git")


def test_every_figure_is_filled_in() -> None:
    """A cell that waits for its number does not ship."""
    assert [line for line in README.splitlines() if line.startswith("|") and "…" in line] == []


def test_tree_is_the_tree() -> None:
    """Every path of the tree is there, and every folder of the package is in it."""
    (tree,) = (text for _, text in blocks("text") if "python/foretoken/" in text)
    named, folder = set(), Path()
    for line in tree.splitlines():
        indented = line.startswith(" ")
        for word in re.split(r"  +", line.strip())[0].split():
            path = folder / word if indented else Path(word)
            assert (ROOT / path).exists(), f"{path} is in the README and not in the tree"
            named.add(path)
        if not indented:
            folder = Path(line.split()[0])
    package = Path("python/foretoken")
    real = {package / p.name for p in (ROOT / package).iterdir() if p.is_dir() and p.name != "__pycache__"}
    assert real <= named
