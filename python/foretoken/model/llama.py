"""A Llama-shaped decoder to train: RMSNorm, rotary positions, grouped-query attention, SwiGLU.

Parameter names are those of transformers' `LlamaForCausalLM`, so a checkpoint loads in both.
For decoding use `foretoken.Llama`, which fuses these weights.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import CheckpointError, InvalidArgument
from ..weights import read_object

_FIXED = {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False}
_ROPE = {"rope_theta", "rope_type", "type"}
_IGNORED = {
    "_name_or_path", "architectures", "attention_dropout", "bos_token_id", "dtype", "initializer_range", "model_type",
    "pad_token_id", "pretraining_tp", "rope_parameters", "rope_scaling", "torch_dtype", "transformers_version",
    "use_cache",
}  # fmt: skip
_LONGEST_CONTEXT = 2**20  # its rotary tables take 1 GB at a head width of 128


@dataclasses.dataclass(frozen=True, kw_only=True)
class LlamaConfig:
    """The shape of a Llama; a checkpoint states every field, there are no defaults.

    Args:
        vocab_size: number of token ids.
        hidden_size: width of the residual stream.
        intermediate_size: width inside the SwiGLU block.
        num_hidden_layers: number of blocks.
        num_attention_heads: number of query heads.
        num_key_value_heads: number of key and value heads; divides `num_attention_heads`.
        head_dim: width of a head, even.
        max_position_embeddings: the longest context in tokens.
        rms_norm_eps: added to the mean square before the root.
        rope_theta: base of the rotary frequencies.
        tie_word_embeddings: whether the head is the embedding matrix.
        eos_token_id: ids that end a text.

    Raises:
        InvalidArgument: a size is not positive or does not divide.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope_theta: float
    tie_word_embeddings: bool
    eos_token_id: tuple[int, ...]

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type == "int" and (type(value) is not int or not 0 < value < 2**31):
                raise InvalidArgument(f"{field.name} must be a positive integer, got {value!r}")
            if field.type == "float" and not (type(value) in (int, float) and 0 < value < float("inf")):
                raise InvalidArgument(f"{field.name} must be a positive number, got {value!r}")
            if field.type == "bool" and type(value) is not bool:
                raise InvalidArgument(f"{field.name} must be true or false, got {value!r}")
        if self.num_hidden_layers > 1000:
            raise InvalidArgument(f"num_hidden_layers is {self.num_hidden_layers}; at most 1000 are supported")
        if self.max_position_embeddings > _LONGEST_CONTEXT:
            raise InvalidArgument(
                f"max_position_embeddings is {self.max_position_embeddings}; at most {_LONGEST_CONTEXT} are supported"
            )
        if self.num_attention_heads % self.num_key_value_heads:
            raise InvalidArgument(
                f"num_key_value_heads {self.num_key_value_heads} does not divide "
                f"num_attention_heads {self.num_attention_heads}"
            )
        if self.head_dim % 2:
            raise InvalidArgument(f"head_dim must be even for rotary positions, got {self.head_dim}")
        for end in self.eos_token_id:
            if type(end) is not int or not 0 <= end < self.vocab_size:
                raise InvalidArgument(f"eos_token_id {end!r} is outside the vocabulary of {self.vocab_size}")

    @staticmethod
    def from_file(path: Path) -> LlamaConfig:
        """Read a transformers `config.json` of a Llama; unknown or missing keys are refused."""
        return LlamaConfig._from_json(read_object(path), path)

    @staticmethod
    def _from_json(raw: dict[str, object], path: Path) -> LlamaConfig:
        if raw.get("model_type") != "llama":
            raise CheckpointError(f"{path}: model_type is {raw.get('model_type')!r}, foretoken reads 'llama' natively")
        raw = dict(raw)
        for key, value in _FIXED.items():
            if raw.pop(key, value) != value:
                raise CheckpointError(f"{path}: {key} must be {value!r}")
        rope = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
        # Before transformers 4.43 the kind was called `type`; a factor or another key would change the angles.
        if not isinstance(rope, dict) or not (rope.keys() <= _ROPE and _kind(rope) == "default"):
            raise CheckpointError(f"{path}: only the default rotary positions are supported, got {rope!r}")
        if raw.setdefault("rope_theta", rope.get("rope_theta")) != rope.get("rope_theta", raw["rope_theta"]):
            raise CheckpointError(f"{path}: rope_theta is {raw['rope_theta']!r} and, inside, {rope['rope_theta']!r}")
        if raw["rope_theta"] is None:
            del raw["rope_theta"]
        ends = raw.get("eos_token_id")
        raw["eos_token_id"] = tuple(ends) if isinstance(ends, list) else () if ends is None else (ends,)
        names = {field.name for field in dataclasses.fields(LlamaConfig)}
        if "head_dim" not in raw and {"hidden_size", "num_attention_heads"} <= raw.keys():
            width, heads = raw["hidden_size"], raw["num_attention_heads"]
            if type(width) is int and type(heads) is int and heads > 0:  # else it is refused below
                raw["head_dim"] = width // heads
        if unknown := sorted(raw.keys() - names - _IGNORED):
            raise CheckpointError(f"{path}: unknown keys {unknown}")
        if missing := sorted(names - raw.keys()):
            raise CheckpointError(f"{path}: missing keys {missing}")
        try:
            return LlamaConfig(**{name: raw[name] for name in names})  # type: ignore[arg-type]
        except InvalidArgument as error:
            raise CheckpointError(f"{path}: {error}") from None

    def to_json(self) -> dict[str, object]:
        """The same configuration in transformers' layout."""
        fields = dataclasses.asdict(self)
        fields["eos_token_id"] = list(self.eos_token_id)
        theta = fields.pop("rope_theta")
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            **_FIXED,
            "rope_theta": theta,
            "dtype": "float32",
            **fields,
        }


