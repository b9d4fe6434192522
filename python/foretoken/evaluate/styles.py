"""Which style is a part of a picture in, and are the parts of one picture in different ones?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ..errors import InvalidArgument, ShapeError

SURE = 0.5
"""The posterior from which a part speaks for a style."""

_COLOURS, _EDGES = 8, 16  # levels of each channel, and of the steepness of an edge
_DRAWN = 0.1  # share of a part that is not white, from which it is judged at all
_BATCH, _EPOCHS, _HIDDEN = 256, 4, 128


class Mixture(NamedTuple):
    """What the sure parts of some pictures say.

    Args:
        foreign: share of the sure parts of a picture that are of another style than most, the mean over pictures.
        sure: share of the drawn parts that are sure.
        judged: pictures with two sure parts or more; the others cannot show it, and are left out.
        styles: (pictures,) int64, that of most sure parts; -1 where there are fewer than two.
    """

    foreign: float
    sure: float
    judged: int
    styles: np.ndarray


class StyleJudge:
    """A small classifier of square parts of pictures: a network of one hidden layer over colours and edges.

    Args:
        pictures: (n, height, width, 3) uint8, to learn from; they should have been through the codec whose pictures are
            to be judged, or its errors are taken for a style.
        styles: (n,) their names.
        side: pixels of a part; divides height and width.
        seed: of the first weights and of the order of learning.

    Raises:
        ShapeError: parts do not fit the pictures.
        InvalidArgument: there are fewer than two styles, or nothing is drawn.
    """

    def __init__(self, pictures: np.ndarray, styles: Sequence[str], *, side: int = 8, seed: int = 0) -> None:
        self.names, self.side = tuple(sorted(set(styles))), side
        if len(self.names) < 2:
            raise InvalidArgument(f"pictures are in {len(self.names)} styles: give two or more")
        features, drawn = self._parts(pictures)
        if not drawn.any():
            raise InvalidArgument("all pictures are white: there is nothing to learn from")
        inputs = torch.from_numpy(features[drawn])
        labels = np.array([self.names.index(style) for style in styles])
        wanted = torch.from_numpy(np.broadcast_to(labels[:, None], drawn.shape)[drawn])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._network = nn.Sequential(
                nn.Linear(inputs.shape[1], _HIDDEN), nn.ReLU(), nn.Dropout(0.3), nn.Linear(_HIDDEN, len(self.names))
            )
            self._learn(inputs, wanted)
        self._network.eval()

    def _learn(self, inputs: torch.Tensor, wanted: torch.Tensor) -> None:
        steps = max(1, _EPOCHS * len(inputs) // _BATCH)
        optimizer = torch.optim.AdamW(self._network.parameters(), weight_decay=0.05)
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = 0.004 * min(1.0, 5 * (step + 1) / steps) * (1 - step / steps)
            chosen = torch.randint(len(inputs), (_BATCH,))
            loss = F.cross_entropy(self._network(inputs[chosen]), wanted[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def posteriors(self, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How probable each style is for each part, (pictures, parts, styles), and which parts are drawn at all."""
        features, drawn = self._parts(pictures)
        with torch.inference_mode():
            return self._network(torch.from_numpy(features)).softmax(dim=2).numpy(), drawn

    def error(self, pictures: np.ndarray, styles: Sequence[str]) -> tuple[float, float]:
        """The share of drawn parts of real pictures whose style it gets wrong, of all and of the sure ones."""
        chances, drawn = self.posteriors(pictures)
        labels = np.array([self.names.index(style) for style in styles])[:, None]
        wrong, sure = chances.argmax(axis=2) != labels, drawn & (chances.max(axis=2) >= SURE)
        return float(wrong[drawn].mean()), float(wrong[sure].mean()) if sure.any() else 0.0

    def mixture(self, pictures: np.ndarray) -> Mixture:
        """Whether parts of one picture are in different styles."""
        chances, drawn = self.posteriors(pictures)
        sure = drawn & (chances.max(axis=2) >= SURE)
        styles, foreign = np.full(len(pictures), -1), []
        for line, (best, telling) in enumerate(zip(chances.argmax(axis=2), sure, strict=True)):
            votes = np.bincount(best[telling], minlength=len(self.names))
            if votes.sum() >= 2:
                styles[line] = votes.argmax()
                foreign.append(1 - votes.max() / votes.sum())
        share = float(sure.sum() / max(1, drawn.sum()))
        return Mixture(float(np.mean(foreign)) if foreign else 0.0, share, len(foreign), styles)

    def _parts(self, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features (pictures, parts, numbers) float32, and which parts are not white."""
        n, height, width, side = *pictures.shape[:3], self.side
        if height % side or width % side or side < 4:
            raise ShapeError(f"pictures are {height} × {width}: parts of {side} × {side} do not fit, or are too small")
        cut = pictures.reshape(n, height // side, side, width // side, side, 3).swapaxes(2, 3)
        parts = cut.reshape(-1, side, side, 3)
        drawn = (parts < 250).reshape(len(parts), -1).mean(axis=1) > _DRAWN
        return features(parts).reshape(n, -1, _COLOURS**3 + 3 * _EDGES), drawn.reshape(n, -1)


def features(parts: np.ndarray) -> np.ndarray:
    """How often each colour and each steepness is there, as roots of shares: (parts, numbers) float32.

    Steepness is that of luma from pixel to pixel, down, across, and against the four neighbours.

    Args:
        parts: (parts, side, side, 3) uint8.
    """
    levels = (parts // (256 // _COLOURS)).astype(np.int64)
    colours = (levels[..., 0] * _COLOURS + levels[..., 1]) * _COLOURS + levels[..., 2]
    luma = parts.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32) / 255
    inner = luma[:, 1:-1, 1:-1]
    around = luma[:, :-2, 1:-1] + luma[:, 2:, 1:-1] + luma[:, 1:-1, :-2] + luma[:, 1:-1, 2:]
    edges = [np.diff(luma, axis=1), np.diff(luma, axis=2), 4 * inner - around]
    # Logarithms from 1/1000 to about 1, for faint and hard edges tell styles apart alike.
    steep = [np.clip((np.log(np.abs(edge) + 1e-3) + 6.91) * _EDGES / 7, 0, _EDGES - 1) for edge in edges]
    return np.concatenate(
        [_shares(colours, _COLOURS**3), *(_shares(each.astype(np.int64), _EDGES) for each in steep)], axis=1
    )


def _shares(codes: np.ndarray, size: int) -> np.ndarray:
    flat = codes.reshape(len(codes), -1) + size * np.arange(len(codes))[:, None]
    counts = np.bincount(flat.reshape(-1), minlength=size * len(codes)).reshape(len(codes), size)
    return np.sqrt(counts / flat.shape[1]).astype(np.float32)
