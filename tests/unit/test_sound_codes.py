"""Sound codes: codes in the delay pattern, the same whatever stands beside; folders there and back; nothing hostile."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from foretoken import hub
from foretoken.codec import sound_codes
from foretoken.codec.sound_autoencoder import SoundAutoencoder, SoundConfig
from foretoken.codec.sound_codes import SoundCodes
from foretoken.errors import ArgumentTypeError, CheckpointError, InvalidArgument, ShapeError
from foretoken.layouts import delay

CONFIG = SoundConfig(
    rate=8000, strides=(4, 5, 2), encoder_widths=(6, 8, 10), encoder_blocks=(1, 2, 1), decoder_widths=(6, 8, 10),
    decoder_blocks=(1, 1, 2), latent=5, books=3, codes=32,
)  # fmt: skip
SHIPPED = "digits-sound"


def toy(config: SoundConfig = CONFIG, seed: int = 0) -> SoundCodes:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = SoundAutoencoder(config)
    rng = np.random.default_rng(seed)
    books = rng.normal(size=(config.books, config.codes, config.latent)).astype(np.float32)
    books *= 0.5 * 0.6 ** np.arange(config.books, dtype=np.float32)[:, None, None]
    return SoundCodes(module, books)


def speech(length: int, seed: int = 0) -> np.ndarray:
    """Gliding tones with noise, as loud as speech here and silent there."""
    rng = np.random.default_rng(seed)
    time = np.arange(length) / 8000
    tone = sum(np.sin(2 * np.pi * (k * 140 * time + 20 * np.sin(9 * time))) / k for k in range(1, 9))
    loud = np.clip(np.sin(2 * np.pi * 3 * time + seed), 0, 1)
    return (loud * (0.1 * tone + 0.01 * rng.normal(size=length))).astype(np.float32)


def shipped() -> SoundCodes:
    return SoundCodes.from_folder(hub.path(SHIPPED))


@pytest.fixture(scope="module", params=[toy, shipped])
def codec(request: pytest.FixtureRequest) -> SoundCodes:
    return request.param()


@pytest.mark.parametrize("length", [1, 39, 40, 159, 160, 161, 1600, 3217])
def test_codes_are_a_row_of_whole_frames(length: int, codec: SoundCodes) -> None:
    signal, hop, books = speech(length), codec.config.hop, codec.config.books
    grid = codec.grid(signal)
    units = codec.encode(signal)
    assert grid == (math.ceil(length / hop), books)
    assert units.shape == (math.prod(grid),)
    assert units.dtype == np.int64
    assert 0 <= units.min() <= units.max() < codec.vocab_size
    assert codec.bits(signal) == pytest.approx(math.prod(grid) * math.log2(codec.vocab_size))
    decoded = codec.decode(units, grid)
    assert decoded.shape == (grid[0] * hop,)
    assert decoded.dtype == np.float32
    assert np.abs(decoded).max() <= 1
    assert np.array_equal(codec.decode(units), decoded)


def test_the_row_is_the_delay_pattern_of_residual_codes(codec: SoundCodes) -> None:
    """By the definition: each book codes what those before it left over, and stands behind them in the row."""
    signal, books = speech(4000), codec.config.books
    rest = codec.vectors(signal).astype(np.float64)
    ids = np.empty((len(rest), books), dtype=int)
    for book in range(books):
        distances = np.square(rest[:, None] - codec.codebooks[book][None].astype(np.float64)).sum(axis=2)
        ids[:, book] = distances.argmin(axis=1)
        rest -= codec.codebooks[book][ids[:, book]]
    units = codec.encode(signal)
    assert np.mean(delay(len(rest), books).row(ids) == units) > 0.999
    assert units[0] == ids[0, 0]
    assert units[1:3].tolist() == [ids[1, 0], ids[0, 1]]


def test_a_row_does_not_depend_on_its_neighbours(codec: SoundCodes) -> None:
    signals = [speech(length, seed) for seed, length in enumerate((1600, 161, 4000))]
    rows = codec.canvas(signals).rows
    for signal, row in zip(signals, rows, strict=True):
        assert np.array_equal(row, codec.encode(signal))
        assert np.array_equal(codec.decode(np.array(row)), codec.decode(codec.encode(signal)))


def test_long_sound_goes_through_in_pieces(codec: SoundCodes, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it would as a whole, up to rounding; and the reach that pieces are given is needed."""
    signal = speech(12_000)
    vectors, units = codec.vectors(signal), codec.encode(signal)
    decoded = codec.decode(units)
    monkeypatch.setattr(sound_codes, "_PIECE", 20)
    np.testing.assert_allclose(codec.vectors(signal), vectors, atol=1e-4)
    np.testing.assert_allclose(codec.decode(units), decoded, atol=1e-4)
    monkeypatch.setattr(SoundConfig, "reach", 0)
    assert np.abs(codec.vectors(signal) - vectors).max() > 1e-3
    assert np.abs(codec.decode(units) - decoded).max() > 1e-4


