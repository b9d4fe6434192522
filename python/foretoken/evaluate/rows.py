"""Rows of logits to choose from, and how calls on them are timed."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from time import perf_counter
from typing import TypeAlias

import numpy as np
import torch

from ..errors import InvalidArgument

Call: TypeAlias = Callable[[int], object]
"""A contender, called with 0, 1, 2, …: which row it takes, or which seed."""

BLOCK_SECONDS = 0.002  # of calls that are timed together


def rows(kind: str, count: int, vocabulary: int, *, seed: int = 0) -> torch.Tensor:
    """Rows of logits (count, vocabulary) float32.

    Args:
        kind: "model", whose probabilities fall as (rank + 2)^-1.5, in random order, much as a language model's do, or
            "normal" for the standard normal law, which no model has: its nuclei are a large part of the vocabulary.
        count, vocabulary: ≥ 1.
        seed: of numpy's generator.

    Example:
        >>> rows("model", 2, 1000).shape
        torch.Size([2, 1000])
    """
    generator = np.random.default_rng(seed)
    if kind == "normal":
        made = generator.standard_normal((count, vocabulary), dtype=np.float32)
    elif kind == "model":
        ranked = -1.5 * np.log(np.arange(vocabulary) + 2.0)
        made = generator.permuted(np.tile(ranked.astype(np.float32), (count, 1)), axis=1)
        made += generator.normal(0, 0.1, made.shape).astype(np.float32)  # no two rows hold the same numbers
    else:
        raise InvalidArgument(f"kind is {kind!r}: give 'model' or 'normal'")
    return torch.from_numpy(made)


def out_of_cache(kind: str, vocabulary: int) -> torch.Tensor:
    """Rows (calls, 1, vocabulary) of 256 MB together, which no cache holds; after 64 MB they repeat."""
    return rows(kind, max(2, 2**24 // vocabulary), vocabulary)[:, None].repeat(4, 1, 1)


def floors(hot: torch.Tensor, cold: torch.Tensor) -> dict[str, Call]:
    """One pass that only finds the maximum of a row."""
    arrays = {"hot floor": hot.numpy(), "cold floor": cold.numpy()}
    return {name: lambda index, array=array: array[index % len(array)].max() for name, array in arrays.items()}


def times(contenders: dict[str, Call], *, repeats: int) -> dict[str, float]:
    """Median seconds of a call of each, called with 0, 1, 2, …; blocks of calls take turns.

    A call that is not timed goes before each block, so that nobody pays for what the others left in the cache.
    """
    blocks: dict[str, int] = {}
    for name, call in contenders.items():
        call(0)
        started = perf_counter()
        call(1)
        blocks[name] = max(1, int(BLOCK_SECONDS / (perf_counter() - started)))
    seen: dict[str, list[float]] = {name: [] for name in contenders}
    for repeat in range(repeats):
        for name, call in contenders.items():
            first = repeat * (blocks[name] + 1)
            call(first)
            started = perf_counter()
            for index in range(first + 1, first + 1 + blocks[name]):
                call(index)
            seen[name].append((perf_counter() - started) / blocks[name])
    return {name: statistics.median(seconds) for name, seconds in seen.items()}
