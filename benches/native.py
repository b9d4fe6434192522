"""The native Llama beside PyTorch and llama.cpp: a step, a block, a prompt, a draft in one call, and whole texts.

    python benches/native.py                 # everything, minutes
    python benches/native.py --only step     # microseconds of a forward, and how fast it reads its weights
    python benches/native.py --only prefill  # of a whole prompt

Contenders take turns in one process on the same weights, with as many threads each; the median of the repeats counts.
llama.cpp is one of them where llama-cpp-python and gguf are installed: float32, as are its keys and values.
"""

from __future__ import annotations

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
from benches import _common, _forwards, _llama_cpp
from benches._forwards import folder_of
from benches._llama_cpp import LlamaCpp
from benches._peers import Peer
from foretoken import kernels
from foretoken.canvas import Canvas
from foretoken.drafter.costs import ForwardCosts
from foretoken.drafter.protocol import DraftRequest
from foretoken.evaluate import decoding, speed
from foretoken.evaluate.report import Report, Table, asked, joined
from foretoken.model.checkpoint import load_llama

DRAFT = 8  # guesses of a draft


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
    module = load_llama(folder_of(model))
    pipeline = ft.load(model, model=ft.Llama)
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
    table = Table(f"drafts of {DRAFT} by {folder_of(model).name}", ("drafter", "µs a draft", "× PyTorch"), rows)
    stated = {"model": folder_of(model).name, "prompts": len(ids), "drafts": rounds, "repeats": repeats, "warm-up": 1}
    return Report("draft", stated, [table], results)


def _drafts(prompt: np.ndarray, *, model: Any, sampler: ft.Sampler, rounds: int) -> int:
    return drafter_of(model, sampler, prompt, rounds)


def decode(
    model: str, *, prompts: Sequence[str], repeats: int, tokens: int, peer: Peer, llama: LlamaCpp | None
) -> Report:
    """Whole texts: our loop on PyTorch and native, with drafters, transformers and llama.cpp on the same weights."""
    eager, ids = decoding.opened(model, prompts, kind=ft.Llama)
    native = ft.load(model, model=ft.Native)
    wide = ft.load(model, model=partial(ft.Native, dtype=torch.float32))
    drafters: dict[str, Any] = {"native": None, "native, NGram": ft.NGram()}
    if peer.assistant is not None:
        drafters["native, SmallModel"] = ft.small_model(model, model=ft.Native)
        drafters["native, Several"] = ft.Several(ft.Suffix(), drafters["native, SmallModel"])
    tables, results = [], {}
    for kind, sampler in decoding.SAMPLERS.items():
        contenders: dict[str, Callable[[np.ndarray], int]] = {
            "transformers.generate": lambda prompt, sampler=sampler: len(peer.ids(prompt, sampler, tokens)),
            "PyTorch": decoding.writer(eager, sampler, tokens),
            "native, float32": decoding.writer(wide, sampler, tokens),
        }
        if llama is not None:
            contenders["llama.cpp, float32"] = lambda prompt, sampler=sampler: llama.write(prompt, sampler, tokens)
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
    for part, times in (("step, drafter", 6.0), ("step", 1.8)):
        for name, found in results.get(part, {}).items():
            if name.startswith("bfloat16"):
                yield f"{part}: times PyTorch, {name}", found["times_torch"], ">=", times
    for model, found in results.get("logits", {}).items():
        for name, apart in found.items():
            yield f"{model}: largest difference of a logit, {name}", apart, "<=", _APART[name]
    for kind, found in results.get("decode", {}).items():
        best = max((name for name in found if name.startswith("native")), key=lambda name: found[name]["ratio"])
        yield f"{kind}: times transformers.generate, {best}", found[best]["ratio"], ">=", 4.0
        for name, own, times in (("transformers, assisted", best, 5.0), ("llama.cpp, float32", "native, float32", 1.0)):
            if name in found:
                yield f"{kind}: times {name}, {own}", found[own]["ratio"] / found[name]["ratio"], ">=", times
        changed = sum(figures["tokens_changed"] or 0 for figures in found.values())
        yield f"{kind}: tokens that a drafter changed", changed, "<=", 0


_APART = {"native, float32": 1e-4, "llama.cpp, float32": 1e-3}
"""How far logits may be from PyTorch's; llama.cpp's only to say that it runs the same model."""


def main(arguments: Sequence[str] | None = None) -> Report:
    """Run the parts that are asked for."""
    parts = ("logits", "step", "prefill", "draft", "decode")
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
    drafter, wanted = str(folder_of(options.model)) + "-draft", options.only or parts
    texts = _common.texts(folder_of(options.model).name, options.prompts)
    threads, before, reports = _forwards.threads_of(options), torch.get_num_threads(), []
    if "logits" in wanted:
        reports.append(_forwards.logits((options.model, drafter), texts))
    if "step" in wanted:
        keys = {"repeats": options.repeats, "threads": threads, "count": count}
        found = _forwards.step(drafter, **keys)
        found = Report("step, drafter", found.settings, found.tables, found.results)
        reports += [found, _forwards.step(options.model, **keys)]
    if "prefill" in wanted:
        reports.append(_forwards.prefill(options.model, repeats=options.repeats, threads=threads))
    torch.set_num_threads(before)
    if "draft" in wanted:
        reports.append(draft(drafter, prompts=texts, repeats=options.repeats, rounds=count))
    if "decode" in wanted:
        peer = Peer(folder_of(options.model), Path(drafter))
        with _llama_cpp.opened(load_llama(folder_of(options.model)), before) as llama:
            keys = {"prompts": texts, "repeats": options.repeats, "tokens": options.tokens, "llama": llama}
            reports.append(decode(options.model, peer=peer, **keys))
    whole = joined("native", reports)
    return _common.finish(joined("native", [*reports, asked(goals(whole.results))]), options)


if __name__ == "__main__":
    main()
