"""Sound to numbers and back: linear and μ-law codes, and other rates."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def pcm_encode(samples: Tensor, *, bits: int = 16) -> tuple[Tensor, int]:
    """Linear codes int64 of samples float32, and how many were clipped.

    Example:
        >>> pcm_encode(torch.tensor([-1, 0, 0.5, 1.5]), bits=8)
        (tensor([  0, 128, 192, 255]), 1)
    """
    half = 1 << bits - 1
    return (samples * half).round().clamp(-half, half - 1).long() + half, int((samples.abs() > 1).sum())


def pcm_decode(ids: Tensor, *, bits: int = 16) -> Tensor:
    """Samples float32 of linear codes.

    Example:
        >>> pcm_decode(torch.tensor([0, 128, 192]), bits=8)
        tensor([-1.0000,  0.0000,  0.5000])
    """
    half = 1 << bits - 1
    return (ids - half).float() / half


def mu_law_encode(samples: Tensor) -> tuple[Tensor, int]:
    """μ-law codes int64 of samples float32, and how many were clipped.

    Code i begins where sign(x) ln(1 + 255|x|) / ln 256 reaches (2i - 1)/255 - 1, rounded to float32.

    Example:
        >>> mu_law_encode(torch.tensor([-1, 0, 0.01, 1.5]))
        (tensor([  0, 128, 157, 255]), 1)
    """
    edges = _expanded((2 * torch.arange(1, 256) - 256).double() / 255)
    return torch.bucketize(samples.float(), edges.to(samples.device), right=True), int((samples.abs() > 1).sum())


def mu_law_decode(ids: Tensor) -> Tensor:
    """Samples float32 of μ-law codes.

    Example:
        >>> mu_law_decode(torch.tensor([0, 255]))
        tensor([-1.,  1.])
    """
    return _expanded((2 * ids.double() - 255) / 255)


def _expanded(levels: Tensor) -> Tensor:
    """The inverse of the law."""
    return (levels.sign() * torch.expm1(levels.abs() * math.log(256)) / 255).float()


def resample(
    samples: Tensor, *, source: int, target: int, width: int = 48, rolloff: float = 0.94, beta: float = 9.0
) -> Tensor:
    """Sounds (..., n) float32 at another rate (..., ⌈n · target / source⌉) float32, by the matrix of the whole filter.

    Example:
        >>> resample(torch.ones(40), source=2, target=1, width=4)[10]
        tensor(1.)
    """
    if source == target:
        return samples.clone()
    divisor = math.gcd(source, target)
    up, down = target // divisor, source // divisor
    count = samples.shape[-1]
    cutoff = rolloff * min(1, up / down)
    reach = math.ceil(width / cutoff)
    # Times of the new samples, as whole samples before them and what is left; weights reach beyond the ends.
    place = torch.arange(-(-count * up // down)) * down
    before, fraction = place // up, (place % up).double() / up
    offsets = torch.arange(-reach, reach + 2)
    times = cutoff * (fraction[:, None] - offsets)
    inside = 1 - (times / width).square()
    window = torch.special.i0(beta * inside.clamp(min=0).sqrt()) * (inside >= 0)
    weights = torch.sinc(times) * window
    weights = weights / weights.sum(dim=1, keepdim=True)
    padded = torch.nn.functional.pad(samples.double(), (reach, reach + 2))
    return (padded[..., before[:, None] + offsets + reach] * weights).sum(dim=-1).float()
