"""What is drawn of signals and their units: the right pixels, in files that others read, and nothing from outside."""

from __future__ import annotations

import html
import io
import math
import re
import sys
import wave
from base64 import b64decode
from typing import Any

import numpy as np
import pytest

from foretoken.codec.png import png
from foretoken.errors import LimitExceeded, MissingExtra, ShapeError
from foretoken.view import board as boards
from foretoken.view import plots, signals
from foretoken.view.board import board
from foretoken.view.page import page
from foretoken.view.sheet import Coding, Panel, Sheet, decibels
from foretoken.view.wav import wav

SYMBOLS = Coding("mine", "patch", 6, 10, 1, 20.0)
VECTORS = Coding("mine", "patch", 6, None, 4, 768.0)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def opened(content: bytes) -> np.ndarray:
    image = pytest.importorskip("PIL.Image")
    with image.open(io.BytesIO(content)) as picture:
        picture.load()
        return np.array(picture)


def a_picture(**options: Any) -> Sheet:
    fields: dict[str, Any] = {
        "name": "a.png", "original": noise(16, 24, 3), "decoded": noise(16, 24, 3, seed=1),
        "units": np.array([3, 1, 4, 1, 5, 9]), "grid": (2, 3), "coding": SYMBOLS, "measures": {"PSNR": "9.9 dB"},
    }  # fmt: skip
    return signals.picture(**{**fields, **options})


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 7, 4), (50, 31, 3), (9, 1, 4)])
def test_png_files_are_what_others_read(shape: tuple[int, int, int]) -> None:
    pixels = noise(*shape)
    found = opened(png(pixels))
    np.testing.assert_array_equal(found, pixels)
    for wrong in (pixels[..., :2], pixels[:0], pixels.astype(float), pixels[0]):
        with pytest.raises(ShapeError, match="give"):
            png(wrong)


