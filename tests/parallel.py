"""Models that predict every position, exactly: the law of each unknown unit given the known ones."""

from __future__ import annotations

import numpy as np
import torch

from foretoken.canvas import UNKNOWN


class Joint:
    """The conditionals of an explicit law over rows of one length.

    Args:
        law: (vocab, …, vocab), one axis for each position.
        end: the id that ends a row, or -1.
        lengths: probabilities of the lengths 0, 1, …, where the model is asked for them.
    """

    def __init__(self, law: np.ndarray, *, end: int = -1, lengths: np.ndarray | None = None) -> None:
        self.law, self.vocab_size, self.context = law / law.sum(), law.shape[0], law.ndim
        self.end_tokens = () if end < 0 else (end,)
        self.outcomes = np.argwhere(self.law > 0)
        self.asked: list[np.ndarray] = []
        if lengths is not None:
            self.predict_lengths = lambda canvas, counts: torch.from_numpy(
                np.log(lengths)[None].repeat(len(canvas), axis=0).astype(np.float32)
            )

    def predict(self, canvas: np.ndarray, lengths: np.ndarray) -> torch.Tensor:
        self.asked.append(canvas.copy())
        rows, positions = canvas.shape
        laws = np.zeros((rows, positions, self.vocab_size))
        there = np.arange(positions) < lengths[:, None]
        for outcome, weight in zip(self.outcomes, self.law[tuple(self.outcomes.T)], strict=True):
            agrees = ((canvas == UNKNOWN) | (canvas == outcome[:positions]) | ~there).all(axis=1)
            laws[agrees, np.arange(positions)[:, None], outcome[:positions, None]] += weight
        laws[laws.sum(axis=2) == 0] = 1  # known units that cannot be, and places that are not there
        with np.errstate(divide="ignore"):
            return torch.from_numpy(np.log(laws / laws.sum(axis=2, keepdims=True)).astype(np.float32))
