"""Sound as numbers and at other rates: exact round trips, the twin's formulas, no tone where there was none."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foretoken import kernels
from foretoken.errors import ArgumentTypeError, InvalidArgument, LimitExceeded, ShapeError
from foretoken.reference import wave as reference

RATES = ((44100, 16000), (48000, 16000), (16000, 8000), (8000, 16000), (16000, 44100), (11025, 8000), (7919, 8000))


def test_ten_thousand_shapes_of_linear_codes_come_back() -> None:
    rng = np.random.default_rng(0)
    for _ in range(10_000):
        bits = int(rng.choice([8, 16]))
        ids = rng.integers(0, 2**bits, rng.integers(0, 9, rng.integers(1, 4)))
        samples = kernels.pcm_decode(ids, bits=bits)
        again, clipped = kernels.pcm_encode(samples, bits=bits)
        np.testing.assert_array_equal(again, ids)
        assert clipped == 0
        assert samples.dtype == np.float32


@settings(max_examples=200)
@given(st.sampled_from([8, 16]), st.integers(0, 100), st.integers(0, 2**32))
def test_linear_codes_are_those_of_the_twin(bits: int, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    # A third of the samples stand between two codes, a third are loud.
    edges = (rng.integers(-(2**bits), 2**bits, count) + 0.5) / 2**bits
    kinds = [edges, rng.normal(size=count), rng.normal(size=count) / 10]
    samples = np.choose(rng.integers(0, 3, count), kinds).astype(np.float32)
    ids, clipped = kernels.pcm_encode(samples, bits=bits)
    expected = reference.pcm_encode(torch.from_numpy(samples), bits=bits)
    np.testing.assert_array_equal(ids, expected[0].numpy())
    assert clipped == expected[1] == np.count_nonzero(np.abs(samples) > 1)
    inside = np.abs(samples) <= 1
    error = np.abs(kernels.pcm_decode(ids, bits=bits) - samples)[inside]
    assert error.max(initial=0) <= 2.0 ** (1 - bits)  # half of a step, but for the topmost code
    decoded = reference.pcm_decode(torch.from_numpy(ids), bits=bits)
    np.testing.assert_array_equal(kernels.pcm_decode(ids, bits=bits), decoded.numpy())


def test_linear_codes_at_the_ends() -> None:
    samples = np.array([-1.5, -1, -0.0, 0, 1 - 2**-15, 1, 1.5], dtype=np.float32)
    assert kernels.pcm_encode(samples) == (pytest.approx([0, 0, 32768, 32768, 65535, 65535, 65535]), 2)
    assert kernels.pcm_encode(samples, bits=8) == (pytest.approx([0, 0, 128, 128, 255, 255, 255]), 2)
    silence = np.zeros(100, dtype=np.float32)
    np.testing.assert_array_equal(kernels.pcm_decode(kernels.pcm_encode(silence).ids), silence)


def test_every_mu_law_code_comes_back() -> None:
    ids = np.arange(256)
    samples = kernels.mu_law_decode(ids)
    np.testing.assert_array_equal(samples, reference.mu_law_decode(torch.from_numpy(ids)).numpy())
    np.testing.assert_array_equal(kernels.mu_law_encode(samples).ids, ids)
    np.testing.assert_array_equal(samples, -samples[::-1])
    assert np.all(np.diff(samples) > 0)
    assert (samples[0], samples[-1]) == (-1, 1)


def test_mu_law_is_the_formula() -> None:
    """As torchaudio and TensorFlow write it; they differ only within a rounding of an edge."""
    samples = np.linspace(-1, 1, 200_001).astype(np.float32)
    law = np.sign(samples) * np.log1p(255 * np.abs(samples.astype(np.float64))) / math.log(256)
    exact = (law + 1) / 2 * 255 + 0.5
    ids, clipped = kernels.mu_law_encode(samples)
    assert clipped == 0
    sure = np.abs(exact - np.round(exact)) > 1e-4
    assert sure.mean() > 0.99
    np.testing.assert_array_equal(ids[sure], np.floor(exact)[sure])
    np.testing.assert_array_equal(ids, reference.mu_law_encode(torch.from_numpy(samples))[0].numpy())
    levels = 2 * np.arange(256) / 255 - 1
    expected = np.sign(levels) * (256 ** np.abs(levels) - 1) / 255
    np.testing.assert_allclose(kernels.mu_law_decode(np.arange(256)), expected, rtol=1e-6)


def test_mu_law_follows_the_standard() -> None:
    """G.711 draws the same curve by eight straight lines on each side: it is never far from it."""
    step = np.arange(128)
    magnitude = ((2 * (step & 15) + 33) << (step >> 4)) - 33  # 0 to 8031, of 8159
    ours = kernels.mu_law_decode(128 + step) * 8159
    assert np.abs(ours - magnitude).max() < 0.03 * 8159
    relative = np.abs(ours - magnitude)[16:] / magnitude[16:]
    assert relative.max() < 0.07
    assert magnitude[[0, 16, 127]].tolist() == [0, 33, 8031]


@settings(max_examples=200)
@given(st.integers(0, 200), st.integers(0, 2**32))
def test_mu_law_codes_are_those_of_the_twin(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    samples = (rng.normal(size=count) * 10.0 ** rng.integers(-9, 2, count)).astype(np.float32)
    ids, clipped = kernels.mu_law_encode(samples)
    expected = reference.mu_law_encode(torch.from_numpy(samples))
    np.testing.assert_array_equal(ids, expected[0].numpy())
    assert clipped == expected[1]


def test_mu_law_has_no_code_for_silence() -> None:
    ids = kernels.mu_law_encode(np.array([0.0, -0.0, -1e-30], dtype=np.float32)).ids
    assert ids.tolist() == [128, 128, 127]
    assert np.abs(kernels.mu_law_decode(ids)).max() < 1e-4


@settings(max_examples=60)
@given(
    st.integers(0, 300),
    st.integers(1, 60),
    st.integers(1, 60),
    st.integers(1, 20),
    st.sampled_from([0.0, 5.0, 9.0, 20.0]),
    st.integers(0, 2**32),
)
def test_resampling_is_that_of_the_twin(
    count: int, source: int, target: int, width: int, beta: float, seed: int
) -> None:
    samples = np.random.default_rng(seed).normal(size=(2, count)).astype(np.float32)
    options = {"source": source, "target": target, "width": width, "rolloff": 0.9, "beta": beta}
    found = kernels.resample(samples, **options, threads=1 + seed % 3)
    assert found.shape == (2, -(-count * target // source))
    expected = reference.resample(torch.from_numpy(samples), **options).numpy()
    # At beta 0 a window ends in a cliff, and a rounding decides on which side of it a weight lies.
    if beta > 0:
        np.testing.assert_allclose(found, expected, atol=3e-6)
    np.testing.assert_array_equal(found[0], kernels.resample(samples[0].copy(), **options))


def tone(frequency: float, rate: int, count: int) -> np.ndarray:
    return np.sin(2 * np.pi * frequency / rate * np.arange(count) + 0.3)


def decibels(samples: np.ndarray) -> float:
    """The level of a tone, away from the ends."""
    middle = samples[len(samples) // 4 : -len(samples) // 4].astype(np.float64)
    return 20 * math.log10(math.sqrt(2 * np.square(middle).mean()) + 1e-20)


@pytest.mark.parametrize(("source", "target"), RATES)
def test_tones_pass_and_leave_no_others(source: int, target: int) -> None:
    highest = min(source, target) / 2
    for part in (0.01, 0.3, 0.6, 0.88):
        samples = tone(part * highest, source, source // 4).astype(np.float32)
        found = kernels.resample(samples, source=source, target=target)
        # What is not the tone itself, images of it included, is 80 dB down.
        assert decibels(found - tone(part * highest, target, len(found))) < -80
    for part in (1.0, 1.02, 1.1, 1.5, 2.0):
        if part * highest < source / 2:
            samples = tone(part * highest, source, source // 4).astype(np.float32)
            assert decibels(kernels.resample(samples, source=source, target=target)) < -80


def test_without_a_filter_tones_fold_back() -> None:
    """The control: taking every second sample hears a tone that was not there."""
    samples = tone(7000, 16000, 4000)
    assert decibels(samples[::2]) > -1


@pytest.mark.parametrize(("source", "target"), RATES)
def test_a_constant_stays_what_it_is(source: int, target: int) -> None:
    found = kernels.resample(np.full(4000, 0.5, dtype=np.float32), source=source, target=target)
    middle = found[len(found) // 4 : -len(found) // 4]
    np.testing.assert_allclose(middle, 0.5, atol=2e-7)


def test_up_and_down_again() -> None:
    rng = np.random.default_rng(0)
    spectrum = np.fft.rfft(rng.normal(size=4000))
    spectrum[1700:] = 0  # up to 0.85 of the highest frequency
    samples = np.fft.irfft(spectrum).astype(np.float32)
    up = kernels.resample(samples, source=8000, target=22050)
    down = kernels.resample(up, source=22050, target=8000)
    np.testing.assert_allclose(down[500:3500], samples[500:3500], atol=2e-4)


def test_silence_and_no_sound_at_all() -> None:
    assert not kernels.resample(np.zeros(1000, dtype=np.float32), source=44100, target=16000).any()
    assert kernels.resample(np.zeros((3, 0), dtype=np.float32), source=2, target=3).shape == (3, 0)
    assert kernels.resample(np.zeros((0, 5), dtype=np.float32), source=2, target=3).shape == (0, 8)
    assert kernels.resample(np.ones(1, dtype=np.float32), source=1, target=1).tolist() == [1]
    samples = np.random.default_rng(0).normal(size=100).astype(np.float32)
    np.testing.assert_array_equal(kernels.resample(samples, source=44100, target=44100), samples)
    assert kernels.resample(torch.from_numpy(samples), source=44101, target=16001).shape == (37,)


def test_rates_without_a_common_part_need_no_table() -> None:
    """More phases than samples, or than a table may have: the weights are made for each sample."""
    samples = np.random.default_rng(0).normal(size=50).astype(np.float32)
    options = {"source": 1_000_003, "target": 999_983}
    found = kernels.resample(samples, **options)
    np.testing.assert_allclose(found, reference.resample(torch.from_numpy(samples), **options).numpy(), atol=3e-6)


def test_what_is_no_sound_is_refused() -> None:
    samples = np.zeros(10, dtype=np.float32)

    def refused(error: type[Exception], match: str, call, *arguments, **keywords) -> None:
        with pytest.raises(error, match=match):
            call(*arguments, **keywords)

    for wrong, text in ((np.nan, "NaN"), (np.inf, "inf"), (-np.inf, "-inf")):
        bad = samples.copy()
        bad[3] = wrong
        for call in (kernels.pcm_encode, kernels.mu_law_encode, lambda s: kernels.resample(s, source=2, target=1)):
            refused(InvalidArgument, f"samples holds {text} in place 3", call, bad)
    for call in (kernels.pcm_encode, kernels.mu_law_encode, lambda s: kernels.resample(s, source=2, target=1)):
        refused(ArgumentTypeError, "float64", call, samples.astype(np.float64))
        refused(ArgumentTypeError, "contiguous", call, samples[::2])
        refused(ArgumentTypeError, "int64", call, torch.zeros(3, dtype=torch.int64))
    for bits in (0, 12, 24, -8):
        refused(InvalidArgument, f"bits is {bits}: give 8 or 16", kernels.pcm_encode, samples, bits=bits)
        refused(InvalidArgument, f"bits is {bits}: give 8 or 16", kernels.pcm_decode, np.array([0]), bits=bits)
    refused(InvalidArgument, "ids holds 256", kernels.pcm_decode, np.array([256]), bits=8)
    refused(InvalidArgument, "ids holds -1", kernels.pcm_decode, np.array([-1]))
    refused(InvalidArgument, "ids holds 256", kernels.mu_law_decode, np.array([256]))
    refused(InvalidArgument, "source is 0", kernels.resample, samples, source=0, target=1)
    refused(InvalidArgument, "target is -8000", kernels.resample, samples, source=1, target=-8000)
    refused(InvalidArgument, "target is", kernels.resample, samples, source=1, target=2**31 + 1)
    refused(LimitExceeded, "2147483648 is the most", kernels.resample, samples, source=1, target=2**31)
    refused(LimitExceeded, "weights: the target rate is too low", kernels.resample, samples, source=10**9, target=1)
    for name, wrong in (
        ("width", 0),
        ("width", 5000),
        ("rolloff", 0.0),
        ("rolloff", 1.5),
        ("rolloff", np.nan),
        ("beta", -1.0),
        ("beta", np.nan),
        ("beta", 31.0),
    ):
        refused(InvalidArgument, f"{name} is", kernels.resample, samples, source=2, target=1, **{name: wrong})
    refused(InvalidArgument, "threads is 0", kernels.resample, samples, source=2, target=1, threads=0)
    refused(ShapeError, "no axes", kernels.resample, np.zeros((), dtype=np.float32), source=2, target=1)