def test_wav_files_are_what_others_read() -> None:
    samples = np.array([0, 0.5, -1, 2], dtype=np.float32)
    with wave.open(io.BytesIO(wav(samples, 8000))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (8000, 1, 2)
        assert np.frombuffer(file.readframes(9), "<i2").tolist() == [0, 16384, -32767, 32767]


def test_equal_symbols_have_equal_colours_and_others_other_ones() -> None:
    colours = plots.symbol_colours(np.arange(1000))
    assert colours.shape == (1000, 3)
    assert len(np.unique(colours, axis=0)) > 990
    assert np.abs(np.diff(colours.astype(int), axis=0)).sum(axis=1).min() > 30
    ids = np.array([[7, 999], [999, 7]])
    np.testing.assert_array_equal(plots.symbol_colours(ids), colours[ids])


def test_vectors_are_coloured_by_what_they_differ_in() -> None:
    rng = np.random.default_rng(0)
    vectors = np.zeros((100, 5), np.float32)
    vectors[:, 3] = rng.normal(size=100)
    red = plots.vector_colours(vectors)[:, 0].astype(float)
    assert abs(np.corrcoef(red, vectors[:, 3])[0, 1]) > 0.95
    assert (np.sort(red)[[0, -1]] == [0, 255]).all()
    for few in (vectors[:1], vectors[:2, :1]):
        assert plots.vector_colours(few).shape == (len(few), 3)


def test_errors_are_black_where_there_are_none() -> None:
    original = noise(8, 8, 3)
    decoded = original.copy()
    decoded[2, 5] = original[2, 5] ^ 64
    shown, largest = plots.errors(original, decoded)
    assert largest == 64
    assert (shown[2, 5] == plots.heat(np.array(1.0))).all()
    assert np.delete(shown.reshape(-1, 3), 21, axis=0).max() == 0
    assert plots.errors(original, original)[1] == 0
    brightness = plots.heat(np.linspace(0, 1, 50)).astype(float) @ [0.299, 0.587, 0.114]
    assert (np.diff(brightness) > 0).all()
    assert "every pixel is as it was" in a_picture(decoded=noise(16, 24, 3)).panels[3].note


def test_a_wave_is_where_the_samples_are() -> None:
    samples = np.concatenate([np.zeros(500), np.full(500, 0.5), np.full(500, -2.0)]).astype(np.float32)
    shown = plots.waveform(samples, width=30, height=101)[..., 3]
    assert shown.shape == (101, 30)
    assert (shown[:, 5] == 255).nonzero()[0].tolist() == [50]
    assert (shown[:, 15] == 255).nonzero()[0].tolist() == [25]
    assert (shown[:, 25] == 255).nonzero()[0].tolist() == [100]
    assert (plots.waveform(samples[:600], peak=0.5, width=30, height=101)[:, 29, 3] == 255).nonzero()[0].tolist() == [0]
    assert plots.waveform(np.zeros(3, np.float32)).shape == (120, 3, 4)


def test_a_tone_is_a_line_at_its_height() -> None:
    rate = 8000
    tone = np.sin(2 * np.pi * 1000 * np.arange(rate) / rate).astype(np.float32)
    shown, loudest = plots.spectrogram(tone, rate)
    brightness = shown.astype(float).sum(axis=2)
    assert abs(int(brightness.mean(axis=1).argmax()) - round(shown.shape[0] * (1 - 1000 / (rate / 2)))) <= 1
    quiet, same = plots.spectrogram(tone / 100, rate, loudest=loudest)
    assert same == loudest
    assert quiet.astype(int).sum() < shown.astype(int).sum()
    for samples in (np.zeros(rate, np.float32), tone[:1]):
        assert np.isfinite(plots.spectrogram(samples, rate)[1])
    assert plots.spectrogram(np.zeros(rate, np.float32), rate)[0].shape == shown.shape


def test_a_picture_has_its_units_beside_it() -> None:
    sheet = a_picture()
    original, units, decoded, error = sheet.panels
    assert (original.cells, units.pixels.shape, units.title) == ((2, 3), (2, 3, 3), "patches")
    assert units.labels is not None
    assert units.labels.tolist() == [[3, 1, 4], [1, 5, 9]]
    assert (units.pixels[0, 1] == units.pixels[1, 0]).all()
    assert not (units.pixels[0, 0] == units.pixels[0, 1]).all()
    np.testing.assert_array_equal(decoded.pixels, noise(16, 24, 3, seed=1))
    assert error.pixels.shape == (16, 24, 3)
    assert list(sheet.figures) == ["PSNR", "patches", "a patch is", "bytes", "of its size"]
    assert sheet.figures["of its size"] == f"1/{16 * 24 * 24 / 20:,.0f}"
    vectors = a_picture(units=np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32), coding=VECTORS)
    assert vectors.panels[1].labels is None
    assert vectors.figures["a patch is"] == "4 numbers"
    pixels = Coding("mine", "pixel", 384, 256, 1, 384 * 8.0)
    assert a_picture(units=np.arange(384) % 256, grid=(16, 24), coding=pixels).panels[0].cells is None
    with pytest.raises(ShapeError, match="do not fit"):
        a_picture(grid=(2, 2))
    with pytest.raises(ShapeError, match="do not fit"):
        a_picture(decoded=noise(16, 16, 3))


def test_a_film_is_a_contact_sheet() -> None:
    film, back = noise(30, 8, 8, 3), noise(32, 8, 8, 3, seed=1)
    coding = Coding("mine", "tubelet", 32, 10, 1, 100.0)
    sheet = signals.film("a.gif", film, back, np.arange(32) % 10, (8, 2, 2), coding, {})
    original, decoded, error, units = (panel.pixels for panel in sheet.panels)
    assert original.shape == decoded.shape == error.shape == (8, 12 * 10 - 2, 4)
    np.testing.assert_array_equal(original[:, :8, :3], film[0])
    np.testing.assert_array_equal(original[:, -8:, :3], film[29])
    np.testing.assert_array_equal(decoded[:, -8:, :3], back[29])
    assert (original[:, 8:10, 3] == 0).all()
    assert units.shape == (2, 8 * 3 - 1, 4)
    assert "12 of 30 frames" in sheet.panels[0].note
    one = signals.film("a.gif", film[:1], back[:4], np.arange(4), (1, 2, 2), coding, {})
    assert one.panels[0].pixels.shape == (8, 8, 4)
    with pytest.raises(ShapeError, match="do not fit"):
        signals.film("a.gif", film, back[:29], np.arange(32), (8, 2, 2), coding, {})


