"""How a picture grew: what is said of each patch is what happened, and what is written can be read."""

from __future__ import annotations

import concurrent.futures
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import foretoken as ft
from foretoken.canvas import UNKNOWN
from foretoken.cli.main import main
from foretoken.errors import InvalidArgument
from foretoken.model.attention import attention
from foretoken.view.growth import gif, growth, growths
from tests.painters import TEXTS, written

from .test_painter import ONE_BY_ONE


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("growth") / "toy")


def test_each_patch_has_its_moment_and_its_probability(folder: Path) -> None:
    paint = ft.Painter.load(folder)
    out = paint(TEXTS[0], strategy=ONE_BY_ONE, seed=1, n=2, guidance=1, logprobs=0)
    first, second = growths(paint, out)
    assert first.when.reshape(-1).tolist() == list(range(1, 17))
    assert len(first.previews) == len(second.previews) == 16
    row = out.rows[0].units.copy()
    row[-1] = UNKNOWN
    law = paint.model.predict(row[None], np.array([len(row)]))[0, -1].softmax(dim=0)
    assert first.sure[3, 3] == pytest.approx(float(law[out.rows[0].units[-1]]), abs=1e-6)
    with pytest.raises(InvalidArgument, match="logprobs=0"):
        growths(paint, paint(TEXTS[0], seed=1))


def test_what_was_given_has_no_moment(folder: Path) -> None:
    paint = ft.Painter.load(folder)
    mask = np.zeros((16, 16), dtype=bool)
    mask[:4] = True
    picture = np.zeros((16, 16, 3), dtype=np.uint8)
    out = paint(TEXTS[0], picture=picture, mask=mask, seed=1, logprobs=0, strategy=ft.Masked(2))
    (found,) = growths(paint, out)
    assert (found.when[1:] == 0).all()
    assert (found.sure[1:] == 1).all()
    assert set(found.when[0].tolist()) == {1, 2}


def test_attention_sums_to_one_and_leaves_nothing_behind(folder: Path) -> None:
    paint = ft.Painter.load(folder)
    row = paint.rows.rows([TEXTS[0]], np.full(16, UNKNOWN))[0]
    weights = attention(paint.model, row)
    assert weights.shape == (2, 2, len(row), len(row))
    np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=1e-5)
    assert not paint.model.module.layers[0].self_attn._forward_pre_hooks  # type: ignore[union-attr]


def test_attention_hears_nothing_of_other_threads(folder: Path) -> None:
    paint = ft.Painter.load(folder)
    row = paint.rows.rows([TEXTS[0]], np.full(16, UNKNOWN))[0]
    expected, predict = attention(paint.model, row), paint.model.predict

    def beside(canvas: np.ndarray, lengths: np.ndarray) -> Any:
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            pool.submit(predict, canvas, lengths).result()
        return predict(canvas, lengths)

    paint.model.predict = beside  # type: ignore[method-assign]
    assert np.array_equal(attention(paint.model, row), expected)


def test_the_command_refuses_files_of_other_kinds_first(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder.png").mkdir()
    for flag, name in (("--out", "a.jpg"), ("--out", "folder.png"), ("--gif", "a.png"), ("--trace", "a.txt")):
        assert main(["paint", "a", "--model", str(folder), flag, str(tmp_path / name)]) == 1
        assert "ends in" in capsys.readouterr().err
    assert main(["paint", "a", "--model", str(folder), "--times", "100000000"]) == 1
    assert "1 to 64" in capsys.readouterr().err


def test_the_command_paints_and_shows(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = pytest.importorskip("PIL.Image")
    paths = {name: tmp_path / f"picture.{name}" for name in ("png", "gif", "html")}
    options = ["--model", str(folder), "--seed", "3", "-n", "2", "--steps", "3", "--times", "2", "--json"]
    files = ["--out", str(paths["png"]), "--gif", str(paths["gif"]), "--trace", str(paths["html"])]
    assert main(["paint", TEXTS[0], *options, *files]) == 0
    assert json.loads(capsys.readouterr().out)["forwards"] == 3
    paint = ft.Painter.load(folder)
    expected = paint(TEXTS[0], strategy=paint.steps(3), seed=3, n=2)
    with image.open(paths["png"]) as read:
        assert np.array_equal(np.asarray(read)[::2, ::2], np.concatenate([p.pixels for p in expected.signal], axis=1))
    with image.open(paths["gif"]) as read:
        assert (read.size, read.n_frames) == ((64, 64), 3)
    text = paths["html"].read_text(encoding="utf-8")
    assert "<script" not in text
    for part in ("how sure", "after 3 of 3", "looks at “red”", "sample 2"):
        assert part in text
    assert main(["paint", "", "--model", str(folder), "--out", str(paths["png"])]) == 1
    assert "empty" in capsys.readouterr().err


@pytest.mark.parametrize("steps", ["0", "1"])
def test_steps_on_the_command_line(
    folder: Path, tmp_path: Path, steps: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "a.png"), "--model", str(folder), "--steps", steps, "--json"]
    assert main(["paint", TEXTS[1], *out]) == 0
    assert json.loads(capsys.readouterr().out)["forwards"] == (16 if steps == "0" else 1)


def test_a_page_of_several_texts_escapes_them(folder: Path) -> None:
    paint = ft.Painter.load(folder)
    prompts = ["a <b>", None]
    text = growth(paint, prompts, paint(prompts, seed=1, logprobs=0))
    assert "a &lt;b&gt;" in text
    assert "anything" in text
    with pytest.raises(InvalidArgument, match="row is 5"):
        gif(paint, paint(None, logprobs=0), "never.gif", row=5)
