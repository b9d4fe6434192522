"""Sound to numbers and back: linear and μ-law codes, and other rates."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .. import _rust
from .arrays import Array, floats, wholes


class Coded(NamedTuple):
    """Codes of samples.

    Args:
        ids: int64, of the shape of the samples.
        clipped: how many samples were below -1 or above 1, and got the code there.
    """

    ids: np.ndarray
    clipped: int


def pcm_encode(samples: Array, *, bits: int = 16) -> Coded:
    """Linear codes of samples: round(x · 2^(bits-1)) + 2^(bits-1), ties to even.

    Silence is 2^(bits-1); 1 itself gets the topmost code, 2^bits - 1, and does not count as clipped.

    Args:
        samples: any shape, float32, finite; in [-1, 1], or they are clipped and counted.
        bits: 8 or 16.

    Returns:
        ids int64 in [0, 2^bits), and how many samples were clipped.

    Raises:
        InvalidArgument: a sample is NaN or infinite, or `bits` is another number.
        ArgumentTypeError: the samples are not float32.

    Example:
        >>> pcm_encode(np.array([-1, 0, 0.5, 1.5], dtype=np.float32), bits=8)
        Coded(ids=array([  0, 128, 192, 255]), clipped=1)
    """
    return Coded(*_rust.pcm_encode(floats("samples", samples), bits))


def pcm_decode(ids: Array, *, bits: int = 16) -> np.ndarray:
    """The samples float32 of linear codes, (id - 2^(bits-1)) / 2^(bits-1); `pcm_encode` gives the same ids again.

    Raises:
        InvalidArgument: an id is not in [0, 2^bits), or `bits` is neither 8 nor 16.
        ArgumentTypeError: the ids are no integers.

    Example:
        >>> pcm_decode(np.array([0, 128, 192, 255]), bits=8)
        array([-1.       ,  0.       ,  0.5      ,  0.9921875], dtype=float32)
    """
    return _rust.pcm_decode(wholes("ids", ids), bits)


def mu_law_encode(samples: Array) -> Coded:
    """Codes of samples by μ-law with μ = 255: the formula itself, as in WaveNet (1609.03499), not G.711's segments.

    Code i is that of samples for which sign(x) ln(1 + 255|x|) / ln 256 is nearest to 2i/255 - 1. So the steps are fine
    where it is quiet, and there is no code for silence: 0 gets code 128, which stands for 0.0000862.

    Args:
        samples: any shape, float32, finite; in [-1, 1], or they are clipped and counted.

    Returns:
        ids int64 in [0, 256), and how many samples were clipped.

    Raises:
        InvalidArgument: a sample is NaN or infinite.
        ArgumentTypeError: the samples are not float32.

    Example:
        >>> mu_law_encode(np.array([-1, 0, 0.01, 1.5], dtype=np.float32))
        Coded(ids=array([  0, 128, 157, 255]), clipped=1)
    """
    return Coded(*_rust.mu_law_encode(floats("samples", samples)))


def mu_law_decode(ids: Array) -> np.ndarray:
    """The samples float32 of μ-law codes in [0, 256); `mu_law_encode` gives the same ids again.

    Example:
        >>> mu_law_decode(np.array([0, 128, 255]))
        array([-1.000000e+00,  8.621159e-05,  1.000000e+00], dtype=float32)
    """
    return _rust.mu_law_decode(wholes("ids", ids))


def resample(
    samples: Array,
    *,
    source: int,
    target: int,
    width: int = 48,
    rolloff: float = 0.94,
    beta: float = 9.0,
    threads: int = 1,
) -> np.ndarray:
    """The same sounds at another rate, by a sinc under a Kaiser window.

    Sample m is the filtered sound at time m / target. With c = rolloff · min(1, target/source) the filter is
    h(t) = sinc(ct) I₀(β √(1 - (ct/width)²)), its weights at each place divided by their sum, so that a constant stays
    what it is; beyond its ends the sound is zero. As it stands, tones up to 0.88 of the highest frequency of both rates
    pass within 0.01 dB, and what would be folded back from beyond it is 80 dB down or more.

    Args:
        samples: (..., n) float32, finite; may be empty or silent.
        source: the rate of the samples, in [1, 2^31].
        target: the rate that is wanted, in [1, 2^31]; any two rates will do, the equal ones copy.
        width: zeros of the sinc on each side, in [1, 4096]: more are steeper and slower.
        rolloff: where the filter is at half its height, as a part of the highest frequency, in (0, 1].
        beta: of the window, in [0, 30]: a larger one lets less through, and is less steep.
        threads: over how many the result is spread, ≥ 1.

    Returns:
        samples: (..., ⌈n · target / source⌉) float32.

    Raises:
        InvalidArgument: a sample is NaN or infinite, or a number out of range.
        LimitExceeded: the result would have more than 2^31 samples, or the filter more than 2^20 weights.
        ShapeError, ArgumentTypeError: an argument is not as above.

    Example:
        >>> tone = np.sin(np.arange(800) * 2 * np.pi * 100 / 8000).astype(np.float32)
        >>> resample(tone, source=8000, target=16000).shape
        (1600,)
    """
    return _rust.resample(floats("samples", samples), source, target, width, rolloff, beta, threads)
