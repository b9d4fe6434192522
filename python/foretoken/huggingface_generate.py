"""`model.generate(…, custom_generate=hf_generate)`: decode here what transformers has prepared."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .canvas import Canvas
from .codec.text import Text
from .drafter.costs import Adaptive
from .drafter.protocol import Drafter
from .errors import InvalidArgument
from .generate import stream
from .model.huggingface import CACHE_NAMES, HuggingFace
from .model.huggingface_options import (
    check_options,
    check_stopping,
    least_tokens,
    own_processors,
    special_tokens,
    to_sampler,
)
from .strategy.autoregressive import Autoregressive
from .strategy.verifier import Coupled, Verifier

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel

_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 / golden ratio: keeps the seeds of equal prompts apart
_MODEL_INPUTS = {"attention_mask", "position_ids", *CACHE_NAMES, "use_cache", "logits_to_keep"}


def hf_generate(
    model: PreTrainedModel,
    input_ids: Tensor,
    logits_processor: Sequence[Any] | None = None,
    stopping_criteria: Sequence[Any] | None = None,
    generation_config: GenerationConfig | None = None,
    *,
    synced_gpus: bool = False,
    streamer: Any = None,
    tokenizer: Any = None,
    stop_strings: str | Sequence[str] | None = None,
    drafter: Drafter | None = None,
    verifier: Verifier | None = None,
    length: Adaptive | int | None = None,
    seed: int | Sequence[int] | None = None,
    **model_kwargs: Any,
) -> Any:
    """Decode inside `model.generate`: same options, same result, fewer forwards, batches of any lengths.

    Greedy decoding gives the tokens that transformers gives; sampling the same law, from noise of its own. A prompt's
    text depends on its seed, not on its neighbours. What is not supported is refused, never left out.

    Main args:
        drafter: guesses ahead; None decodes one token after another.
        seed: in [0, 2^64), or one for each prompt. Equal prompts of a batch draw differently from one number.
            None takes it from torch's global generator.

    Other args:
        model, input_ids, logits_processor, stopping_criteria, generation_config, model_kwargs: what `model.generate`
            passes. Processors of one's own are called for one row at a time, without its padding, and must be
            functions of the tokens alone: guessed tokens are shown to them as well.
        verifier, length: as in `Autoregressive`.
        streamer: gets the tokens of each step; for a single row.
        stop_strings, tokenizer: strings that end a row, and what finds them. They are looked for in generated text
            only, and not before `min_new_tokens`.
        synced_gpus: must be False.

    Returns:
        Token ids (rows, length) with the prompts, padded on the right with `pad_token_id`, or a
        `GenerateDecoderOnlyOutput` of them with `return_dict_in_generate`.

    Raises:
        MissingExtra: transformers is not installed.
        UnsupportedModel: the model cannot be decoded here; see `HuggingFace`.
        InvalidArgument: an option is not supported, or contradicts another; the message names it.
        LimitExceeded: prompt and new tokens are more than the model's context.

    Example:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> config = LlamaConfig(vocab_size=16, hidden_size=8, intermediate_size=16, num_hidden_layers=1,
        ...     num_attention_heads=2, max_position_embeddings=32, eos_token_id=None)
        >>> model = LlamaForCausalLM(config).eval()
        >>> prompt = torch.tensor([[1, 2, 3]])
        >>> model.generate(prompt, max_new_tokens=4, do_sample=True, custom_generate=hf_generate, seed=7).shape
        torch.Size([1, 7])
    """
    wrapped = HuggingFace(model)
    if generation_config is None:
        raise InvalidArgument("hf_generate is called by model.generate(custom_generate=hf_generate), not by itself")
    kept_back = _kept_back_by_generate()
    streamer = kept_back.get("streamer") if streamer is None else streamer
    tokenizer = kept_back.get("tokenizer") if tokenizer is None else tokenizer
    if kept_back.get("assistant_model") is not None:
        raise InvalidArgument("assistant_model is not supported; pass drafter=foretoken.SmallModel(HuggingFace(model))")
    if synced_gpus or kept_back.get("synced_gpus"):
        raise InvalidArgument("synced_gpus is not supported: rows take different numbers of forwards")
    check_options(generation_config)
    _check_model_inputs(model_kwargs)
    ends = special_tokens(generation_config, "eos")
    check_stopping(stopping_criteria or (), generation_config, ends)
    prompts = _prompts(input_ids, model_kwargs)
    rows, width = input_ids.shape
    samples = generation_config.num_return_sequences or 1  # transformers has repeated each prompt this often
    own = own_processors(model, logits_processor or (), generation_config, input_ids, model_kwargs)
    sampler = to_sampler(generation_config, own, ends, wrapped.vocab_size, input_ids)
    if streamer is not None and rows > 1:
        raise InvalidArgument(f"a streamer gets the tokens of a single row, there are {rows}")
    pad = special_tokens(generation_config, "pad")
    if stop_strings and rows > 1 and not pad:
        raise InvalidArgument("rows end at different lengths; set pad_token_id")
    options = {} if length is None else {"length": length}
    strategy = Autoregressive(drafter=drafter, verifier=Coupled() if verifier is None else verifier, **options)
    tokens: list[list[int]] = [[] for _ in range(rows)]
    for step in stream(
        wrapped,
        Canvas(prompts[::samples]),
        strategy,
        sampler=sampler,
        seed=_seeds(seed, prompts[::samples], is_drawn=not sampler.is_greedy),
        n=samples,
        max_tokens=max(0, generation_config.max_length - width),
        min_tokens=least_tokens(generation_config, width) if ends else 0,
        end_tokens=[end for end in ends if end < wrapped.vocab_size],
        stop=stop_strings or (),
        codec=_codec(tokenizer) if stop_strings else None,
    ):
        tokens[step.row].extend(step.tokens)
        if streamer is not None:
            streamer.put(torch.tensor(step.tokens))
    if streamer is not None:
        streamer.end()
    longest = max(map(len, tokens))
    sequences = input_ids.new_full((rows, width + longest), pad[0] if pad else 0)
    sequences[:, :width] = input_ids
    for row, new in enumerate(tokens):
        sequences[row, width : width + len(new)] = torch.tensor(new, dtype=sequences.dtype)
    if not generation_config.return_dict_in_generate:
        return sequences
    from transformers.generation.utils import GenerateDecoderOnlyOutput

    return GenerateDecoderOnlyOutput(sequences=sequences)  # type: ignore[arg-type]


def _kept_back_by_generate() -> dict[str, Any]:
    """What the user gave to `generate`, and it does not hand on to a callable.

    `_extract_generation_mode_kwargs` (5.23) takes these out and then forgets them. The frames of the call still hold
    them; without a look there, a streamer would stay silent.
    """
    from transformers import GenerationMixin

    frame = sys._getframe(2)
    if frame.f_code is not inspect.unwrap(vars(GenerationMixin)["generate"]).__code__:
        return {}
    found = {name: frame.f_locals.get(name) for name in ("streamer", "assistant_model", "synced_gpus")}
    wrapper = frame.f_back  # of torch.no_grad; `generate` itself has already taken the tokenizer out of its kwargs
    passed = wrapper.f_locals.get("kwargs") if wrapper is not None else None
    if isinstance(passed, dict):
        found["tokenizer"] = passed.get("tokenizer")
    return found


def _check_model_inputs(inputs: dict[str, Any]) -> None:
    for name, value in inputs.items():
        if value is not None and name not in _MODEL_INPUTS:
            raise InvalidArgument(f"hf_generate does not support the model input {name!r}; it decodes from input_ids")
        if name in CACHE_NAMES and value is not None and _is_of_the_caller(value):
            raise InvalidArgument(f"hf_generate keeps a cache of its own and cannot continue {name}; leave it out")


def _is_of_the_caller(cache: Any) -> bool:
    return getattr(cache, "_is_user_defined", False) or cache.get_seq_length() > 0


def _prompts(input_ids: Tensor, inputs: dict[str, Any]) -> list[np.ndarray]:
    """Each row's ids without the padding on its left."""
    rows, width = input_ids.shape
    if not width:
        raise InvalidArgument("hf_generate needs input_ids; inputs_embeds are not supported")
    ids = input_ids.cpu().numpy()
    mask, positions = inputs.get("attention_mask"), inputs.get("position_ids")
    if mask is None:
        starts, expected = np.zeros(rows, dtype=np.int64), np.arange(width)[None]
    else:
        if mask.shape != input_ids.shape:
            raise InvalidArgument(f"attention_mask {tuple(mask.shape)} does not fit input_ids {tuple(input_ids.shape)}")
        shown = mask.cpu().numpy() != 0
        starts = width - shown.sum(axis=1)
        if (shown != (np.arange(width) >= starts[:, None])).any() or (starts == width).any():
            raise InvalidArgument("attention_mask must hide padding on the left only; use padding_side='left'")
        expected = np.maximum(np.arange(width) - starts[:, None], 0)
    if positions is not None and (positions.cpu().numpy() != expected).any():
        raise InvalidArgument("hf_generate does not support position_ids other than 0, 1, 2, …; leave them out")
    return [row[start:] for row, start in zip(ids, starts, strict=True)]


def _seeds(seed: int | Sequence[int] | None, prompts: list[np.ndarray], *, is_drawn: bool) -> int | list[int]:
    """One seed a prompt; prompts that are equal get different ones, as they would draw differently in transformers."""
    if seed is None:
        seed = int(torch.randint(2**63 - 1, ())) if is_drawn else 0
    if isinstance(seed, (Sequence, np.ndarray)):
        return list(seed)
    before: dict[bytes, int] = {}
    seeds = []
    for prompt in prompts:
        place = before.get(prompt.tobytes(), 0)
        before[prompt.tobytes()] = place + 1
        seeds.append(seed if place == 0 else (seed + place * _GOLDEN) % 2**64)
    return seeds


def _codec(tokenizer: Any) -> Text:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        what = "none was given" if tokenizer is None else f"{type(tokenizer).__name__} is none"
        raise InvalidArgument(f"stop_strings need a fast tokenizer, {what}; pass tokenizer=… with a tokenizer.json")
    return Text(backend)
