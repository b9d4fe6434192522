"""Who looks at whom in a masked model: the weights of its attention, to be looked at."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .llama import Attention, Block, rotate
from .masked import MaskedLlama


@torch.inference_mode()
def attention(model: MaskedLlama, row: Sequence[int] | np.ndarray) -> np.ndarray:
    """How much each position looks at each, (layers, heads, positions, positions) float32; rows sum to 1.

    Args:
        model: the model.
        row: one row of its canvas, (positions,) int64, `UNKNOWN` where a unit is to be found.

    Example:
        >>> from foretoken.model.masked import MaskedConfig, MaskedModule
        >>> config = MaskedConfig(vocab_size=9, units=8, latents=0, imagination=0, lengths=0, end=-1, hidden_size=8,
        ...     intermediate_size=16, layers=2, heads=2, context=12)
        >>> attention(MaskedLlama(MaskedModule(config)), [8, 3, -1]).shape
        (2, 2, 3, 3)
    """
    found: list[Tensor] = []
    mine = threading.get_ident()

    def note(layer: Attention, inputs: tuple[Tensor, ...]) -> None:
        if threading.get_ident() != mine:  # another thread asks the same model
            return
        x, cos, sin = inputs[:3]
        q, k = (part(x).unflatten(2, (-1, layer.width)).transpose(1, 2) for part in (layer.q_proj, layer.k_proj))
        scores = rotate(q, cos, sin) @ rotate(k, cos, sin).mT / layer.width**0.5
        found.append(scores[0].float().softmax(dim=-1))

    layers = [block.self_attn for block in model.module.layers if isinstance(block, Block)]
    hooks = [layer.register_forward_pre_hook(note) for layer in layers]
    try:
        canvas = np.asarray(row, dtype=np.int64)[None]
        model.predict(canvas, np.array([canvas.shape[1]]))
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack(found).numpy()
