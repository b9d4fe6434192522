"""Measures of sound: what they say of sounds whose answer is known, and a listener that can be wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from foretoken.codec.spectrum import log_mel
from foretoken.errors import InvalidArgument, ShapeError
from foretoken.evaluate import sound


def noise(length: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=length) * 0.1).astype(np.float32)


def test_a_ratio_of_known_noise() -> None:
    x = noise(200_000)
    for decibels in (-10, 0, 20):
        y = x + 10 ** (-decibels / 20) * noise(len(x), 1)
        assert sound.si_snr(x, y) == pytest.approx(decibels, abs=0.1)
        assert sound.si_snr(x, 3 * y) == pytest.approx(sound.si_snr(x, y), abs=1e-4)
    assert sound.si_snr(x, x) == pytest.approx(100)
    assert sound.si_snr(x, np.zeros_like(x)) < 1
    assert sound.si_snr(np.float32([1, -1]), np.float32([1, 1])) == pytest.approx(-100, abs=1)


def test_ten_times_quieter_is_twenty_decibels_away() -> None:
    x = noise(8000)
    assert sound.mel_distance(x, x, rate=8000) == 0
    assert sound.mel_distance(x, x / 10, rate=8000) == pytest.approx(20, abs=0.3)
    assert sound.mel_distance(x, noise(8000, 1), rate=8000) > 3


@pytest.mark.parametrize(("window", "bands"), [(64, 8), (256, 40), (1024, 64)])
def test_a_sine_of_full_scale_is_one_where_it_is(window: int, bands: int) -> None:
    """And the level of silence is the floor's."""
    tone = torch.sin(torch.arange(8000) * 2 * torch.pi * 1000 / 8000)
    spectrum = log_mel(tone, rate=8000, window=window, bands=bands)
    middle = spectrum[len(spectrum) // 2]
    assert -1.6 < middle.max() < 0.1
    assert middle[-2] < middle.max() - 4
    assert torch.allclose(log_mel(torch.zeros(1000), rate=8000, window=window, bands=bands), torch.tensor(1e-4).log())


def test_a_listener_learns_what_it_is_taught_and_nothing_else() -> None:
    rng = np.random.default_rng(0)

    def spoken(digit: int) -> np.ndarray:
        length = int(rng.integers(1500, 4000))
        tone = np.sin(np.arange(length) * (0.1 + 0.12 * digit)) + 0.1 * rng.normal(size=length)
        return (tone * rng.uniform(0.01, 0.3)).astype(np.float32)

    digits = [number % 10 for number in range(120)]
    sounds = [spoken(digit) for digit in digits]
    listener = sound.taught(sounds[:90], digits[:90], steps=120)
    assert sound.heard_right(listener, sounds[90:], digits[90:]) > 0.9
    assert sound.heard_right(listener, [noise(3000, seed) for seed in range(30)], digits[90:]) < 0.4
    twin = sound.taught(sounds[:90], digits[:90], steps=2)
    again = sound.taught(sounds[:90], digits[:90], steps=2)
    assert all(torch.equal(a, b) for a, b in zip(twin.parameters(), again.parameters(), strict=True))
    with pytest.raises(ShapeError):
        sound.taught(sounds, digits[:3])
    with pytest.raises(InvalidArgument):
        sound.taught([], [])


def test_sounds_that_cannot_be_compared_are_refused() -> None:
    for measure in (sound.si_snr, lambda x, y: sound.mel_distance(x, y, rate=8000)):
        with pytest.raises(ShapeError):
            measure(noise(10), noise(11))
    with pytest.raises(InvalidArgument, match="silent"):
        sound.si_snr(np.zeros(5, dtype=np.float32), noise(5))
