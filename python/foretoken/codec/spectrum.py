"""How sound sounds: spectra on the mel scale, by which sounds are compared and looked at."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def log_mel(
    samples: Tensor, *, rate: int, window: int, bands: int, hop: int | None = None, floor: float = 1e-4
) -> Tensor:
    """The logarithm of a sound's amplitude in bands of the mel scale, as it changes.

    Amplitudes are the root of the bands' mean power under a Hann window, scaled so that a sine of full scale is 1 at
    its frequency. They are in nats: one is 8.69 dB.

    Args:
        samples: (..., n) float32.
        rate: samples a second.
        window: samples of a window, even; the sound is continued by silence on both sides.
        bands: triangles of equal width on the mel scale from 0 to rate / 2; those that hold no frequency are left out.
        hop: samples from one window to the next; None for a quarter of a window.
        floor: added to the power as floor², so that silence is log(floor).

    Returns:
        (..., windows, bands) float32.

    Example:
        >>> tone = torch.sin(torch.arange(8000) * 2 * torch.pi * 1000 / 8000)
        >>> spectrum = log_mel(tone, rate=8000, window=256, bands=40)
        >>> spectrum.shape, int(spectrum[60].argmax())
        (torch.Size([126, 40]), 18)
    """
    hann, triangles = _tables(rate, window, bands)
    hann, triangles = hann.to(samples.device), triangles.to(samples.device)
    padded = F.pad(samples, (window // 2, window // 2))
    spectrum = torch.fft.rfft(padded.unfold(-1, window, window // 4 if hop is None else hop) * hann)
    power = spectrum.real.square() + spectrum.imag.square()  # abs() has no gradient at 0
    return 0.5 * torch.log(power @ triangles + floor**2)


@functools.lru_cache(maxsize=16)
def _tables(rate: int, window: int, bands: int) -> tuple[Tensor, Tensor]:
    """The window, and the share (window / 2 + 1, bands) of each frequency in each band."""
    edges = np.linspace(0, _mel(rate / 2), bands + 2)
    heights = _mel(np.linspace(0, rate / 2, window // 2 + 1))[:, None]
    rising = (heights - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - heights) / (edges[2:] - edges[1:-1])
    shares = np.minimum(rising, falling).clip(0)
    shares = shares[:, shares.sum(axis=0) > 0]
    hann = torch.hann_window(window)
    return hann * 2 / hann.sum(), torch.from_numpy((shares / shares.sum(axis=0)).astype(np.float32))


def _mel(frequency: np.ndarray | float) -> np.ndarray:
    return 2595 * np.log10(1 + np.asarray(frequency) / 700)
