"""What decoding with a shipped model costs here: drafters, the worst of them, the work around the model, batches.

Rows run to their limit (END does not end them), so every contender makes the same number of tokens; text is not
decoded. Prompts are token ids.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from .. import hub
from ..canvas import Canvas, Stats
from ..drafter.lookup import NGram, Suffix
from ..drafter.protocol import Drafter
from ..drafter.several import Several
from ..drafter.small_model import EarlyExit, SmallModel
from ..errors import UnknownModel
from ..generate import generate
from ..model.llama import LlamaModule
from ..model.native import Native
from ..model.protocol import CausalModel
from ..pipeline import Pipeline
from ..sampler import Sampler
from ..strategy.autoregressive import Autoregressive
from .report import Report, Table
from .speed import Timing, alternate, columns, figures, lengths
from .wrong import AlwaysWrong

SAMPLERS = {
    "greedy": Sampler(temperature=0),
    "T=0.8, k=50, p=0.95": Sampler(temperature=0.8, top_k=50, top_p=0.95),
}
OPENINGS = (
    "Once upon a time there was a little fox who lived at the edge of the forest.",
    "The old king had three daughters, and the youngest of them",
    "In the morning the children ran down to the river to see",
    '"Where are you going?" said the rabbit.',
    "It was a cold night, and the wind blew through the trees. The boy",
    "There lived in a small village a poor woman and her son.",
    "When the sun came up, the birds began to sing and the bear",
    "Far away, beyond the hills, there stood a house with a green door.",
)
"""Prompts where none are given; none is from the data."""

Extra = Mapping[str, Callable[[Sampler], Callable[[np.ndarray], int]]]
"""Peers: name → function that is given a sampler and returns a contender."""


Kind = Callable[[LlamaModule], CausalModel]
"""What runs a model, as for `load`."""


def opened(model: str, prompts: Sequence[str] | None, *, kind: Kind = Native) -> tuple[Pipeline, list[np.ndarray]]:
    """A model and its prompts as ids, each cut to an eighth of the context; `kind` is as for `load`."""
    pipeline = hub.load(model, model=kind)
    longest = max(1, pipeline.model.context // 8)
    return pipeline, [pipeline.codec.encode(text)[:longest] for text in prompts or OPENINGS]


def lineup(model: str, pipeline: Pipeline, corpus: Any = None, *, run: Kind = Native) -> dict[str, Drafter]:
    """Every drafter that this model can have; small models are run by `run`."""
    found: dict[str, Drafter] = {"NGram": NGram(), "Suffix": Suffix()}
    if corpus is not None:
        found["Suffix, corpus"] = Suffix(corpus=corpus)
    found["EarlyExit"] = EarlyExit(max(1, len(pipeline.model.layers) // 4))
    try:
        found["SmallModel"] = hub.small_model(model, model=run)
    except UnknownModel:
        return found
    found["Several"] = Several(found.get("Suffix, corpus", found["Suffix"]), found["SmallModel"])
    return found


def writer(
    pipeline: Pipeline, sampler: Sampler, tokens: int, drafter: Drafter | None = None, seen: list[Stats] | None = None
) -> Callable[[Any], int]:
    """A contender that continues a prompt, or each of a list of prompts in one batch."""
    return continuer(pipeline.model, Autoregressive(drafter=drafter), sampler, tokens, seen)


def continuer(
    model: CausalModel, strategy: Autoregressive, sampler: Sampler, tokens: int, seen: list[Stats] | None = None
) -> Callable[[Any], int]:
    """The same of any model and strategy."""

    def write(item: Any) -> int:
        canvas = Canvas([item] if isinstance(item, np.ndarray) else item)
        out = generate(model, canvas, strategy, sampler=sampler, max_tokens=tokens, end_tokens=(), seed=7)
        if seen is not None:
            seen.append(out.stats)
        return out.stats.tokens

    return write


def settings(pipeline: Pipeline, prompts: Sequence[np.ndarray], *, tokens: int, repeats: int) -> dict[str, Any]:
    """What every benchmark here states."""
    return {
        "model": pipeline.name, "kind": type(pipeline.model).__name__, "dtype": "float32", "batch": 1,
        "prompts": len(prompts),
        "prompt length": lengths(prompts), "tokens": tokens, "repeats": repeats, "warm-up": 1,
    }  # fmt: skip


def drafters(
    model: str = "tales", *, prompts: Sequence[str] | None = None, repeats: int = 5, tokens: int = 128,
    corpus: Any = None, peers: Extra | None = None, run: Kind = Native,
) -> Report:  # fmt: skip
    """Tokens a second with each drafter, against the same loop with none.

    Args:
        model: name or folder.
        prompts: texts to continue, one after another; None for a few of our own.
        repeats: rounds; the median counts.
        tokens: to add to each prompt.
        corpus: a `SuffixCorpus` for `Suffix` to look into as well, or None.
        peers: contenders from elsewhere, measured in turn with ours.
        run: what runs the model and the small one, as for `load`.
    """
    pipeline, ids = opened(model, prompts, kind=run)
    tables, results = [], {}
    for kind, sampler in SAMPLERS.items():
        seen: dict[str, list[Stats]] = {"plain": []}
        contenders = {"plain": writer(pipeline, sampler, tokens, None, seen["plain"])}
        for name, drafter in lineup(model, pipeline, corpus, run=run).items():
            seen[name] = []
            contenders[name] = writer(pipeline, sampler, tokens, drafter, seen[name])
        contenders |= {name: peer(sampler) for name, peer in (peers or {}).items()}
        timings = alternate(contenders, ids, repeats=repeats)
        rows, measured = [], {}
        for name, timing in timings.items():
            forward, accepted = _worth(seen.get(name, []))
            rows.append((name, *columns(timing, timings["plain"]), forward, accepted))
            measured[name] = figures(timing, timings["plain"]) | {"tokens_per_forward": forward, "acceptance": accepted}
        ours = [name for name in seen if name != "plain"]
        best = max(ours, key=lambda name: timings[name].tokens_per_second)
        results[kind] = {"contenders": measured, "best": best, "best_ratio": measured[best]["ratio"]}
        head = (kind, "tokens/s", "slow-fast", "× plain", "tokens/forward", "accepted")
        tables.append(Table(f"drafters on {pipeline.name}, {kind}: best is {best}", head, rows))
    return Report("drafters", settings(pipeline, ids, tokens=tokens, repeats=repeats), tables, results)


def _worth(seen: Sequence[Stats]) -> tuple[float | None, float | None]:
    """Tokens a forward, and share of guesses accepted."""
    forwards, drafted = sum(s.row_forwards for s in seen), sum(s.drafted for s in seen)
    made, accepted = sum(s.tokens for s in seen), sum(s.accepted for s in seen)
    return round(made / forwards, 3) if forwards else None, round(accepted / drafted, 3) if drafted else None


def wrong(
    model: str = "tales",
    *,
    prompts: Sequence[str] | None = None,
    repeats: int = 5,
    tokens: int = 128,
    run: Kind = Native,
) -> Report:
    """What a drafter costs that is never right: quiet, sure of itself, or a small model without training."""
    pipeline, ids = opened(model, prompts, kind=run)
    rows, results = [], {}
    for kind, sampler in SAMPLERS.items():
        texts = [
            generate(pipeline.model, Canvas([prompt]), sampler=sampler, max_tokens=tokens, end_tokens=(), seed=7).tokens
            for prompt in ids
        ]
        seen: dict[str, list[Stats]] = {}
        contenders = {"plain": writer(pipeline, sampler, tokens)}
        for name, evidence in (("never right", 0), ("never right and sure", 16)):
            seen[name] = []
            drafter = AlwaysWrong(ids, texts, vocab_size=pipeline.model.vocab_size, evidence=evidence)
            contenders[name] = writer(pipeline, sampler, tokens, drafter, seen[name])
        untrained = _untrained(pipeline, run)
        seen["an untrained model"] = []
        contenders["an untrained model"] = writer(pipeline, sampler, tokens, untrained, seen["an untrained model"])
        timings = alternate(contenders, ids, repeats=repeats)
        results[kind] = {}
        for name, own in seen.items():
            cost = 1 - timings[name].over(timings["plain"])
            accepted, drafted = sum(s.accepted for s in own), sum(s.drafted for s in own)
            results[kind][name] = {"cost": round(cost, 4), "drafted": drafted, "accepted": accepted}
            rows.append((f"{name}, {kind}", f"{100 * cost:.1f} %", drafted, accepted))
    table = Table(
        f"a drafter that is never right, on {pipeline.name}", ("drafter", "cost", "drafted", "accepted"), rows
    )
    return Report("wrong", settings(pipeline, ids, tokens=tokens, repeats=repeats), [table], results)


def _untrained(pipeline: Pipeline, run: Kind) -> Drafter:
    module = LlamaModule(dataclasses.replace(pipeline.model.config, num_hidden_layers=1))
    module.initialise(torch.Generator().manual_seed(1))
    return SmallModel(run(module))


def overhead(
    model: str = "tales",
    *,
    prompts: Sequence[str] | None = None,
    repeats: int = 5,
    tokens: int = 128,
    run: Kind = Native,
) -> Report:
    """Microseconds a token, by part: the model's forwards, the drafter, choice and verification, and the rest."""
    pipeline, ids = opened(model, prompts, kind=run)
    rows, results = [], {}
    for kind, sampler in SAMPLERS.items():
        for name, drafter in {"plain": None, "NGram": NGram(), "Suffix": Suffix()}.items():
            seen: list[Stats] = []
            write = writer(pipeline, sampler, tokens, drafter, seen)
            for prompt in [ids[0], *(prompt for prompt in ids for _ in range(repeats))]:
                write(prompt)
            parts = {
                part: statistics.median([s.seconds[part] / s.tokens for s in seen[1:]])
                for part in ("model", "draft", "sample")
            }
            outside = statistics.median([(s.overhead + s.seconds["draft"]) / s.tokens for s in seen[1:]])
            rest = outside - parts["draft"] - parts["sample"]
            rows.append(
                (
                    f"{name}, {kind}",
                    *(1e6 * v for v in (parts["model"], outside, parts["draft"], parts["sample"], rest)),
                )
            )
            results[f"{name}, {kind}"] = {"outside": round(1e6 * outside, 2)} | {
                k: round(1e6 * v, 2) for k, v in parts.items()
            }
    head = ("µs a token", "forward", "outside", "of it: draft", "sample", "rest")
    table = Table(f"time outside the forward on {pipeline.name}", head, rows)
    return Report("overhead", settings(pipeline, ids, tokens=tokens, repeats=repeats), [table], results)


