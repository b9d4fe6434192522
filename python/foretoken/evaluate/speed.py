"""Tokens a second, of several contenders in one run: they take turns, and the median of the repeats counts."""

from __future__ import annotations

import argparse
import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter, sleep
from typing import Any, TypeVar

import numpy as np
import torch

from ..errors import InvalidArgument
from .report import Report, joined

Item = TypeVar("Item")


@dataclasses.dataclass
class Timing:
    """What one contender took.

    Attributes:
        tokens: made for each item.
        seconds: for each item, of each repeat.
    """

    tokens: list[int]
    seconds: list[list[float]]

    @property
    def tokens_per_second(self) -> float:
        """All tokens by the sum of the items' median seconds."""
        return sum(self.tokens) / sum(statistics.median(repeats) for repeats in self.seconds)

    @property
    def spread(self) -> tuple[float, float]:
        """Tokens a second of the slowest and the fastest repeat."""
        totals = [sum(column) for column in zip(*self.seconds, strict=True)]
        return sum(self.tokens) / max(totals), sum(self.tokens) / min(totals)

    def over(self, other: Timing) -> float:
        """How many times as fast as another contender."""
        return self.tokens_per_second / other.tokens_per_second


_SETTLE = 0.02
"""Seconds before each timing: threads of PyTorch go on spinning for some milliseconds after their last work, and what
came next on two threads, a native model after `generate`, took twice as long."""


def alternate(
    contenders: Mapping[str, Callable[[Item], int]], items: Sequence[Item], *, repeats: int = 5, warmup: int = 1
) -> dict[str, Timing]:
    """Time contenders on the same items, one after another on each item, so that a slow minute is shared by all.

    Args:
        contenders: each called with an item; returns how many tokens it made.
        items: what is done, prompts for example.
        repeats: rounds over all items, ≥ 1; who is first changes with each.
        warmup: untimed calls of each contender on the first item, ≥ 0.

    Raises:
        InvalidArgument: there is no contender or no item, or a count is out of range.

    Example:
        >>> timings = alternate({"sum": lambda n: sum(range(n))}, [10, 20], repeats=3)
        >>> timings["sum"].tokens
        [45, 190]
    """
    if not contenders or not items:
        raise InvalidArgument(f"need contenders and items, got {len(contenders)} and {len(items)}")
    if repeats < 1 or warmup < 0:
        raise InvalidArgument(f"need repeats >= 1 and warmup >= 0, got {repeats} and {warmup}")
    names = list(contenders)
    timings = {name: Timing([0] * len(items), [[] for _ in items]) for name in names}
    for name in names:
        for _ in range(warmup):
            contenders[name](items[0])
    for repeat in range(repeats):
        for index, item in enumerate(items):
            shift = (repeat + index) % len(names)
            for name in names[shift:] + names[:shift]:
                sleep(_SETTLE)
                started = perf_counter()
                tokens = contenders[name](item)
                timings[name].seconds[index].append(perf_counter() - started)
                timings[name].tokens[index] = tokens
    return timings


def columns(timing: Timing, base: Timing) -> tuple[float, str, float]:
    """Median tokens a second, slowest–fastest repeat, and times the base: three cells of a table."""
    low, high = timing.spread
    return timing.tokens_per_second, f"{low:,.0f}-{high:,.0f}", round(timing.over(base), 3)


def figures(timing: Timing, base: Timing) -> dict[str, Any]:
    """The same for JSON."""
    low, high = timing.spread
    return {
        "tokens_per_second": round(timing.tokens_per_second, 2),
        "slowest": round(low, 2),
        "fastest": round(high, 2),
        "ratio": round(timing.over(base), 4),
    }


def lengths(prompts: Sequence[np.ndarray]) -> str:
    """How long prompts are, in words."""
    counts = [len(prompt) for prompt in prompts]
    return f"{min(counts)}-{max(counts)} tokens (median {statistics.median(counts):.0f})"


def benches() -> dict[str, Callable[..., Report]]:
    """The benchmarks an installed package can run by itself.

    Returns:
        name → function(model="tales", *, prompts=None, repeats=5, tokens=128) → `Report`; `Report.show()` prints it.
    """
    from . import decoding  # it is built on this module

    return {
        "drafters": decoding.drafters,
        "wrong": decoding.wrong,
        "overhead": decoding.overhead,
        "batch": decoding.batch,
    }


def options(parser: argparse.ArgumentParser) -> None:
    """Add what every benchmark of speed is told."""
    parser.add_argument("--model", default="tales", help="name or folder (default: tales)")
    parser.add_argument("--repeats", type=int, default=5, help="rounds, whose median counts (default: 5)")
    parser.add_argument("--tokens", type=int, default=128, help="to add to each prompt (default: 128)")
    parser.add_argument("--threads", type=int, help="of torch (default: torch's own)")


def main(arguments: Sequence[str] | None = None) -> Report:
    """Run some of `benches()`, or all; prints tables, and a line of JSON as the last one."""
    parser = argparse.ArgumentParser(prog="foretoken bench speed", description="Tokens a second on this machine.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(benches())} (default: all)")
    options(parser)
    chosen = parser.parse_args(arguments)
    if unknown := sorted(set(chosen.names) - set(benches())):
        raise InvalidArgument(f"no benchmark is called {unknown[0]!r}; there are {list(benches())}")
    if chosen.threads is not None:
        torch.set_num_threads(chosen.threads)
    keys = {"repeats": chosen.repeats, "tokens": chosen.tokens}
    reports = [benches()[name](chosen.model, **keys) for name in chosen.names or benches()]
    report = joined("speed", reports)
    report.show()
    return report
