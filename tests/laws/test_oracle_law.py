"""What strategies do to an exact law of several right answers: who keeps it, who mixes it, who bends it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import foretoken as ft
from foretoken.lab.contenders import one_by_one
from foretoken.lab.oracle import CausalOracle, Oracle
from foretoken.reference import reveal as reference
from foretoken.reference.chance import Enumerate, enumerate_branches
from foretoken.rules import EntropyBound, MaxProbability, SampledConfidence
from foretoken.strategy.cascade import every, first, rest

from .. import tiny
from .statistics import FALSE_ALARM, tail

# Five ways to say one thing, of which some share their beginnings and some their ends.
FIVE = np.array([[[1, 2, 3, 4, 5, 0], [1, 2, 3, 6, 7, 0], [1, 8, 6, 3, 4, 5], [2, 1, 8, 3, 6, 0], [2, 4, 6, 8, 4, 5]]])
THREE = np.array([[[1, 2, 3, 4], [1, 3, 2, 4], [2, 2, 4, 3]]])
ROWS = 4000
KEEPS: dict[str, tuple[Any, bool]] = {
    "entropy": (ft.Masked(None, select=EntropyBound(0.1)), False),
    "probability": (ft.Masked(None, select=MaxProbability(0.99)), False),
    "one by one": (one_by_one(), False),
    "every 2nd": (ft.Cascade([ft.Stage(every(2), one_by_one()), ft.Stage(rest)]), False),
    "shared": (ft.Cascade([ft.Stage(first(1)), ft.Stage(rest)]), True),
}


def said(strategy: Any, *, shared: bool = False, rows: int = ROWS) -> np.ndarray:
    """How often each of the five is said, and, last, something else."""
    oracle = Oracle(FIVE, units=9, end=0, shared=shared)
    out = ft.generate(oracle, oracle.canvas([0]), strategy, seed=7, n=rows, end_tokens=())
    found = np.stack([row.units[oracle.body :] for row in out.rows])
    right = (found[:, None] == FIVE[0]).all(axis=2)
    return np.append(right.sum(axis=0), rows - right.sum())


@pytest.mark.parametrize("name", KEEPS)
def test_cures_say_each_answer_equally_often_and_nothing_else(name: str) -> None:
    strategy, shared = KEEPS[name]
    counts = said(strategy, shared=shared)
    assert counts[-1] == 0
    assert tail(counts[:-1], np.full(5, 0.2)) > FALSE_ALARM


def test_one_after_another_does_too() -> None:
    oracle = Oracle(FIVE, units=9, end=0)
    out = ft.generate(CausalOracle(oracle), ft.Canvas([[9]]), seed=7, n=ROWS, end_tokens=())
    right = (np.stack([row.tokens for row in out.rows])[:, None] == FIVE[0]).all(axis=2)
    assert right.sum() == ROWS
    assert tail(right.sum(axis=0), np.full(5, 0.2)) > FALSE_ALARM


def test_one_shot_is_the_product_of_the_marginals() -> None:
    """Which makes some right answers by luck, as often as that product says."""
    law = np.prod([(FIVE[0] == unit[None]).mean(axis=0) for unit in FIVE[0]], axis=1)
    counts = said(ft.OneShot())
    assert tail(counts, np.append(law, 1 - law.sum())) > FALSE_ALARM
    assert counts[-1] > 0.9 * ROWS


def test_the_classic_is_caught() -> None:
    """Choosing by the token just drawn says nothing wrong, but some answers too often."""
    counts = said(ft.Masked(None, select=SampledConfidence(threshold=0.99)))
    assert tail(counts[:-1], np.full(5, 0.2)) < FALSE_ALARM
    control = said(ft.Masked(None, select=MaxProbability(threshold=0.99)))
    assert tail(control[:-1], np.full(5, 0.2)) > FALSE_ALARM


def exact(select: Any) -> np.ndarray:
    """The law of masked steps over the three answers, and of anything else, by walking every branch of the twin."""
    oracle, sampler = Oracle(THREE, units=5, end=0), tiny.plain(vocab_size=6)
    law = np.zeros(4)

    def run(chance: Enumerate) -> int:
        canvas = np.array([[5, -1, -1, -1, -1]])
        for step in range(9):
            if (canvas >= 0).all():
                (mode,) = np.flatnonzero((THREE[0] == canvas[0, 1:]).all(axis=1)) if right(canvas) else (3,)
                return int(mode)
            logits = oracle.predict(canvas, np.array([5]))
            keys = {"seeds": [1], "step": step, "select": select, "chance": chance}
            canvas = np.asarray(reference.reveal(logits, torch.from_numpy(canvas), sampler, **keys).canvas)
        raise AssertionError("a step revealed nothing")

    for weight, mode in enumerate_branches(run):
        law[mode] += weight
    return law


def right(canvas: np.ndarray) -> bool:
    return bool((THREE[0] == canvas[0, 1:]).all(axis=1).any())


def test_the_laws_are_so_exactly() -> None:
    uniform = np.array([1, 1, 1, 0]) / 3
    assert np.abs(exact(EntropyBound(0.1)) - uniform).sum() / 2 < 1e-6
    assert np.abs(exact(MaxProbability(0.99)) - uniform).sum() / 2 < 1e-6
    biased = exact(SampledConfidence(threshold=0.99))
    assert biased[3] < 1e-6
    assert np.abs(biased - uniform).sum() / 2 > 0.05
