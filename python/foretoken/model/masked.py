"""A transformer that looks both ways and predicts whatever is unknown: masked, one-shot and any-order generation."""

from __future__ import annotations

import copy
import dataclasses
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..canvas import UNKNOWN
from ..errors import InvalidArgument, LimitExceeded
from ..shipped import folder_of
from ..weights import load_model, save_model
from .llama import Block, rotary_tables
from .llama_config import LlamaConfig

KIND = "masked"
"""What `config.json` says such a model is."""


_LEAST = {"latents": 0, "imagination": 0, "lengths": 0, "end": -1}


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskedConfig:
    """The shape of a masked model; a checkpoint states every field.

    A row is [imagination][condition …][body …]: the body's units have ids from 0, what only a condition says the ids
    behind them, and the last `latents + 1` ids are those of a shared imagination, of which the very last means none.
    A model without imaginations has no place for one.

    Args:
        vocab_size: number of ids.
        units: how many of them, from 0, may stand in a body.
        latents: of how many shared imaginations one stands at position 0; 0 for a model without.
        imagination: how many numbers each of them is, points of a normal law that all are as likely as the others
            (the continuous case, a VAE's prior); 0 if each has an embedding of its own (the discrete one).
        lengths: the longest body whose length is predicted, 0 for none.
        end: the id that ends a body, or -1.
        hidden_size, intermediate_size, layers, heads: shape of the transformer, that of a Llama.
        context: the most units of a row.
    """

    vocab_size: int
    units: int
    latents: int
    imagination: int
    lengths: int
    end: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    context: int

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, least = getattr(self, field.name), _LEAST.get(field.name, 1)
            if type(value) is not int or not least <= value < 2**31:
                raise InvalidArgument(f"{field.name} must be an integer of at least {least}, got {value!r}")
        if self.units + self.imaginations > self.vocab_size:
            raise InvalidArgument(f"{self.units} units and {self.latents} latents are more than {self.vocab_size} ids")
        if self.imagination and not self.latents:
            raise InvalidArgument(f"imagination is {self.imagination} without latents: give how many of them there are")
        if self.end >= self.units:
            raise InvalidArgument(f"end {self.end} is none of the {self.units} units")
        if self.hidden_size % self.heads:
            raise InvalidArgument(f"heads {self.heads} does not divide hidden_size {self.hidden_size}")
        self.llama()

    @property
    def imaginations(self) -> int:
        """Ids of shared imaginations, "none" among them."""
        return self.latents + 1 if self.latents else 0

    @property
    def first_latent(self) -> int:
        """The lowest id of a shared imagination."""
        return self.vocab_size - self.imaginations

    @property
    def untold(self) -> int:
        """The id that says that there is no shared imagination."""
        return self.vocab_size - 1

    def llama(self) -> LlamaConfig:
        """The shape of its blocks."""
        return LlamaConfig(
            vocab_size=self.vocab_size, hidden_size=self.hidden_size, intermediate_size=self.intermediate_size,
            num_hidden_layers=self.layers, num_attention_heads=self.heads, num_key_value_heads=self.heads,
            head_dim=self.hidden_size // self.heads, max_position_embeddings=self.context, rms_norm_eps=1e-5,
            rope_theta=10000.0, tie_word_embeddings=True, eos_token_id=(),
        )  # fmt: skip


