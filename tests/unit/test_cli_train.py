"""`foretoken train`: progress, report, picture; and a run that goes on after Ctrl-C."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from foretoken import hub
from foretoken.cli import main, train
from foretoken.errors import CheckpointError, InvalidArgument, MissingExtra
from foretoken.recipes import language
from foretoken.view import loss as loss_view

CONFIG = {
    "recipe": "language", "sources": ["stories"], "tokenizer": "", "teacher": "", "vocab_size": 300,
    "hidden_size": 16, "intermediate_size": 24, "layers": 1, "heads": 2, "kv_heads": 1, "context": 32, "window": 16,
    "batch": 2, "warmup": 2, "cooldown": 0.5, "rate": 0.01, "save_every": 2, "seed": 1, "steps": [6],
}  # fmt: skip


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of six steps on a text of a few lines."""
    words = re.findall(r"\w+", "the cat sat on the mat and the dog ran after the cat until the sun went down")
    texts = [" ".join(np.random.default_rng(i).permutation(words).tolist()) for i in range(24)]
    monkeypatch.setattr("foretoken.recipes.language.split", lambda data, sources: (texts, texts[:1]))
    path = tmp_path / "toy.json"
    path.write_text(json.dumps(CONFIG))
    return path


def test_train_and_its_report(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Lines instead of a bar, a plot, a last line of JSON; again, it is done at once."""
    arguments = ["train", str(config), "--data", str(tmp_path), "--out", str(tmp_path / "run"), "--json"]
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert (report["steps"], report["trained"]) == (6, 6)
    assert np.isfinite(report["loss"])
    assert report["checkpoint"] == str(tmp_path / "run" / "checkpoint")
    assert len(hub.load(tmp_path / "run" / "checkpoint").codec.encode("the cat")) > 1
    assert Path(report["plot"]).read_bytes().startswith(b"\x89PNG")
    assert re.fullmatch(r"(foretoken: step \d of 6, loss [\d.]+, [\d.]+ s a step, \d+ min left\n)+", err)
    assert main(arguments) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["trained"], again["loss"]) == (0, report["loss"])


def test_train_that_is_stopped_goes_on(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C is 130 and says how to go on."""
    arguments = ["train", str(config), "--data", str(tmp_path), "--out", str(tmp_path / "run")]
    advance = language.Run.advance

    def interrupted(run: language.Run) -> float:
        if run.step == 3:
            raise KeyboardInterrupt
        return advance(run)

    with monkeypatch.context() as patched:
        patched.setattr(language.Run, "advance", interrupted)
        assert main(arguments) == 130
    assert "stopped at step 3 of 6; the same command goes on" in capsys.readouterr().err
    assert main(arguments) == 0
    assert re.fullmatch(r".*checkpoint: 6 steps, loss [\d.]+ nats a token, .*loss\.png\n", capsys.readouterr().out)


def test_train_without_matplotlib_says_so(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run counts, the plot is missing, and the command that installs it is told."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["train", str(config), "--data", str(tmp_path), "--out", str(tmp_path / "run"), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["plot"] is None
    assert "pip install 'foretoken[plot]'" in err
    with pytest.raises(MissingExtra):
        loss_view.save_loss_plot(tmp_path / "run" / "loss.jsonl", tmp_path / "x.png", title="x", unit="nats")


def test_configurations_by_name_and_by_path(tmp_path: Path) -> None:
    """Shipped names, else JSON files; a word that is neither is refused with the names."""
    assert {"tales", "manual"} <= set(train.configurations())
    assert train.find("tales").read_text(encoding="utf-8").startswith("{")
    assert train.find(str(tmp_path / "mine.json")) == tmp_path / "mine.json"
    with pytest.raises(InvalidArgument, match=r"no configuration is called 'tails'; there are \[.*'manual"):
        train.find("tails")


def test_progress_lines_are_sparse(capsys: pytest.CaptureFixture[str]) -> None:
    """The first, one every half minute, the last."""
    now = [0.0]
    progress = train.Progress(10, 200, clock=lambda: now[0])
    for step in range(11, 201):
        now[0] += 1.0
        progress(step, 200, 2.5)
    lines = capsys.readouterr().err.splitlines()
    assert [int(line.split()[2]) for line in lines] == [11, 41, 71, 101, 131, 161, 191, 200]
    assert lines[1] == "foretoken: step 41 of 200, loss 2.500, 1.00 s a step, 3 min left"


def test_progress_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One line that is drawn again, and no lines of text."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with train.Progress(2, 4) as progress:
        progress(3, 4, 2.5)
        progress(4, 4, 2.25)
    err = capsys.readouterr().err
    assert "4/4" in err
    assert "loss 2.250" in err
    assert "foretoken: step" not in err


def test_damaged_loss_files_are_refused(tmp_path: Path) -> None:
    """With the file's name."""
    (tmp_path / "loss.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    with pytest.raises(CheckpointError, match=r"loss\.jsonl"):
        loss_view.read_losses(tmp_path / "loss.jsonl")


def test_running_mean() -> None:
    """Over both sides, shorter at the ends."""
    assert loss_view.smooth(np.array([0.0, 3.0, 6.0, 9.0]), 1).tolist() == [1.5, 3.0, 6.0, 7.5]
