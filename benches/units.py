"""What it costs to make a picture, sound or film one unit after another: by pixels, patches, samples, codes.

    python benches/units.py --save            # minutes; also draws benches/results/units.png
    python benches/units.py --longest 4096    # time no longer rows than that

Operations and cached bytes are computed, for the shape of `tales` and for that of a model of 1 B. Seconds are those of
`tales`' shape in the core, with random weights and a longer context, driven by `ft.stream` as a user would: rows up to
`--longest` units are made whole, and what is behind them is said by a line through the times of single units. The line
is laid through the middle half of the longest row, which no cache holds any more, and tried on its end and behind a
prompt that is longer still.

The vocabulary is that of `tales` for all: a head with a place for every 24-bit pixel would be a model of its own. Its
operations stand in a column by themselves.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch

import foretoken as ft
from benches import _common, _costs, _costs_plot
from benches._costs import Line
from foretoken.canvas import Canvas
from foretoken.evaluate.report import Report, Table, joined
from foretoken.model.llama import LlamaModule
from foretoken.model.llama_config import LlamaConfig

WINDOW = 32  # neighbouring units whose median is the time of one
DAY = 86_400


def computed(config: LlamaConfig, *, bytes_of_a_number: int, name: str) -> Report:
    """Operations and cached bytes of every signal."""
    rows, results = [], {}
    for signal in _costs.signals():
        found = _costs.costs(config, signal.units, bytes_of_a_number=bytes_of_a_number)
        head = 2 * config.hidden_size * signal.symbols * signal.units
        results[signal.name] = {
            "units": signal.units,
            "forwards": signal.forwards,
            "operations": found.operations,
            "operations_of_attention": found.attention,
            "operations_of_a_head_for_its_symbols": head,
            "cache_bytes": found.cache,
            "cache_bytes_read": found.cache_read,
        }
        share = 100 * found.attention / found.operations
        figures = found.operations / 1e12, share, head / 1e12, found.cache / 1e6, found.cache_read / 1e12
        rows.append((signal.name, f"{signal.units:,}", f"{signal.forwards:,}", *figures))
    head = ("computed", "units", "forwards", "TFLOP", "attention %", "own head TFLOP", "cache MB", "cache read TB")
    settings = {
        "layers": config.num_hidden_layers, "width": config.hidden_size, "inner width": config.intermediate_size,
        "heads": config.num_attention_heads, "key-value heads": config.num_key_value_heads,
        "head width": config.head_dim, "vocabulary": config.vocab_size, "bytes of a cached number": bytes_of_a_number,
    }  # fmt: skip
    return Report(name, settings, [Table(f"{name}: a whole signal", head, rows)], results)


def longer(folder: Path, context: int) -> LlamaModule:
    """The shape of a checkpoint with random weights, which bfloat16 keeps as they are, and room for more units."""
    config = LlamaConfig.from_file(folder / "config.json")
    module = LlamaModule(dataclasses.replace(config, max_position_embeddings=context))
    module.initialise(torch.Generator().manual_seed(0))
    return module.bfloat16().float()


def walk(model: Any, *, known: int, units: int) -> np.ndarray:
    """Makes a row behind so many known units; seconds of each unit, (units,)."""
    prompt = np.random.default_rng(0).integers(0, model.vocab_size, known)
    options: dict[str, Any] = {"max_tokens": units, "end_tokens": (), "seed": 7}
    times = [perf_counter()]
    times += [perf_counter() for _ in ft.stream(model, Canvas([prompt]), ft.Autoregressive(), **options)]
    return np.diff(times)


def around(taken: np.ndarray, position: int) -> float:
    """Seconds of the unit at a position: the median of its neighbours, over all rounds (rounds, units)."""
    low = min(max(position - WINDOW // 2, 1), max(taken.shape[1] - WINDOW, 0))
    return float(np.median(taken[:, low : low + WINDOW]))


def measured(model: Any, *, longest: int, far: int, repeats: int) -> Report:
    """Seconds of single units and of whole rows, and the line that says the others."""
    walk(model, known=1, units=min(longest, 200))  # warm-up
    rounds = np.stack([walk(model, known=1, units=longest) for _ in range(repeats)])
    behind = walk(model, known=far, units=WINDOW + 1)[None, 1:]  # the first unit reads the prompt
    places = [place for place in (round(2 ** (power / 2)) for power in range(10, 41)) if place < longest] + [longest]
    seconds = {place: around(rounds, place - 1) for place in places} | {far: float(np.median(behind))}
    fitted = {place: taken for place, taken in seconds.items() if longest / 4 <= place <= 3 * longest / 4}
    line = Line.through(fitted)
    rows, units = [], {}
    for place, taken in seconds.items():
        part = "line" if place in fitted else "held out" if place > max(fitted) else "shorter"
        off = 100 * (line.at(place) / taken - 1)
        units[str(place)] = {"seconds": taken, "part": part, "line_off_percent": round(off, 1)}
        rows.append((f"{place:,}, {part}", 1e6 * taken, 1e6 * line.at(place), off))
    single = Table("a unit that looks at so many positions", ("positions", "µs", "by the line", "off %"), rows)
    rows, whole = [], {}
    total = float(np.median(rounds.sum(axis=1)))
    for signal in _costs.signals():
        if signal.forwards != signal.units:
            continue
        made = signal.units <= longest
        some = float(np.median(rounds[:, : signal.units].sum(axis=1)))
        taken = some if made else total + line.between(longest, signal.units)
        whole[signal.name] = {"units": signal.units, "seconds": taken, "measured": made}
        rows.append((signal.name, f"{signal.units:,}", "measured" if made else "extrapolated", taken, taken / DAY))
    head = ("a row made whole", "units", "how", "s", "days")
    settings = {
        "dtype": str(model.dtype).removeprefix("torch."), "batch": 1, "sampler": "temperature 1", "longest": longest,
        "line through": f"units {min(fitted):,} to {max(fitted):,}", "farthest": far, "repeats": repeats, "warm-up": 1,
    }  # fmt: skip
    held = [abs(found["line_off_percent"]) for found in units.values() if found["part"] == "held out"]
    results = {
        "line": {"seconds": line.start, "seconds_a_position": line.slope},
        "units": units,
        "rows": whole,
        "line_off_percent_held_out": max(held),
    }
    return Report("measured", settings, [single, Table("whole signals", head, rows)], results)


def main(arguments: Sequence[str] | None = None) -> Report:
    """Compute, measure, draw."""
    parser = _common.parser(__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="rounds of the longest row (default: 3)")
    parser.add_argument("--longest", type=int, default=16_000, help="row that is made whole, in units (default: 16000)")
    parser.add_argument("--far", type=int, default=32_768, help="known units before the last check (default: 32768)")
    parser.add_argument("--plot", type=Path, help="draw there; its ending says the format (with --save: units.png)")
    options = _common.parsed(parser, arguments)
    folder = ft.path("tales")
    if options.quick:
        folder, options.repeats, options.longest, options.far = Path(_common.tiny_folder()), 2, 256, 300
    if options.threads is None:
        torch.set_num_threads(1)
    if options.plot is None and options.save:
        options.plot = _common.RESULTS / "units.png"
    module = longer(folder, max(options.far, options.longest) + 2 * WINDOW)
    reports = [
        computed(module.config, bytes_of_a_number=4, name=folder.name),
        computed(_costs.ONE_BILLION, bytes_of_a_number=2, name="1 B"),
        measured(ft.Native(module), longest=options.longest, far=options.far, repeats=options.repeats),
    ]
    report = joined("units", reports)
    if options.plot is not None:
        threads = "one thread" if torch.get_num_threads() == 1 else f"{torch.get_num_threads()} threads"
        _costs_plot.draw(report.results, options.plot, machine=f"{report.made['cpu']}, {threads}", model=folder.name)
    return _common.finish(report, options)


if __name__ == "__main__":
    main()
