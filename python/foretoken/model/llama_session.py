"""The Llama that decodes: fused weights and a preallocated cache in which every row has its own length."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InvalidArgument, LimitExceeded
from .llama import Block, LlamaModule
from .llama_config import LlamaConfig
from .llama_places import LevelPlace, RaggedPlace, causal_place, tree_place
from .product import Product


class Llama:
    """A causal model over the weights of a `LlamaModule`, laid out for one step after another.

    Query, key and value are one matrix product, gate and up another, and the gains of the norms are folded into the
    matrix of the product that follows. The rotary halves are interleaved, so that turning queries and keys is one
    complex product; values ride along, turned by 1 + 0i, and keys and values enter the cache in one copy.

    Args:
        module: the weights; they are copied.

    Example:
        >>> from foretoken.model.llama import LlamaModule
        >>> from foretoken.model.llama_config import LlamaConfig
        >>> config = LlamaConfig(vocab_size=16, hidden_size=8, intermediate_size=16, num_hidden_layers=1,
        ...     num_attention_heads=2, num_key_value_heads=1, head_dim=4, max_position_embeddings=32,
        ...     rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=True, eos_token_id=(0,))
        >>> session = Llama(LlamaModule(config)).open(rows=1, capacity=8)
        >>> session.forward(np.array([[1, 2, 3]])).shape
        torch.Size([1, 3, 16])
    """

    def __init__(self, module: LlamaModule) -> None:
        self.config: LlamaConfig = module.config
        with torch.no_grad():
            self.embedding = module.model.embed_tokens.weight.detach().clone()
            self.layers = tuple(_FusedBlock(cast(Block, block), self.config) for block in module.model.layers)
            self.head = Product(module.lm_head.weight * _gain(module.model.norm))
            root = (self.config.hidden_size * self.config.rms_norm_eps) ** 0.5
            self.floor = torch.full((1, 1), root, device=self.embedding.device)
        self._tables = self._make_tables(0)

    def tables(self, length: int) -> tuple[Tensor, Tensor]:
        """Rotation (length or more, heads, head_dim/2) complex64 and causal mask (… · group, …) of positions.

        They grow with the longest session: for a context of 131,072 the mask alone would take 17 GB.
        """
        tables = self._tables
        if len(tables[0]) < length:
            tables = self._tables = self._make_tables(min(self.context, max(length, 2 * len(tables[0]))))
        return tables

    def _make_tables(self, length: int) -> tuple[Tensor, Tensor]:
        config = self.config
        half = torch.arange(0, config.head_dim, 2, dtype=torch.int64).float() / config.head_dim
        angles = torch.outer(torch.arange(length).float(), 1.0 / config.rope_theta**half)
        turn = torch.polar(torch.ones_like(angles), angles)[:, None, :]  # (context, 1, head_dim/2)
        turned = config.num_attention_heads + config.num_key_value_heads
        still = torch.ones_like(turn).expand(-1, config.num_key_value_heads, -1)
        turn = torch.cat((turn.expand(-1, turned, -1), still), dim=1).to(self.embedding.device)
        group = config.num_attention_heads // config.num_key_value_heads
        causal = torch.ones(length, length, dtype=torch.bool, device=self.embedding.device).tril()
        # The queries of a group stand behind each other, so their rows of the mask do too.
        return turn, causal.repeat_interleave(group, dim=0)  # (length · group, length)

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
        """Where the weights are."""
        return self.embedding.device

    def first(self, layers: int) -> Llama:
        """The model of the first `layers` blocks under the same head; shares the weights (LayerSkip, 2404.16710)."""
        if not 0 < layers <= len(self.layers):
            raise InvalidArgument(f"layers must be in [1, {len(self.layers)}], got {layers}")
        shallow = object.__new__(Llama)
        shallow.__dict__.update(self.__dict__, layers=self.layers[:layers])
        return shallow

    def open(self, rows: int, capacity: int) -> LlamaSession:
        """An empty cache for `rows` rows of at most `capacity` units each."""
        return self.open_tree(rows, capacity, 0)

    def open_tree(self, rows: int, capacity: int, nodes: int) -> LlamaSession:
        """The same, with room for the `nodes` units of a tree behind each row."""
        if rows < 1:
            raise InvalidArgument(f"a cache has at least one row, got {rows}")
        if not 0 < capacity <= self.context:
            raise LimitExceeded(f"capacity {capacity} is outside [1, {self.context}], the context of this model")
        return LlamaSession(self, rows, capacity, nodes)

    def open_tapped(self, rows: int, capacity: int, nodes: int, taps: tuple[int, ...]) -> LlamaSession:
        """The same, and `states` tells what these layers make of what is read."""
        return self.open_tree(rows, capacity, nodes).tap(taps)

    def vocabulary(self) -> tuple[Tensor, Tensor]:
        """The vectors of the units; see `TappedModel.vocabulary`."""
        return self.embedding, self.head.columns.t() / self.config.hidden_size**0.5


def _gain(norm: nn.RMSNorm) -> Tensor:
    """What the rows that `_unit` returns are still to be multiplied by."""
    return norm.weight * norm.weight.shape[0] ** 0.5


def _unit(x: Tensor, floor: Tensor) -> Tensor:
    """Rows over their lengths: x / √(|x|² + floor²), the RMS norm but for its gain and a constant.

    Three operations that exist: 5 µs where `rms_norm`, made of seven on a CPU, takes 14, seventeen times a step.
    """
    return x / torch.hypot(torch.linalg.vector_norm(x, dim=1, keepdim=True), floor)


class _FusedBlock:
    """The weights of one block, fused."""

    def __init__(self, block: Block, config: LlamaConfig) -> None:
        attention, mlp = block.self_attn, block.mlp
        qk = torch.cat((attention.q_proj.weight, attention.k_proj.weight))
        # Transformers turns (i, i + head_dim/2); a complex number is (2i, 2i + 1).
        pairs = qk.view(-1, 2, config.head_dim // 2, config.hidden_size).transpose(1, 2).reshape(qk.shape)
        self.qkv = Product(torch.cat((pairs, attention.v_proj.weight)) * _gain(block.input_layernorm))
        self.out = Product(attention.o_proj.weight)
        gain = _gain(block.post_attention_layernorm)
        self.gate_up = Product(torch.cat((mlp.gate_proj.weight, mlp.up_proj.weight)) * gain)
        self.down = Product(mlp.down_proj.weight)


class LlamaSession:
    """The cache of some rows, (blocks, keys and values, rows, heads, slots + 1, head_dim).

    A row's units fill its slots from the first. A tree is read into the slots behind them, in the order it is given in;
    what is kept of it then moves to the front. The last slot takes padding, and no mask shows it.
    """

    def __init__(self, model: Llama, rows: int, capacity: int, nodes: int) -> None:
        config = model.config
        self.model, self.capacity, self.slots = model, capacity, capacity + nodes
        self.lengths = np.zeros(rows, dtype=np.int64)
        self._taps: tuple[int, ...] = ()
        self._states: list[Tensor] = []
        self._shape = (rows, 0)
        self.turn, self.causal = model.tables(capacity)
        shape = (2, rows, config.num_key_value_heads, self.slots + 1, config.head_dim)
        self._hold(torch.zeros((len(model.layers), *shape), device=model.device))
        self._tree: np.ndarray | None = None  # the rows' lengths before the tree that is to be pruned

    def _hold(self, blocks: Tensor) -> None:
        self.blocks, self.cache = blocks, blocks.unbind(0)

    @property
    def states(self) -> Tensor:
        """What the tapped layers made of the last units; see `TappedSession.states`."""
        if not self._states:
            raise InvalidArgument("no layer is tapped, or nothing was read; open_tapped says which are")
        rows, width = self._shape
        return torch.stack(self._states, dim=1).view(rows, width, len(self._taps), -1)

    def tap(self, taps: tuple[int, ...]) -> LlamaSession:
        """Keep the residual stream behind these layers from now on; returns the session."""
        if list(taps) != sorted(set(taps)) or not 0 <= min(taps, default=-1) <= max(taps) < len(self.model.layers):
            raise InvalidArgument(f"taps {taps!r} must be rising numbers of layers in [0, {len(self.model.layers)})")
        self._taps = taps
        return self

    def truncate(self, lengths: np.ndarray) -> None:
        """Forget, row by row, everything behind `lengths`."""
        self.lengths = np.minimum(self.lengths, lengths)

    def select(self, rows: np.ndarray) -> None:
        """Keep these rows, in this order."""
        index = torch.from_numpy(np.asarray(rows, dtype=np.int64)).to(self.model.device)
        self._states = [state.view(*self._shape, -1)[index].flatten(0, 1) for state in self._states]
        self._shape = (len(index), self._shape[1])
        self._hold(self.blocks.index_select(2, index))
        self.lengths = self.lengths[rows]

    @torch.inference_mode()
    def keep(self, path: np.ndarray, counts: np.ndarray) -> None:
        """Forget what `forward_tree` read but for one path; see `TreeSession.keep`."""
        start = self._tree
        if start is None:
            raise InvalidArgument("there is no tree to keep a path of; keep follows forward_tree")
        places = np.arange(path.shape[1])
        rows, to = ((path != places) & (places < counts[:, None])).nonzero()
        if len(rows):
            source, target = start[rows] + path[rows, to], start[rows] + to
            lines, source, target = (torch.from_numpy(part).to(self.model.device) for part in (rows, source, target))
            # Gathered before it is written, so that slots may overlap.
            self.blocks[:, :, lines, :, target] = self.blocks[:, :, lines, :, source]
        self.lengths, self._tree = start + counts, None

    @torch.inference_mode()
    def forward(self, tokens: np.ndarray, counts: np.ndarray | None = None, *, last: bool = False) -> Tensor:
        """Read (rows, width) ids and predict what follows each; see `Session.forward`."""
        rows, width = tokens.shape
        lengths = self.lengths
        start = int(lengths[0])
        longest = (start if rows == 1 else int(lengths.max())) + width
        if longest > self.capacity and (need := int((lengths + (width if counts is None else counts)).max())) > (
            self.capacity
        ):
            raise LimitExceeded(f"{need} units do not fit the capacity of {self.capacity}")
        if self._tree is not None:
            raise InvalidArgument("a tree was read and not pruned; keep one of its paths first")
        level = longest <= self.capacity and (rows == 1 or bool((lengths == start).all()))
        place = causal_place(self, start if level else None, width, min(longest, self.capacity))
        hidden = self._read(tokens, place)
        if last and width > 1:
            ends = np.arange(rows) * width + (width if counts is None else counts) - 1
            hidden = hidden[torch.from_numpy(ends).to(hidden.device)]
        self.lengths = lengths + (width if counts is None else counts)
        return self._predict(hidden, rows)

    @torch.inference_mode()
    def forward_tree(self, tokens: np.ndarray, parents: np.ndarray, counts: np.ndarray | None = None) -> Tensor:
        """Read a tree of units behind each row; see `TreeSession.forward_tree`.

        Raises:
            InvalidArgument: a parent does not come before its child, or the last tree was not pruned.
            LimitExceeded: a path does not fit the capacity, or a tree not the room there is for one.
        """
        rows, width = tokens.shape
        if ((parents < -1) | (parents >= np.arange(width))).any():
            raise InvalidArgument(f"parents are {parents.tolist()}; each comes before its child, or is -1")
        if self._tree is not None:
            raise InvalidArgument("a tree was read and not pruned; keep one of its paths first")
        used = np.full(rows, width) if counts is None else counts
        place, depths = tree_place(self, parents)
        need = int((self.lengths + np.where(np.arange(width) < used[:, None], depths, 0).max(axis=1)).max()) + 1
        if need > self.capacity or int((self.lengths + used).max()) > self.slots:
            room = f"{self.capacity} units, {self.slots} with all of a tree"
            raise LimitExceeded(f"a tree of {used.max()} units, {need} along a path, does not fit the capacity: {room}")
        hidden = self._read(tokens, place)
        self._tree, self.lengths = self.lengths, self.lengths + used
        return self._predict(hidden, rows)

    def _predict(self, hidden: Tensor, rows: int) -> Tensor:
        return self.model.head(_unit(hidden, self.model.floor)).view(rows, -1, self.model.config.vocab_size)

    def _read(self, tokens: np.ndarray, place: LevelPlace | RaggedPlace) -> Tensor:
        """The hidden state of every unit, (rows · width, hidden), while keys and values enter the cache."""
        rows, width = tokens.shape
        ids = torch.from_numpy(tokens).to(self.model.device).flatten()
        return self._blocks(F.embedding(ids, self.model.embedding), rows, width, place)

    def _blocks(self, x: Tensor, rows: int, width: int, place: LevelPlace | RaggedPlace) -> Tensor:
        config, taps, states = self.model.config, self._taps, []
        heads, kv_heads, head_dim = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        group, floor = heads // kv_heads, self.model.floor
        split, pairs = (heads, 2 * kv_heads), (rows, width, heads + 2 * kv_heads, head_dim // 2, 2)
        for index, (block, cache) in enumerate(zip(self.model.layers, self.cache, strict=True)):
            qkv = torch.view_as_complex(block.qkv(_unit(x, floor)).view(pairs))
            turned = torch.view_as_real(qkv * place.turn).view(rows, width, sum(split), head_dim)
            q, kv = turned.split_with_sizes(split, dim=2)
            kv = kv.view(rows, width, 2, kv_heads, head_dim).permute(2, 0, 3, 1, 4)
            keys, values = place.write(cache, kv)  # (rows, K, longest, D) each
            q = q.view(rows, width, kv_heads, group, head_dim).transpose(1, 2)
            y = F.scaled_dot_product_attention(
                q.reshape(rows, kv_heads, width * group, head_dim), keys, values, attn_mask=place.mask
            )
            y = y.view(rows, kv_heads, width, group, head_dim).transpose(1, 2).reshape(rows * width, heads * head_dim)
            x = block.out.add(x, y)
            gate, up = block.gate_up(_unit(x, floor)).chunk(2, dim=1)
            x = block.down.add(x, F.silu(gate) * up)
            if index in taps:
                states.append(x)
        self._states, self._shape = states, (rows, width)
        return x
