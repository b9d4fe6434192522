"""Sounds of files: every kind of WAV file is read as it is, and no hostile one takes memory or gets through."""

from __future__ import annotations

import contextlib
import importlib.util
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foretoken.codec import sounds
from foretoken.errors import (
    ArgumentTypeError,
    ForetokenError,
    InvalidArgument,
    LimitExceeded,
    MissingExtra,
    ShapeError,
)


def chunk(name: bytes, data: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(data) if size is None else size) + data + b"\0" * (len(data) % 2)


def form(
    kind: int = 1, channels: int = 1, rate: int = 8000, bits: int = 16, frame: int | None = None, more: bytes = b""
) -> bytes:
    frame = channels * bits // 8 if frame is None else frame
    return chunk(b"fmt ", struct.pack("<HHIIHH", kind, channels, rate, rate * frame & 2**32 - 1, frame, bits) + more)


def riff(*chunks: bytes) -> bytes:
    body = b"".join(chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@given(st.integers(0, 500), st.integers(1, 2**31 - 1), st.integers(0, 2**32))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read(tmp_path: Path, length: int, rate: int, seed: int) -> None:
    rate = min(rate, 2**30)
    samples = (np.random.default_rng(seed).integers(-(2**15), 2**15, length) / 2**15).astype(np.float32)
    sounds.write(tmp_path / "a.wav", samples, rate=rate)
    found = sounds.read(tmp_path / "a.wav")
    assert found.rate == rate
    assert found.samples.dtype == np.float32
    assert np.array_equal(found.samples, samples)


WIDE = [0, 1, -1, 2**23 - 1, -(2**23), 12345 * 7]
EXTENSION = struct.pack("<HHI", 22, 16, 0) + struct.pack("<H", 1) + b"\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71"
KINDS = {
    "8 bits": (form(bits=8), bytes([0, 128, 255]), [-1, 0, 127 / 128]),
    "16 bits": (form(), struct.pack("<3h", -(2**15), 0, 2**14), [-1, 0, 0.5]),
    "24 bits": (
        form(bits=24),
        b"".join(n.to_bytes(3, "little", signed=True) for n in WIDE),
        [n / 2**23 for n in WIDE],
    ),
    "32 bits": (form(bits=32), struct.pack("<2i", -(2**31), 2**30), [-1, 0.5]),
    "floats": (form(3, bits=32), struct.pack("<3f", -1.5, 0.1, 3.0), [-1.5, 0.1, 3.0]),
    "doubles": (form(3, bits=64), struct.pack("<2d", -0.5, 0.25), [-0.5, 0.25]),
    "stereo": (form(channels=2), struct.pack("<4h", 2**14, 0, -(2**15), -(2**15)), [0.25, -1]),
    "extensible": (form(0xFFFE, more=EXTENSION), struct.pack("<h", 2**14), [0.5]),
    "odd rate": (form(rate=11_127), struct.pack("<h", 2**14), [0.5]),
    "no samples": (form(), b"", []),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_is_read(kind: str, tmp_path: Path) -> None:
    head, data, wanted = KINDS[kind]
    path = written(
        tmp_path / "a.wav", riff(chunk(b"LIST", b"odd"), head, chunk(b"fact", b"1234"), chunk(b"data", data))
    )
    found = sounds.read(path)
    np.testing.assert_allclose(found.samples, np.array(wanted), rtol=1e-7)
    assert found.samples.dtype == np.float32
    assert found.rate == (11_127 if kind == "odd rate" else 8000)


DATA = chunk(b"data", struct.pack("<4h", 1, 2, 3, 4))
HOSTILE = {
    "empty": b"",
    "only a name": b"RIFF",
    "no chunks": riff(),
    "no data": riff(form()),
    "no format": riff(DATA),
    "data of 4 GB": riff(form(), chunk(b"data", b"12", 2**32 - 1)),
    "data that is cut": riff(form(), DATA)[:-3],
    "format that is cut": riff(form())[:20],
    "format of 2 bytes": riff(chunk(b"fmt ", b"\1\0"), DATA),
    "no channels": riff(form(channels=0), DATA),
    "65,535 channels": riff(form(channels=65535, frame=2), DATA),
    "channels that do not fit": riff(form(channels=2, frame=2), DATA),
    "0 Hz": riff(form(rate=0), DATA),
    "4 GHz": riff(form(rate=2**32 - 1), DATA),
    "0 bits": riff(form(bits=0, frame=2), DATA),
    "12 bits": riff(form(bits=12, frame=2), DATA),
    "half floats": riff(form(3, bits=16), DATA),
    "mp3 inside": riff(form(0x55), DATA),
    "extensible without its extension": riff(form(0xFFFE), DATA),
    "half a sample": riff(form(), chunk(b"data", b"123")),
    "half of the channels": riff(form(channels=2), chunk(b"data", b"123456")),
    "NaN": riff(form(3, bits=32), chunk(b"data", struct.pack("<2f", 0, float("nan")))),
    "infinity": riff(form(3, bits=64), chunk(b"data", struct.pack("<2d", 0, float("-inf")))),
    "beyond float32": riff(form(3, bits=64), chunk(b"data", struct.pack("<d", 1e300))),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    path = written(tmp_path / "evil.wav", HOSTILE[kind])
    error = MissingExtra if kind == "only a name" and not importlib.util.find_spec("soundfile") else InvalidArgument
    with pytest.raises(error, match=r"evil\.wav"):
        sounds.read(path)


def test_a_file_of_too_many_samples_is_refused_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "large.wav"
    with path.open("wb") as file:
        file.write(riff(form(bits=8), chunk(b"data", b"", 2**31)))
        file.truncate(2**31 + 44)  # a hole: it takes no space
    with pytest.raises(LimitExceeded, match=r"2147483648 samples.*cut it"):
        sounds.read(path)
    small = written(tmp_path / "small.wav", riff(form(), DATA))
    assert len(sounds.read(small, max_samples=4).samples) == 4
    with pytest.raises(LimitExceeded, match="more than 3"):
        sounds.read(small, max_samples=3)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_file_is_refused_or_harmless(tmp_path: Path, data: st.DataObject) -> None:
    whole = bytearray(riff(chunk(b"LIST", b"odd"), form(channels=2), DATA))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(12, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = written(tmp_path / "a.wav", whole[: data.draw(st.integers(12, len(whole)))])
    with contextlib.suppress(ForetokenError):
        found = sounds.read(path)
        assert np.isfinite(found.samples).all()
        assert 0 < found.rate < 2**31


def test_other_files_take_another_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "a.flac", b"fLaC" + b"\0" * 60)
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(MissingExtra, match=r"foretoken\[audio\]"):
        sounds.read(path)


def test_flac_is_read(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    samples = (np.random.default_rng(0).integers(-(2**15), 2**15, (200, 2)) / 2**15).astype(np.float32)
    soundfile.write(tmp_path / "a.flac", samples, 22050, subtype="PCM_16")
    found = sounds.read(tmp_path / "a.flac")
    assert found.rate == 22050
    np.testing.assert_allclose(found.samples, samples.mean(axis=1), atol=1e-6)
    with pytest.raises(LimitExceeded):
        sounds.read(tmp_path / "a.flac", max_samples=399)
    whole = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").write_bytes(whole[:30])
    with pytest.raises(InvalidArgument, match=r"a\.flac"):
        sounds.read(tmp_path / "a.flac")


@pytest.mark.parametrize(
    ("sound", "rate", "error", "message"),
    [
        (np.zeros(3, dtype=np.float32), None, InvalidArgument, "rate"),
        (np.zeros(3, dtype=np.float32), 0, InvalidArgument, "rate"),
        (np.zeros(3, dtype=np.float32), 8000.0, InvalidArgument, "rate"),
        ("no/such/file.wav", None, InvalidArgument, "no/such/file.wav"),
        ("\0", None, InvalidArgument, "cannot read"),
        ("some.wav", 8000, InvalidArgument, "says its own"),
        (np.zeros((2, 2, 2), dtype=np.float32), 8000, ShapeError, r"\(2, 2, 2\)"),
        (np.zeros((3, 0), dtype=np.float32), 8000, ShapeError, "channels"),
        (np.zeros((2, 8000), dtype=np.float32), 8000, ShapeError, "channels"),
        (np.zeros(3, dtype=np.int64), 8000, ArgumentTypeError, "int64"),
        (np.zeros(3, dtype=complex), 8000, ArgumentTypeError, "complex"),
        ([0.0], 8000, ArgumentTypeError, "list"),
        (None, 8000, ArgumentTypeError, "NoneType"),
        (np.array([1.0, np.nan]), 8000, InvalidArgument, "sample 1"),
    ],
)
def test_what_is_no_sound_is_refused(sound: Any, rate: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        sounds.read(sound, rate=rate)


def test_arrays_are_scaled_and_mixed() -> None:
    assert sounds.read(np.array([0, 255], dtype=np.uint8), rate=1).samples.tolist() == [-1, 127 / 128]
    assert sounds.read(torch.tensor([[1.0, 0.5]]), rate=1).samples.tolist() == [0.75]
    given = np.zeros(4, dtype=np.float32)
    assert sounds.read(given, rate=1).samples is given  # its memory, without a copy


def test_a_file_at_another_rate(tmp_path: Path) -> None:
    tone = np.sin(np.arange(2205) / 9).astype(np.float32)
    sounds.write(tmp_path / "a.wav", tone, rate=22050)
    assert sounds.at_rate(tmp_path / "a.wav", 8000).shape == (800,)
    assert np.abs(sounds.at_rate(tmp_path / "a.wav", 22050) - tone).max() < 1 / 2**15
    with pytest.raises(InvalidArgument, match="says its own"):
        sounds.at_rate(tmp_path / "a.wav", 8000, source_rate=22050)
