"""`foretoken info` and `foretoken bench`: what is installed, what is shipped, what can be measured."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from foretoken.cli import bench, info, main


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A folder that looks like a shipped model."""
    folder = tmp_path / "toy"
    folder.mkdir()
    save_file({"a": torch.zeros(3, 4), "b": torch.zeros(5)}, folder / "model.safetensors")
    config = {"num_hidden_layers": 2, "vocab_size": 4096, "max_position_embeddings": 512}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "README.md").write_text(
        "# toy\n\n## Data\n\n| a | b |\n|---|---|\n| no | no |\n\n## Figures\n\n| what | figure |\n|---|---|\n"
        "| validation loss | 3.21 nats |\n\n## Licence\n"
    )
    return folder


def test_info_of_a_folder(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its size, its shape and its card's figures, without loading it."""
    assert main(["info", str(checkpoint), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["parameters"] == 17
    assert facts["vocabulary"] == 4096
    assert facts["figures"] == {"validation loss": "3.21 nats"}
    assert main(["info", str(checkpoint)]) == 0
    assert "validation loss  3.21 nats" in capsys.readouterr().out


def test_info_of_the_machine(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Versions, threads, processor, models; for people and for programs."""
    monkeypatch.setattr(info, "names", lambda: ["toy"])
    monkeypatch.setattr(info, "path", lambda name: checkpoint)
    assert main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert torch.__version__.startswith(facts["versions"]["torch"])
    assert facts["threads"] >= 1
    assert facts["models"]["toy"]["parameters"] == 17
    assert main(["info"]) == 0
    assert "parameters" in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["config.json", "model.safetensors"])
def test_info_of_a_damaged_folder(damage: str, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Cut or missing: one line."""
    (checkpoint / damage).write_bytes((checkpoint / damage).read_bytes()[:9])
    assert main(["info", str(checkpoint)]) == 1
    assert "is damaged" in capsys.readouterr().err
    (checkpoint / damage).unlink()
    assert main(["info", str(checkpoint)]) == 1
    assert "is missing" in capsys.readouterr().err


def test_bench_lists_and_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What stands behind the name goes to the bench."""
    called: list[list[str]] = []
    speed = SimpleNamespace(__doc__="Tokens a second.\n\nMore.", main=called.append)
    monkeypatch.setattr(bench, "benches", lambda: {"speed": speed})
    assert main(["bench"]) == 0
    assert capsys.readouterr().out == "speed      Tokens a second.\n"
    assert main(["bench", "speed", "--rows", "4"]) == 0
    assert called == [["--rows", "4"]]
    assert main(["bench", "spead"]) == 1
    assert "no bench is called 'spead'; there are ['speed']" in capsys.readouterr().err


def test_every_bench_can_be_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """Of the real package."""
    assert main(["bench"]) == 0
    assert all(len(line.split()) > 2 for line in capsys.readouterr().out.splitlines())
