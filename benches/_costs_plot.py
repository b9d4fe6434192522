"""The plot of `units.py`: a unit by the positions that it looks at, and whole signals by their units."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benches._costs import Line
from foretoken.errors import MissingExtra

_GREEN, _RED, _GREY = "#00704f", "#c0392b", "#777777"
_TIMES = {
    1e-6: "1 µs", 1e-5: "10 µs", 1e-4: "0.1 ms", 1e-3: "1 ms", 1e-2: "10 ms", 0.1: "0.1 s", 1.0: "1 s", 10.0: "10 s",
    60.0: "1 min", 600.0: "10 min", 3600.0: "1 h", 36_000.0: "10 h", 86_400.0: "1 day", 864_000.0: "10 days",
    8_640_000.0: "100 days",
}  # fmt: skip


def draw(results: Mapping[str, Any], target: Path, *, machine: str, model: str) -> None:
    """Draw what `measured` found, all axes logarithmic.

    Args:
        results: of the bench.
        target: of the picture; its ending says the format.
        machine: what it was measured on, for the title.
        model: whose shape it was.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
        from PIL import Image
    except ImportError:
        raise MissingExtra("the plot needs matplotlib; install it with: pip install 'foretoken[plot]'") from None
    found = results["measured"]
    line = Line(found["line"]["seconds"], found["line"]["seconds_a_position"])
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    single, whole = figure.subplots(1, 2, width_ratios=(2, 3))
    _single(single, found["units"], line)
    _whole(whole, found["rows"])
    figure.suptitle(f"Units made one after another by a model shaped like {model}", x=0.01, ha="left", weight="bold")
    single.set_title(f"{machine}", loc="left", fontsize=9, color="#555555")
    whole.set_title("a picture, a second of film, a second of sound", loc="left", fontsize=9, color="#555555")
    figure.savefig(target, dpi=110)
    if target.suffix == ".png":
        with Image.open(target) as picture:
            small = picture.convert("RGB").quantize(64)
        small.save(target, optimize=True)


def _single(axes: Any, units: Mapping[str, Mapping[str, Any]], line: Line) -> None:
    """What one unit takes: where the line was laid through, and where it was tried."""
    places = np.array([int(place) for place in units])
    low = min(int(place) for place, found in units.items() if found["part"] == "line")
    along = np.geomspace(low, places.max() * 1.3, 200)
    axes.plot(along, line.at(along), color=_GREEN, linewidth=1.6, label="line through the green points")
    for part, colour, label in (("shorter", _GREY, "measured"), ("line", _GREEN, ""), ("held out", _RED, "held out")):
        chosen = [(int(place), found["seconds"]) for place, found in units.items() if found["part"] == part]
        if chosen:
            axes.plot(*zip(*chosen, strict=True), "o", color=colour, markersize=5, label=label)
    axes.set(xlabel="positions that a unit looks at", ylabel="time of the unit")
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    least = min(found["seconds"] for found in units.values())
    _finish(axes, low=least / 1.6, high=float(line.at(along[-1])) * 2.2)


def _whole(axes: Any, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """What whole signals take; what is measured is full, what is extrapolated hollow."""
    points = sorted((found["units"], found["seconds"], found["measured"], name) for name, found in rows.items())
    known = [point for point in points if point[2]]
    for chosen, style in ((known, "-"), ([known[-1], *(p for p in points if not p[2])] if known else points, "--")):
        axes.plot([units for units, *_ in chosen], [taken for _, taken, *_ in chosen], style, color=_GREEN)
    for units, taken, measured, name in points:
        fill = _GREEN if measured else "white"
        axes.plot(units, taken, "o", color=_GREEN, markerfacecolor=fill, markersize=6)
        # Long rows are named on the left of the line, short ones on the right; the two of about 200 apart.
        left = not measured or "tubelets" in name
        offset, side = ((-9, 4), "right") if left else ((9, -4), "left")
        label = name if measured else f"{name}, extrapolated"
        axes.annotate(label, (units, taken), offset, textcoords="offset points", ha=side, va="center", fontsize=9)
    axes.set(xlabel="units of the signal", ylabel="time of the signal")
    axes.set_xlim(points[0][0] / 30, points[-1][0] * 2)
    _finish(axes, low=points[0][1] / 2, high=points[-1][1] * 2)


def _finish(axes: Any, *, low: float, high: float) -> None:
    """Logarithmic axes, times that people read, a faint grid."""
    axes.set(xscale="log", yscale="log", ylim=(low, high))
    axes.minorticks_off()
    ticks = [time for time in _TIMES if low <= time <= high]
    axes.set_yticks(ticks, [_TIMES[time] for time in ticks])
    left, right = axes.get_xlim()
    powers = range(int(np.ceil(np.log10(left))), int(np.floor(np.log10(right))) + 1)
    axes.set_xticks([10**power for power in powers], [f"{10**power:,}" for power in powers])
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
