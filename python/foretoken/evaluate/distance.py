"""How far a set of pictures is from another: Fréchet and kernel distances between features of a judge that is ours."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InvalidArgument, ShapeError

_AT_ONCE = 256


class Judge(nn.Module):
    """Tells what pictures of 64 × 64 are of and in which style they are drawn; what it sees, before it says so, are
    features.

    Args:
        labels: how many values each of its labels has.
        width: of the features.
    """

    def __init__(self, labels: Sequence[int], *, width: int = 96) -> None:
        super().__init__()
        channels = (3, 24, 48, 64, width)
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(channels):
            layers += [nn.Conv2d(before, after, 3, 2, 1), nn.GroupNorm(8, after), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, width, 3, 1, 1), nn.SiLU())
        self.heads = nn.ModuleList(nn.Linear(width, count) for count in labels)

    def features(self, pictures: Tensor) -> Tensor:
        """(pictures, width) of (pictures, 3, 64, 64) in [-1, 1]."""
        return self.layers(pictures).mean(dim=(2, 3))

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Logits (pictures, values) of each label."""
        seen = self.features(pictures)
        return [head(seen) for head in self.heads]


def tensors(pictures: np.ndarray) -> Tensor:
    """(n, side, side, 3) uint8 as (n, 3, side, side) float32 in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def taught(pictures: np.ndarray, labels: np.ndarray, *, steps: int = 500, batch: int = 64, seed: int = 0) -> Judge:
    """A judge that has learnt from pictures; the same on every run.

    Args:
        pictures: (n, 64, 64, 3) uint8.
        labels: (n, labels) int64.
        steps: of Adam; the rate falls linearly.
        batch: pictures a step.
        seed: of its first weights and of the order.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        judge = Judge((labels.max(axis=0) + 1).tolist())
    optimizer = torch.optim.Adam(judge.parameters(), lr=2e-3)
    random = np.random.default_rng(seed)
    for step in range(steps):
        chosen = random.integers(len(pictures), size=batch)
        wanted = torch.from_numpy(labels[chosen])
        losses = [
            F.cross_entropy(logits, wanted[:, index]) for index, logits in enumerate(judge(tensors(pictures[chosen])))
        ]
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        optimizer.param_groups[0]["lr"] = 2e-3 * (1 - step / steps)
        optimizer.step()
    return judge.eval()


@torch.inference_mode()
def features(judge: Judge, pictures: np.ndarray) -> np.ndarray:
    """What a judge sees in pictures (n, 64, 64, 3) uint8: (n, width) float64."""
    parts = [judge.features(tensors(pictures[i : i + _AT_ONCE])) for i in range(0, len(pictures), _AT_ONCE)]
    return torch.cat(parts).double().numpy()


@torch.inference_mode()
def right(judge: Judge, pictures: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Share of pictures of which each label is told right, (labels,)."""
    said = [judge(tensors(pictures[i : i + _AT_ONCE])) for i in range(0, len(pictures), _AT_ONCE)]
    best = np.stack([torch.cat(parts).argmax(dim=1).numpy() for parts in zip(*said, strict=True)], axis=1)
    return (best == labels).mean(axis=0)


def frechet(one: np.ndarray, other: np.ndarray) -> float:
    """The Fréchet distance of two sets of features, taken as Gaussians (1706.08500); it falls with their number.

    Args:
        one, other: (n, width) and (m, width), n and m at least 2.

    Raises:
        ShapeError: they differ in width, or are no stacks.
        InvalidArgument: a set has fewer than two.

    Example:
        >>> cloud = np.random.default_rng(0).normal(size=(500, 4))
        >>> round(frechet(cloud, cloud), 6), round(frechet(cloud, cloud + 1), 6)
        (0.0, 4.0)
    """
    _same_width(one, other)
    first, second = (np.cov(part, rowvar=False) for part in (one, other))
    # The trace of the root of a product of covariances is that of the roots of its eigenvalues, all real and ≥ 0.
    values, vectors = np.linalg.eigh(first)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ second @ root), 0)).sum()
    apart = one.mean(axis=0) - other.mean(axis=0)
    return float(max(0.0, apart @ apart + np.trace(first) + np.trace(second) - 2 * shared))


def kernel_distance(one: np.ndarray, other: np.ndarray) -> float:
    """The unbiased squared maximum mean discrepancy under (x·y / width + 1)³ (1801.01401): about 0 for one law.

    Raises:
        ShapeError, InvalidArgument: as for `frechet`.
    """
    _same_width(one, other)

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x @ y.T / x.shape[1] + 1) ** 3

    def within(x: np.ndarray) -> float:
        table = kernel(x, x)
        return float((table.sum() - np.trace(table)) / (len(x) * (len(x) - 1)))

    return within(one) + within(other) - 2 * float(kernel(one, other).mean())


def _same_width(one: np.ndarray, other: np.ndarray) -> None:
    if one.ndim != 2 or other.ndim != 2 or one.shape[1] != other.shape[1]:
        raise ShapeError(f"features have shapes {one.shape} and {other.shape}: give (n, width) and (m, width)")
    if min(len(one), len(other)) < 2:
        raise InvalidArgument(f"sets of {len(one)} and {len(other)} have no covariance: give two or more of each")
