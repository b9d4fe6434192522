"""Samples: linear codes return exactly, μ-law as near as it says; what is no signal is refused."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from foretoken.codec.samples import Samples
from foretoken.errors import ArgumentTypeError, InvalidArgument, ShapeError


def steps_of(bits: int, length: int, seed: int) -> np.ndarray:
    """Samples that a file of so many bits can hold."""
    whole = np.random.default_rng(seed).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), length)
    return (whole / 2 ** (bits - 1)).astype(np.float32)


@given(st.integers(0, 3000), st.integers(0, 2**32))
def test_sixteen_bits_return_exactly(length: int, seed: int) -> None:
    codec = Samples(rate=16000, bits=16)
    signal = steps_of(16, length, seed)
    units = codec.encode(signal)
    assert units.dtype == np.int64
    assert np.array_equal(codec.decode(units, codec.grid(signal)), signal)
    assert codec.grid(signal) == (length,)
    assert codec.bits(signal) == 16 * length


@given(st.integers(1, 3000), st.integers(0, 2**32))
def test_eight_bits_return_nearly(length: int, seed: int) -> None:
    codec = Samples(bits=8)
    rng = np.random.default_rng(seed)
    signal = (rng.uniform(-1, 1, length) * 10 ** rng.uniform(-4, 0, length)).astype(np.float32)
    units = codec.encode(signal)
    assert 0 <= units.min() <= units.max() < codec.vocab_size == 256
    error = np.abs(codec.decode(units) - signal)
    assert (error <= np.abs(signal) / 45 + 1 / 11_000).all()
    assert np.array_equal(codec.encode(codec.decode(units)), units)
    assert codec.bits(signal) == 8 * length


@pytest.mark.parametrize("bits", [8, 16])
def test_silence_clipped_and_empty_sound(bits: int) -> None:
    codec = Samples(bits=bits)
    top = 2**bits - 1
    assert codec.encode(np.zeros(5, dtype=np.float32)).tolist() == [(top + 1) // 2] * 5
    assert np.abs(codec.decode(codec.encode(np.zeros(5, dtype=np.float32)))).max() < 1e-4
    assert codec.encode(np.array([-7, -1, 1, 7], dtype=np.float32)).tolist() == [0, 0, top, top]
    empty = np.zeros(0, dtype=np.float32)
    assert codec.encode(empty).shape == codec.decode(codec.encode(empty)).shape == (0,)
    with pytest.raises(InvalidArgument, match="row"):
        codec.canvas([empty])


def test_a_canvas_has_a_row_for_each_signal() -> None:
    codec = Samples()
    signals = [steps_of(16, length, length) for length in (3, 100, 1)]
    canvas = codec.canvas(signals)
    assert [row.tolist() for row in canvas.rows] == [codec.encode(signal).tolist() for signal in signals]


def test_another_rate_and_stereo_become_a_signal() -> None:
    codec = Samples(rate=8000)
    tone = np.sin(np.arange(4000) * 2 * math.pi * 440 / 16000).astype(np.float32)
    made = codec.signal(np.stack([tone, tone], axis=1), source_rate=16000)
    wanted = np.sin(np.arange(2000) * 2 * math.pi * 440 / 8000)
    assert np.abs(made[200:-200] - wanted[200:-200]).max() < 1e-3
    assert codec.signal(tone) is not None
    assert np.array_equal(codec.signal(torch.from_numpy(tone)), tone)


@pytest.mark.parametrize(
    ("signal", "error"),
    [
        (np.zeros((3, 2), dtype=np.float32), ShapeError),
        (np.zeros((), dtype=np.float32), ShapeError),
        (np.zeros(3), ArgumentTypeError),
        (np.zeros(3, dtype=np.int16), ArgumentTypeError),
        ([0.0, 0.5], ArgumentTypeError),
        (None, ArgumentTypeError),
        (np.array([0, np.nan], dtype=np.float32), InvalidArgument),
        (np.array([-np.inf], dtype=np.float32), InvalidArgument),
    ],
)
def test_what_is_no_signal_is_refused(signal: Any, error: type[Exception]) -> None:
    for codec in (Samples(bits=8), Samples(bits=16)):
        with pytest.raises(error, match="signal"):
            codec.encode(signal)
        with pytest.raises(error, match="signal"):
            codec.grid(signal)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(
    ("units", "grid", "error"),
    [
        (np.array([-1]), None, InvalidArgument),
        (np.array([2**16]), None, InvalidArgument),
        (np.array([0.5]), None, ArgumentTypeError),
        (np.array([[1, 2]]), None, ShapeError),
        (np.array([1, 2]), (3,), ShapeError),
        (np.array([1, 2]), (2, 1), ShapeError),
    ],
)
def test_what_are_no_units_is_refused(bits: int, units: Any, grid: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        Samples(bits=bits).decode(units, grid)


@pytest.mark.parametrize("options", [{"bits": 12}, {"bits": True}, {"rate": 0}, {"rate": 8000.0}, {"rate": 2**21}])
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=next(iter(options))):
        Samples(**options)


def test_a_codec_pickles() -> None:
    again = pickle.loads(pickle.dumps(Samples(rate=16000, bits=16)))
    assert repr(again) == "Samples(rate=16000, bits=16)"