def test_more_books_say_more() -> None:
    """Of the shipped codec: each book brings what is decoded nearer to the vectors, and to the sound."""
    codec, signal = shipped(), speech(8000)
    vectors = codec.vectors(signal)
    left = []
    for books in (1, 2, 3, 4):
        fewer = codec.first(books)
        units = fewer.encode(signal)
        ids = delay(len(vectors), books).grid(units).reshape(-1, books)
        left.append(np.square(vectors - sum(fewer.codebooks[k][ids[:, k]] for k in range(books))).mean())
        assert fewer.grid(signal) == (50, books)
        assert np.array_equal(fewer.vectors(signal), vectors)
    assert left[0] > left[1] > left[2] > left[3]
    for books in (0, 5, 2.0):
        with pytest.raises(InvalidArgument, match="books"):
            codec.first(books)  # type: ignore[arg-type]


def test_the_first_books_are_a_codec_of_their_own() -> None:
    """Which shares the weights, draws nothing, and says what the same books of the whole one say."""
    codec, signal = toy(), speech(2000)
    state = torch.get_rng_state()
    fewer = codec.first(2)
    assert torch.equal(torch.get_rng_state(), state)
    grids = [c.encode(signal)[delay(50, c.config.books).order.argsort()].reshape(50, -1) for c in (codec, fewer)]
    assert np.array_equal(grids[0][:, :2], grids[1])
    assert not np.array_equal(fewer.decode(fewer.encode(signal)), codec.decode(codec.encode(signal)))
    assert fewer.module.decoder.first.weight.data_ptr() == codec.module.decoder.first.weight.data_ptr()


def test_silent_clipped_and_empty_sound(codec: SoundCodes) -> None:
    silent = codec.decode(codec.encode(np.zeros(1600, dtype=np.float32)))
    assert np.isfinite(silent).all()
    loud = speech(1600) * 1000
    assert np.array_equal(codec.encode(loud), codec.encode(loud.clip(-1, 1)))
    empty = np.zeros(0, dtype=np.float32)
    assert codec.grid(empty) == (0, codec.config.books)
    assert codec.encode(empty).shape == codec.decode(codec.encode(empty)).shape == (0,)
    with pytest.raises(InvalidArgument, match="row"):
        codec.canvas([empty])


def test_silence_stays_quiet() -> None:
    codec = shipped()
    assert np.abs(codec.decode(codec.encode(np.zeros(8000, dtype=np.float32)))).max() < 0.02


def test_files_and_other_rates_become_signals() -> None:
    codec = toy()
    assert codec.signal(np.zeros((16000, 2), dtype=np.float32), source_rate=16000).shape == (8000,)


@pytest.mark.parametrize(
    ("signal", "error"),
    [
        (np.zeros((3, 2), dtype=np.float32), ShapeError),
        (np.zeros(3), ArgumentTypeError),
        ("a.wav", ArgumentTypeError),
        (np.array([0, np.nan], dtype=np.float32), InvalidArgument),
        (np.array([np.inf], dtype=np.float32), InvalidArgument),
    ],
)
def test_what_is_no_signal_is_refused(signal: Any, error: type[Exception]) -> None:
    for call in (toy().encode, toy().grid):
        with pytest.raises(error, match="signal"):
            call(signal)


