"""How well sound survives a codec: its spectra, its samples, and whether one still hears which digit was spoken."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..codec.spectrum import log_mel
from ..errors import InvalidArgument, ShapeError

DECIBELS = 8.685889638
"""In a neper, which is one nat of amplitude."""
_BEST = 100.0
"""What `si_snr` says of equal sounds, in dB."""


def mel_distance(original: np.ndarray, decoded: np.ndarray, *, rate: int) -> float:
    """How far two sounds' spectra are apart, in dB.

    The mean over 40 mel bands and all windows (256 samples, 64 from one to the next) of the levels' absolute
    difference; what is below -80 dB of full scale counts as -80 dB, nearly.

    Args:
        original, decoded: (n,) float32.
        rate: samples a second.

    Raises:
        ShapeError: their lengths differ.

    Example:
        >>> tone = np.sin(np.arange(800)).astype(np.float32)
        >>> round(mel_distance(tone, tone / 10, rate=8000), 1) <= 20.0
        True
    """
    _same(original, decoded)
    sounds = torch.from_numpy(np.stack([original, decoded]))
    one, other = log_mel(sounds, rate=rate, window=256, bands=40, hop=64)
    return DECIBELS * float((one - other).abs().mean())


def si_snr(original: np.ndarray, decoded: np.ndarray) -> float:
    """The scale-invariant signal-to-noise ratio (1811.02508) in dB: at most 100, at least -100.

    Raises:
        ShapeError: their lengths differ.
        InvalidArgument: the original is silent: there is no signal.

    Example:
        >>> round(si_snr(np.array([1, 1, -1, -1.0]), np.array([3, 1, -1, -3.0])), 2)
        6.02
    """
    _same(original, decoded)
    x, y = original.astype(np.float64), decoded.astype(np.float64)
    if not (power := float(x @ x)):
        raise InvalidArgument("the original is silent: a ratio of signal to noise needs a signal")
    signal = (x @ y) / power * x
    tiny = 10 ** (-_BEST / 10)
    good, bad = float(signal @ signal), float((y - signal) @ (y - signal))
    return 10 * float(np.log10((good + tiny * (good + bad) + 1e-300) / (bad + tiny * (good + bad) + 1e-300)))


class Listener(nn.Module):
    """Hears which of ten digits was spoken: three convolutions over mel bands, and what was loudest and usual in time.

    Args:
        rate: of the sounds.
        width: channels.
    """

    def __init__(self, *, rate: int = 8000, width: int = 64) -> None:
        super().__init__()
        self.rate = rate
        self.layers = nn.Sequential(
            nn.Conv1d(40, width, 5, 2, 2), nn.GELU(), nn.Conv1d(width, width, 5, 2, 2), nn.GELU(),
            nn.Conv1d(width, width, 3, 1, 1), nn.GELU(),
        )  # fmt: skip
        self.head = nn.Linear(2 * width, 10)

    def forward(self, sounds: Tensor) -> Tensor:
        """Logits (batch, 10) of sounds (batch, n)."""
        heard = log_mel(sounds, rate=self.rate, window=256, bands=40, hop=80, floor=1e-4)
        heard = (heard - heard.mean(dim=(1, 2), keepdim=True)).transpose(1, 2) / 2  # however loud it is
        made = self.layers(heard)
        return self.head(torch.cat([made.amax(dim=2), made.mean(dim=2)], dim=1))


def taught(sounds: Sequence[np.ndarray], digits: Sequence[int], *, steps: int = 600, seed: int = 0) -> Listener:
    """A listener that has learnt from these sounds, a second of each at most.

    Args:
        sounds: (n,) float32 each, at 8 kHz.
        digits: what was spoken in each.
        steps: of Adam, 32 sounds each.
        seed: of all that is drawn.

    Raises:
        ShapeError: there are not as many digits as sounds.
        InvalidArgument: there is no sound.
    """
    if len(sounds) != len(digits):
        raise ShapeError(f"there are {len(sounds)} sounds and {len(digits)} digits")
    if not sounds:
        raise InvalidArgument("there is no sound to learn from")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        listener = Listener()
    optimizer = torch.optim.Adam(listener.parameters(), lr=2e-3)
    wanted = torch.tensor(list(digits))
    for step in range(steps):
        rng = np.random.default_rng((seed, step))
        chosen = rng.integers(0, len(sounds), 32)
        offsets = [int(rng.integers(-800, 801)) for _ in chosen]
        batch = torch.stack([_second(sounds[i], offset) for i, offset in zip(chosen, offsets, strict=True)])
        loss = F.cross_entropy(listener(batch), wanted[torch.from_numpy(chosen)])
        optimizer.zero_grad()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1.0, 2 * (steps - step) / steps)
        optimizer.step()
    return listener.eval()


def heard_right(listener: Listener, sounds: Sequence[np.ndarray], digits: Sequence[int]) -> float:
    """The share of sounds in which the listener hears the right digit."""
    with torch.inference_mode():
        guesses = [int(listener(_second(sound, 0)[None]).argmax()) for sound in sounds]
    return float(np.mean([guess == digit for guess, digit in zip(guesses, digits, strict=True)]))


def _second(sound: np.ndarray, offset: int) -> Tensor:
    """8,000 samples with the middle of the sound near their middle."""
    made = np.zeros(8000, dtype=np.float32)
    start = (len(made) - len(sound)) // 2 + offset
    first, last = max(0, start), min(len(made), start + len(sound))
    made[first:last] = sound[first - start : last - start]
    return torch.from_numpy(made)


def _same(original: np.ndarray, decoded: np.ndarray) -> None:
    if original.shape != decoded.shape or original.ndim != 1:
        raise ShapeError(f"the original is {original.shape}, what was decoded {decoded.shape}: give (n,) both")
