"""A block drafter that the core runs: one call a draft, from the states of the target to guesses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .. import kernels
from .block_model import BlockConfig, BlockModule, even
from .protocol import NOTHING, Draft, DraftRequest
from .taps import Taps


def native_block(
    module: BlockModule, embedding: Tensor, unembedding: Tensor, capacity: int, *, dtype: str = "bfloat16"
) -> kernels.NativeBlock:
    """The drafter and its target's embedding and head, packed for the core.

    Args:
        module: the drafter; it has a layer at least and no imaginations.
        embedding, unembedding: the target's, as `TappedModel.vocabulary` gives them.
        capacity: the most units a row may have.
        dtype: how weights are kept, as for `Native`.
    """
    config = module.config
    sizes = (
        config.vocab_size, config.hidden_size, config.intermediate_size, config.layers, config.heads, config.kv_heads,
        config.head_dim, capacity + config.block,
    )  # fmt: skip
    weights = dict(module.named_parameters()) | {
        "embedding": even(embedding, config.rms_norm_eps),
        "unembedding": unembedding,
    }
    arrays = {name: weight.detach().to("cpu", torch.float32).contiguous().numpy() for name, weight in weights.items()}
    shape = sizes, float(config.rms_norm_eps), float(config.rope_theta)
    own = len(config.taps), config.block, config.reach, config.rank, config.order
    return kernels.NativeBlock(shape, own, arrays, dtype)


class NativeBlockDrafting:
    """A block drafter on the rows of one generation; each row has a ring in the core."""

    def __init__(self, core: kernels.NativeBlock, config: BlockConfig, request: DraftRequest, taps: Taps) -> None:
        self._core, self._config, self._request, self._taps = core, config, request, taps
        self._columns = [taps.layers.index(layer) for layer in config.taps]
        self._all = self._columns == list(range(len(taps.layers)))
        self._rings: dict[int, kernels.BlockRing] = {}
        self._newest: dict[int, int] = {}
        self._known: dict[int, int] = {}  # units of a row that its ring has

    def start(self, row: int, prompt: np.ndarray) -> None:
        """Begin a row that starts with these ids."""
        self._rings[row], self._newest[row], self._known[row] = self._core.open(), int(prompt[-1]), 0

    def extend(self, row: int, tokens: Sequence[int]) -> None:
        """Tell what the row was continued with."""
        self._newest[row] = tokens[-1]

    def judge(self, row: int, draft: Draft, accepted: int) -> None:
        """A model has nothing to learn from it but what the taps tell."""

    def stop(self, row: int) -> None:
        """Forget a row."""
        del self._rings[row], self._newest[row], self._known[row]

    def propose(self, rows: Sequence[int], k: int) -> list[Draft]:
        """Guess up to `k` ids for each of these rows."""
        k = min(k, self._config.block)
        if k <= 0:
            return [NOTHING] * len(rows)
        request = self._request
        stream = next(request.streams) if request.rejection else 0
        costs = None if request.adaptive is None else [request.costs.of(width + 1) for width in range(k + 1)]
        return [self._draft(row, k, stream, costs) for row in rows]

    def _draft(self, row: int, k: int, stream: int, costs: list[float] | None) -> Draft:
        request, ring = self._request, self._rings[row]
        end = self._taps.end(row)
        if end > self._known[row]:
            first, pieces = self._taps.since(row, max(self._known[row], end - self._config.reach))
            states = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
            if not self._all:
                states = states[:, self._columns]
            ring.read(states.contiguous().numpy(), first)
            self._known[row] = end
        history = None if request.histories is None else [request.histories[row]]
        tokens, chances, laws = ring.draft(
            self._newest[row], k, request.sampler, request.seeds[row : row + 1], int(request.samples[row]), history,
            stream, costs,
        )  # fmt: skip
        return Draft(tokens, laws, chances=chances)
