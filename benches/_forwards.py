"""Forwards of the native Llama beside PyTorch's and llama.cpp's: how long they take, and how far logits are apart."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import foretoken as ft
from benches import _llama_cpp
from foretoken.evaluate import speed
from foretoken.evaluate.report import Report, Table
from foretoken.model.checkpoint import load_llama
from foretoken.model.llama import LlamaModule
from foretoken.model.llama_config import parameter_shapes

DTYPES = (torch.float32, torch.bfloat16, torch.int8)
WIDTHS = (1, 4, 8, 16)
AT = 100  # units in the cache before a step


def folder_of(model: str) -> Path:
    """The folder of a model, given by name or folder."""
    return Path(model) if Path(model).is_dir() else ft.path(model)


def threads_of(options: Any) -> list[int]:
    """One, and as many as torch uses."""
    return sorted({1, torch.get_num_threads()}) if options.threads is None else [options.threads]


def stepper(model: Any, threads: int, count: int) -> Callable[[int], int]:
    """A contender that reads so many units at once, `count` times."""
    torch.set_num_threads(threads)
    at = min(AT, model.context // 4)
    session, ids = model.open(1, model.context), np.arange(3, 3 + at)[None] % model.vocab_size
    session.forward(ids)
    before = np.array([at])

    def step(width: int) -> int:
        torch.set_num_threads(threads)
        for _ in range(count):
            session.truncate(before)
            session.forward(ids[:, :width])
        return count

    return step


def multiplier(module: LlamaModule, threads: int, count: int) -> Callable[[int], int]:
    """A contender that does nothing but the model's matrix products, in PyTorch."""
    weights = [torch.randn(shape) for shape in parameter_shapes(module.config).values() if len(shape) == 2]
    weights += weights[:1] if module.config.tie_word_embeddings else []
    weights = weights[1:]  # the embedding is looked up, not multiplied with

    @torch.inference_mode()
    def multiply(width: int) -> int:
        torch.set_num_threads(threads)
        inputs = {weight.shape[1]: torch.ones(width, weight.shape[1]) for weight in weights}
        for _ in range(count):
            for weight in weights:
                torch.mm(inputs[weight.shape[1]], weight.t())
        return count

    return multiply


