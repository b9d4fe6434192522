"""Jacobi: the same units without a drafter's model, in fewer forwards; texts, and pictures of a model over their rows.

    python benches/jacobi.py                                                  # the shipped language models
    python benches/jacobi.py --pictures FOLDER --prefix 1007,1010 --columns 16 --units 256

FOLDER holds a Llama over rows of units, pictures in raster order behind a prefix of ids. Every contender writes the
same rows with the same seeds; units that differ from those of plain decoding are counted. Contenders take turns, and
the median of the repeats counts. A forward that reads a window costs more than one that reads a unit, so time falls
less than forwards do, or not at all.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np

import foretoken as ft
from benches import _common
from benches._common import Writer
from foretoken.drafter.jacobi import Start
from foretoken.evaluate import decoding, speed
from foretoken.evaluate.report import Report, Table, asked, joined
from foretoken.model.checkpoint import load_llama
from foretoken.model.protocol import CausalModel

WINDOWS = (2, 4, 8, 16)
FEWER = 1.5  # times fewer forwards, asked of patches


def strategies(starts: Mapping[str, Start]) -> dict[str, ft.Autoregressive]:
    """Nothing drafted; windows of fixed lengths, and an adaptive one, which may refuse to draft."""
    found = {"plain": ft.Autoregressive()}
    for name, start in starts.items():
        for width in WINDOWS:
            found[f"{name}, {width}"] = ft.Autoregressive(ft.Jacobi(start=start), length=width)
        found[f"{name}, adaptive"] = ft.Autoregressive(ft.Jacobi(start=start), length=ft.Adaptive(max(WINDOWS)))
    return found


def compared(
    name: str, model: CausalModel, items: Sequence[Any], starts: Mapping[str, Start], sampler: ft.Sampler, *,
    units: int, repeats: int,
) -> tuple[Table, dict[str, Any]]:  # fmt: skip
    """Forwards and time of every contender on the same items."""
    options = {"sampler": sampler, "max_tokens": units, "seed": 7}
    writers = {kind: Writer(model, strategy, **options) for kind, strategy in strategies(starts).items()}
    timings = speed.alternate(writers, items, repeats=repeats)
    rows, results = [], {}
    for kind, writer in writers.items():
        forward, differing = writer.worth()[0], writer.differing(writers["plain"])
        curve = acceptance(writer.stats)
        rows.append((kind, forward, *speed.columns(timings[kind], timings["plain"]), *curve[:3], differing))
        results[kind] = speed.figures(timings[kind], timings["plain"]) | {
            "units_per_forward": forward, "differing": differing, "acceptance_by_position": curve
        }  # fmt: skip
    head = (name, "units/forward", "units/s", "slow-fast", "× plain", "1st right", "2nd", "3rd", "units differ")
    return Table(f"windows on {name}", head, rows), results


def acceptance(stats: Sequence[ft.Stats]) -> list[float | None]:
    """Share of the guesses at each place that were right if those before them were, of 16 places."""
    counts = [
        (sum(own.accepted_at[place] for own in stats), sum(own.drafted_at[place] for own in stats))
        for place in range(max(WINDOWS))
    ]
    return [round(right / judged, 3) if judged else None for right, judged in counts]


def texts(model: str, options: argparse.Namespace) -> Report:
    """Held-out prompts, continued."""
    pipeline, ids = decoding.opened(model, _common.texts(Path(model).name, options.prompts), kind=options.kind)
    tables, results = [], {}
    for kind, sampler in decoding.SAMPLERS.items():
        table, results[kind] = compared(
            f"{pipeline.name}, {kind}", pipeline.model, ids, {"repeat": ft.repeat}, sampler,
            units=options.tokens, repeats=options.repeats,
        )  # fmt: skip
        tables.append(table)
    settings = decoding.settings(pipeline, ids, tokens=options.tokens, repeats=options.repeats)
    return Report(pipeline.name, settings, tables, results)


def pictures(options: argparse.Namespace) -> Report:
    """Pictures behind one prefix, each with a seed of its own, at temperature 1."""
    folder = Path(options.pictures)
    model = options.kind(load_llama(folder))
    prefix = np.array([int(unit) for unit in options.prefix.split(",")], dtype=np.int64)
    items = [(prefix, seed) for seed in range(options.samples)]
    starts = {"repeat": ft.repeat, "above": ft.above(options.columns, prefix=len(prefix))}
    name = folder.parent.name if folder.name == "checkpoint" else folder.name
    table, results = compared(
        name, model, items, starts, ft.Sampler(), units=options.units, repeats=options.repeats
    )  # fmt: skip
    settings = {
        "model": name, "kind": type(model).__name__, "dtype": "float32", "batch": 1, "prefix": prefix.tolist(),
        "units": options.units, "columns": options.columns, "samples": len(items), "temperature": 1.0,
        "repeats": options.repeats, "warm-up": 1,
    }  # fmt: skip
    return Report("pictures", settings, [table], {"T=1": results})


def goals(results: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, float, str, float]]:
    """(what, measured, how to compare, asked)."""
    for part, kinds in results.items():
        differing = sum(found["differing"] for kind in kinds.values() for found in kind.values())
        yield f"{part}: units that are not those of plain decoding", differing, "<=", 0
        if part == "pictures":
            best = max(found["units_per_forward"] for found in kinds["T=1"].values())
            yield "pictures: times fewer forwards", best / kinds["T=1"]["plain"]["units_per_forward"], ">=", FEWER


def main(arguments: Sequence[str] | None = None) -> Report:
    """Texts of each model, then pictures if there is a model of them."""
    parser = _common.parser(__doc__)
    parser.add_argument("--model", action="append", help="of texts; may be repeated (default: tales, manual)")
    parser.add_argument("--pictures", metavar="FOLDER", help="a Llama over rows of units; then texts are left out")
    parser.add_argument("--prefix", default="0", metavar="IDS", help="before each picture, with commas (default: 0)")
    parser.add_argument("--columns", type=int, default=16, help="units of a row of a picture (default: 16)")
    parser.add_argument("--units", type=int, default=256, help="of a picture (default: 256)")
    parser.add_argument("--samples", type=int, default=8, help="pictures (default: 8)")
    parser.add_argument("--prompts", type=int, default=8, help="held-out prompts, unpicked (default: 8)")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--torch", action="store_true", help="run the models in PyTorch instead of the core")
    options = _common.parsed(parser, arguments)
    options.kind = ft.Llama if options.torch else ft.Native
    models = options.model or ([] if options.pictures else ["tales", "manual"])
    if options.quick:
        models, options.pictures = [_common.tiny_folder()], _common.tiny_folder()
        options.prefix, options.columns, options.units, options.samples = "1,2", 4, 12, 2
        options.prompts, options.tokens, options.repeats = 2, 8, 1
    reports = [texts(model, options) for model in models]
    reports += [pictures(options)] if options.pictures else []
    return _common.finish(
        joined("jacobi", [*reports, asked(goals({report.name: report.results for report in reports}))]), options
    )


if __name__ == "__main__":
    main()