@pytest.mark.parametrize(
    ("units", "grid", "error"),
    [
        (np.array([0, 1]), None, ShapeError),
        (np.array([[0, 1, 2]]), None, ShapeError),
        (np.array([0, 1, 2]), (3, 1), ShapeError),
        (np.array([0, 1, 2]), (3,), ShapeError),
        (np.array([0, 1, 32]), None, InvalidArgument),
        (np.array([0, 1, -1]), None, InvalidArgument),
        (np.array([0.0, 1.0, 2.0]), None, ArgumentTypeError),
    ],
)
def test_what_are_no_units_is_refused(units: Any, grid: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        toy().decode(units, grid)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    codec, signal = toy(), speech(4000)
    codec.save(tmp_path / "a" / "b")
    again = SoundCodes.from_folder(str(tmp_path / "a" / "b"))
    assert again.config == codec.config
    assert repr(again) == "SoundCodes(8000 Hz, 3 books of 32, hop 40)"
    units = codec.encode(signal)
    assert np.array_equal(again.encode(signal), units)
    assert np.array_equal(again.decode(units), codec.decode(units))
    assert json.loads((tmp_path / "a" / "b" / "config.json").read_text())["codec"] == "sound"
    codec.save(tmp_path / "half", dtype=torch.float16)
    sizes = [(path / "model.safetensors").stat().st_size for path in (tmp_path / "half", tmp_path / "a" / "b")]
    assert sizes[0] < 0.7 * sizes[1]
    again = pickle.loads(pickle.dumps(codec))
    assert np.array_equal(again.encode(signal), units)


def test_books_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError, match="books"):
        SoundCodes(toy().module, toy().codebooks[:2])


def refused(folder: Path, message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        SoundCodes.from_folder(folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_every_file_of_a_folder_is_needed_whole(name: str, tmp_path: Path) -> None:
    toy().save(tmp_path)
    whole = (tmp_path / name).read_bytes()
    for part in (0, 3, 19):
        (tmp_path / name).write_bytes(whole[: len(whole) * part // 20])
        refused(tmp_path, name)
    (tmp_path / name).unlink()
    refused(tmp_path, name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codec": "picture"}, "no configuration of a sound codec"),
        ({"codec": None}, "no configuration of a sound codec"),
        ({"mystery": 1}, r"unknown keys \['mystery'\]"),
        ({"rate": 0}, "rate"),
        ({"rate": 8000.0}, "rate"),
        ({"strides": []}, "stages"),
        ({"strides": [3, 5, 2]}, "even"),
        ({"strides": [4, 5]}, "stages"),
        ({"encoder_widths": [6, 8, 10**9]}, "encoder_widths"),
        ({"encoder_widths": [6, 8, 4096]}, "does not fit"),
        ({"decoder_blocks": [1, 1, True]}, "decoder_blocks"),
        ({"decoder_blocks": 5}, "decoder_blocks"),
        ({"books": 2}, "books.*expected"),
        ({"codes": 2**20}, "books.*expected"),
        ({"latent": "5"}, "latent"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    toy().save(tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(raw | changes))
    refused(tmp_path, message)
    (tmp_path / "config.json").write_text(json.dumps([raw]))
    refused(tmp_path, "must hold a JSON object")
    del raw["latent"]
    (tmp_path / "config.json").write_text(json.dumps(raw))
    refused(tmp_path, r"missing keys \['latent'\]")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.pop("books"), "'books' is None"),
        (lambda t: t.update(extra=torch.zeros(1)), "expected None"),
        (lambda t: t["books"].fill_(float("nan")), "NaN"),
        (lambda t: t.update({"decoder.last.weight": torch.zeros(6, 1, 9)}), r"\(6, 1, 9\)"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    spoil: Callable[[dict[str, torch.Tensor]], object], message: str, tmp_path: Path
) -> None:
    toy().save(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    spoil(tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    refused(tmp_path, message)


@pytest.mark.parametrize("changes", [{"books": 0}, {"strides": (5,)}, {"encoder_widths": [6, 8, 10]}])
def test_a_configuration_of_ones_own_is_checked(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        dataclasses.replace(CONFIG, **changes)


# What is shipped


def test_what_is_shipped_is_as_it_says() -> None:
    codec = shipped()
    assert (codec.rate, codec.config.hop, codec.config.books, codec.vocab_size) == (8000, 160, 4, 1024)
    folder = hub.path(SHIPPED)
    assert (folder / "model.safetensors").stat().st_size < 2.6e6
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "CC BY-SA 4.0" in card
    assert "foretoken train digits-sound" in card


def test_what_is_shipped_has_learnt() -> None:
    """Sound that it never heard, made here: its levels over time come back, and not those of other sound."""
    codec = shipped()
    signal = speech(16000)
    decoded = codec.decode(codec.encode(signal))
    levels = [np.log(np.square(x.reshape(-1, 400)).mean(axis=1) + 1e-6) for x in (signal, decoded, signal[::-1].copy())]
    assert np.corrcoef(levels[0], levels[1])[0, 1] > 0.9
    assert np.abs(levels[0] - levels[1]).mean() < 0.5 * np.abs(levels[0] - levels[2]).mean()
