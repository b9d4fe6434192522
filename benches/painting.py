"""Emoji by 256 patches: one after another, and all at once in a few steps: forwards, time, distance from real ones.

    python benches/painting.py --data DATA --masked runs/emoji-masked/checkpoint --causal runs/emoji-ar/checkpoint

Both models learnt from the same rows, for as many steps, in the same shape; conditions are the style and the group of
pictures that neither has seen. A judge trained here on the training pictures sees features of every set: the Fréchet
distance is taken to training pictures that went through the codec, and the same distance of the held-out pictures,
which are real, is the floor. The autoregressive model runs in the core, and in PyTorch as the masked one does.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np

import foretoken as ft
from benches import _common
from foretoken import halton
from foretoken.canvas import UNKNOWN
from foretoken.codec.patches import Patches
from foretoken.codec.png import png
from foretoken.evaluate import distance
from foretoken.evaluate.report import Report, Table, joined
from foretoken.model.checkpoint import load_llama
from foretoken.recipes import conditions
from foretoken.rules import EntropyBound, Order, SampledConfidence
from foretoken.strategy.cascade import first, rest

CODEC, SIDE = "emoji-fsq-256", 16
Painter = Callable[[np.ndarray, Sequence[int]], ft.Generation]


def masked_painters(model: ft.MaskedLlama, untold: int) -> dict[str, Painter]:
    """Every way of the masked model, by name."""
    head = 2 + (model.latents > 0)
    imagine, others = ft.Stage(first(1)), ft.Stage(rest)
    spread = Order(np.concatenate((np.full(head, -1), halton.ranks(SIDE, SIDE))))
    guided = ft.Guided(
        model, 2.0, without=lambda canvas: np.where(np.arange(canvas.shape[1]) == head - 2, untold, canvas)
    )

    def painter(strategy: Any, *, imagined: bool = False, under: Any = model) -> Painter:
        def paint(told: np.ndarray, seeds: Sequence[int]) -> ft.Generation:
            place = UNKNOWN if imagined else model.config.untold
            front = np.full((len(told), 1), place) if model.latents else np.empty((len(told), 0), np.int64)
            blank = np.full((len(told), SIDE * SIDE), UNKNOWN)
            return ft.generate(under, ft.Canvas(np.concatenate((front, told, blank), axis=1)), strategy, seed=seeds)

        return paint

    painters = {"one shot": painter(ft.OneShot())}
    for steps in (2, 4, 8, 16):
        painters[f"{steps} steps, Halton"] = painter(ft.Masked(steps, select=spread))
    painters["8 steps, entropy"] = painter(ft.Masked(8, select=EntropyBound()))
    painters["8 steps, drawn confidence"] = painter(ft.Masked(8, select=SampledConfidence(1.0)))
    painters["8 steps, Halton, guided 2"] = painter(ft.Masked(8, select=spread), under=guided)
    if model.latents:
        painters["shared z, one shot"] = painter(ft.Cascade([imagine, others]), imagined=True)
        painters["shared z, 8 steps, Halton"] = painter(
            ft.Cascade([imagine, ft.Stage(rest, ft.Masked(8, select=spread))]), imagined=True
        )
    return painters


def causal_painter(model: Any, units: int, *, temperature: float = 1.0) -> Painter:
    """One patch after another; ids of conditions are no patches."""
    sampler = ft.Sampler(temperature=temperature, allowed_tokens=range(units))

    def paint(told: np.ndarray, seeds: Sequence[int]) -> ft.Generation:
        return ft.generate(model, ft.Canvas(told), max_tokens=SIDE * SIDE, seed=seeds, sampler=sampler)

    return paint


def compared(options: Any, data: Path) -> Report:
    """Every painter on the conditions of held-out pictures."""
    codec = ft.codec.load(CODEC)
    assert isinstance(codec, Patches)
    units = codec.vocab_size
    assert units is not None
    real, seen = (conditions.emoji(data, codec=CODEC, held_out=held) for held in (True, False))
    train = codec.decode_batch(np.stack(seen.bodies))
    judge = distance.taught(train, np.stack(seen.conditions) - [units, units + 10])
    anchor = distance.features(judge, train)
    told, pictures = np.stack(real.conditions), codec.decode_batch(np.stack(real.bodies))
    spread = np.linspace(0, len(told) - 1, min(options.count, len(told))).astype(int)  # the file goes style by style
    told, pictures = told[spread], pictures[spread]
    labels = told - [units, units + 10]
    causal = load_llama(options.causal)
    painters = {"one by one, in the core": causal_painter(ft.Native(causal), units)}
    painters["one by one, in PyTorch"] = causal_painter(ft.Llama(causal), units)
    painters |= masked_painters(ft.MaskedLlama(options.masked), seen.untold)
    results: dict[str, Any] = {
        "real, held out": {"frechet": distance.frechet(distance.features(judge, pictures), anchor)}
    }
    results["real, held out"]["told_right"] = distance.right(judge, pictures, labels).round(4).tolist()
    for name, paint in painters.items():
        made, seconds, forwards = [], 0.0, 0
        for start in range(0, len(told), options.batch):
            some = told[start : start + options.batch]
            started = perf_counter()
            out = paint(some, range(start, start + len(some)))
            seconds += perf_counter() - started
            forwards = max(forwards, out.stats.forwards)
            made.append(np.stack([row.units[-SIDE * SIDE :] for row in out.rows]))
        drawn = codec.decode_batch(np.concatenate(made))
        alone = perf_counter()
        paint(told[:1], [0])
        alone = perf_counter() - alone
        results[name] = {
            "forwards": forwards,
            "ms": 1000 * seconds / len(told),
            "ms_alone": 1000 * alone,
            "frechet": distance.frechet(distance.features(judge, drawn), anchor),
            "told_right": distance.right(judge, drawn, labels).round(4).tolist(),
        }
        if options.sheet:
            options.sheet.mkdir(parents=True, exist_ok=True)
            rows = drawn[:32].reshape(4, 8, 64, 64, 3).swapaxes(1, 2).reshape(4 * 64, 8 * 64, 3)
            (options.sheet / f"{name.replace(' ', '-').replace(',', '')}.png").write_bytes(png(rows))
        print(name, results[name], file=sys.stderr)
    rows = [
        (name, found.get("forwards"), found.get("ms"), found.get("ms_alone"), found["frechet"],
         *(f"{100 * share:.0f}" for share in found["told_right"]))
        for name, found in results.items()
    ]  # fmt: skip
    head = ("painter", "forwards", f"ms, {options.batch} at once", "ms alone", "Fréchet", "style %", "group %")
    settings = {"pictures": len(told), "batch": options.batch, "trained_on": len(train)}
    return Report("painters", settings, [Table("held-out conditions", head, rows)], results)


def main(arguments: Sequence[str] | None = None) -> Report:
    """Measure two checkpoints."""
    parser = _common.parser(__doc__)
    parser.add_argument("--data", type=Path, help="the folder with emoji64.zip")
    parser.add_argument("--masked", type=Path, default=Path("runs/emoji-masked/checkpoint"))
    parser.add_argument("--causal", type=Path, default=Path("runs/emoji-ar/checkpoint"))
    parser.add_argument("--count", type=int, default=600, help="pictures of each painter")
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--sheet", type=Path, help="a folder for a PNG of each painter's first 32 pictures")
    options = _common.parsed(parser, arguments)
    data = _common.data_folder(options.data)
    if data is None:
        return _common.finish(Report("painting", {"skipped": "no data folder; pass --data"}, [], {}), options)
    return _common.finish(joined("painting", [compared(options, data)]), options)


if __name__ == "__main__":
    main()
