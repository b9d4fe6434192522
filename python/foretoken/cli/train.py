"""Train a model by a recipe; a run that was cut goes on where it stood."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..errors import InvalidArgument, MissingExtra
from ..recipes import catalogue
from ..view.loss import read_losses, save_loss_plot

_SHIPPED = Path(catalogue.__file__).parent / "configs"
EVERY = 30.0
"""Seconds between two lines of progress where there is no terminal."""


def options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    shipped = ", ".join(configurations())
    parser.add_argument("config", metavar="CONFIG", help=f"a shipped configuration ({shipped}) or a JSON file")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the folder of the training data")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder of the run")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")


def run(options: argparse.Namespace) -> None:
    """Run this command."""
    training = catalogue.run(find(options.config), options.data, options.out)
    config = training.config
    started, first, last = time.monotonic(), training.step, config.steps[-1]
    try:
        with Progress(first, last) as progress:
            training.train(progress)
    except KeyboardInterrupt:
        say(f"stopped at step {training.step:,} of {last:,}; the same command goes on from the last checkpoint")
        raise
    seconds = time.monotonic() - started
    checkpoint = options.out / "checkpoint"
    training.export(checkpoint)
    loss = final_loss(training.losses)
    plot = options.out / "loss.png"
    try:
        save_loss_plot(training.losses, plot, title=options.out.name, unit=config.unit)
    except MissingExtra as missing:
        say(f"no plot: {missing}")
        plot = None
    if options.json:
        done = {
            "config": options.config,
            "out": str(options.out),
            "steps": training.step,
            "trained": training.step - first,
            "checkpoint": str(checkpoint),
        }
        print(json.dumps(done | {"loss": loss, "seconds": seconds, "plot": None if plot is None else str(plot)}))
    else:
        print(f"{checkpoint}: {training.step:,} steps, loss {loss:.3f} {config.unit}" + (f", {plot}" if plot else ""))


def configurations() -> list[str]:
    """Names of the shipped configurations."""
    return sorted(file.stem for file in _SHIPPED.glob("*.json"))


def find(config: str) -> Path:
    """The file that a name or a path means; a path ends in .json or holds a separator."""
    if config in configurations():
        return _SHIPPED / f"{config}.json"
    if Path(config).suffix == ".json" or Path(config).name != config:
        return Path(config)
    raise InvalidArgument(f"no configuration is called {config!r}; there are {configurations()}, or pass a JSON file")


def final_loss(losses: Path) -> float:
    """The mean of the last fiftieth of a run, at least one step; NaN for a run without steps."""
    _, values = read_losses(losses)
    return float(np.mean(values[-max(1, len(values) // 50) :])) if len(values) else float("nan")


class Progress:
    """A bar on a terminal, else a line now and then, on standard error.

    Args:
        first: steps done before.
        steps: of the whole run.
        clock: seconds that only rise.
    """

    def __init__(self, first: int, steps: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._first, self._clock = first, clock
        self._bar = tqdm(total=steps, initial=first, unit="step", disable=not sys.stderr.isatty())
        self._started = clock()
        self._next_line = self._started

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def __call__(self, step: int, steps: int, loss: float) -> None:
        """Show that a step is done."""
        if not self._bar.disable:
            self._bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
            self._bar.update(step - self._bar.n)
            return
        now = self._clock()
        if now >= self._next_line or step == steps:
            self._next_line = now + EVERY
            pace = (now - self._started) / (step - self._first)
            left = (steps - step) * pace / 60
            say(f"step {step:,} of {steps:,}, loss {loss:.3f}, {pace:.2f} s a step, {left:.0f} min left")


def say(message: str) -> None:
    """A line on standard error."""
    print(f"foretoken: {message}", file=sys.stderr, flush=True)