def parameter_shapes(config: LlamaConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights, without making them.

    A `LlamaModule` on torch's meta device would say the same, but imports 900 modules (dynamo, sympy) to do so.
    """
    hidden, inner = config.hidden_size, config.intermediate_size
    heads, kv_heads = (n * config.head_dim for n in (config.num_attention_heads, config.num_key_value_heads))
    block = {
        "self_attn.q_proj": (heads, hidden), "self_attn.k_proj": (kv_heads, hidden),
        "self_attn.v_proj": (kv_heads, hidden), "self_attn.o_proj": (hidden, heads), "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden), "mlp.down_proj": (hidden, inner), "input_layernorm": (hidden,),
        "post_attention_layernorm": (hidden,),
    }  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config.vocab_size, hidden)}
    for layer in range(config.num_hidden_layers):
        shapes |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in block.items()}
    shapes["model.norm.weight"] = (hidden,)
    if not config.tie_word_embeddings:
        shapes["lm_head.weight"] = (config.vocab_size, hidden)
    return shapes


def _kind(rope: dict[str, object]) -> object:
    return rope.get("rope_type", rope.get("type", "default"))


def rotary_tables(config: LlamaConfig, length: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary angles, each (length, head_dim) float32, halves repeated."""
    half = torch.arange(0, config.head_dim, 2, dtype=torch.int64).float() / config.head_dim
    angles = torch.outer(torch.arange(length).float(), 1.0 / config.rope_theta**half)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn (..., head_dim) by the angles whose cosines and sines are given (RoFormer, 2104.09864)."""
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-right, left), dim=-1) * sin


class Attention(nn.Module):
    """Grouped-query attention with rotary positions, causal unless a mask says who may look at whom."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.width = (
            config.num_attention_heads,
            config.num_key_value_heads,
            config.head_dim,
        )
        self.q_proj = nn.Linear(config.hidden_size, self.heads * self.width, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, self.kv_heads * self.width, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, self.kv_heads * self.width, bias=False)
        self.o_proj = nn.Linear(self.heads * self.width, config.hidden_size, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, sees: Tensor | None = None) -> Tensor:
        batch, length, _ = x.shape
        q = self.q_proj(x).view(batch, length, self.heads, self.width).transpose(1, 2)  # (B, H, T, D)
        k = self.k_proj(x).view(batch, length, self.kv_heads, self.width).transpose(1, 2)  # (B, K, T, D)
        v = self.v_proj(x).view(batch, length, self.kv_heads, self.width).transpose(1, 2)
        group = self.heads // self.kv_heads
        k, v = rotate(k, cos, sin), v
        if group > 1:
            k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        y = F.scaled_dot_product_attention(rotate(q, cos, sin), k, v, attn_mask=sees, is_causal=sees is None)
        return self.o_proj(y.transpose(1, 2).reshape(batch, length, -1))


class SwiGLU(nn.Module):
    """Gated feed-forward block (Shazeer, 2002.05202)."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    """Attention and feed-forward, each behind a norm and a residual."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.mlp = SwiGLU(config)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, sees: Tensor | None = None) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, sees)
        return x + self.mlp(self.post_attention_layernorm(x))


class Trunk(nn.Module):
    """Embedding, blocks and the last norm (transformers calls this part `model`)."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)


class LlamaModule(nn.Module):
    """The trainable Llama: ids (batch, length) int64 → logits (batch, length, vocab) float32.

    Example:
        >>> config = LlamaConfig(vocab_size=16, hidden_size=8, intermediate_size=16, num_hidden_layers=1,
        ...     num_attention_heads=2, num_key_value_heads=1, head_dim=4, max_position_embeddings=32,
        ...     rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=True, eos_token_id=(0,))
        >>> LlamaModule(config)(torch.zeros(2, 5, dtype=torch.int64)).shape
        torch.Size([2, 5, 16])
    """

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Trunk(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
        self.cos: Tensor
        self.sin: Tensor
        cos, sin = rotary_tables(config, config.max_position_embeddings)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def initialise(self, generator: torch.Generator) -> None:
        """Draw every weight from N(0, 0.02²), residual outputs scaled by 1/√(2·layers) (GPT-2)."""
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                scale = 0.02
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    scale /= (2 * self.config.num_hidden_layers) ** 0.5
                nn.init.normal_(weight, std=scale, generator=generator)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.model.embed_tokens(ids)
        cos, sin = self.cos[: ids.shape[1]], self.sin[: ids.shape[1]]
        for layer in self.model.layers:
            x = layer(x, cos, sin)
        return self.lm_head(self.model.norm(x))