class MaskedModule(nn.Module):
    """The trainable model: ids (batch, positions), `UNKNOWN` where one is asked for → logits (…, vocab) float32.

    Rotary positions say how far units are apart, and an embedding of its own where each stands: rows of a grid need
    both.

    Args:
        config: its shape.
    """

    def __init__(self, config: MaskedConfig) -> None:
        super().__init__()
        self.config = config
        llama = config.llama()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.embed_unknown = nn.Parameter(torch.zeros(config.hidden_size))
        self.embed_places = nn.Parameter(torch.zeros(config.context, config.hidden_size))
        self.layers = nn.ModuleList(Block(llama) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.hidden_size, eps=llama.rms_norm_eps)
        if config.imagination:
            self.imagine = nn.Linear(config.imagination, config.hidden_size)
            self.posterior = nn.Linear(config.hidden_size, 2 * config.imagination)
            self.points: Tensor
            points = torch.randn(config.latents, config.imagination, generator=torch.Generator().manual_seed(0))
            self.register_buffer("points", points)  # in the file: a later torch may draw others
        self.lengths_head = nn.Linear(config.hidden_size, config.lengths + 1) if config.lengths else None
        self.cos: Tensor
        self.sin: Tensor
        cos, sin = rotary_tables(llama, config.context)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def initialise(self, generator: torch.Generator) -> None:
        """Draw every weight from N(0, 0.02²), residual outputs scaled by 1/√(2·layers) (GPT-2)."""
        for name, weight in self.named_parameters():
            if weight.ndim == 2 or name == "embed_unknown":
                scale = 0.02
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    scale /= (2 * self.config.layers) ** 0.5
                nn.init.normal_(weight, std=scale, generator=generator)
            elif name.endswith("bias"):
                nn.init.zeros_(weight)
        if self.config.imagination:
            # An encoder that is vague at first is never listened to, and so never becomes clear.
            nn.init.normal_(self.posterior.weight, std=self.config.hidden_size**-0.5, generator=generator)
            nn.init.constant_(self.posterior.bias[self.config.imagination :], -4.0)

    def hidden(self, ids: Tensor, lengths: Tensor | None = None, imagined: Tensor | None = None) -> Tensor:
        """The normed states (batch, positions, hidden).

        Args:
            ids: (batch, positions) int64.
            lengths: (batch,) int64, positions of each row that there are; None for all.
            imagined: (batch, imagination) that stands at position 0, whatever the id there; None for what the id says.
        """
        positions = ids.shape[1]
        unknown = (ids == UNKNOWN)[..., None]
        x = torch.where(unknown, self.embed_unknown, self.embed_tokens(ids.clamp(min=0)))
        if self.config.imagination:
            x = self._imagining(x, ids, imagined)
        x = x + self.embed_places[:positions]
        there = torch.arange(positions, device=ids.device)
        sees = torch.ones(1, 1, 1, positions, dtype=torch.bool, device=ids.device)
        if lengths is not None:
            sees = (there < lengths[:, None])[:, None, None]
        for layer in self.layers:
            x = layer(x, self.cos[:positions], self.sin[:positions], sees)
        return self.norm(x)

    def _imagining(self, x: Tensor, ids: Tensor, imagined: Tensor | None) -> Tensor:
        """The embeddings, with that of a point where an imagination stands."""
        latent = ids[:, 0] - self.config.first_latent
        told = (latent >= 0) & (latent < self.config.latents)
        if imagined is None:
            imagined = self.points[latent.clamp(0, self.config.latents - 1)]
        else:
            told = torch.ones_like(told)
        front = torch.where(told[:, None], self.imagine(imagined).to(x.dtype), x[:, 0])
        return torch.cat((front[:, None], x[:, 1:]), dim=1)

    def forward(self, ids: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self.hidden(ids, lengths) @ self.embed_tokens.weight.T

    def length_logits(self, ids: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Logits (batch, longest + 1) of how many units follow conditions (batch, positions)."""
        assert self.lengths_head is not None
        hidden = self.hidden(ids, lengths)
        last = torch.full((len(ids),), ids.shape[1] - 1) if lengths is None else lengths - 1
        return self.lengths_head(hidden[torch.arange(len(ids)), last])


class MaskedLlama:
    """A `ParallelModel` over the weights of a `MaskedModule`.

    Args:
        source: the weights, which are copied, or a folder that `save_masked` wrote.
        dtype: of the products: `torch.bfloat16` is faster where the processor has it (1.3 times for one row of 259
            units and 1.6 times for 16, avx512_bf16), and slow where it does not.

    Raises:
        CheckpointError: the folder holds no such model, or a broken one.
        InvalidArgument: `dtype` is neither float32 nor bfloat16.

    Example:
        >>> config = MaskedConfig(vocab_size=9, units=8, latents=0, imagination=0, lengths=4, end=7, hidden_size=8,
        ...     intermediate_size=16, layers=1, heads=2, context=12)
        >>> model = MaskedLlama(MaskedModule(config))
        >>> model.predict(np.array([[8, 3, -1]]), np.array([3])).shape
        torch.Size([1, 3, 9])
    """

    def __init__(self, source: MaskedModule | str | os.PathLike[str], *, dtype: torch.dtype = torch.float32) -> None:
        if dtype not in (torch.float32, torch.bfloat16):
            raise InvalidArgument(f"dtype must be torch.float32 or torch.bfloat16, got {dtype!r}")
        module = copy.deepcopy(source) if isinstance(source, MaskedModule) else load_masked(folder_of(source))
        self.module, self.config = module.eval().to(dtype), module.config
        config = self.config
        self.vocab_size, self.context = config.vocab_size, config.context
        self.end_tokens: tuple[int, ...] = () if config.end < 0 else (config.end,)
        allowed = torch.zeros(2, config.vocab_size)  # in a body, and at the place of the imagination
        allowed[0, config.units :] = -torch.inf
        allowed[1] = -torch.inf
        allowed[1, config.first_latent : config.untold] = 0
        self._allowed = allowed

    @property
    def latents(self) -> int:
        """How many shared imaginations there are; one more id, the last, says that there is none."""
        return self.config.latents

    @torch.inference_mode()
    def predict(self, canvas: np.ndarray, lengths: np.ndarray) -> Tensor:
        """Logits of every position; see `ParallelModel.predict`.

        Raises:
            LimitExceeded: a row is longer than the context.
        """
        ids, counts = self._tensors(canvas, lengths)
        logits = self.module(ids, counts).float()
        if not self.latents:
            return logits.add_(self._allowed[0])
        logits[:, 1:] += self._allowed[0]
        if self.config.imagination:
            logits[:, 0] = 0  # points of one law
        logits[:, 0] += self._allowed[1]
        return logits

    @torch.inference_mode()
    def predict_lengths(self, canvas: np.ndarray, lengths: np.ndarray) -> Tensor:
        """Log-probabilities of how many units follow; see `LengthModel.predict_lengths`."""
        ids, counts = self._tensors(canvas, lengths)
        return self.module.length_logits(ids, counts).float().log_softmax(dim=-1)

    def _tensors(self, canvas: np.ndarray, lengths: np.ndarray) -> tuple[Tensor, Tensor | None]:
        if canvas.shape[1] > self.context:
            raise LimitExceeded(f"a row has {canvas.shape[1]} positions, the model's context is {self.context}")
        ids = torch.from_numpy(np.ascontiguousarray(canvas, dtype=np.int64))
        level = bool((np.asarray(lengths) == canvas.shape[1]).all())
        return ids, None if level else torch.from_numpy(np.asarray(lengths, dtype=np.int64))


def load_masked(folder: Path) -> MaskedModule:
    """The module of a folder; weights become float32.

    Raises:
        CheckpointError: a file is missing or broken, or holds another kind of model.
    """
    return load_model(folder, KIND, MaskedConfig, MaskedModule)


def save_masked(module: MaskedModule, folder: Path, *, dtype: torch.dtype = torch.bfloat16) -> None:
    """Write a folder that `load_masked` reads; see `weights.write_tensors` for what `dtype` may be."""
    save_model(folder, KIND, module.config, module.state_dict(), dtype=dtype)
