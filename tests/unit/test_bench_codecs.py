"""The bench of codecs runs from end to end on toys, and its figures are what their names say."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benches import _common, codecs
from foretoken.codec.pixels import Pixels
from foretoken.evaluate.pictures import psnr

pytest.importorskip("PIL")


def test_codecs(capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    try:
        report = codecs.main(["--quick", "--threads", "1"])
    finally:
        torch.set_num_threads(threads)
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last == json.loads(report.to_json())
    emoji, films = last["results"]["emoji"], last["results"]["motion films"]
    assert {"toy-fsq", "toy-vectors", "k-means, 20 codes, 8 × 8", "PCA, 3 numbers, 8 × 8"} <= emoji.keys()
    assert any(name.startswith("WebP, wanted 35") for name in emoji)
    assert emoji["toy-fsq"]["bits"] == pytest.approx(64 * math.log2(20))
    assert (emoji["mean colours, 8 × 8"]["exact"], emoji["toy-fsq"]["exact"]) == (4, 0)
    assert films["toy-film"]["units"] == films["toy-fsq"]["units"] == 64
    assert last["results"]["asked"]["measures"] == 4
    assert any("frame by frame" in name for name in last["results"]["asked"]["missed"])


def test_usage_counts_codes() -> None:
    found = codecs.usage(np.array([[0, 0, 1, 1], [3, 3, 0, 1]]), 8)
    assert (found["codes_used"], found["share_used"]) == (3, 3 / 8)
    shares = np.array([3, 3, 2]) / 8
    assert found["perplexity"] == pytest.approx(math.exp(-(shares * np.log(shares)).sum()))
    assert codecs.usage(np.arange(8), 8)["perplexity"] == pytest.approx(8)


def test_films_are_measured_frame_by_frame() -> None:
    """A codec of pictures gets each frame, and clips of two lengths count by their frames."""
    rng = np.random.default_rng(0)
    clips = [rng.integers(0, 256, (count, 16, 16, 3), dtype=np.uint8) for count in (3, 5)]
    found = codecs.moving("noise", {"eight": Pixels(8)}, clips).results["eight"]
    frames = np.concatenate(clips)
    shown = np.stack([Pixels(8).decode(Pixels(8).encode(frame), (16, 16)) for frame in frames])
    assert found["psnr"] == pytest.approx(psnr(frames, shown).mean())
    assert (found["units"], found["bits"]) == (256, 256 * 8)


def test_without_data_it_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_common, "data_folder", lambda given: None)
    codecs.main([])
    assert "pass --data" in json.loads(capsys.readouterr().out.splitlines()[-1])["settings"]["skipped"]


def test_it_is_a_script(tmp_path: Path) -> None:
    script = _common.ROOT / "benches" / "codecs.py"
    run = subprocess.run(
        [sys.executable, str(script), "--help"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "--quick" in run.stdout
