"""The shape of a Llama, as transformers' `config.json` states it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

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
