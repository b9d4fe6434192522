"""The laws of `sample` and `verify` at the vocabulary of a real model, by G-tests, each with a broken control as large.

Every test of a right kernel fails once in 1 / `FALSE_ALARM`, a million runs; a control is one that must fail it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from foretoken import kernels
from foretoken.reference import noise
from foretoken.reference import sample as twin

from .. import tiny
from . import statistics

VOCABULARY = 128_256
BATCH = 16  # rows of a call: 8 MB of logits, and 16 MB of a dense law
SAMPLERS: dict[str, dict[str, Any]] = {
    "T": {"temperature": 0.9},
    "T, p": {"temperature": 0.9, "top_p": 0.95},
    "T, k, p": {"temperature": 0.9, "top_k": 50, "top_p": 0.95},
}


def row(seed: int) -> Tensor:
    """Logits (vocabulary,) as models have them: probabilities fall with a power of the rank, in no order of the ids."""
    order = np.random.default_rng(seed).permutation(VOCABULARY)
    return torch.from_numpy((-1.3 * np.log(order + 2.0)).astype(np.float32))


def law(logits: Tensor, **fields: Any) -> Tensor:
    """The exact law (vocabulary,), by the twin."""
    sampler = tiny.compiled(vocab_size=VOCABULARY, **fields)
    return twin.process(logits[None], sampler, seeds=[0], positions=[0])[0]


def drawn(logits: Tensor, draws: int, **fields: Any) -> np.ndarray:
    """How often Rust draws each token."""
    sampler, rows = tiny.compiled(vocab_size=VOCABULARY, **fields), logits.expand(BATCH, -1).contiguous()
    counts = np.zeros(VOCABULARY, dtype=np.int64)
    for start in range(0, draws, BATCH):
        at = np.arange(start, start + BATCH)
        np.add.at(counts, kernels.sample(rows, sampler, seeds=np.full(BATCH, 3), positions=at, threads=2).tokens, 1)
    return counts


@pytest.mark.parametrize(("name", "draws"), [("T", 12_000), ("T, p", 15_000), ("T, k, p", 60_000)])
def test_rust_draws_from_the_law(name: str, draws: int) -> None:
    logits, fields = row(0), SAMPLERS[name]
    counts = drawn(logits, draws, **fields)
    assert statistics.tail(counts, law(logits, **fields).numpy()) > statistics.FALSE_ALARM
    # What may be drawn at a lower temperature may be drawn at a higher one, so that only how often tells them apart.
    warmer = law(logits, **{**fields, "temperature": 1.05 * fields["temperature"]})
    assert statistics.tail(counts, warmer.numpy()) < statistics.FALSE_ALARM


class Speculation:
    """One guess of another model, drawn and judged again and again: which token Rust emits first."""

    def __init__(self, draws: int, *, few: bool, **fields: Any) -> None:
        self.sampler = tiny.compiled(vocab_size=VOCABULARY, **fields)
        # The drafter is right about most, colder about all, and wrong about the order of what follows the best.
        self.target, guess = row(0), 0.8 * row(0) + 0.3 * row(1)
        self.p, q = law(self.target, **fields), law(guess, **fields)
        logits, guesses = self.target.expand(BATCH, 2, -1).contiguous(), guess.expand(BATCH, -1).contiguous()
        laws: Any = q.expand(BATCH, 1, -1).contiguous()
        if few:
            ids = q.nonzero()[:, 0]
            laws = tuple(part.expand(BATCH, 1, -1).contiguous() for part in (ids, q[ids]))
        self.emitted, self.rejected, self.again = (np.zeros(VOCABULARY, dtype=np.int64) for _ in "abc")
        for start in range(0, draws, BATCH):
            at = np.arange(start, start + BATCH)
            keys: dict[str, Any] = {"seeds": np.full(BATCH, 5), "positions": at, "threads": 2}
            draft = torch.as_tensor(kernels.sample(guesses, self.sampler, **keys, stream=noise.DRAFT).tokens)[:, None]
            out = kernels.verify(logits, draft, self.sampler, **keys, rejection=True, draft_probs=laws)
            tokens, none = np.asarray(out.tokens)[:, 0], np.asarray(out.accepted) == 0
            plain = np.asarray(kernels.sample(logits[:, 0].contiguous(), self.sampler, **keys).tokens)
            np.add.at(self.emitted, tokens, 1)
            np.add.at(self.rejected, tokens[none], 1)
            np.add.at(self.again, plain[none], 1)


@pytest.mark.parametrize(
    ("name", "few", "draws"),
    [("T", False, 3_000), ("T, p", True, 3_000), ("T, k, p", False, 6_000), ("T, k, p", True, 20_000)],
)
def test_rust_keeps_the_law_under_the_ratio_test(name: str, draws: int, *, few: bool) -> None:
    speculation = Speculation(draws, few=few, **SAMPLERS[name])
    p = speculation.p.numpy()
    assert speculation.rejected.sum() > draws / 5
    assert statistics.tail(speculation.emitted, p) > statistics.FALSE_ALARM
    # One that draws from p, not from what p has more than q, where a guess is rejected.
    broken = speculation.emitted - speculation.rejected + speculation.again
    assert statistics.tail(broken, p) < statistics.FALSE_ALARM
