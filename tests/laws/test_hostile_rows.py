"""Rows of logits that no model should return, but some will: each has one answer, in Rust and in torch, in every place.

-inf may not be drawn, one +inf is drawn for certain, and any other number counts as it is, however large or small. NaN,
two +inf and nothing but -inf are refused, and then nothing has changed.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from foretoken import kernels
from foretoken.errors import LogitsError
from foretoken.reference import sample as sample_twin
from foretoken.reference import verify as verify_twin

from .. import tiny

INF, NAN, LARGEST, SUBNORMAL = np.inf, np.nan, 3.4028235e38, 1.4e-45
SERVED: dict[str, tuple[list[float], list[float]]] = {
    "all -inf but one": ([-INF, -INF, -2.0, -INF], [0, 0, 1, 0]),
    "all -inf but the lowest number": ([-INF, -LARGEST], [0, 1]),
    "all equal": ([7.0] * 4, [0.25] * 4),
    "all the largest number": ([LARGEST] * 3, [1 / 3] * 3),
    "all the lowest number": ([-LARGEST] * 2, [0.5] * 2),
    "the largest and the lowest": ([-LARGEST, LARGEST, 0.0], [0, 1, 0]),
    "subnormals": ([SUBNORMAL, -SUBNORMAL, 0.0, 1e-40], [0.25] * 4),
    "both zeros": ([0.0, -0.0], [0.5] * 2),
    "+inf": ([0.0, INF, LARGEST], [0, 1, 0]),
    "+inf and -inf": ([-INF, INF, -INF], [0, 1, 0]),
    "one token": ([-5.0], [1]),
    "one token of +inf": ([INF], [1]),
}
REFUSED: dict[str, list[float]] = {
    "NaN": [0.0, NAN, 1.0],
    "all NaN": [NAN, NAN],
    "NaN and +inf": [INF, NAN],
    "NaN and -inf": [-INF, NAN],
    "two +inf": [INF, 0.0, INF],
    "all +inf": [INF] * 4,
    "all -inf": [-INF] * 3,
    "one token of NaN": [NAN],
    "one token of -inf": [-INF],
}
# Each takes another way through the code, and none changes the laws above.
SAMPLERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "edited": {"logit_bias": {0: 0.0}},
    "top-k": {"top_k": 4},
    "top-p": {"top_p": 0.999},
    "min-p": {"min_p": 1e-3},
    "typical": {"typical_p": 0.999},
    "mirostat": {"mirostat_tau": 9.0},
}
BOTH = pytest.mark.parametrize(
    ("process", "sample", "verify"),
    [(kernels.process, kernels.sample, kernels.verify), (sample_twin.process, sample_twin.sample, verify_twin.verify)],
    ids=["rust", "torch"],
)
EACH = pytest.mark.parametrize("fields", SAMPLERS.values(), ids=list(SAMPLERS))
DRAWS = 8


def keys(count: int) -> dict[str, Any]:
    return {"seeds": [2**64 - 1] * count, "positions": range(count)}


def drafts(row: list[float]) -> list[tuple[int, Tensor, Tensor, dict[str, Any]]]:
    """Blocks that meet this row, for every rule: (place, logits, draft, keywords); what stands before it is sure."""
    vocabulary = len(row)
    guess = torch.arange(vocabulary).repeat(DRAWS)[:, None]
    count, flat = len(guess), torch.full((len(guess), 1, vocabulary), 1 / vocabulary, dtype=torch.float64)
    ids = torch.arange(vocabulary).expand(count, 1, -1).contiguous()
    rules: list[dict[str, Any]] = [
        {},
        {"parents": torch.full((count, 1), -1)},
        {"rejection": True},
        {"rejection": True, "draft_probs": flat},
        {"rejection": True, "draft_probs": (ids, flat), "parents": torch.full((count, 1), -1)},
        {"rejection": True, "draft_probs": flat, "block": True},
    ]
    hostile = torch.tensor(row).expand(count, 1, -1)
    sure = torch.zeros(count, 1, vocabulary).scatter(2, guess[..., None], INF)
    blocks = torch.cat([hostile, torch.zeros_like(sure)], dim=1), torch.cat([sure, hostile], dim=1)
    return [(place, block, guess, rule) for rule, (place, block) in itertools.product(rules, enumerate(blocks))]


@BOTH
@EACH
@pytest.mark.parametrize(("row", "law"), SERVED.values(), ids=list(SERVED))
def test_a_row_has_its_law(
    process: Any, sample: Any, verify: Any, fields: dict[str, Any], row: list[float], law: list[float]
) -> None:
    sampler = tiny.compiled(vocab_size=len(row), **fields)
    rows = torch.tensor([row] * 200)
    np.testing.assert_allclose(np.asarray(process(rows[:1], sampler, **keys(1)))[0], law, rtol=1e-12)
    counts = np.bincount(np.asarray(sample(rows, sampler, **keys(200)).tokens), minlength=len(row))
    # 200 draws miss a token of probability 1/4 once in 10²⁵ runs.
    assert (counts > 0).tolist() == [p > 0 for p in law]
    for place, block, guess, rule in drafts(row):
        tokens = np.asarray(verify(block, guess, sampler, **keys(len(guess)), **rule).tokens)[:, place]
        reached = tokens[tokens >= 0]
        assert len(reached) == len(guess)
        assert all(law[token] > 0 for token in reached)


@BOTH
@pytest.mark.parametrize(("row", "law"), SERVED.values(), ids=list(SERVED))
def test_greedy_takes_the_first_of_the_largest(
    process: Any, sample: Any, verify: Any, row: list[float], law: list[float]
) -> None:
    """No number is rounded away on the way to the comparison, not even a subnormal one."""
    sampler = tiny.compiled(vocab_size=len(row), temperature=0.0)
    best = int(np.argmax(np.array(row, dtype=np.float32)))
    assert int(sample(torch.tensor([row]), sampler, **keys(1)).tokens[0]) == best
    for place, block, guess, rule in drafts(row):
        tokens = np.asarray(verify(block, guess, sampler, **keys(len(guess)), **rule).tokens)[:, place]
        assert set(tokens.tolist()) == {best}


@BOTH
@EACH
@pytest.mark.parametrize("row", REFUSED.values(), ids=list(REFUSED))
def test_a_row_without_a_law_is_refused(
    process: Any, sample: Any, verify: Any, fields: dict[str, Any], row: list[float]
) -> None:
    greedy: dict[str, Any] = {"temperature": 0.0}
    for some in (fields, greedy):
        sampler = tiny.compiled(vocab_size=len(row), **some)
        past = [tiny.history([0], [0])]
        with pytest.raises(LogitsError, match="row 0"):
            process(torch.tensor([row]), sampler, **keys(1), history=past)
        with pytest.raises(LogitsError, match="row 0"):
            sample(torch.tensor([row]), sampler, **keys(1), history=past)
        for _, block, guess, rule in drafts(row):
            pasts = [tiny.history([0], [0]) for _ in guess]
            with pytest.raises(LogitsError, match="row 0"):
                verify(block, guess, sampler, **keys(len(guess)), **rule, history=pasts)
            past.extend(pasts)
        assert {len(one) for one in past} == {2}


@pytest.mark.parametrize("fields", [{}, {"temperature": 0.0}, {"top_k": 50, "top_p": 0.95}, {"min_p": 0.1}], ids=str)
def test_a_million_tokens_are_as_good_as_a_few(fields: dict[str, Any]) -> None:
    vocabulary = 2**20
    logits = torch.from_numpy(tiny.random_logits(np.random.default_rng(0), (2, vocabulary), "normal"))
    logits[:, -1] = logits[0].max() + 2  # the last token is seen, too
    sampler = tiny.compiled(vocab_size=vocabulary, **fields)
    chosen, expected = (kernel(logits, sampler, **keys(2)) for kernel in (kernels.sample, sample_twin.sample))
    tiny.assert_same(chosen, expected)
    draft = torch.tensor([[vocabulary - 1]])
    flat = torch.full((1, 1, vocabulary), 1 / vocabulary, dtype=torch.float64)
    for rule in ({}, {"rejection": True, "draft_probs": flat}):
        both = (
            kernel(logits[None], draft, sampler, **keys(1), **rule) for kernel in (kernels.verify, verify_twin.verify)
        )
        tiny.assert_same(*both)
    logits[1, -1] = NAN
    with pytest.raises(LogitsError, match=f"row 1.*{vocabulary - 1}"):
        kernels.sample(logits, sampler, **keys(2))
    with pytest.raises(LogitsError, match="row 0"):
        kernels.verify(logits[None], draft, tiny.compiled(vocab_size=vocabulary, temperature=0.0), **keys(1))
