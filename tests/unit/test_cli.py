"""The command line as a person and as a script meet it: text, JSON, exit codes, one-line errors."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from foretoken.cli import generate, main
from foretoken.codec.text import Text
from foretoken.errors import LogitsError
from foretoken.pipeline import Pipeline
from foretoken.view import terminal
from tests.models import TableModel


class Letters(TableModel):
    """Writes small letters and spaces, in words that come again."""

    def __init__(self) -> None:
        super().__init__(256, order=1, scale=3.0)
        self.layers = [None] * 4
        self._letters = np.full(256, -np.inf, dtype=np.float32)
        self._letters[[_ID[c] for c in "aeinost\u0120"]] = 0.0

    def logits(self, past: Any) -> np.ndarray:
        return super().logits(past) + self._letters

    def first(self, layers: int) -> TableModel:
        return self


_ID = {unit: i for i, unit in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """What every name on the command line means."""
    tokenizer = Tokenizer(models.BPE(_ID, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    made = Pipeline(Text(tokenizer), Letters(), name="tiny")
    monkeypatch.setattr(generate, "load", lambda name, **_: made)
    return made


def be_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make standard output and error, as captured in this test, a terminal that can colour."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


OPTIONS = ["generate", "once", "--max-tokens", "60", "--seed", "7"]


def test_text_goes_to_standard_output_and_nothing_else(pipeline: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    """In a pipe: the text, one newline, a silent standard error."""
    assert main(OPTIONS) == 0
    out, err = capsys.readouterr()
    assert out == pipeline("once", max_tokens=60, seed=7).signal + "\n"
    assert err == ""


@pytest.mark.parametrize("drafter", generate.DRAFTERS)
def test_no_drafter_changes_the_text(
    drafter: str, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each name means a drafter, and the words stay."""
    from foretoken.drafter.small_model import SmallModel

    monkeypatch.setattr(generate, "small_model", lambda name, **_: SmallModel(pipeline.model))
    assert main([*OPTIONS, "--drafter", drafter, "--json"]) == 0
    out = json.loads(capsys.readouterr().out)
    assert out["text"] == pipeline("once", max_tokens=60, seed=7).signal
    assert bool(out["stats"]["drafted"]) == (drafter != "none")


