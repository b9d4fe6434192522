"""What others do with a row of logits: torch, transformers' processors, llama.cpp's samplers."""

from __future__ import annotations

import ctypes
import importlib
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from .rows import Call


def multinomial(temperature: float, logits: torch.Tensor) -> Call:
    """`softmax` and `torch.multinomial` on each of (calls, rows, vocabulary) in turn, and nothing else."""

    def call(index: int) -> object:
        return torch.multinomial((logits[index % len(logits)] / temperature).softmax(dim=-1), 1)

    return call


def processors(fields: Mapping[str, Any]) -> list[Any]:
    """transformers' processors for a sampler's fields, as far as there are any: in the order of its `generate`."""
    from transformers.generation import logits_process as hf

    chosen: list[Any] = []
    if "logit_bias" in fields:
        chosen.append(hf.SequenceBiasLogitsProcessor([[[token], bias] for token, bias in fields["logit_bias"].items()]))
    if "repetition_penalty" in fields:
        chosen.append(hf.RepetitionPenaltyLogitsProcessor(fields["repetition_penalty"]))
    chosen.append(hf.TemperatureLogitsWarper(fields["temperature"]))
    if "top_k" in fields:
        chosen.append(hf.TopKLogitsWarper(fields["top_k"]))
    if "top_p" in fields:
        chosen.append(hf.TopPLogitsWarper(fields["top_p"]))
    if "min_p" in fields:
        chosen.append(hf.MinPLogitsWarper(fields["min_p"]))
    return chosen


def transformers(fields: Mapping[str, Any], logits: torch.Tensor, past: np.ndarray) -> Call:
    """A choice as its `generate` makes it: the processors, `softmax`, `multinomial`."""
    chosen = processors(fields)
    seen = torch.from_numpy(past).expand(logits.shape[1], -1).contiguous()

    def call(index: int) -> object:
        scores = logits[index % len(logits)]
        for processor in chosen:
            scores = processor(seen, scores)
        return torch.multinomial(scores.softmax(dim=-1), 1)

    return call


def speculative(fields: Mapping[str, Any], target: torch.Tensor, drafter: torch.Tensor, guesses: np.ndarray) -> Call:
    """Guesses judged as its assisted generation does: rows of both models warped, then `_speculative_sampling`."""
    from transformers.generation.utils import _speculative_sampling

    chosen, ids = processors(fields), torch.from_numpy(guesses)

    def warped(rows: torch.Tensor) -> torch.Tensor:
        for processor in chosen:
            rows = processor(ids, rows)
        return rows[None]

    def call(index: int) -> object:
        return _speculative_sampling(ids, warped(drafter), len(drafter), warped(target), False)

    return call


def llama_cpp(fields: Mapping[str, Any], row: np.ndarray, *, own_order: bool) -> tuple[Call, Call] | None:
    """A chain of llama.cpp's samplers on one row, and by itself the copy of the candidates that it begins with.

    A chain changes its candidates in place, so every call has to begin with fresh ones: what the chain takes is the
    first less the second. The copy leaves the candidates in the cache.

    Args:
        fields: temperature, and top_k and top_p if wanted.
        row: (vocabulary,) float32.
        own_order: whether temperature comes last, as in llama.cpp's own programs, where top-p keeps other tokens than
            here; or first, as here and in transformers.

    Returns:
        Two contenders; None where llama-cpp-python cannot be imported.
    """
    lib = _library()
    if lib is None:
        return None
    fresh = np.zeros(len(row), dtype=[("id", np.intc), ("logit", np.single), ("p", np.single)])
    fresh["id"], fresh["logit"] = np.arange(len(row)), row
    candidates = np.empty_like(fresh)
    pointer = candidates.ctypes.data_as(ctypes.POINTER(lib.llama_token_data))
    array = lib.llama_token_data_array(data=pointer, size=len(row), selected=-1, sorted=False)
    steps = [lib.llama_sampler_init_top_k(fields["top_k"])] if "top_k" in fields else []
    if "top_p" in fields:
        steps.append(lib.llama_sampler_init_top_p(fields["top_p"], 1))
    steps.insert(len(steps) if own_order else 0, lib.llama_sampler_init_temp(fields["temperature"]))
    chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
    for step in (*steps, lib.llama_sampler_init_dist(1)):
        lib.llama_sampler_chain_add(chain, step)

    def fill(index: int) -> Any:
        np.copyto(candidates, fresh)
        array.size, array.selected, array.sorted = len(candidates), -1, False
        return array

    def call(index: int) -> object:
        lib.llama_sampler_apply(chain, ctypes.byref(fill(index)))
        return candidates["id"][array.selected]

    weakref.finalize(call, lib.llama_sampler_free, chain)
    return call, fill


def has_llama_cpp() -> bool:
    """Whether llama-cpp-python can be imported."""
    return _library() is not None


def _library() -> Any:
    try:
        return importlib.import_module("llama_cpp.llama_cpp")
    except (ImportError, OSError, RuntimeError):  # not installed, or built for another machine
        return None
