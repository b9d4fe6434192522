"""How near decoded pictures are to their originals: PSNR, SSIM and GMSD, each without a trained network.

Every measure takes two stacks of pictures, (pictures, height, width, 3) uint8, and gives one number a picture; a figure
for a set is the mean of those. Stacks are taken in turns of a few, so that memory stays small.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional as F

from ..errors import ArgumentTypeError, ShapeError

CAP = 100.0
"""dB of a picture that came back without any error, whose PSNR is infinite; one pixel of 64 × 64 off by one has 89."""

_AT_ONCE = 2**22  # pixels; float64 maps of these take 32 MB each

# ITU-R BT.601: how bright red, green and blue are.
_LUMA = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)


def psnr(originals: np.ndarray, decoded: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio of each picture in dB: 10 log10(255² / mean squared error), at most `CAP`.

    The error is over all numbers of a picture, its three channels alike. The mean of this over pictures is not the PSNR
    of the mean error: easy pictures weigh more in it.

    Args:
        originals: (pictures, height, width, 3) uint8.
        decoded: the same.

    Returns:
        (pictures,) float64.

    Raises:
        ShapeError, ArgumentTypeError: the stacks are not as above.

    Example:
        >>> black = np.zeros((1, 2, 2, 3), dtype=np.uint8)
        >>> psnr(black, black + 1).round(2), psnr(black, black)
        (array([48.13]), array([100.]))
    """

    def each(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        error = (one.double() - other.double()).square().mean(dim=(1, 2, 3))
        return torch.where(error > 0, 10 * torch.log10(255**2 / error.clamp(min=1e-12)), CAP).clamp(max=CAP)

    return _in_turns(each, originals, decoded)


def ssim(originals: np.ndarray, decoded: np.ndarray) -> np.ndarray:
    """Structural similarity (Wang et al. 2004) of each picture, at most 1: of luma, by a window of 11 × 11.

    The window is Gaussian with σ = 1.5, only where it lies in the picture as a whole; K1 = 0.01, K2 = 0.03, and 255 is
    the range.

    Args, returns, raises: as for `psnr`; pictures are at least 11 × 11.

    Example:
        >>> grey = np.full((1, 11, 11, 3), 100, dtype=np.uint8)
        >>> ssim(grey, grey), ssim(grey, grey + 50).round(3)
        (array([1.]), array([0.923]))
    """
    _least(originals, 11)
    distances = torch.arange(-5, 6, dtype=torch.float64)
    window = torch.exp(-distances.square() / (2 * 1.5**2))
    window /= window.sum()

    def blurred(maps: torch.Tensor) -> torch.Tensor:
        return F.conv2d(F.conv2d(maps, window.view(1, 1, 11, 1)), window.view(1, 1, 1, 11))

    def each(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        x, y = _luma(one), _luma(other)
        x_mean, y_mean = blurred(x), blurred(y)
        x_variance = blurred(x * x) - x_mean * x_mean
        y_variance = blurred(y * y) - y_mean * y_mean
        covariance = blurred(x * y) - x_mean * y_mean
        first, second = (0.01 * 255) ** 2, (0.03 * 255) ** 2
        above = (2 * x_mean * y_mean + first) * (2 * covariance + second)
        below = (x_mean.square() + y_mean.square() + first) * (x_variance + y_variance + second)
        return (above / below).mean(dim=(1, 2, 3))

    return _in_turns(each, originals, decoded)


def gmsd(originals: np.ndarray, decoded: np.ndarray) -> np.ndarray:
    """Gradient magnitude similarity deviation (Xue et al. 2014) of each picture: 0 is the same, less is nearer.

    Of luma at half the size, by Prewitt's gradients, with T = 170, as their program has it: what lies outside is 0, and
    the deviation is that of a sample.

    Args, returns, raises: as for `psnr`; pictures are at least 3 × 3.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> noise = rng.integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
        >>> gmsd(noise, noise), gmsd(noise, noise // 2).round(3)
        (array([0.]), array([0.047]))
    """
    _least(originals, 3)
    across = torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64).repeat(3, 1)[None, None] / 3
    gradients = torch.cat([across, across.transpose(2, 3)])

    def steep(luma: torch.Tensor) -> torch.Tensor:
        high, wide = luma.shape[2:]
        half = F.avg_pool2d(F.pad(luma, (0, wide % 2, 0, high % 2)), 2)
        return F.conv2d(half, gradients, padding=1).square().sum(dim=1).sqrt()

    def each(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        x, y = steep(_luma(one)), steep(_luma(other))
        similar = (2 * x * y + 170) / (x.square() + y.square() + 170)
        return similar.flatten(1).std(dim=1)

    return _in_turns(each, originals, decoded)


def _in_turns(
    each: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], originals: np.ndarray, decoded: np.ndarray
) -> np.ndarray:
    for name, stack in (("originals", originals), ("decoded", decoded)):
        if not isinstance(stack, np.ndarray) or stack.dtype != np.uint8:
            kind = getattr(stack, "dtype", type(stack).__name__)
            raise ArgumentTypeError(f"{name} are of {kind}: give an array of uint8")
    if originals.ndim != 4 or originals.shape[3] != 3 or originals.shape != decoded.shape or not originals.size:
        raise ShapeError(
            f"originals have shape {originals.shape}, decoded {decoded.shape}: give (pictures, height, width, 3) twice"
        )
    step = max(1, _AT_ONCE // (originals.shape[1] * originals.shape[2]))
    made = [
        each(torch.tensor(originals[start : start + step]), torch.tensor(decoded[start : start + step]))
        for start in range(0, len(originals), step)
    ]
    return torch.cat(made).numpy()


def _least(originals: np.ndarray, side: int) -> None:
    if isinstance(originals, np.ndarray) and originals.ndim == 4 and min(originals.shape[1:3]) < side:
        high, wide = originals.shape[1:3]
        raise ShapeError(f"pictures are {high} × {wide}: give ones of at least {side} × {side}")


def _luma(pictures: torch.Tensor) -> torch.Tensor:
    """(pictures, 1, height, width) float64."""
    return (pictures.double() @ _LUMA)[:, None]