def batch(
    model: str = "tales", *, prompts: Sequence[str] | None = None, repeats: int = 5, tokens: int = 128,
    rows: int = 8, run: Kind = Native,
) -> Report:  # fmt: skip
    """Tokens a second of a ragged batch against the same prompts one after another."""
    pipeline, ids = opened(model, prompts, kind=run)
    ids = [ids[i % len(ids)] for i in range(rows)]
    lines, results = [], {}
    for kind, sampler in SAMPLERS.items():
        together = writer(pipeline, sampler, tokens)
        alone = writer(pipeline, sampler, tokens)
        contenders: dict[str, Callable[[Any], int]] = {
            "batch 1": lambda item, write=alone: sum(write(prompt) for prompt in item),
            f"batch {rows}": together,
        }
        timings: dict[str, Timing] = alternate(contenders, [ids], repeats=repeats)
        for name, timing in timings.items():
            lines.append((f"{name}, {kind}", *columns(timing, timings["batch 1"])))
        results[kind] = {name: figures(timing, timings["batch 1"]) for name, timing in timings.items()}
    table = Table(f"batches on {pipeline.name}", ("batch", "tokens/s", "slow-fast", "× batch 1"), lines)
    stated = settings(pipeline, ids, tokens=tokens, repeats=repeats) | {"batch": f"1 and {rows}"}
    return Report("batch", stated, [table], results)