@pytest.mark.parametrize("drafter", ["none", "small", "early-exit"])
def test_the_core_writes_by_itself(drafter: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The same words from a shipped model, in PyTorch and without."""
    texts = []
    for options in ([], ["--torch", "--drafter", drafter]):
        assert main([*OPTIONS, *options]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]


def test_json_is_the_last_line_and_whole(pipeline: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    """Text, tokens, reason and stats; every number a number."""
    assert main([*OPTIONS, "--json", "--drafter", "early-exit"]) == 0
    out = json.loads(capsys.readouterr().out.splitlines()[-1], parse_constant=lambda name: pytest.fail(name))
    expected = pipeline("once", max_tokens=60, seed=7)
    assert (out["model"], out["text"], out["finish_reason"]) == ("tiny", expected.signal, "length")
    assert out["tokens"] == expected.tokens.tolist()
    stats = out["stats"]
    assert stats["tokens"] == 60
    assert stats["tokens_per_forward"] > 1
    assert len(stats["drafted_at"]) == len(stats["accepted_at"]) == len(stats["acceptance_by_position"])
    assert sum(stats["accepted_at"]) == stats["accepted"] == stats["by_source"]["early exit"][1]


def test_several_samples(pipeline: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    """One after another, named; in JSON, lists."""
    texts = pipeline("once", max_tokens=60, seed=7, n=2).signal
    assert main([*OPTIONS, "-n", "2"]) == 0
    out = capsys.readouterr().out
    assert out == f"--- sample 1 of 2, length\n{texts[0]}\n\n--- sample 2 of 2, length\n{texts[1]}\n"
    assert main([*OPTIONS, "-n", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["text"] == texts


def test_sampling_options_reach_the_sampler(pipeline: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    """Each of them changes the text, and stop ends it."""
    plain = pipeline("once", max_tokens=60, seed=7).signal
    for options in (["--temperature", "0"], ["--top-k", "2"], ["--top-p", "0.3"], ["--min-p", "0.9"], ["--seed", "8"]):
        assert main([*OPTIONS, *options]) == 0
        assert capsys.readouterr().out != plain + "\n", options
    assert main([*OPTIONS, "--stop", "zzz", "--stop", plain[10:13]]) == 0
    assert capsys.readouterr().out == plain[: plain.index(plain[10:13])] + "\n"


@pytest.mark.parametrize(
    ("given", "meant"), [(b"once", "once"), (b"once\n", "once"), (b"a\n\n", "a\n"), (b"x\r\n", "x")]
)
def test_prompt_from_standard_input(given: bytes, meant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the newline that ends the last line."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
    assert generate.read_prompt() == meant


def test_standard_input_must_be_text(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bytes that are none are refused in one line."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"ok \xff")))
    assert main(["generate", "-"]) == 1
    assert capsys.readouterr().err == "foretoken: error: the prompt on standard input is not UTF-8 at byte 3\n"


def test_a_terminal_without_a_prompt_is_wrong_usage(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody should wait for a program that waits for them; a pipe is read."""
    typed = io.TextIOWrapper(io.BytesIO(b"once\n"))
    monkeypatch.setattr(sys, "stdin", typed)
    assert main(["generate", "--max-tokens", "60", "--seed", "7"]) == 0
    assert capsys.readouterr().out == pipeline("once", max_tokens=60, seed=7).signal + "\n"
    monkeypatch.setattr(typed, "isatty", lambda: True)
    with pytest.raises(SystemExit) as ended:
        main(["generate"])
    assert ended.value.code == 2
    assert "no prompt: give a text" in capsys.readouterr().err


def test_trace_is_written(pipeline: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside the text."""
    assert main([*OPTIONS, "--drafter", "early-exit", "--trace", str(tmp_path / "t.html")]) == 0
    assert capsys.readouterr().out.strip()
    page = (tmp_path / "t.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "early" in page


def plain(text: str) -> str:
    """Without colours and without what is struck through."""
    text = re.sub(r"\x1b\[2;9;31m.*?\x1b\[0m|\x1b\[2m.*?\x1b\[0m", "", text, flags=re.DOTALL)
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_colours_on_a_terminal(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Right guesses coloured, the prompt dim, the figures on standard error; the text is the text."""
    be_a_terminal(monkeypatch)
    assert main([*OPTIONS, "--drafter", "early-exit"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("\x1b[2monce\x1b[0m")
    assert "\x1b[32m" in out
    assert plain(out) == pipeline("once", max_tokens=60, seed=7).signal + "\n"
    assert re.search(r"\[60 tokens in \d+ forwards", err)


@pytest.mark.parametrize("quiet", ["NO_COLOR=1", "TERM=dumb", "--color never"])
def test_no_colours_where_none_are_wanted(
    quiet: str, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the environment or by the option."""
    be_a_terminal(monkeypatch)
    extra = []
    if "=" in quiet:
        monkeypatch.setenv(*quiet.split("="))
    else:
        extra = quiet.split()
    assert main([*OPTIONS, *extra, "--drafter", "early-exit"]) == 0
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.usefixtures("pipeline")
def test_colours_where_they_are_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    """Also in a pipe."""
    assert main([*OPTIONS, "--color", "always", "-n", "2"]) == 0
    assert "\x1b[2m" in capsys.readouterr().out


def test_refused_guesses_are_struck_through() -> None:
    """Before what was chosen instead, on one line; a model cannot reach the terminal's controls."""
    pieces = ["ab", "\n", "\x1b[2J", "c"]
    step = terminal.Step(0, [0, 2], drafted=[0, 1], accepted=1, source="x", gaps=[1.0, 1.0], text="ab\x1b[2J")
    out = io.StringIO()
    terminal.Terminal(out, pieces.__getitem__, color=True).step(step)
    assert out.getvalue() == "\x1b[32mab\x1b[0m\x1b[2;9;31m↵\x1b[0m␛[2J"


@pytest.mark.usefixtures("pipeline")
@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (
            LogitsError("row 3 has nothing\nthat may be drawn"),
            1,
            "foretoken: error: row 3 has nothing that may be drawn\n",
        ),
        (FileNotFoundError(2, "No such file or directory", "/no/where"), 1, "No such file or directory: /no/where"),
        (OSError("disk full"), 1, "foretoken: error: disk full\n"),
        (KeyboardInterrupt(), 130, "foretoken: stopped\n"),
    ],
)
def test_errors_are_one_line_and_a_code(
    raised: BaseException, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No traceback for what is not a bug."""

    def fail(name: str, **_: Any) -> None:
        raise raised

    monkeypatch.setattr(generate, "load", fail)
    assert main(OPTIONS) == code
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err
    assert err.strip().count("\n") == 0


@pytest.mark.usefixtures("pipeline")
def test_bugs_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anything else keeps its traceback."""
    monkeypatch.setattr(generate, "load", lambda name, **_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(OPTIONS)


@pytest.mark.parametrize(
    "arguments", [[], ["sing"], ["generate", "x", "--drafter", "crystal"], ["generate", "x", "--top-k", "a"]]
)
def test_wrong_usage_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """By argparse, with the usage."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: foretoken" in capsys.readouterr().err


@pytest.mark.usefixtures("pipeline")
def test_values_out_of_range_are_1(capsys: pytest.CaptureFixture[str]) -> None:
    """The library says what is allowed."""
    assert main([*OPTIONS, "--top-p", "1.5"]) == 1
    assert capsys.readouterr().err == "foretoken: error: top_p must be in (0, 1], got 1.5\n"


def shell(*arguments: str, **keys: Any) -> subprocess.CompletedProcess[str]:
    """The program as a shell runs it."""
    command = [sys.executable, "-m", "foretoken", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, **keys)


def test_runs_as_a_module() -> None:
    """`python -m foretoken` and `python -m foretoken.cli` are the command; unknown models are told with the known."""
    run = shell("--help")
    assert (run.returncode, run.stderr) == (0, "")
    assert all(name in run.stdout for name in ("generate", "train", "info", "bench"))
    run = shell("generate", "x", "--model", "no-such-model")
    assert run.returncode == 1
    assert run.stderr.startswith("foretoken: error: no shipped model is called 'no-such-model'")
    assert run.stderr.count("\n") == 1


def test_a_reader_that_leaves_is_no_error() -> None:
    """`foretoken info | head -0` is quiet."""
    command = f"{sys.executable} -m foretoken info --json | true; echo ${{PIPESTATUS[0]}}"
    run = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=300)
    assert (run.stdout, run.stderr) == ("0\n", "")


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_ctrl_c_is_130(tmp_path: Path) -> None:
    """While it waits for the prompt, without a traceback."""
    command = [sys.executable, "-m", "foretoken", "generate", "-"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # Shells have what they start in the background ignore the signal, and children inherit that.
    listen = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, preexec_fn=listen, **pipes) as run:
        assert run.stderr is not None
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not _reads(run.pid):
            time.sleep(0.1)
        run.send_signal(signal.SIGINT)
        assert run.wait(60) == 130
        assert run.stderr.read() == "\nforetoken: stopped\n"


def _reads(pid: int) -> bool:
    """Whether a process waits for a pipe; where the kernel does not tell, after some seconds."""
    wchan = Path(f"/proc/{pid}/wchan")
    if not wchan.exists():
        time.sleep(8)
        return True
    return "pipe" in wchan.read_text()