def test_a_sound_has_its_codes_as_a_picture() -> None:
    samples = np.sin(np.arange(4000) / 5).astype(np.float32)
    coding = Coding("mine", "code", 40, 1024, 1, 400.0)
    codes = np.arange(40).reshape(10, 4)
    sheet = signals.sound("a.wav", samples, np.pad(samples, (0, 100)) / 2, codes, 8000, coding, {})
    assert len(sheet.panels) == 5
    picture = sheet.panels[4].pixels
    assert picture.shape == (24, 10, 3)
    np.testing.assert_array_equal(picture[::6].swapaxes(0, 1), plots.symbol_colours(codes))
    assert sheet.panels[0].sound == wav(samples, 8000)
    assert sheet.panels[0].pixels[..., 3].mean() > sheet.panels[1].pixels[..., 3].mean()  # half as loud
    assert len(signals.sound("a.wav", samples, samples, np.arange(4000), 8000, coding, {}).panels) == 4
    silent = np.zeros(100, np.float32)
    assert "fills the height" in signals.sound("a.wav", silent, silent, np.zeros(100), 8000, coding, {}).panels[0].note
    for original, decoded in ((samples, samples[:-1]), (samples[:0], samples[:0])):
        with pytest.raises(ShapeError, match="came back"):
            signals.sound("a.wav", original, decoded, codes, 8000, coding, {})


def test_a_page_holds_all_it_needs_and_runs_nothing() -> None:
    evil = '<script>alert("&")</script>$title.png'
    samples = np.sin(np.arange(4000) / 5).astype(np.float32)
    pieces = [("<b>", 7), ("\n", 8), ("\x1b[2J", 9), ("\u202e", 10)]
    for sheet in (
        a_picture(name=evil, measures={evil: evil}),
        signals.sound(evil, samples, samples, np.zeros((2, 2), int), 8000, SYMBOLS, {}),
        signals.text(evil, pieces, SYMBOLS, {}),
    ):
        made = page(sheet)
        assert "<script" not in made
        assert html.escape(evil) in made
        assert not re.findall(r'(?:href|src)="(?!data:)', made)
        assert "url(" not in made
        assert "http" not in made
        assert "light-dark(" in made
    text = page(signals.text(evil, pieces, SYMBOLS, {}))
    assert "&lt;b&gt;" in text
    assert "U+001B" in text
    assert "U+202E" in text
    assert "\u202e" not in text
    assert text.count('<span class="t"') == 4
    links = re.findall(r'href="data:image/png;base64,([^"]+)"', page(a_picture()))
    assert len(links) == 4
    shown = opened(b64decode(links[0]))
    np.testing.assert_array_equal(shown[:: shown.shape[0] // 16, :: shown.shape[1] // 24], noise(16, 24, 3))
    assert re.findall(r">(\d)</text>", page(a_picture())) == list("314159")
    assert page(signals.sound("a", samples, samples, samples, 8000, SYMBOLS, {})).count("<audio") == 2


def test_a_board_is_a_picture_of_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = opened(board(a_picture(original=np.full((16, 24, 3), (255, 0, 255), np.uint8))))
    assert shown.shape[1:] == (boards.WIDTH, 3)
    magenta = (shown == (255, 0, 255)).all(axis=2)
    rows, columns = magenta.any(axis=1).nonzero()[0], magenta.any(axis=0).nonzero()[0]
    high, wide = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
    assert wide > 300
    assert high / wide == pytest.approx(16 / 24, rel=0.02)
    samples = np.sin(np.arange(4000) / 5).astype(np.float32)
    assert opened(board(signals.sound("é 狐", samples, samples, np.zeros((9, 4), int), 8000, SYMBOLS, {}))).std() > 10
    few, many = (signals.text("a", [("fox\n", 3)] * count, SYMBOLS, {}) for count in (3, 30))
    assert opened(board(many)).shape[0] - opened(board(few)).shape[0] == 27 * 34
    with pytest.raises(LimitExceeded, match=r"write .html"):
        board(signals.text("a", [("fox\n", 3)] * 600, SYMBOLS, {}))
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtra, match="foretoken\\[image\\]"):
        board(few)
    assert "<svg" in page(a_picture())  # a page needs no Pillow


def test_a_long_word_and_an_empty_sheet_are_drawn() -> None:
    pytest.importorskip("PIL")
    assert opened(board(Sheet("x" * 5000, "y" * 5000, {}))).shape[1] == boards.WIDTH
    assert opened(board(Sheet("", "", {}, [Panel("", noise(1, 1, 3))]))).shape[1] == boards.WIDTH
    assert opened(board(signals.text("a", [("", 0), ("\n\n", 1), ("x" * 900, 2)], SYMBOLS, {}))).shape[0] < 1000
    assert decibels(math.inf) == "exact"
