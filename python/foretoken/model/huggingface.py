"""Any causal language model of transformers as a model whose rows may forget different amounts.

A transformers cache has one width for all rows. When rows keep different numbers of guesses, the slots of the rejected
ones stay where they are, as holes: the 2-D attention mask hides them and `position_ids` count around them. Holes that
no row needs are cut off, and now and then the cache is packed anew.
"""

from __future__ import annotations

import copy
import inspect
import sys
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import ArgumentTypeError, InvalidArgument, LimitExceeded, MissingExtra, UnsupportedModel
from .huggingface_session import HuggingFaceSession

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_proved: weakref.WeakSet[nn.Module] = weakref.WeakSet()  # models that were seen to decode around holes
_NEEDED_BY_FORWARD = ("input_ids", "attention_mask", "position_ids")
CACHE_NAMES = ("cache", "past_key_values")
"""What `forward` calls its cache: the first since transformers 5.24, the second before."""


class HuggingFace:
    """A causal language model of transformers, to be decoded here; its weights, mode and config stay untouched.

    Supported are models whose layers all keep full attention: keys and values of every earlier token, looked up by
    `position_ids`. Logits come back as float32 on the model's device.

    Args:
        model: a `…ForCausalLM` in evaluation mode, on any device, of any dtype.

    Raises:
        MissingExtra: transformers is not installed.
        ArgumentTypeError: `model` is not a transformers model.
        UnsupportedModel: the model is an encoder-decoder, or has no head, or keeps sliding-window or recurrent
            state, or takes no `position_ids`; the message names it.

    Example:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> config = LlamaConfig(vocab_size=16, hidden_size=8, intermediate_size=16, num_hidden_layers=2,
        ...     num_attention_heads=2, max_position_embeddings=32, eos_token_id=[3, 5])
        >>> model = HuggingFace(LlamaForCausalLM(config).eval())
        >>> model.vocab_size, model.context, model.end_tokens
        (16, 32, (3, 5))
        >>> model.open(rows=1, capacity=8).forward(np.array([[1, 2, 4]])).shape
        torch.Size([1, 3, 16])
    """

    def __init__(self, model: PreTrainedModel) -> None:
        if not isinstance(model, nn.Module) or not hasattr(model, "config"):
            raise ArgumentTypeError(f"expected a transformers model, got {type(model).__name__}")
        _check_support(model)
        self.model = model
        self._device: torch.device = model.get_input_embeddings().weight.device  # type: ignore[assignment]
        self._vocab_size = _head_width(model)
        self._context = _context(model.config.get_text_config(decoder=True))
        # Only this function of transformers (5.2x) reads a place for each row; elsewhere places hold for all rows.
        self._keeps_by_row = hasattr(sys.modules[type(model).__module__], "slice_logits_to_keep")
        # Encoders that may serve as decoders carry this flag; GPT-NeoX does too, and is causal all the same.
        self._may_look_ahead = not getattr(model.config.get_text_config(decoder=True), "is_decoder", True)
        self._keeps = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._cache_name = cache_name(model)

    @property
    def vocab_size(self) -> int:
        """Width of a row of logits."""
        return self._vocab_size

    @property
    def context(self) -> int:
        """The most units a row may have."""
        return self._context

    @property
    def end_tokens(self) -> tuple[int, ...]:
        """Ids that end a row: `eos_token_id` of the generation config, or else of the config."""
        ends = getattr(getattr(self.model, "generation_config", None), "eos_token_id", None)
        if ends is None:
            ends = getattr(self.model.config.get_text_config(decoder=True), "eos_token_id", None)
        if ends is None:
            return ()
        # An id outside the vocabulary, as configs cut to toy size have it, cannot be drawn.
        return tuple(end for end in ([ends] if isinstance(ends, int) else ends) if end < self._vocab_size)

    @property
    def device(self) -> torch.device:
        """Where ids go in."""
        return self._device

    def open(self, rows: int, capacity: int) -> HuggingFaceSession:
        """An empty cache for `rows` rows of at most `capacity` units each.

        Raises:
            LimitExceeded: `capacity` is not in [1, context].
            InvalidArgument: there is no row, or the model is in training mode.
            UnsupportedModel: the model turns out to look ahead, or not to follow the positions it is given.
        """
        if not 0 < capacity <= self._context:
            raise LimitExceeded(f"capacity {capacity} is outside [1, {self._context}], the context of this model")
        if rows < 1:
            raise InvalidArgument(f"a session needs at least one row, got {rows}")
        if self.model.training:
            raise InvalidArgument("the model is in training mode, its dropout would be decoded; call model.eval()")
        if self._may_look_ahead:
            self._prove_causality()
            self._may_look_ahead = False
        if rows > 1 and self.model not in _proved:
            self._prove_holes()
            _proved.add(self.model)
        return HuggingFaceSession(self, rows, capacity)

    @torch.inference_mode()
    def _prove_causality(self) -> None:
        ids = torch.tensor([[self._vocab_size // 3, self._vocab_size // 2]], device=self._device)
        alone, followed = (self.model(input_ids=ids[:, :n], use_cache=False).logits[0, :1] for n in (1, 2))
        if self._off(followed, alone) > self._rounding:
            name = type(self.model).__name__
            raise UnsupportedModel(
                f"{name} looks at what follows; a causal model is needed, set config.is_decoder=True"
            )

    def _prove_holes(self) -> None:
        """Decode two rows around holes and one row without: no look at a config could tell that both agree."""
        if self._context < 5:
            return
        ids = np.array([self._vocab_size * part // 7 for part in (3, 5, 1, 4, 2)])
        truth = HuggingFaceSession(self, 1, 5).forward(ids[None])[0, [4, 2]]
        session = HuggingFaceSession(self, 2, 5)
        session.forward(np.stack((ids[:3], ids[:3])), np.array([3, 1]))
        found = session.forward(np.stack((ids[3:5], ids[1:3])))[:, 1]
        if (off := self._off(found, truth)) > self._rounding:
            raise UnsupportedModel(
                f"{type(self.model).__name__} does not follow attention_mask and position_ids: with rows of different "
                f"lengths its logits are off by {off:.2g} of their spread; open one row at a time"
            )

    @staticmethod
    def _off(found: Tensor, truth: Tensor) -> float:
        """Mean difference of logits, as a share of their spread; about 0.3 to 1 where a model sees what it must not."""
        found, truth = found.double(), truth.double()
        return float((found - truth).abs().nan_to_num(0).mean() / truth[truth.isfinite()].std())

    @property
    def _rounding(self) -> float:
        return 1e-3 if next(self.model.parameters()).dtype is torch.float32 else 0.1

    def first(self, layers: int) -> HuggingFace:
        """The model of the first `layers` blocks under the same norm and head; shares the weights (2404.16710).

        Raises:
            UnsupportedModel: the blocks are not found at `model.layers` or `transformer.h`.
            InvalidArgument: `layers` is not in [1, number of blocks].
        """
        model = self.model
        trunk = getattr(model, model.base_model_prefix, None)
        name = next((name for name in ("layers", "h") if isinstance(getattr(trunk, name, None), nn.ModuleList)), None)
        if name is None or trunk is None:
            raise UnsupportedModel(
                f"first() needs blocks at model.layers or transformer.h; {type(model).__name__} keeps them elsewhere"
            )
        if "forward" in vars(model) or "forward" in vars(trunk):  # accelerate's hooks hold on to the whole model
            raise UnsupportedModel("first() cannot cut a model with dispatch hooks; load it without device_map")
        blocks = getattr(trunk, name)
        if not 0 < layers <= len(blocks):
            raise InvalidArgument(f"layers must be in [1, {len(blocks)}], got {layers}")
        config = copy.deepcopy(model.config)
        config.num_hidden_layers = layers
        if getattr(config, "layer_types", None) is not None:
            config.layer_types = config.layer_types[:layers]
        shallow, shallow_trunk = _with_own_children(model), _with_own_children(trunk)
        shallow_trunk._modules[name] = nn.ModuleList(list(blocks)[:layers])
        shallow._modules[model.base_model_prefix] = shallow_trunk
        shallow.config = shallow_trunk.config = config
        if model in _proved:
            _proved.add(shallow)
        return HuggingFace(shallow)


def _check_support(model: PreTrainedModel) -> None:
    """Refuse what the cache above cannot hold."""
    try:
        from transformers.cache_utils import DynamicCache, DynamicLayer
        from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    except ImportError:
        raise MissingExtra("HuggingFace needs transformers 5; install it with `pip install foretoken[hf]`") from None
    name = type(model).__name__
    if getattr(model.config, "is_encoder_decoder", False):
        raise UnsupportedModel(f"{name} is an encoder-decoder; foretoken decodes causal language models")
    if not callable(getattr(model, "get_output_embeddings", None)) or model.get_output_embeddings() is None:
        raise UnsupportedModel(f"{name} has no language-model head; load it with AutoModelForCausalLM")
    if getattr(model, "_is_stateful", False):
        raise UnsupportedModel(f"{name} keeps recurrent state, which cannot forget a rejected guess")
    accepted = inspect.signature(model.forward).parameters
    missing = [argument for argument in _NEEDED_BY_FORWARD if argument not in accepted]
    if not cache_name(model):
        missing.append(CACHE_NAMES[0])
    if missing:
        raise UnsupportedModel(f"{name}.forward takes no {', '.join(missing)}; rows of different lengths need it")
    config = model.config.get_text_config(decoder=True)
    if getattr(config, "alibi", False) or "local" in getattr(config, "attention_layers", ()):
        raise UnsupportedModel(f"{name} attends by distance between cache slots, not by position_ids")
    try:
        layers = DynamicCache(config=config).layers
    except (KeyError, TypeError, AttributeError) as error:
        raise UnsupportedModel(f"{name} needs a cache of its own kind ({error})") from error
    for place, layer in enumerate(layers):
        if getattr(layer, "is_sliding", False):
            window = getattr(layer, "sliding_window", None)
            raise UnsupportedModel(
                f"layer {place} of {name} attends over a sliding window of {window}; full attention is needed"
            )
        if type(layer) is not DynamicLayer:
            raise UnsupportedModel(f"layer {place} of {name} keeps a {type(layer).__name__}; full attention is needed")
    attention = config._attn_implementation
    if attention is not None and attention not in ALL_MASK_ATTENTION_FUNCTIONS:
        raise UnsupportedModel(f"attention {attention!r} takes no mask; load the model with attn_implementation='sdpa'")


def cache_name(model: PreTrainedModel) -> str:
    """What the `forward` of a model calls its cache; empty if it takes none."""
    accepted = inspect.signature(model.forward).parameters
    return next((name for name in CACHE_NAMES if name in accepted), "")


def _head_width(model: PreTrainedModel) -> int:
    head: Any = model.get_output_embeddings()
    # A quantized head packs its weight, but still says how many features it gives.
    width = getattr(head, "out_features", None) or getattr(head, "num_embeddings", None)
    return int(width) if width else int(head.weight.shape[0])


def _context(config: Any) -> int:
    longest = getattr(config, "max_position_embeddings", None)
    if not isinstance(longest, int):
        raise UnsupportedModel("the config has no max_position_embeddings, so the context is unknown; set it")
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") in ("dynamic", "longrope"):
        # Beyond this these angles depend on how far the whole block reaches, so a guess would change its neighbours.
        return int(rope.get("original_max_position_embeddings") or longest)
    return longest


def _with_own_children(module: nn.Module) -> Any:
    """The same module, whose children may be replaced without the original noticing."""
    twin = copy.copy(module)
    twin._modules = dict(module._modules)
    return twin
