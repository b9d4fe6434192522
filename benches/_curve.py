"""Time against vocabulary: what one row to one token takes here and elsewhere, measured and drawn, with the floor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from foretoken.errors import MissingExtra
from foretoken.evaluate import kernels, peers
from foretoken.evaluate.report import Report, Table
from foretoken.evaluate.rows import floors, out_of_cache, times

CHAIN = "T, k, p"
SIZES = tuple(1000 * 2**i for i in range(10))

# name → (label, colour, line); those that are measured from memory are dashed.
_LINES: dict[str, tuple[str, str, str]] = {
    "transformers": ("transformers", "#c0392b", "-"),
    "softmax, multinomial": ("torch.multinomial, T alone", "#8e5ea2", "-"),
    "llama.cpp": ("llama.cpp, without its copy", "#d98324", "-"),
    "cold": ("foretoken, from memory", "#00704f", "--"),
    "hot": ("foretoken", "#00704f", "-"),
    "cold floor": ("maximum, from memory", "#777777", "--"),
    "hot floor": ("maximum of the row", "#777777", "-"),
}


def measured(sizes: Sequence[int] = SIZES, *, repeats: int) -> Report:
    """Microseconds by contender and vocabulary, of rows as a model's on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    lines, results = [], {}
    try:
        for size in sizes:
            cold = out_of_cache("model", size)
            hot = cold[:1]
            contenders = {"hot": kernels.ours(CHAIN, hot), "cold": kernels.ours(CHAIN, cold)}
            contenders |= floors(hot, cold) | kernels.others(CHAIN, hot)
            contenders["softmax, multinomial"] = peers.multinomial(kernels.CHAINS[CHAIN]["temperature"], hot)
            found = times(contenders, repeats=repeats)
            kernels.without_copies(found)
            results[str(size)] = {name: round(1e6 * seconds, 2) for name, seconds in found.items()}
            lines.append((f"{size:,}", *(results[str(size)].get(name) for name in _LINES)))
    finally:
        torch.set_num_threads(before)
    head = ("vocabulary", *_LINES)
    return Report(
        "curve", {"chain": CHAIN, "repeats": repeats}, [Table("one row to one token, µs", head, lines)], results
    )


def draw(results: Mapping[str, Mapping[str, float]], target: Path, *, machine: str) -> None:
    """Draw what `measured` found, both axes logarithmic.

    Args:
        results: vocabulary → contender → microseconds.
        target: of the picture; its ending says the format.
        machine: what it was measured on, for the title.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
        from PIL import Image
    except ImportError:
        raise MissingExtra("the plot needs matplotlib; install it with: pip install 'foretoken[plot]'") from None
    sizes = [int(size) for size in results]
    figure = Figure(figsize=(8, 4.8), layout="constrained")
    axes = figure.add_subplot()
    ends: dict[str, float] = {}
    for name, (_, colour, line) in _LINES.items():
        taken = [found[name] for found in results.values() if name in found]
        if taken:
            width = 2.4 if name == "hot" else 1.4
            axes.plot(sizes, taken, line, color=colour, linewidth=width, marker="o", markersize=3.5)
            ends[name] = taken[-1]
    floor = [found["hot floor"] for found in results.values()]
    _finish(axes, sizes, low=min(floor) / 1.6)
    axes.fill_between(sizes, floor, axes.get_ylim()[0], color="#eeeeee", linewidth=0)
    for name, height in _apart(ends).items():
        label, colour, _ = _LINES[name]
        axes.annotate(label, (sizes[-1], height), (9, 0), textcoords="offset points", color=colour, va="center")
    figure.suptitle(
        "One row of logits to one token: temperature, top-k 50, top-p 0.95", x=0.01, ha="left", weight="bold"
    )
    axes.set_title(f"{machine}; from cache unless said", loc="left", fontsize=9, color="#555555")
    figure.savefig(target, dpi=110)
    if target.suffix == ".png":
        # A third of the bytes, and no difference to see.
        with Image.open(target) as picture:
            small = picture.convert("RGB").quantize(64)
        small.save(target, optimize=True)


def _apart(heights: Mapping[str, float], least: float = 1.7) -> dict[str, float]:
    """The same heights, moved so far that each is `least` times the one below it; the middle of the crowd stays."""
    placed: list[list[Any]] = []  # groups of names that touch: [names, middle]
    for name in sorted(heights, key=heights.__getitem__):
        placed.append([[name], float(np.log(heights[name]))])
        while len(placed) > 1 and _low(placed[-1], least) < _low(placed[-2], least) + len(placed[-2][0]) * np.log(
            least
        ):
            names, middle = placed.pop()
            below, other = placed[-1]
            share = len(names) / (len(names) + len(below))
            placed[-1] = [below + names, share * middle + (1 - share) * other]
    moved = {}
    for group in placed:
        for place, name in enumerate(group[0]):
            moved[name] = float(np.exp(_low(group, least) + (place + 0.5) * np.log(least)))
    return moved


def _low(group: Sequence[Any], least: float) -> float:
    return group[1] - len(group[0]) * np.log(least) / 2


def _finish(axes: Any, sizes: Sequence[int], *, low: float) -> None:
    """Logarithmic axes, ticks that people read, a faint grid."""
    axes.set(xscale="log", yscale="log", xlabel="vocabulary", ylabel="time of a call")
    axes.set_xticks(sizes, [f"{size // 1000}k" for size in sizes])
    axes.minorticks_off()
    high = axes.get_ylim()[1]
    ticks = [10**power for power in range(int(np.ceil(np.log10(low))), int(np.floor(np.log10(high))) + 1)]
    axes.set_yticks(ticks, [f"{tick:g} µs" if tick < 1000 else f"{tick / 1000:g} ms" for tick in ticks])
    axes.set_ylim(low, high)
    axes.set_xlim(sizes[0] * 0.9, sizes[-1] * 1.05)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
