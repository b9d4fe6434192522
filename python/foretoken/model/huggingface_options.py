"""The options of transformers' `generate`, as this package takes them; what it cannot carry out is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InvalidArgument
from ..sampler import Sampler

if TYPE_CHECKING:
    from transformers import GenerationConfig

# Options that are carried out below.
_HONOURED = {
    "max_length", "max_new_tokens", "min_length", "min_new_tokens", "do_sample", "temperature", "top_k", "top_p",
    "min_p", "typical_p", "repetition_penalty", "bad_words_ids", "sequence_bias", "suppress_tokens",
    "num_return_sequences", "return_dict_in_generate", "pad_token_id", "eos_token_id",
}  # fmt: skip
# Options that change nothing where one token after another is chosen: of beams, assistants, compilation, the prompt.
_WITHOUT_EFFECT = {
    "transformers_version", "bos_token_id", "decoder_start_token_id", "early_stopping", "length_penalty",
    "renormalize_logits", "disable_compile", "low_memory", "is_assistant", "num_assistant_tokens",
    "num_assistant_tokens_schedule", "assistant_confidence_threshold", "assistant_lookbehind", "target_lookbehind",
    "max_matching_ngram_size",
}  # fmt: skip
_INSTEAD = {
    "prompt_lookup_num_tokens": "; pass drafter=foretoken.NGram()",
    "assistant_early_exit": "; pass drafter=foretoken.EarlyExit(layers)",
    "use_mtp": "; pass a drafter",
    "use_cache": "; it always keeps a cache",
    "stop_strings": "; pass them to model.generate(stop_strings=…, tokenizer=…)",
    "no_repeat_ngram_size": "; see dry_multiplier of foretoken.Sampler with foretoken.generate",
}


def check_options(config: GenerationConfig) -> None:
    """Refuse every option that is set and not carried out, future ones included."""
    neutral = {**vars(type(config)()), **config._get_default_generation_params(), "guidance_scale": 1}
    for name, value in vars(config).items():
        if name.startswith("_") or name not in neutral or name in _HONOURED or name in _WITHOUT_EFFECT:
            continue  # unknown names are a checkpoint's own notes, which transformers does not read either
        if value is None or (value is False and name != "use_cache") or value == neutral[name]:
            continue
        if name == "cache_implementation" and value == "dynamic":
            continue
        raise InvalidArgument(f"hf_generate does not support {name}={value!r}{_INSTEAD.get(name, '')}")


def check_stopping(criteria: Sequence[Any], config: GenerationConfig, ends: list[int]) -> None:
    """Refuse every stopping criterion but the limit and the END that the options already say."""
    for criterion in criteria:
        name = type(criterion).__name__
        if name == "MaxLengthCriteria" and criterion.max_length == config.max_length:
            continue
        if name == "EosTokenCriteria" and sorted(criterion.eos_token_id.tolist()) == sorted(ends):
            continue
        raise InvalidArgument(f"hf_generate does not support the stopping criterion {name}; pass stop_strings instead")


def special_tokens(config: GenerationConfig, kind: str) -> list[int]:
    """The ids of "eos" or "pad", as `generate` has prepared them."""
    prepared = getattr(config, f"_{kind}_token_tensor", None)
    return [] if prepared is None else prepared.reshape(-1).tolist()


def own_processors(
    model: Any, processors: Sequence[Any], config: GenerationConfig, input_ids: Tensor, inputs: dict[str, Any]
) -> list[Any]:
    """The processors that the user passed: those which `generate` would not have made from its options."""
    if not processors:
        return []
    made = list(
        model._get_logits_processor(
            generation_config=config,
            input_ids_seq_length=input_ids.shape[1],
            encoder_input_ids=input_ids,
            device=input_ids.device,
            model_kwargs=inputs,
        )
    )
    own = []
    for processor in processors:
        same = next((place for place, other in enumerate(made) if _are_same(processor, other)), None)
        if same is None:
            own.append(processor)
        else:
            del made[same]
    if made:
        raise InvalidArgument(f"logits_processor and generation options both set a {type(made[0]).__name__}; drop one")
    return own


def _are_same(one: Any, other: Any) -> bool:
    if type(one) is not type(other) or vars(one).keys() != vars(other).keys():
        return False
    for name, value in vars(one).items():
        against = vars(other)[name]
        if isinstance(value, Tensor) or isinstance(against, Tensor):
            if not (isinstance(value, Tensor) and isinstance(against, Tensor) and torch.equal(value, against)):
                return False
        elif value != against:
            return False
    return True


def to_sampler(config: GenerationConfig, own: list[Any], ends: list[int], vocab: int, input_ids: Tensor) -> Sampler:
    """The same options, as the kernels take them."""
    biases, words = _sequence_bias(config)
    # Transformers lets END through, even if it is listed.
    words += [tuple(word) for word in config.bad_words_ids or () if list(word) not in [[end] for end in ends]]
    suppressed = config.suppress_tokens
    words += [(int(token),) for token in (suppressed if suppressed is not None else ())]
    penalty = config.repetition_penalty or 1.0
    if own and (biases or penalty != 1):
        raise InvalidArgument(
            "transformers calls a logits_processor after repetition_penalty and sequence_bias, hf_generate before; "
            "put RepetitionPenaltyLogitsProcessor or SequenceBiasLogitsProcessor into logits_processor instead"
        )
    if len(input_ids) > 1 and any(type(one).__name__ == "PrefixConstrainedLogitsProcessor" for one in own):
        raise InvalidArgument("prefix_allowed_tokens_fn is told which row it serves, which is only known for one row")
    common: dict[str, Any] = {"repetition_penalty": penalty, "logit_bias": biases, "bad_words": words}
    if own:
        common["processor"] = _Processors(own, input_ids.device)
    if not config.do_sample:
        return Sampler(temperature=0.0, **common)

    def given(name: str, off: float) -> Any:
        value = getattr(config, name)
        return off if value is None else value

    return Sampler(
        temperature=given("temperature", 1.0),
        top_k=min(given("top_k", 0), vocab),
        top_p=given("top_p", 1.0),
        min_p=given("min_p", 0.0),
        typical_p=given("typical_p", 1.0),
        **common,
    )


def _sequence_bias(config: GenerationConfig) -> tuple[dict[int, float], list[tuple[int, ...]]]:
    """Biases of single tokens, and the sequences that are forbidden."""
    given = config.sequence_bias or {}
    pairs = given.items() if isinstance(given, dict) else given
    biases: dict[int, float] = {}
    words = []
    for sequence, bias in pairs:
        if bias == float("-inf"):
            words.append(tuple(sequence))
        elif len(sequence) == 1:
            biases[int(sequence[0])] = float(bias)
        else:
            raise InvalidArgument(f"sequence_bias is supported for single tokens, got {bias} for {tuple(sequence)}")
    return biases, words


class _Processors:
    """Processors of transformers as one of ours."""

    def __init__(self, processors: list[Any], device: torch.device) -> None:
        self._processors, self._device = processors, device

    def __call__(self, tokens: np.ndarray, logits: np.ndarray) -> np.ndarray:
        ids = torch.tensor(tokens, device=self._device)[None]
        scores = torch.tensor(logits, device=self._device)[None]
        for processor in self._processors:
            scores = processor(ids, scores)
        return scores[0].float().cpu().numpy()


def least_tokens(config: GenerationConfig, width: int) -> int:
    """New tokens before END may come; `min_length` counts the prompt of `width` ids, padding included."""
    return max(0, config.min_new_tokens or 0, (config.min_length or 0) - width)
