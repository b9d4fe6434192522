"""Guidance: a model made of a model, which goes further where its condition points."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..errors import ArgumentTypeError, InvalidArgument, ShapeError
from .protocol import ParallelModel


class Guided:
    """Predicts u + scale · (c - u) of logits c under the condition and u without it (2207.12598).

    Args:
        model: a parallel model that was trained with its condition told and not told.
        scale: 1 is the model itself, 0 the model without its condition; above 1 the condition counts more.
        without: from canvases (rows, positions) int64 to the same without their condition, of one shape.

    Raises:
        ArgumentTypeError: `model` is no parallel model, or `without` no function.
        InvalidArgument: `scale` is no finite number.

    Example:
        >>> from foretoken.model.masked import MaskedConfig, MaskedLlama, MaskedModule
        >>> config = MaskedConfig(vocab_size=10, units=8, latents=0, imagination=0, lengths=0, end=-1, hidden_size=8,
        ...     intermediate_size=16, layers=1, heads=2, context=12)
        >>> untold = lambda canvas: np.where(canvas == 8, 9, canvas)
        >>> guided = Guided(MaskedLlama(MaskedModule(config)), 2.0, without=untold)
        >>> guided.predict(np.array([[8, 3, -1]]), np.array([3])).shape
        torch.Size([1, 3, 10])
    """

    def __init__(self, model: ParallelModel, scale: float, *, without: Callable[[np.ndarray], np.ndarray]) -> None:
        if not isinstance(model, ParallelModel) or not callable(without):
            raise ArgumentTypeError(f"Guided takes a parallel model and a function, got {model!r} and {without!r}")
        if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not abs(scale) < 1e38:
            raise InvalidArgument(f"scale must be a finite number, got {scale!r}")
        self.model, self.scale, self.without = model, float(scale), without
        self.vocab_size, self.context, self.end_tokens = model.vocab_size, model.context, model.end_tokens

    @torch.inference_mode()
    def predict(self, canvas: np.ndarray, lengths: np.ndarray) -> Tensor:
        """Logits of every position, both sides in one forward; see `ParallelModel.predict`.

        Raises:
            ShapeError: `without` changed the shape of the canvas.
        """
        bare = np.asarray(self.without(canvas))
        if bare.shape != canvas.shape:
            raise ShapeError(f"without() made {bare.shape} of a canvas {canvas.shape}: keep its shape")
        both = self.model.predict(np.concatenate((canvas, bare)), np.concatenate((lengths, lengths)))
        told, untold = both.chunk(2)
        # Where a unit cannot stand either way, -inf less -inf would be no number.
        return torch.where(torch.isfinite(told) & torch.isfinite(untold), untold + self.scale * (told - untold), told)
