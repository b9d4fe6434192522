"""The loss of a training run as a picture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ..errors import CheckpointError, MissingExtra


def read_losses(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Steps (n,) int64 and losses (n,) float64 of a run's `loss.jsonl`.

    Raises:
        CheckpointError: a line is damaged.
        OSError: the file cannot be read.
    """
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        steps, losses = [int(line["step"]) for line in lines], [float(line["loss"]) for line in lines]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} holds a line that is no step: {error}") from None
    return np.array(steps, dtype=np.int64), np.array(losses, dtype=np.float64)


def smooth(losses: np.ndarray, half: int) -> np.ndarray:
    """The mean over `half` steps on both sides, fewer at the ends."""
    sums = np.concatenate([[0.0], np.cumsum(losses)])
    places = np.arange(len(losses))
    low, high = np.maximum(places - half, 0), np.minimum(places + half + 1, len(losses))
    return (sums[high] - sums[low]) / (high - low)


def save_loss_plot(losses: Path, target: Path, *, title: str, unit: str) -> None:
    """Draw a run's `loss.jsonl`: every step, faint, and their running mean.

    Args:
        losses: the file that the run writes.
        target: of the picture; its ending says the format.
        title: of the picture.
        unit: of a loss.

    Raises:
        MissingExtra: matplotlib is not installed.
        CheckpointError, OSError: see `read_losses`.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra("loss.png needs matplotlib; install it with: pip install 'foretoken[plot]'") from None
    steps, values = read_losses(losses)
    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(steps, values, color="#009a6c", alpha=0.28, linewidth=0.8, label="each step")
    if len(values):
        half = max(1, len(values) // 60)
        axes.plot(steps, smooth(values, half), color="#00704f", linewidth=1.9, label=f"mean of {2 * half + 1} steps")
        axes.set_ylim(top=float(np.quantile(values, 0.99)) * 1.08)  # the first few steps would squeeze the rest
    axes.set(xlabel="step", ylabel=f"loss in {unit}", title=title)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(target, dpi=140)
