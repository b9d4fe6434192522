"""A painter's pictures: are they the same alone and in a batch, on one thread and on two; and what does each way cost?

    python benches/painter.py

Each of eight texts is painted alone, all of them in one batch, and both again with two threads of PyTorch and of the
kernels: pictures that differ are counted. Times are those of one picture, guided, the ways taking turns.
"""

from __future__ import annotations

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
from benches import _common
from foretoken.evaluate.report import Report, Table, asked, joined
from foretoken.lab.contenders import one_by_one
from tests.painters import TEXTS, tiny_painter

PROMPTS = (
    "red heart, flat style", "grinning face, noto style", "house, 3d style", "dog face, twemoji style",
    "tan woman, black page hair, yellow t-shirt, walking left", "porcelain man, red idol hair, running down",
    "a woman walking up", "rocket, contrast style",
)  # fmt: skip


Goals = list[tuple[str, float, str, float]]


def sameness(painter: ft.Painter, prompts: Sequence[str]) -> tuple[Report, Goals]:
    """How many pictures another batch or more threads change."""
    before = torch.get_num_threads()
    seeds = list(range(3, 3 + len(prompts)))
    made: dict[tuple[int, str], list[np.ndarray]] = {}
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            pairs = zip(prompts, seeds, strict=True)
            alone = [painter(text, seed=seed, threads=threads).signal for text, seed in pairs]
            batch = painter(list(prompts), seed=seeds, threads=threads).signal
            for name, pictures in (("alone", alone), ("batch", batch)):
                made[threads, name] = [picture.pixels for picture in pictures]
    finally:
        torch.set_num_threads(before)
    truth = made.pop((1, "alone"))
    differ = {
        f"{name}, {threads} threads": sum(not np.array_equal(*pair) for pair in zip(truth, pictures, strict=True))
        for (threads, name), pictures in made.items()
    }
    table = Table("pictures that differ from those painted alone on one thread", ("how", "differ", "of"), [
        (name, count, len(truth)) for name, count in differ.items()
    ])  # fmt: skip
    goals = [(f"differing, {name}", float(count), "<=", 0.0) for name, count in differ.items()]
    return Report("sameness", {}, [table], {"differ": differ}), goals


def costs(painter: ft.Painter, prompts: Sequence[str], repeats: int) -> tuple[Report, Goals]:
    """Forwards and milliseconds of each way, the median of repeats."""
    ways: dict[str, Any] = {"one shot": ft.OneShot()}
    ways |= {f"{count} steps": painter.steps(count) for count in (2, 4, 8, 16)}
    ways["one patch after another"] = one_by_one()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    forwards = {}
    for repeat in range(repeats):
        for name, strategy in ways.items():
            if name == "one patch after another" and repeat >= max(1, repeats // 3):
                continue
            started = perf_counter()
            out = painter(prompts[repeat % len(prompts)], strategy=strategy, seed=repeat)
            seconds[name].append(perf_counter() - started)
            forwards[name] = out.stats.forwards
    found = {name: {"forwards": forwards[name], "ms": 1000 * float(np.median(own))} for name, own in seconds.items()}
    rows = [(name, each["forwards"], each["ms"]) for name, each in found.items()]
    slow, steps = found["one patch after another"], found["8 steps"]
    goals = [
        ("forwards of one after another beside 8 steps", slow["forwards"] / steps["forwards"], ">=", 20.0),
        ("time of one after another beside 8 steps", slow["ms"] / steps["ms"], ">=", 8.0),
    ]
    table = Table("a picture", ("way", "forwards", "ms"), rows)
    return Report("costs", {"repeats": repeats}, [table], found), goals


def main(arguments: Sequence[str] | None = None) -> Report:
    """Measure one painter."""
    parser = _common.parser(__doc__)
    parser.add_argument("--painter", default="painter", help="a shipped one or a folder (default: painter)")
    parser.add_argument("--repeats", type=int, default=9)
    options = _common.parsed(parser, arguments)
    painter = tiny_painter() if options.quick else ft.Painter.load(options.painter)
    prompts = TEXTS if options.quick else PROMPTS
    same, none_differ = sameness(painter, prompts)
    cost, cheaper = costs(painter, prompts, 3 if options.quick else options.repeats)
    return _common.finish(joined("painter", [same, cost, asked(none_differ + cheaper)]), options)


if __name__ == "__main__":
    main()
