"""The native Llama beside PyTorch: a step, a block, a draft in one call, and whole texts.

    python benches/native.py                 # everything, minutes
    python benches/native.py --only step     # microseconds of a forward, and how fast it reads its weights

Contenders take turns in one process on the same weights; the median of the repeats counts.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch

import foretoken as ft
from benches import _common
from benches._peers import Peer
from foretoken import kernels
from foretoken.canvas import Canvas
from foretoken.drafter.costs import ForwardCosts
from foretoken.drafter.protocol import DraftRequest
from foretoken.evaluate import decoding, speed
from foretoken.evaluate.report import Report, Table, joined
from foretoken.model.checkpoint import load_llama
from foretoken.model.llama import LlamaModule, parameter_shapes

DTYPES = (torch.float32, torch.bfloat16, torch.int8)
WIDTHS = (1, 4, 8, 16)
AT = 100  # units in the cache before a step
DRAFT = 8  # guesses of a draft


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
    module = load_llama(_folder(model))
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
    table = Table(f"a forward of {model_name(model)}; a sum over as many float32 reads {said}", head, rows)
    stated = {"model": model_name(model), "batch": 1, "units in the cache": AT, "forwards a repeat": count}
    return Report("step", stated | {"repeats": repeats, "warm-up": 1}, [table], results)


def drafter_of(model: Any, sampler: ft.Sampler, prompt: np.ndarray, rounds: int) -> int:
    """Draft again and again after one accepted guess; returns how many guesses were drawn."""
    request = DraftRequest(
        model=model, sampler=kernels.compile_sampler(sampler, vocab_size=model.vocab_size), rejection=False,
        seeds=np.array([7], dtype=np.uint64), samples=np.array([0]), histories=None, capacity=model.context,
        adaptive=None, costs=ForwardCosts(),
    )  # fmt: skip
    drafting = ft.SmallModel(model).open(request)
    drafting.start(0, prompt)
    made = 0
    for _ in range(rounds):
        (draft,) = drafting.propose([0], DRAFT)
        made += len(draft.tokens)
        drafting.extend(0, draft.tokens[:2].tolist())
    return made


def draft(model: str, *, prompts: Sequence[str], repeats: int, rounds: int) -> Report:
    """Drafts of eight guesses by a small model: in one call, and step by step in PyTorch."""
    pipeline = ft.load(model)
    module = load_llama(_folder(model))
    ids = [pipeline.codec.encode(text)[: pipeline.model.context // 8] for text in prompts]
    rows, results = [], {}
    for kind, sampler in decoding.SAMPLERS.items():
        models = {"PyTorch": pipeline.model, "native": ft.Native(module)}
        contenders = {
            name: partial(_drafts, model=made, sampler=sampler, rounds=rounds) for name, made in models.items()
        }
        timings = speed.alternate(contenders, ids, repeats=repeats)
        for name, timing in timings.items():
            micros = 1e6 * DRAFT / timing.tokens_per_second
            rows.append((f"{name}, {kind}", micros, round(timing.over(timings["PyTorch"]), 2)))
            results[f"{name}, {kind}"] = {"microseconds": round(micros, 1), "times_torch": rows[-1][-1]}
    table = Table(f"drafts of {DRAFT} by {model_name(model)}", ("drafter", "µs a draft", "× PyTorch"), rows)
    stated = {"model": model_name(model), "prompts": len(ids), "drafts": rounds, "repeats": repeats, "warm-up": 1}
    return Report("draft", stated, [table], results)


def _drafts(prompt: np.ndarray, *, model: Any, sampler: ft.Sampler, rounds: int) -> int:
    return drafter_of(model, sampler, prompt, rounds)


def decode(model: str, *, prompts: Sequence[str], repeats: int, tokens: int, peer: Peer) -> Report:
    """Whole texts: our loop on PyTorch and native, with drafters, and transformers on the same weights."""
    eager, ids = decoding.opened(model, prompts)
    native = ft.load(model, model=ft.Native)
    drafters: dict[str, Any] = {"native": None, "native, NGram": ft.NGram()}
    if peer.assistant is not None:
        drafters["native, SmallModel"] = ft.small_model(model, model=ft.Native)
        drafters["native, Several"] = ft.Several(ft.Suffix(), drafters["native, SmallModel"])
    tables, results = [], {}
    for kind, sampler in decoding.SAMPLERS.items():
        contenders: dict[str, Callable[[np.ndarray], int]] = {
            "transformers.generate": lambda prompt, sampler=sampler: len(peer.ids(prompt, sampler, tokens)),
            "PyTorch": decoding.writer(eager, sampler, tokens),
        }
        if peer.assistant is not None:
            contenders["transformers, assisted"] = peer.contenders(tokens)["transformers, assisted"](sampler)
        for name, drafter in drafters.items():
            contenders[name] = decoding.writer(native, sampler, tokens, drafter)
        timings = speed.alternate(contenders, ids, repeats=repeats)
        base = timings["transformers.generate"]
        plain = [_written(native, prompt, sampler, tokens, None) for prompt in ids]
        rows, results[kind] = [], {}
        for name, timing in timings.items():
            changed = None
            if name in drafters:
                texts = [_written(native, prompt, sampler, tokens, drafters[name]) for prompt in ids]
                changed = sum(int((text != own).sum()) for text, own in zip(texts, plain, strict=True))
            rows.append((name, *speed.columns(timing, base), changed))
            results[kind][name] = speed.figures(timing, base) | {"tokens_changed": changed}
        head = (kind, "tokens/s", "slow-fast", "× transformers", "tokens unlike plain")
        tables.append(Table(f"texts of {tokens} tokens by {eager.name}, batch 1", head, rows))
    stated = decoding.settings(eager, ids, tokens=tokens, repeats=repeats)
    kept = str(native.model.dtype).removeprefix("torch.")  # type: ignore[attr-defined]
    return Report("decode", stated | {"native weights": kept}, tables, results)


def _written(pipeline: ft.Pipeline, prompt: np.ndarray, sampler: ft.Sampler, tokens: int, drafter: Any) -> np.ndarray:
    strategy, keys = ft.Autoregressive(drafter), {"sampler": sampler, "max_tokens": tokens, "end_tokens": (), "seed": 7}
    return ft.generate(pipeline.model, Canvas([prompt]), strategy, **keys).tokens


def goals(results: dict[str, Any]) -> Iterator[tuple[str, float, str, float]]:
    """(what, measured, how to compare, asked) for each part that was run."""
    for part, asked in (("step, drafter", 6.0), ("step", 1.8)):
        for name, found in results.get(part, {}).items():
            if name.startswith("bfloat16"):
                yield f"{part}: times PyTorch, {name}", found["times_torch"], ">=", asked
    for kind, found in results.get("decode", {}).items():
        best = max((name for name in found if name.startswith("native")), key=lambda name: found[name]["ratio"])
        yield f"{kind}: times transformers.generate, {best}", found[best]["ratio"], ">=", 4.0
        if "transformers, assisted" in found:
            ratio = found[best]["ratio"] / found["transformers, assisted"]["ratio"]
            yield f"{kind}: times transformers, assisted, {best}", ratio, ">=", 5.0
        changed = sum(figures["tokens_changed"] or 0 for figures in found.values())
        yield f"{kind}: tokens that a drafter changed", changed, "<=", 0


def summary(results: dict[str, Any]) -> Report:
    """What was asked beside what was measured."""
    rows = []
    for what, measured, sign, asked in goals(results):
        met = measured >= asked if sign == ">=" else measured <= asked
        rows.append((what, round(measured, 2), f"{sign} {asked:g}", "yes" if met else "NO"))
    table = Table("what was asked", ("measure", "measured", "asked", "met"), rows)
    return Report("asked", {}, [table], {"measures": len(rows), "missed": [row[0] for row in rows if row[-1] == "NO"]})


def _folder(model: str) -> Path:
    return Path(model) if Path(model).is_dir() else ft.path(model)


def model_name(model: str) -> str:
    """What a model is called, given by name or folder."""
    return _folder(model).name


def main(arguments: Sequence[str] | None = None) -> Report:
    """Run the parts that are asked for."""
    parts = ("step", "draft", "decode")
    parser = _common.parser(__doc__)
    parser.add_argument("--model", default="tales", help="name or folder; its drafter is NAME-draft (default: tales)")
    parser.add_argument("--only", action="append", choices=parts, help="one part; may be repeated")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--prompts", type=int, default=8, help="held-out prompts, unpicked (default: 8)")
    options = _common.parsed(parser, arguments)
    count = 20
    if options.quick:
        options.model, options.repeats, options.tokens, options.prompts, count = _common.tiny_folder(), 1, 8, 2, 2
    drafter, wanted = str(_folder(options.model)) + "-draft", options.only or parts
    texts = _common.texts(model_name(options.model), options.prompts)
    before, reports = torch.get_num_threads(), []
    if "step" in wanted:
        keys = {"repeats": options.repeats, "threads": threads_of(options), "count": count}
        found = step(drafter, **keys)
        reports += [Report("step, drafter", found.settings, found.tables, found.results), step(options.model, **keys)]
        torch.set_num_threads(before)
    if "draft" in wanted:
        reports.append(draft(drafter, prompts=texts, repeats=options.repeats, rounds=count))
    if "decode" in wanted:
        peer = Peer(_folder(options.model), Path(drafter))
        keys = {"prompts": texts, "repeats": options.repeats, "tokens": options.tokens}
        reports.append(decode(options.model, peer=peer, **keys))
    whole = joined("native", reports)
    return _common.finish(joined("native", [*reports, summary(whole.results)]), options)


if __name__ == "__main__":
    main()