def memory_speed(size: int, threads: int) -> float:
    """Bytes a second at which an array of this size is read again and again: the best of some rounds of a sum."""
    torch.set_num_threads(threads)
    numbers, seconds = torch.ones(size // 4), []
    for _ in range(30):
        started = speed.perf_counter()
        numbers.sum()
        seconds.append(speed.perf_counter() - started)
    return size / min(seconds)


def step(model: str, *, repeats: int, threads: Sequence[int], count: int) -> Report:
    """Microseconds of a forward of one row, by units read at once."""
    module = load_llama(folder_of(model))
    contenders: dict[str, Callable[[int], int]] = {}
    natives = {}
    for number in threads:
        contenders[f"PyTorch, {number} threads"] = stepper(ft.Llama(module), number, count)
        contenders[f"products alone, {number} threads"] = multiplier(module, number, count)
        for dtype in DTYPES:
            native = ft.Native(module, dtype=dtype, threads=number)
            name = f"{str(dtype).removeprefix('torch.')}, {number} threads"
            natives[name] = native
            contenders[name] = stepper(native, number, count)
    timings = speed.alternate(contenders, WIDTHS, repeats=repeats)
    rows, results = [], {}
    for name, timing in timings.items():
        micros = {
            width: 1e6 * statistics.median(seconds) / made
            for width, seconds, made in zip(WIDTHS, timing.seconds, timing.tokens, strict=True)
        }
        results[name] = {"microseconds": {str(width): round(value, 1) for width, value in micros.items()}}
        gigabytes = native.memory / micros[1] / 1e3 if (native := natives.get(name)) else None
        eager = results[f"PyTorch, {name.split(', ')[1]}"]["microseconds"]
        results[name]["times_torch"] = round(eager["1"] / micros[1], 2)
        rows.append((name, *micros.values(), results[name]["times_torch"], gigabytes))
    read = {f"{number} threads": round(memory_speed(natives[f"float32, {number} threads"].memory, number) / 1e9, 1)
            for number in threads}  # fmt: skip
    results["gigabytes_a_second_of_a_sum"] = read
    head = ("kept as", *(f"µs, {width} units" for width in WIDTHS), "× PyTorch, 1 unit", "GB/s, 1 unit")
    said = ", ".join(f"{value} GB/s in {name}" for name, value in read.items())
    table = Table(f"a forward of {folder_of(model).name}; a sum over as many float32 reads {said}", head, rows)
    stated = {"model": folder_of(model).name, "batch": 1, "units in the cache": AT, "forwards a repeat": count}
    return Report("step", stated | {"repeats": repeats, "warm-up": 1}, [table], results)


def prefill(model: str, *, repeats: int, threads: Sequence[int]) -> Report:
    """Microseconds of reading a whole prompt at once: half the context, and all of it."""
    module = load_llama(folder_of(model))
    context = module.config.max_position_embeddings
    prompts = [np.arange(3, 3 + length) % module.config.vocab_size for length in (context // 2, context)]
    rows, results = [], {}
    for number in threads:
        torch.set_num_threads(number)
        models = {
            "PyTorch": ft.Llama(module),
            "native, float32": ft.Native(module, dtype=torch.float32, threads=number),
            "native, bfloat16": ft.Native(module, dtype=torch.bfloat16, threads=number),
        }
        contenders: dict[str, Callable[[np.ndarray], int]] = {name: _reader(made) for name, made in models.items()}
        with _llama_cpp.opened(module, number, flash=True) as peer:
            if peer is not None:
                contenders["llama.cpp, float32"] = lambda ids, peer=peer: len(peer.read(ids))
            timings = speed.alternate(contenders, prompts, repeats=repeats)
        base = [statistics.median(seconds) for seconds in timings["PyTorch"].seconds]
        for name, timing in timings.items():
            seconds = [statistics.median(taken) for taken in timing.seconds]
            ratios = [torch_took / took for torch_took, took in zip(base, seconds, strict=True)]
            rows.append((f"{name}, {number} threads", *(1e6 * took for took in seconds), *ratios))
            results[f"{name}, {number} threads"] = {
                str(len(ids)): {"microseconds": round(1e6 * took, 1), "times_torch": round(ratio, 2)}
                for ids, took, ratio in zip(prompts, seconds, ratios, strict=True)
            }
    lengths = [len(ids) for ids in prompts]
    head = ("µs", *(f"{length} at once" for length in lengths), *(f"× PyTorch, {length}" for length in lengths))
    stated = {"model": folder_of(model).name, "batch": 1, "repeats": repeats, "warm-up": 1}
    return Report("prefill", stated, [Table(f"prompts read by {stated['model']}", head, rows)], results)


def _reader(model: Any) -> Callable[[np.ndarray], int]:
    session, nothing = model.open(1, model.context), np.zeros(1, dtype=np.int64)

    def read(ids: np.ndarray) -> int:
        session.truncate(nothing)
        session.forward(ids[None], last=True)
        return len(ids)

    return read


def logits(models: Sequence[str], texts: Sequence[str]) -> Report:
    """The largest difference of logits from PyTorch's: native anywhere in the texts, llama.cpp behind each."""
    rows, results = [], {}
    for model in models:
        module = load_llama(folder_of(model))
        codec = ft.load(model).codec
        ids = [codec.encode(text)[: module.config.max_position_embeddings] for text in texts]
        eager, native = ft.Llama(module), ft.Native(module, dtype=torch.float32)
        found = {"native, float32": max(_apart(eager, native, prompt) for prompt in ids)}
        with _llama_cpp.opened(module, torch.get_num_threads()) as peer:
            if peer is not None:
                found["llama.cpp, float32"] = max(_llama_cpp.difference(peer, module, prompt) for prompt in ids)
        rows += [(f"{folder_of(model).name}: {name}", f"{apart:.1e}") for name, apart in found.items()]
        results[folder_of(model).name] = found
    stated = {"dtype": "float32", "prompts": len(texts)}
    return Report(
        "logits", stated, [Table("largest difference of a logit from PyTorch's", ("model", "apart"), rows)], results
    )


def _apart(one: Any, other: Any, prompt: np.ndarray) -> float:
    rows = [model.open(1, len(prompt)).forward(prompt[None]) for model in (one, other)]
    return float((rows[0] - rows[1]).abs().max())
