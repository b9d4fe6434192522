"""Two towers, one for pictures and one for texts, whose vectors point the same way where one says the other (CLIP)."""

from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InvalidArgument
from ..weights import load_model, save_model
from .llama import Block, rotary_tables
from .llama_config import LlamaConfig

KIND = "clip"
"""What `config.json` says such a model is."""

_GROUPS = 8
_STEEPEST = math.log(100.0)  # what the logarithm of the scale is held under (2103.00020)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """The shape of a CLIP; a checkpoint states every field.

    Args:
        vocab_size: ids of texts; 0 stands behind the end of one.
        positions: the most ids of a text.
        side: pixels of a picture, down and across.
        stem: channels of the stages before the transformer, each of which halves the picture; multiples of 8.
        image_size, image_inner, image_layers, image_heads: shape of the transformer of pictures: width of its stream
            and of its feed-forward blocks, blocks, heads.
        text_size, text_inner, text_layers, text_heads: the same of texts.
        width: numbers of a vector.
    """

    vocab_size: int
    positions: int
    side: int
    stem: tuple[int, ...]
    image_size: int
    image_inner: int
    image_layers: int
    image_heads: int
    text_size: int
    text_inner: int
    text_layers: int
    text_heads: int
    width: int

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type == "int" and (type(value) is not int or not 0 < value < 2**31):
                raise InvalidArgument(f"{field.name} must be a positive integer, got {value!r}")
        stem = self.stem
        if not isinstance(stem, tuple) or not stem or any(type(n) is not int or n < 1 or n % _GROUPS for n in stem):
            raise InvalidArgument(f"stem must be positive multiples of {_GROUPS}, got {stem!r}")
        if self.side % 2 ** len(stem):
            raise InvalidArgument(f"side {self.side} cannot be halved {len(stem)} times, as a stem of {stem} does")
        for tower in ("image", "text"):
            size, heads = getattr(self, f"{tower}_size"), getattr(self, f"{tower}_heads")
            if size % heads:
                raise InvalidArgument(f"{tower}_heads {heads} does not divide {tower}_size {size}")
            self.llama(tower)

    @property
    def patches(self) -> int:
        """How many positions the transformer of pictures has."""
        return (self.side >> len(self.stem)) ** 2

    def llama(self, tower: str) -> LlamaConfig:
        """The shape of the blocks of the "image" or the "text" tower."""
        size, inner, layers, heads = (getattr(self, f"{tower}_{name}") for name in ("size", "inner", "layers", "heads"))
        return LlamaConfig(
            vocab_size=self.vocab_size, hidden_size=size, intermediate_size=inner, num_hidden_layers=layers,
            num_attention_heads=heads, num_key_value_heads=heads, head_dim=size // heads,
            max_position_embeddings=self.patches if tower == "image" else self.positions, rms_norm_eps=1e-5,
            rope_theta=10000.0, tie_word_embeddings=True, eos_token_id=(),
        )  # fmt: skip


class Stage(nn.Module):
    """A convolution that halves pictures, and one behind it that is added to what the first one made."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.halve = nn.Conv2d(before, after, 3, 2, 1, bias=False)
        self.halve_norm = nn.GroupNorm(_GROUPS, after)
        self.mix = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.mix_norm = nn.GroupNorm(_GROUPS, after)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.halve_norm(self.halve(x)))
        return x + F.silu(self.mix_norm(self.mix(x)))


class Tower(nn.Module):
    """Blocks that look both ways, and one vector of length 1 as the mean of what they make of each position."""

    def __init__(self, llama: LlamaConfig, width: int) -> None:
        super().__init__()
        positions, size = llama.max_position_embeddings, llama.hidden_size
        self.embed_places = nn.Parameter(torch.zeros(positions, size))
        self.layers = nn.ModuleList(Block(llama) for _ in range(llama.num_hidden_layers))
        self.norm = nn.RMSNorm(size, eps=llama.rms_norm_eps)
        self.project = nn.Linear(size, width, bias=False)
        self.cos: Tensor
        self.sin: Tensor
        cos, sin = rotary_tables(llama, positions)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        """(rows, width) float32 of (rows, positions, size), of those positions that are `there`, (rows, positions)."""
        positions = x.shape[1]
        x = x + self.embed_places[:positions]
        for layer in self.layers:
            x = layer(x, self.cos[:positions], self.sin[:positions], there[:, None, None])
        seen = self.norm(x).float() * there[..., None]
        mean = seen.sum(dim=1) / there.sum(dim=1, keepdim=True).clamp(min=1)
        return F.normalize(self.project(mean).float(), dim=1)


class ClipModule(nn.Module):
    """The trainable model: pictures and texts → vectors of length 1.

    Args:
        config: its shape.

    Example:
        >>> config = ClipConfig(vocab_size=9, positions=4, side=16, stem=(8, 8), image_size=8, image_inner=16,
        ...     image_layers=1, image_heads=2, text_size=8, text_inner=16, text_layers=1, text_heads=2, width=6)
        >>> module = ClipModule(config)
        >>> module.images(torch.zeros(2, 3, 16, 16)).shape, module.texts(torch.tensor([[1, 2, 0, 0]])).shape
        (torch.Size([2, 6]), torch.Size([1, 6]))
    """

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.config = config
        stages = (Stage(before, after) for before, after in itertools.pairwise((3, *config.stem)))
        self.stem = nn.Sequential(*stages, nn.Conv2d(config.stem[-1], config.image_size, 1))
        self.image = Tower(config.llama("image"), config.width)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.text_size)
        self.text = Tower(config.llama("text"), config.width)
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def initialise(self, generator: torch.Generator) -> None:
        """Draw weights from N(0, 0.02²), residual outputs scaled by 1/√(2·layers) (GPT-2), filters by their inputs."""
        for name, weight in self.named_parameters():
            if weight.ndim == 4:
                nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator)
            elif weight.ndim == 2:
                scale = 0.02
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    tower = self.config.llama(name.partition(".")[0])
                    scale /= (2 * tower.num_hidden_layers) ** 0.5
                nn.init.normal_(weight, std=scale, generator=generator)
            elif name.endswith("bias"):
                nn.init.zeros_(weight)

    @property
    def scale(self) -> Tensor:
        """What a cosine is multiplied with to become a logit, at most 100."""
        return self.log_scale.clamp(max=_STEEPEST).exp()

    def images(self, pictures: Tensor) -> Tensor:
        """(n, width) float32 of pictures (n, 3, side, side) in [-1, 1]."""
        x = self.stem(pictures).flatten(2).transpose(1, 2)
        return self.image(x, torch.ones(x.shape[:2], dtype=torch.bool, device=x.device))

    def texts(self, ids: Tensor) -> Tensor:
        """(n, width) float32 of ids (n, positions) int64, 0 behind a text's end."""
        return self.text(self.embed_tokens(ids), ids > 0)


def load_clip(folder: Path) -> ClipModule:
    """The module of a folder; weights become float32.

    Raises:
        CheckpointError: a file is missing or broken, or holds another kind of model.
    """
    return load_model(folder, KIND, ClipConfig, ClipModule)


def save_clip(module: ClipModule, folder: Path, *, dtype: torch.dtype = torch.float32) -> None:
    """Write a folder that `load_clip` reads; see `weights.write_tensors` for what `dtype` may be."""
    save_model(folder, KIND, module.config, module.state_dict(), dtype=dtype)
