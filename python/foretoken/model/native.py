"""Small Llamas run whole in the core, on the CPU: a step costs what reading the weights from memory costs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .. import kernels
from ..errors import ArgumentTypeError
from .checkpoint import load_llama
from .llama import LlamaModule
from .llama_config import LlamaConfig


class Native:
    """A Llama on the CPU without PyTorch: the logits of `Llama` to 1e-4, several times as fast for a few units.

    The bits of a row's logits depend on the row alone: not on how many units a forward reads, on the other rows of a
    batch, or on threads. So with this model as the target, decoding with and without guesses differs nowhere, not even
    in near ties. As the model of a `SmallModel`, it draws a whole draft in one call.

    Args:
        source: a `LlamaModule`, or a folder with config.json and model.safetensors; the weights are copied.
        dtype: how weights are kept: `torch.float32`, `torch.bfloat16`, `torch.int8` (rounded, with a scale for each
            output), or their names; None for bfloat16 if that loses nothing, else float32. Sums are float32 always.
        threads: how many work on a forward, ≥ 1; None for `torch.get_num_threads()` as a session opens.

    Raises:
        CheckpointError: the folder holds no Llama, or a broken one.
        InvalidArgument: `dtype` or `threads` is out of range, or a weight is NaN or infinite.
        ArgumentTypeError: `source` is neither of the two, or `threads` is no integer.

    Example:
        >>> import foretoken as ft
        >>> tale = ft.load("tales", model=ft.Native)
        >>> tale.model.dtype, tale("Once upon a time", max_tokens=4, seed=7).stats.tokens
        (torch.bfloat16, 4)
    """

    def __init__(
        self,
        source: LlamaModule | str | os.PathLike[str],
        *,
        dtype: torch.dtype | str | None = None,
        threads: int | None = None,
    ) -> None:
        module = source if isinstance(source, LlamaModule) else load_llama(_folder(source))
        if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int)):
            raise ArgumentTypeError(f"threads must be an integer or None, got {threads!r}")
        self.config: LlamaConfig = module.config
        self.threads = threads
        self.layers = range(self.config.num_hidden_layers)  # which blocks there are
        name = None if dtype is None else str(dtype).removeprefix("torch.")
        weights = {name: _array(weight) for name, weight in module.named_parameters()}
        self._core = kernels.NativeModel(_shape(self.config), weights, name)
        if threads is not None:
            self.open(1, 1)  # refuses what is out of range now rather than with the first text

    @property
    def vocab_size(self) -> int:
        """Width of a row of logits."""
        return self.config.vocab_size

    @property
    def context(self) -> int:
        """The most units a row may have."""
        return self.config.max_position_embeddings

    @property
    def end_tokens(self) -> tuple[int, ...]:
        """Ids that end a row."""
        return self.config.eos_token_id

    @property
    def device(self) -> torch.device:
        """Where the weights are: always the CPU."""
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """How the weights are kept."""
        return getattr(torch, self._core.dtype)

    @property
    def memory(self) -> int:
        """Bytes of the weights."""
        return self._core.memory

    def first(self, layers: int) -> Native:
        """The model of the first `layers` blocks under the same head; shares the weights (LayerSkip, 2404.16710)."""
        shallow = object.__new__(Native)
        shallow.__dict__.update(self.__dict__, _core=self._core.first(layers), layers=self.layers[:layers])
        return shallow

    def open(self, rows: int, capacity: int) -> NativeSession:
        """An empty cache for `rows` rows of at most `capacity` units each.

        Raises:
            InvalidArgument: there is no row, `capacity` is not positive, or the number of threads is out of range.
            LimitExceeded: `capacity` is more than the context, or the cache does not fit the memory.
        """
        return self.open_tree(rows, capacity, 0)

    def open_tree(self, rows: int, capacity: int, nodes: int) -> NativeSession:
        """The same, with room for the `nodes` units of a tree behind each row."""
        return self._open(rows, capacity, nodes)

    def open_tapped(self, rows: int, capacity: int, nodes: int, taps: tuple[int, ...]) -> NativeSession:
        """The same, and `states` tells what these layers make of what is read."""
        return self._open(rows, capacity, nodes, taps)

    def _open(self, rows: int, capacity: int, nodes: int, taps: tuple[int, ...] = ()) -> NativeSession:
        threads = torch.get_num_threads() if self.threads is None else self.threads
        return NativeSession(self._core.open(rows, capacity, nodes, threads, taps))

    def vocabulary(self) -> tuple[Tensor, Tensor]:
        """The vectors of the units, unpacked with each call; see `TappedModel.vocabulary`."""
        return torch.from_numpy(self._core.embedding()), torch.from_numpy(self._core.unembedding())


class NativeSession:
    """The cache of some rows; it is kept in the core."""

    def __init__(self, core: kernels.NativeSession) -> None:
        self._core = core

    @property
    def lengths(self) -> np.ndarray:
        """Units read by each row, (rows,) int64."""
        return self._core.lengths

    @property
    def states(self) -> Tensor:
        """What the tapped layers made of the last units; see `TappedSession.states`."""
        return torch.from_numpy(self._core.states())

    def forward(self, tokens: np.ndarray, counts: np.ndarray | None = None, *, last: bool = False) -> Tensor:
        """Read (rows, width) ids and predict what follows each; see `Session.forward`."""
        return torch.from_numpy(self._core.forward(np.ascontiguousarray(tokens), counts, last))

    def forward_tree(self, tokens: np.ndarray, parents: np.ndarray, counts: np.ndarray | None = None) -> Tensor:
        """Read a tree of units behind each row; see `TreeSession.forward_tree`."""
        tokens, parents = np.ascontiguousarray(tokens), np.ascontiguousarray(parents)
        return torch.from_numpy(self._core.forward_tree(tokens, parents, counts))

    def keep(self, path: np.ndarray, counts: np.ndarray) -> None:
        """Forget what `forward_tree` read but for one path; see `TreeSession.keep`."""
        self._core.keep(np.ascontiguousarray(path), counts)

    def draft(
        self,
        tokens: np.ndarray,
        counts: np.ndarray | None,
        k: int,
        sampler: kernels.Compiled,
        *,
        seeds: np.ndarray,
        rows: np.ndarray | None = None,
        history: Sequence[kernels.History] | None = None,
        stream: int = 0,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Read ids and draw `k` guesses for each row in one call; see `DraftingSession.draft`."""
        tokens = np.ascontiguousarray(tokens)
        return self._core.draft(tokens, counts, k, sampler, seeds, rows, history, stream)

    def truncate(self, lengths: np.ndarray) -> None:
        """Forget, row by row, everything behind `lengths`."""
        self._core.truncate(lengths)

    def select(self, rows: np.ndarray) -> None:
        """Keep these rows, in this order."""
        self._core.select(rows)


def _folder(source: object) -> Path:
    if not isinstance(source, (str, os.PathLike)):
        raise ArgumentTypeError(f"Native takes a LlamaModule or a folder, got {type(source).__name__}")
    return Path(os.fsdecode(source))


def _array(weight: Tensor) -> np.ndarray:
    return weight.detach().to("cpu", torch.float32).contiguous().numpy()


def _shape(config: LlamaConfig) -> tuple[Sequence[int], float, float]:
    sizes = (
        config.vocab_size, config.hidden_size, config.intermediate_size, config.num_hidden_layers,
        config.num_attention_heads, config.num_key_value_heads, config.head_dim, config.max_position_embeddings,
    )  # fmt: skip
    return sizes, float(config.rms_norm_eps), float(config.rope_theta)
