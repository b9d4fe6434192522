"""A non-autoregressive drafter to train: all places of a draft in one pass over the target's hidden states.

Some layers of the target are tapped. What they say of the last units it has read enters every draft layer as keys and
values (DFlash); the block asks them: the newest unit, which the target has chosen but not read, then a learnt mask for
each place behind it, all seeing each other. Places that are predicted at once mix what should not be mixed, so a
low-rank correction makes the draft a chain again: it sees the tokens before a place, and costs little (DSpark).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InvalidArgument, ShapeError
from ..model.llama import SwiGLU, rotate
from ..model.llama_config import LlamaConfig
from ..weights import load_model, save_model

KIND = "block drafter"
LONGEST = 64
"""The longest block, and the most units that it looks back at are twice as many."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockConfig:
    """The shape of a block drafter; a checkpoint states every field.

    Args:
        target: name of the model it was trained for.
        vocab_size, hidden_size: of that model.
        taps: which of the target's layers are read, from 0, rising.
        layers: draft layers; 0 for parallel heads on the last unit's state (Medusa, 2401.10774).
        heads, kv_heads, intermediate_size: shape of a draft layer.
        block: places of a draft.
        reach: how many of the last units it looks at.
        rank: width of the correction.
        order: how many tokens before a place the correction sees.
        latents: shared imaginations that it can draft with; 1 for none.
        rms_norm_eps, rope_theta: as in `LlamaConfig`.

    Raises:
        InvalidArgument: a size is out of range or does not divide.
    """

    target: str
    vocab_size: int
    hidden_size: int
    taps: tuple[int, ...]
    layers: int
    heads: int
    kv_heads: int
    intermediate_size: int
    block: int
    reach: int
    rank: int
    order: int
    latents: int
    rms_norm_eps: float
    rope_theta: float

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, lowest = getattr(self, field.name), 0 if field.name == "layers" else 1
            if field.type == "int" and (type(value) is not int or not lowest <= value < 2**20):
                raise InvalidArgument(f"{field.name} must be an integer of at least {lowest}, got {value!r}")
            if field.type == "float" and not (type(value) in (int, float) and 0 < value < float("inf")):
                raise InvalidArgument(f"{field.name} must be a positive number, got {value!r}")
        check_taps(self.taps)
        if self.block > LONGEST or self.reach > 2 * LONGEST or self.order > self.block or self.latents > LONGEST:
            raise InvalidArgument(
                f"block {self.block}, reach {self.reach}, order {self.order}, latents {self.latents} must be at most "
                f"{LONGEST}, {2 * LONGEST}, the block and {LONGEST}"
            )
        if self.hidden_size % (2 * self.heads) or self.heads % self.kv_heads:
            raise InvalidArgument(
                f"{self.heads} heads and {self.kv_heads} key-value heads do not divide hidden_size {self.hidden_size} "
                "into even widths"
            )

    @property
    def head_dim(self) -> int:
        """Width of a head."""
        return self.hidden_size // self.heads

    def layer(self) -> LlamaConfig:
        """The shape of a draft layer, as the Llama's parts take it."""
        return LlamaConfig(
            vocab_size=self.vocab_size, hidden_size=self.hidden_size, intermediate_size=self.intermediate_size,
            num_hidden_layers=max(1, self.layers), num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads, head_dim=self.head_dim, max_position_embeddings=1,
            rms_norm_eps=self.rms_norm_eps, rope_theta=self.rope_theta, tie_word_embeddings=True, eos_token_id=(),
        )  # fmt: skip


def check_taps(taps: object) -> None:
    """Refuse what is not some rising numbers of layers.

    Raises:
        InvalidArgument: it is not.
    """
    good = isinstance(taps, tuple) and len(taps) > 0 and all(type(layer) is int and layer >= 0 for layer in taps)
    if not good or sorted(set(taps)) != list(taps):  # type: ignore[call-overload]
        raise InvalidArgument(f"taps must be rising numbers of layers, the first is 0; got {taps!r}")


def even(x: Tensor, eps: float) -> Tensor:
    """Rows with a mean square of 1, the form in which embeddings and tapped states are taken."""
    return F.rms_norm(x, x.shape[-1:], eps=eps)


