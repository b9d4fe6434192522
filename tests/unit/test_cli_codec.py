"""`foretoken codec show`: a page or picture of any file, and one sentence about a file that cannot be shown."""

from __future__ import annotations

import json
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foretoken import codec as codecs
from foretoken.cli import codec as command
from foretoken.cli import main
from foretoken.codec.patches import Film, Patches
from foretoken.view.wav import wav
from tests.unit.test_patches import toy

Image = pytest.importorskip("PIL.Image")


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pages go to an empty folder, and no codec is shipped."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(codecs, "names", list)
    return tmp_path


def figures(capsys: pytest.CaptureFixture[str], *arguments: Any) -> dict[str, Any]:
    assert main(["codec", "show", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    before = {file: file.stat().st_mtime_ns for file in Path().rglob("*")}
    assert main(["codec", "show", *map(str, arguments)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert before == {file: file.stat().st_mtime_ns for file in Path().rglob("*")}
    return said.err


def test_a_picture_by_pixels(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(noise(20, 30, 3)).save("a.png")
    found = figures(capsys, "a.png")
    assert (found["kind"], found["out"]) == ("picture", "a.png.codec.html")
    assert (found["figures"]["pixels"], found["figures"]["a pixel is"]) == ("600", "1 of 256")
    assert "<svg" in (here / "a.png.codec.html").read_text(encoding="utf-8")
    exact = figures(capsys, "a.png", "--codec", "pixels-24", "--out", "b.png")
    assert (exact["figures"]["PSNR"], exact["figures"]["SSIM"]) == ("exact", "1.000")
    assert (here / "b.png").read_bytes()[:4] == b"\x89PNG"
    assert main(["codec", "show", "a.png", "--codec", "pixels-16"]) == 0
    assert "PSNR" in capsys.readouterr().out


def test_a_picture_by_patches_of_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    Patches(toy()).save(Path("mine"))
    Image.fromarray(noise(37, 50, 3)).save("a.jpg")
    found = figures(capsys, "a.jpg", "--codec", "mine", "--size", 32)
    assert found["figures"]["patches"] == "64"
    assert "multiples of" in refused(capsys, "a.jpg", "--codec", "mine")


def test_the_first_shipped_codec_of_a_kind_is_taken(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Film(toy(frames=2)).save(Path("a-film"))
    Patches(toy()).save(Path("b-patches"))
    monkeypatch.setattr(codecs, "names", lambda: ["a-film", "b-patches"])
    frames = [Image.fromarray(frame) for frame in noise(5, 16, 16, 3)]
    frames[0].save("a.webp", save_all=True, append_images=frames[1:], duration=1000 / 12, lossless=True)
    frames[0].save("b.png")
    film, picture = figures(capsys, "a.webp"), figures(capsys, "b.png")
    assert (film["kind"], picture["kind"]) == ("film", "picture")
    assert int(film["figures"]["tubelets"]) == 3 * int(picture["figures"]["patches"])


def test_a_folder_of_frames_is_a_film(capsys: pytest.CaptureFixture[str]) -> None:
    Film(toy(frames=2)).save(Path("mine"))
    Path("frames").mkdir()
    for place in range(3):
        Image.fromarray(noise(16, 20, 3)).save(f"frames/{place}.png")
    found = figures(capsys, "frames", "--codec", "mine", "--size", 16, "--out", "a.png")
    assert found["kind"] == "film"
    (Path("frames") / "notes.txt").write_text("not a frame")
    assert figures(capsys, "frames", "--codec", "mine", "--size", 16)["figures"] == found["figures"]
    Path("empty").mkdir()
    assert "holds no pictures" in refused(capsys, "empty", "--codec", "mine")
    assert "no codec for a film is shipped" in refused(capsys, "frames")


def test_a_text_by_its_tokens(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not command.model_names():
        pytest.skip("no model is shipped")
    (here / "tale").write_text("Once upon a time <b>\n" * 200 + "naïve", encoding="utf-8")
    found = figures(capsys, "tale", "--codec", "tales")
    assert (found["kind"], "tokens" in found["figures"]) == ("text", True)
    made = (here / "tale.codec.html").read_text(encoding="utf-8")
    assert "&lt;" in made
    assert "<b>" not in made
    assert figures(capsys, "tale")["figures"]["tokens"]


def test_a_sound_by_its_samples(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("foretoken.codec.samples")
    (here / "a.wav").write_bytes(wav(np.sin(np.arange(4000) / 5).astype(np.float32), 8000))
    found = figures(capsys, "a.wav")
    assert (found["kind"], found["figures"]["samples"]) == ("sound", "4,000")
    assert float(found["figures"]["signal to noise"].split()[0]) > 30
    assert (here / "a.wav.codec.html").read_text(encoding="utf-8").count("<audio") == 2
    (here / "none.wav").write_bytes(wav(np.zeros(0, np.float32), 8000))
    assert "no samples" in refused(capsys, "none.wav")
    (here / "cut.wav").write_bytes((here / "a.wav").read_bytes()[:100])
    assert "cut short" in refused(capsys, "cut.wav")


def bomb(side: int) -> bytes:
    """A PNG that says it has side × side pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(999))) + chunk(b"IEND", b"")
    )


def test_hostile_files_are_one_sentence(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(noise(60, 60, 3)).save("whole.png")
    (here / "cut.png").write_bytes((here / "whole.png").read_bytes()[:2000])
    (here / "text.png").write_text("no picture")
    (here / "empty.jpg").write_bytes(b"")
    for name in ("cut.png", "text.png", "empty.jpg"):
        assert "cannot read the picture" in refused(capsys, name)
    for side in (10_000, 100_000):
        (here / "bomb.png").write_bytes(bomb(side))
        assert any(part in refused(capsys, "bomb.png") for part in ("too large", "more than"))
    assert "no file" in refused(capsys, "missing.png")
    (here / "binary").write_bytes(bytes(range(256)) * 50)
    assert "cannot tell what" in refused(capsys, "binary")
    (here / "zeros").write_bytes(bytes(100))
    assert "cannot tell what" in refused(capsys, "zeros")
    if command.model_names():
        (here / "empty.txt").write_bytes(b"")
        assert "empty" in refused(capsys, "empty.txt")
        (here / "late.txt").write_bytes(b"a" * 5000 + b"\xff")
        assert "not UTF-8 at byte 5000" in refused(capsys, "late.txt")


def test_odd_pictures_are_shown_as_documented(capsys: pytest.CaptureFixture[str]) -> None:
    upright = Image.fromarray(noise(12, 9, 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    clear = upright.copy()
    clear.putalpha(0)
    upright.quantize(7).save("palette.png")
    upright.convert("CMYK").save("cmyk.tif")
    Image.fromarray(noise(12, 9).astype(np.uint16) * 256).save("deep.png")
    clear.save("clear.png")
    upright.transpose(Image.Transpose.ROTATE_90).save("turned.png", exif=exif)
    Image.fromarray(noise(1, 1, 3)).save("one.png")
    for name in ("palette.png", "cmyk.tif", "deep.png", "clear.png", "turned.png"):
        for out in ("a.html", "a.png"):
            assert figures(capsys, name, "--codec", "pixels-24", "--out", out)["figures"]["PSNR"] == "exact"
    assert figures(capsys, "one.png", "--codec", "pixels-24")["figures"]["pixels"] == "1"
    assert figures(capsys, "one.png", "--codec", "pixels-24", "--out", "b.png")["figures"]["PSNR"] == "exact"


def test_wrong_options_are_one_sentence(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(noise(12, 9, 3)).save("a.png")
    assert "end in .html or .png" in refused(capsys, "a.png", "--out", "a.pdf")
    assert "is the file to be shown" in refused(capsys, "a.png", "--out", "a.png")
    assert "no codec is called 'nothing'" in refused(capsys, "a.png", "--codec", "nothing")
    Film(toy(frames=2)).save(Path("mine"))
    assert "makes tubelets, of no picture" in refused(capsys, "a.png", "--codec", "mine")
    for size in (0, -3, 10**6):
        assert "give 1 to 2048" in refused(capsys, "a.png", "--size", size)
    assert "No such file" in refused(capsys, "a.png", "--out", "nowhere/a.html")
    Image.fromarray(np.zeros((2049, 2048, 3), np.uint8)).save("large.png")
    assert "give --size" in refused(capsys, "large.png")
    assert figures(capsys, "large.png", "--size", 8)["figures"]["pixels"] == "64"


def test_without_pillow(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(noise(12, 9, 3)).save("a.png")
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert "foretoken[image]" in refused(capsys, "a.png")


def test_pictures_are_fitted_in_the_middle() -> None:
    made = command.fitted(np.zeros((4, 8, 3), np.uint8), 16)
    assert made.shape == (16, 16, 3)
    assert (made[4:12] == 0).all()
    assert (made[:4] == 255).all()
    assert (made[12:] == 255).all()
    same = noise(16, 16, 3)
    assert command.fitted(same, 16) is same
    assert command.fitted(same, None) is same
