"""Every drafter of a shipped model on held-out prompts: tokens a forward, acceptance by place, tokens a second.

    python benches/drafters.py                          # tales and manual, in PyTorch and in the core, minutes
    python benches/drafters.py --run torch --model tales
    python benches/drafters.py --block runs/tales-block/checkpoint --model tales

Contenders take turns in one process on the same weights; the median of the repeats counts. Each contender's first text
is compared with plain decoding, token by token. `--counts` leaves the clock out: drafts of six, whatever they cost, so
that tokens a forward and the acceptance by place are the same on every machine; speed is what the others measure.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np

import foretoken as ft
from benches import _common
from foretoken.drafter.protocol import Drafter
from foretoken.evaluate import decoding, speed
from foretoken.evaluate.report import Report, Table, asked, joined

SAMPLERS = {f"T={temperature}": ft.Sampler(temperature=temperature) for temperature in (0.0, 0.8, 1.0)}
RUNS = {"torch": ft.Llama, "core": ft.Native}
_PLACES = 6


def lineup(model: str, block: str, run: decoding.Kind) -> dict[str, Drafter]:
    """The drafters, those made of several last."""
    drafter = ft.BlockDrafter(block)
    singles: dict[str, Drafter] = {
        "NGram": ft.NGram(),
        "Suffix": ft.Suffix(),
        "SmallModel": ft.small_model(model, model=run),
        "Block": drafter,
    }
    if run is not ft.Native:
        singles["SmallModel, core"] = ft.small_model(model)
        singles["Block, torch"] = ft.BlockDrafter(block, native=False)
    return singles | {
        "Suffix, Block": ft.Several(ft.Suffix(), drafter),
        "tree of Suffix, Block": ft.Several(ft.Suffix(), drafter, tree=True),
        "tree of Block, SmallModel": ft.Several(drafter, singles["SmallModel"], tree=True),
    }


def by_place(seen: Sequence[ft.Stats]) -> list[float | None]:
    """How often a guess was right if those before it were, place by place."""
    places = []
    for place in range(_PLACES):
        judged = sum(stats.drafted_at[place] for stats in seen)
        places.append(round(sum(stats.accepted_at[place] for stats in seen) / judged, 3) if judged else None)
    return places


def measured(
    model: str, block: str, run: str, *, prompts: Sequence[str], repeats: int, tokens: int
) -> tuple[Report, dict[str, dict]]:
    """One model, run in one way, at each temperature."""
    pipeline, ids = decoding.opened(model, prompts, kind=RUNS[run])
    tables, results = [], {}
    for kind, sampler in SAMPLERS.items():
        seen: dict[str, list[ft.Stats]] = {"plain": []}
        contenders = {"plain": decoding.writer(pipeline, sampler, tokens, None, seen["plain"])}
        differences = {"plain": 0}
        plain = text(pipeline, ids[0], sampler, tokens, None)
        for name, drafter in lineup(model, block, RUNS[run]).items():
            seen[name] = []
            differences[name] = int((text(pipeline, ids[0], sampler, tokens, drafter) != plain).sum())
            contenders[name] = decoding.writer(pipeline, sampler, tokens, drafter, seen[name])
        timings = speed.alternate(contenders, ids, repeats=repeats)
        rows, found = [], {}
        for name, timing in timings.items():
            forward = sum(s.tokens for s in seen[name]) / sum(s.row_forwards for s in seen[name])
            places = by_place(seen[name])
            milliseconds = 1e3 * sum(s.seconds["draft"] for s in seen[name]) / sum(s.row_forwards for s in seen[name])
            shown = " ".join("-" if p is None else f"{p:.2f}" for p in places)
            rows.append(
                (name, *speed.columns(timing, timings["plain"]), forward, milliseconds, shown, differences[name])
            )
            found[name] = speed.figures(timing, timings["plain"]) | {
                "tokens_per_forward": round(forward, 3), "draft_ms_per_forward": round(milliseconds, 3),
                "acceptance_by_place": places, "differences": differences[name],
            }  # fmt: skip
        results[kind] = found
        head = (kind, "tokens/s", "slow-fast", "× plain", "tokens/forward", "draft ms", "right by place", "differences")
        tables.append(Table(f"drafters of {pipeline.name}, model run by {run}", head, rows))
    report = Report(run, decoding.settings(pipeline, ids, tokens=tokens, repeats=repeats), tables, results)
    return report, results


def counted(model: str, block: str, *, prompts: Sequence[str], tokens: int) -> tuple[Report, dict[str, dict]]:
    """Tokens a forward with drafts of `_PLACES` in the core, at each temperature and under both verifiers."""
    pipeline, ids = decoding.opened(model, prompts)
    tables, results = [], {}
    for kind, sampler in SAMPLERS.items():
        for verifier in (ft.Coupled(), ft.Rejection()):
            rows, found = [], {}
            plain = [text(pipeline, prompt, sampler, tokens, None) for prompt in ids]
            for name, drafter in lineup(model, block, ft.Native).items():
                strategy, seen, differences = ft.Autoregressive(drafter, verifier, _PLACES), [], 0
                for prompt, expected in zip(ids, plain, strict=True):
                    out = ft.generate(
                        pipeline.model, ft.Canvas([prompt]), strategy, sampler=sampler, max_tokens=tokens,
                        end_tokens=(), seed=7,
                    )  # fmt: skip
                    seen.append(out.stats)
                    differences += int((out.tokens != expected).sum()) if isinstance(verifier, ft.Coupled) else 0
                forward = sum(s.tokens for s in seen) / sum(s.row_forwards for s in seen)
                places = by_place(seen)
                rows.append((name, forward, " ".join("-" if p is None else f"{p:.2f}" for p in places), differences))
                found[name] = {"tokens_per_forward": round(forward, 3), "acceptance_by_place": places}
                found[name]["differences"] = differences
            way = type(verifier).__name__
            results[f"{kind}, {way}"] = found
            head = (f"{kind}, {way}", "tokens/forward", "right by place", "differences")
            tables.append(Table(f"drafts of {_PLACES} on {pipeline.name}", head, rows))
    settings = decoding.settings(pipeline, ids, tokens=tokens, repeats=1)
    return Report("counts", settings, tables, results), results


def text(
    pipeline: ft.Pipeline, prompt: np.ndarray, sampler: ft.Sampler, tokens: int, drafter: Drafter | None
) -> np.ndarray:
    """The ids that one prompt is continued with."""
    strategy = ft.Autoregressive(drafter)
    out = ft.generate(
        pipeline.model, ft.Canvas([prompt]), strategy, sampler=sampler, max_tokens=tokens, end_tokens=(), seed=7
    )
    return out.tokens


def counts_goals(model: str, results: Mapping[str, dict]) -> Iterator[tuple[str, float, str, float]]:
    """The same for what `counted` gives."""
    for kind, found in results.items():
        yield f"{model}, {kind}: tokens a forward with Block", found["Block"]["tokens_per_forward"], ">=", 2.2
        tree = found["tree of Block, SmallModel"]["tokens_per_forward"]
        best = max(found[name]["tokens_per_forward"] for name in ("SmallModel", "Block"))
        yield f"{model}, {kind}: tree over its best member", tree / best, ">=", 1.0
        if kind.endswith("Coupled"):  # the ratio test keeps the law, not the tokens
            yield f"{model}, {kind}: differences", float(sum(one["differences"] for one in found.values())), "<=", 0.0


def goals(results: Mapping[tuple[str, str], dict[str, dict]]) -> Iterator[tuple[str, float, str, float]]:
    """(what, measured, how to compare, asked)."""
    others = {"NGram", "Suffix", "SmallModel", "SmallModel, core"}
    for (model, run), kinds in results.items():
        for kind, found in kinds.items():
            where = f"{model}, {run}, {kind}"
            yield f"{where}: tokens a forward with Block", found["Block"]["tokens_per_forward"], ">=", 2.2
            best = max(found[name]["tokens_per_second"] for name in others & found.keys())
            yield f"{where}: Block over the best other", found["Block"]["tokens_per_second"] / best, ">=", 1.0
            for tree, members in (("tree of Suffix, Block", ("Suffix", "Block")),
                                  ("tree of Block, SmallModel", ("SmallModel", "Block"))):  # fmt: skip
                own = max(found[name]["tokens_per_forward"] for name in members)
                yield (
                    f"{where}: {tree} over its best member, tokens a forward",
                    found[tree]["tokens_per_forward"] / own,
                    ">=",
                    1.0,
                )
            yield f"{where}: differences", float(sum(one["differences"] for one in found.values())), "<=", 0.0


def main(arguments: Sequence[str] | None = None) -> Report:
    """Run the models and ways that are asked for."""
    parser = _common.parser(__doc__)
    parser.add_argument("--model", action="append", help="name or folder; may be repeated (default: tales, manual)")
    parser.add_argument("--block", help="name or folder of the block drafter (default: MODEL-block)")
    parser.add_argument("--run", action="append", choices=list(RUNS), help="what runs the models; may be repeated")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--prompts", type=int, default=8, help="held-out prompts, unpicked (default: 8)")
    parser.add_argument("--counts", action="store_true", help="tokens a forward of drafts of six, without the clock")
    options = _common.parsed(parser, arguments)
    if options.quick:
        options.model, options.repeats, options.tokens, options.prompts = [_common.tiny_folder()], 1, 8, 2
        options.block = _common.tiny_block(options.model[0])
    reports, results = [], {}
    for model in options.model or ["tales", "manual"]:
        name = Path(model).name
        parts = []
        if options.counts:
            report, counts = counted(
                model, options.block or f"{model}-block",
                prompts=_common.texts(name, options.prompts), tokens=options.tokens,
            )  # fmt: skip
            reports.append(joined(name, [report, asked(counts_goals(name, counts))]))
            continue
        for run in options.run or list(RUNS):
            report, results[name, run] = measured(
                model, options.block or f"{model}-block", run, prompts=_common.texts(name, options.prompts),
                repeats=options.repeats, tokens=options.tokens,
            )  # fmt: skip
            parts.append(report)
        reports.append(joined(name, parts))
    if options.counts:
        return _common.finish(joined("drafters_counts", reports), options)
    return _common.finish(joined("drafters", [*reports, asked(goals(results))]), options)


if __name__ == "__main__":
    main()