def turns(config: BlockConfig, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary angles of positions (…), each (…, head_dim), halves repeated."""
    half = torch.arange(0, config.head_dim, 2, device=positions.device).float() / config.head_dim
    angles = positions[..., None].float() / config.rope_theta**half
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


class DraftLayer(nn.Module):
    """A block of places looks at the context and, in both directions, at itself."""

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        self.config = config
        hidden, keys = config.hidden_size, config.kv_heads * config.head_dim
        self.attention_norm = nn.RMSNorm(hidden, eps=config.rms_norm_eps)
        self.q_proj = nn.Linear(hidden, hidden, bias=False)
        self.k_proj = nn.Linear(hidden, keys, bias=False)
        self.v_proj = nn.Linear(hidden, keys, bias=False)
        self.o_proj = nn.Linear(hidden, hidden, bias=False)
        self.mlp_norm = nn.RMSNorm(hidden, eps=config.rms_norm_eps)
        self.mlp = SwiGLU(config.layer())

    def keys_values(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """Turned keys and values (…, K, D) of (…, hidden)."""
        shape = (*x.shape[:-1], self.config.kv_heads, self.config.head_dim)
        return rotate(self.k_proj(x).view(shape), cos[..., None, :], sin[..., None, :]), self.v_proj(x).view(shape)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor], context: tuple[Tensor, Tensor], seen: Tensor) -> Tensor:
        """Blocks (blocks, k, hidden) further.

        Args:
            x: the residual stream.
            turn: cosines and sines of the places, (blocks, k, D).
            context: keys and values of the units before each block, (blocks, reach, K, D).
            seen: which of them there are, (blocks, reach).
        """
        config = self.config
        normed = self.attention_norm(x)
        q = self.q_proj(normed).view(*x.shape[:-1], config.heads, config.head_dim)
        q = rotate(q, turn[0][..., None, :], turn[1][..., None, :])
        own = self.keys_values(normed, *turn)
        group = config.heads // config.kv_heads
        k, v = (torch.cat(pair, dim=1).transpose(1, 2) for pair in zip(context, own, strict=True))  # (blocks, K, …, D)
        q = q.unflatten(2, (config.kv_heads, group)).permute(0, 2, 3, 1, 4).flatten(2, 3)  # (blocks, K, group · k, D)
        # The fused attention of PyTorch takes four times as long for eight queries and forty keys.
        scores = (q @ k.mT).float() * config.head_dim**-0.5
        unseen = ~F.pad(seen, (0, x.shape[1]), value=True)[:, None, None]
        y = scores.masked_fill(unseen, -torch.inf).softmax(dim=-1).to(v.dtype) @ v
        y = y.unflatten(2, (group, x.shape[1])).permute(0, 3, 1, 2, 4).reshape(x.shape)
        x = x + self.o_proj(y)
        return x + self.mlp(self.mlp_norm(x))


class BlockModule(nn.Module):
    """The trainable drafter. It has neither embedding nor head: those are the target's, and frozen.

    Args:
        config: the shape.
    """

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        self.config = config
        hidden = config.hidden_size
        self.mix = nn.Linear(len(config.taps) * hidden, hidden, bias=False)
        self.mix_norm = nn.RMSNorm(hidden, eps=config.rms_norm_eps)
        self.layers = nn.ModuleList(DraftLayer(config) for _ in range(config.layers))
        if config.layers:
            # Named so that the optimiser takes them for what they are: vectors, not a matrix.
            self.embed_masks = nn.Parameter(torch.empty(config.block - 1, hidden))
        else:
            self.heads = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(config.block))
        if config.latents > 1:
            self.embed_latents = nn.Parameter(torch.empty(config.latents, hidden))
            self.prior = nn.Linear(hidden, config.latents)
        self.norm = nn.RMSNorm(hidden, eps=config.rms_norm_eps)
        self.past = nn.ModuleList(nn.Linear(hidden, config.rank, bias=False) for _ in range(config.order))
        self.state = nn.Linear(hidden, config.rank)
        self.correction = nn.Linear(config.rank, hidden, bias=False)
        self.confidence = nn.Parameter(torch.zeros(hidden + config.rank + 1))  # the last is the bias

    def initialise(self, generator: torch.Generator) -> None:
        """Draw the weights: N(0, 0.02²), what a block starts from N(0, 0.5²), a correction that says nothing yet."""
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                nn.init.normal_(weight, std=0.5 if "embed" in name else 0.02, generator=generator)
            elif name.endswith("bias"):
                nn.init.zeros_(weight)
        for matrix in (self.correction.weight, *(layer.o_proj.weight for layer in self.layers)):  # type: ignore[union-attr]
            nn.init.zeros_(matrix)  # type: ignore[arg-type]

    def context(self, taps: Tensor) -> Tensor:
        """What the target said of units, (…, taps, hidden) → (…, hidden); no layer is louder than another."""
        mixed = self.mix(even(taps, self.config.rms_norm_eps).flatten(-2))
        return self.mix_norm(mixed.to(self.mix_norm.weight.dtype))

    def block(self, newest: Tensor, latent: Tensor | None = None) -> Tensor:
        """The residual stream that blocks start from, (blocks, k, hidden), given the newest units' embeddings."""
        masks = self.embed_masks.to(newest.dtype).expand(len(newest), -1, -1)
        x = torch.cat((newest[:, None], masks), dim=1)
        return x if latent is None else x + latent[:, None]

    def states(
        self, newest: Tensor, positions: Tensor, context: Tensor, seen: Tensor, places: Tensor, latent: Tensor | None
    ) -> Tensor:
        """The normed states of all places, (blocks, k, hidden).

        Args:
            newest: embeddings, made `even`, of the units that were chosen and not read, (blocks, hidden).
            positions: where they stand, (blocks,).
            context: what `context` made of the units before them, (blocks, reach, hidden); the last is the nearest.
            seen: which of those there are, (blocks, reach).
            places: of these units, (blocks, reach).
            latent: (blocks, hidden), or None.
        """
        config = self.config
        if not config.layers:
            x = context[:, -1] + newest if latent is None else context[:, -1] + newest + latent
            x = torch.stack([x + F.silu(head(x)) for head in self.heads], dim=1)
            return self.norm(x)
        x = self.block(newest, latent)
        turn = turns(config, positions[:, None] + torch.arange(config.block, device=positions.device))
        before = turns(config, places)
        for layer in self.layers:
            x = layer(x, turn, layer.keys_values(context, *before), seen)  # type: ignore[operator]
        return self.norm(x)

    def bend(self, states: Tensor, past: Tensor) -> Tensor:
        """The correction's inside, (blocks, k, rank).

        Args:
            states: as `states` gives them.
            past: even embeddings of the tokens before each place from the newest unit on, 0 where there is none,
                (blocks, k, order, hidden); the first is the one just before it.
        """
        seen = self.state(states)
        for distance, table in enumerate(self.past):
            seen = seen + table(past[:, :, distance])
        return F.silu(seen)

    def confident(self, states: Tensor, bent: Tensor) -> Tensor:
        """Logits of how likely each place is to be right if those before it are, (blocks, k)."""
        hidden = self.config.hidden_size
        weight = self.confidence
        return states @ weight[:hidden] + bent @ weight[hidden:-1] + weight[-1]


def load_block(folder: Path) -> BlockModule:
    """The drafter of a folder with config.json and model.safetensors; weights become float32.

    Raises:
        CheckpointError: a file is missing or broken, is of another kind, or weights and configuration do not fit.
    """
    return load_model(folder, KIND, BlockConfig, BlockModule).requires_grad_(requires_grad=False)


def save_block(module: BlockModule, folder: Path) -> None:
    """Write configuration and weights, in bfloat16."""
    save_model(folder, KIND, module.config, dict(module.named_parameters()), dtype=torch.bfloat16)


def check_target(config: BlockConfig, *, vocab_size: int, hidden_size: int) -> None:
    """Refuse a target of another shape than the drafter was trained for.

    Raises:
        ShapeError: it is.
    """
    if (vocab_size, hidden_size) != (config.vocab_size, config.hidden_size):
        raise ShapeError(
            f"the drafter for {config.target!r} wants {config.vocab_size} ids and states of {config.hidden_size}, "
            f"the target has {vocab_size} and {hidden_size}"
        )
