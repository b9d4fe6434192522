"""Each step of the chain, in Rust and in torch, against transformers or against numbers worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation import logits_process as peers

from foretoken import kernels
from foretoken.errors import InvalidArgument, LogitsError
from foretoken.reference.logits import repeats
from foretoken.reference.sample import process

from .. import tiny
from ..cases import cases

BOTH = pytest.mark.parametrize("kernel", [kernels.process, process], ids=["rust", "torch"])


def laws(
    kernel: Any, logits: np.ndarray, *, history: Any = None, end_tokens: Any = (), min_tokens: int = 0, **fields: Any
) -> np.ndarray:
    """The laws (rows, vocabulary) of rows of logits under a sampler with these fields."""
    logits = np.ascontiguousarray(np.atleast_2d(logits), dtype=np.float32)
    rows, vocabulary = logits.shape
    sampler = tiny.compiled(vocab_size=vocabulary, end_tokens=end_tokens, min_tokens=min_tokens, **fields)
    pasts = None if history is None else [tiny.history(*history) for _ in range(rows)]
    law = kernel(torch.from_numpy(logits), sampler, seeds=[1] * rows, positions=[0] * rows, history=pasts)
    return np.asarray(law)


def softmax(x: np.ndarray) -> np.ndarray:
    weights = np.exp(x - x.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def agrees(kernel: Any, seed: int, style: str, peer: Any, **fields: Any) -> None:
    """The law of the kernel is the softmax of what the peer makes of the same rows in float64."""
    generator = np.random.default_rng(seed)
    logits = tiny.random_logits(generator, (4, int(generator.integers(2, 200))), style)
    theirs = peer(torch.zeros(4, 1).long(), torch.from_numpy(logits).double()).numpy()
    np.testing.assert_allclose(laws(kernel, logits, **fields), softmax(theirs), rtol=1e-9, atol=1e-300)


TEMPERS = st.sampled_from(["normal", "flat", "peaked", "holes"])
SHARES = st.floats(0.01, 0.99, allow_subnormal=False)
SEEDS = st.integers(0, 2**32 - 1)


@BOTH
@given(seed=SEEDS, style=TEMPERS | st.just("ties"), k=st.integers(1, 220))
def test_top_k_keeps_what_transformers_keeps(kernel: Any, seed: int, style: str, k: int) -> None:
    agrees(kernel, seed, style, peers.TopKLogitsWarper(k), top_k=k)


@BOTH
@given(seed=SEEDS, style=TEMPERS, p=SHARES)
def test_top_p_keeps_what_transformers_keeps(kernel: Any, seed: int, style: str, p: float) -> None:
    agrees(kernel, seed, style, peers.TopPLogitsWarper(p), top_p=p)


@BOTH
@given(seed=SEEDS, style=TEMPERS | st.just("ties"), p=SHARES)
def test_min_p_keeps_what_transformers_keeps(kernel: Any, seed: int, style: str, p: float) -> None:
    agrees(kernel, seed, style, peers.MinPLogitsWarper(p), min_p=p)


@BOTH
@given(seed=SEEDS, style=TEMPERS, p=SHARES)
def test_typical_p_keeps_what_transformers_keeps(kernel: Any, seed: int, style: str, p: float) -> None:
    agrees(kernel, seed, style, peers.TypicalLogitsWarper(p), typical_p=p)


@BOTH
@given(seed=SEEDS, penalty=st.floats(0.3, 3))
def test_repetition_penalty_is_that_of_transformers(kernel: Any, seed: int, penalty: float) -> None:
    generator = np.random.default_rng(seed)
    logits = tiny.random_logits(generator, (1, 30), "normal")
    tokens = generator.integers(30, size=20)
    peer: Any = peers.RepetitionPenaltyLogitsProcessor(penalty)
    theirs = peer(torch.from_numpy(tokens)[None], torch.from_numpy(logits).double())
    ours = laws(kernel, logits, history=(tokens[:12], tokens[12:]), repetition_penalty=penalty)
    np.testing.assert_allclose(ours, softmax(theirs.numpy()), rtol=1e-9)


@BOTH
@given(seed=SEEDS)
def test_bad_words_are_those_of_transformers(kernel: Any, seed: int) -> None:
    generator = np.random.default_rng(seed)
    logits = tiny.random_logits(generator, (1, 5), "normal")
    tokens = generator.integers(5, size=9)
    # Token 4 is never banned outright, so something may always be drawn.
    words = [
        [*generator.integers(5, size=generator.integers(0, 4)).tolist(), int(generator.integers(4))] for _ in "abc"
    ]
    peer: Any = peers.NoBadWordsLogitsProcessor(words)
    theirs = peer(torch.from_numpy(tokens)[None], torch.from_numpy(logits).double())
    ours = laws(kernel, logits, history=(tokens[:3], tokens[3:]), bad_words=words)
    np.testing.assert_allclose(ours, softmax(theirs.numpy()), rtol=1e-9)


@BOTH
def test_frequency_and_presence_count_the_output_alone(kernel: Any) -> None:
    logits = np.array([1.0, 2.0, 0.5, -1.0])
    ours = laws(kernel, logits, history=([0, 0, 3], [1, 1, 2]), frequency_penalty=0.3, presence_penalty=0.7)
    np.testing.assert_allclose(ours[0], softmax(logits - [0, 0.3 * 2 + 0.7, 0.3 + 0.7, 0]), rtol=1e-12)


@BOTH
def test_penalties_come_after_bias(kernel: Any) -> None:
    """A bias may change the sign of a logit, and with it what the repetition penalty does."""
    ours = laws(kernel, np.array([1.0, -1.0]), history=([0, 1], []), logit_bias={0: -3.0}, repetition_penalty=2.0)
    np.testing.assert_allclose(ours[0], softmax(np.array([-4.0, -2.0])), rtol=1e-12)


@BOTH
def test_allowed_tokens_and_min_tokens(kernel: Any) -> None:
    flat = np.zeros(4)
    assert laws(kernel, flat, allowed_tokens=(1, 3))[0].tolist() == [0, 0.5, 0, 0.5]
    before = laws(kernel, flat, history=([0, 0], [1]), end_tokens=(0, 1), min_tokens=2)
    after = laws(kernel, flat, history=([0, 0], [1, 2]), end_tokens=(0, 1), min_tokens=2)
    assert before[0].tolist() == [0, 0, 0.5, 0.5]
    assert after[0].tolist() == [0.25] * 4


@pytest.mark.parametrize(
    ("tokens", "breakers", "expected"),
    [
        ([], (), {}),
        ([1], (), {}),
        ([1, 2, 3, 1, 2], (), {3: 2}),
        ([1, 2, 3, 9, 2, 4, 1, 2], (), {3: 2, 4: 1}),
        ([5, 5, 5, 5], (), {5: 3}),
        ([7, 1, 2, 3, 8, 1, 2], (), {3: 2}),
        ([0, 1, 2, 3, 0, 1, 2], (1,), {3: 1}),  # the match stops at a breaker
        ([0, 1, 2, 3, 0, 1, 2], (2,), {}),  # a breaker at the end matches nothing
        ([0, 1, 2, 3, 0, 1, 2], (3,), {}),  # a breaker is not penalised
        ([6] * 200, (), {6: 64}),
    ],
)
def test_dry_finds_the_repeated_end(tokens: list[int], breakers: tuple[int, ...], expected: dict[int, int]) -> None:
    assert repeats(tokens, set(breakers)) == expected


@BOTH
def test_dry_grows_with_the_repetition(kernel: Any) -> None:
    logits, history = np.zeros(6), ([0, 1, 2, 3, 5, 1], [2])
    for allowed, penalty in ((1, 0.8 * 1.75), (2, 0.8), (3, 0.0)):
        ours = laws(kernel, logits, history=history, dry_multiplier=0.8, dry_allowed_length=allowed)
        np.testing.assert_allclose(ours[0], softmax(np.array([0, 0, 0, -penalty, 0, 0])), rtol=1e-12)
    # The earlier occurrence is six tokens back: a shorter window does not see all of it.
    near = laws(kernel, logits, history=history, dry_multiplier=0.8, dry_allowed_length=1, dry_range=5)
    np.testing.assert_allclose(near[0], softmax(np.array([0, 0, 0, -0.8, 0, 0])), rtol=1e-12)


@BOTH
def test_top_n_sigma_measures_what_may_be_drawn(kernel: Any) -> None:
    x = np.array([3.0, 1.0, -1.0, -3.0, -np.inf])  # standard deviation of the finite: √5
    assert (laws(kernel, x, top_n_sigma=0.8)[0] > 0).tolist() == [True, False, False, False, False]
    assert (laws(kernel, x, top_n_sigma=0.9)[0] > 0).tolist() == [True, True, False, False, False]
    # Scores are compared after temperature, which scales both sides.
    assert (laws(kernel, x, top_n_sigma=0.9, temperature=7.0)[0] > 0).tolist() == [True, True, False, False, False]


@BOTH
def test_xtc_keeps_the_least_of_the_top_choices(kernel: Any) -> None:
    p = np.array([0.1, 0.4, 0.05, 0.25, 0.2])
    always: dict[str, Any] = {"xtc_probability": 1.0}
    np.testing.assert_allclose(
        laws(kernel, np.log(p), **always, xtc_threshold=0.15)[0], np.array([0.1, 0, 0.05, 0, 0.2]) / 0.35, rtol=1e-6
    )
    np.testing.assert_allclose(laws(kernel, np.log(p), **always, xtc_threshold=0.3)[0], p, rtol=1e-6)
    np.testing.assert_allclose(laws(kernel, np.log(p), **always, xtc_threshold=0.5)[0], p, rtol=1e-6)
    assert laws(kernel, np.zeros(4), **always, xtc_threshold=0.2)[0].tolist() == [0, 0, 0, 1]


@BOTH
def test_mirostat_bounds_surprise(kernel: Any) -> None:
    p = np.array([0.5, 0.25, 0.125, 0.125])
    kept = {0.1: 1, 0.6: 1, 1.2: 2, 1.6: 4}  # mu starts at 2 tau; surprises are 1, 2, 3, 3 bits
    for tau, count in kept.items():
        law = laws(kernel, np.log(p), mirostat_tau=tau)[0]
        np.testing.assert_allclose(law[:count], p[:count] / p[:count].sum(), rtol=1e-6)
        assert not law[count:].any()


def test_mirostat_learns_in_both() -> None:
    """mu -= eta (surprise - tau), with the surprise of the token among those kept."""
    p = np.array([0.5, 0.25, 0.125, 0.125])
    fields: dict[str, Any] = {"mirostat_tau": 1.2, "mirostat_eta": 0.5}
    logits = torch.from_numpy(np.log(p)[None].astype(np.float32))
    sampler = tiny.compiled(vocab_size=4, **fields)
    past = tiny.history([], [])
    choice = int(kernels.sample(logits, sampler, seeds=[0], positions=[0], history=[past]).tokens[0])
    surprise = -math.log2([2 / 3, 1 / 3][choice])
    assert past.mu == pytest.approx(2.4 - 0.5 * (surprise - 1.2), abs=1e-6)


@BOTH
def test_truncations_run_in_order_and_renormalise(kernel: Any) -> None:
    p = np.array([0.4, 0.3, 0.2, 0.1])
    # Of all four, 0.55 needs two tokens; of the two that top-k leaves (4/7, 3/7) it needs one.
    assert laws(kernel, np.log(p), top_p=0.55)[0].nonzero()[0].tolist() == [0, 1]
    assert laws(kernel, np.log(p), top_k=2, top_p=0.55)[0].tolist() == [1, 0, 0, 0]


@BOTH
def test_temperature_zero_is_certain(kernel: Any) -> None:
    assert laws(kernel, np.array([1.0, 3.0, 3.0]), temperature=0.0)[0].tolist() == [0, 1, 0]
    assert laws(kernel, np.array([1.0, 3.0, 3.0]), temperature=0.0, top_k=1, min_p=0.5)[0].tolist() == [0, 1, 0]


@BOTH
def test_a_tiny_temperature_is_nearly_certain(kernel: Any) -> None:
    assert laws(kernel, np.array([1.0, 3.0, 2.9]), temperature=1e-30)[0].tolist() == [0, 1, 0]
    assert laws(kernel, np.array([1.0, 3.0, 3.0]), temperature=1e-30)[0].tolist() == [0, 0.5, 0.5]


@BOTH
def test_one_infinite_logit_takes_all(kernel: Any) -> None:
    assert laws(kernel, np.array([1.0, np.inf, 3.0]), temperature=2.0, top_p=0.5)[0].tolist() == [0, 1, 0]
    with pytest.raises(LogitsError):
        laws(kernel, np.array([1.0, np.inf, 3.0]), bad_words=((1,),))


@BOTH
@pytest.mark.parametrize("row", [[0.0, np.nan], [np.inf, np.inf], [-np.inf, -np.inf]])
def test_impossible_rows_are_refused(kernel: Any, row: list[float]) -> None:
    for temperature in (0.0, 1.0):
        with pytest.raises(LogitsError, match="row 1"):
            laws(kernel, np.array([[0.0, 1.0], row]), temperature=temperature)


@BOTH
def test_a_row_with_everything_banned_is_refused(kernel: Any) -> None:
    with pytest.raises(LogitsError, match="row 0"):
        laws(kernel, np.zeros(2), bad_words=((0,), (1,)))
    with pytest.raises(LogitsError, match="row 0"):
        laws(kernel, np.array([0.0, -np.inf]), allowed_tokens=(1,))


@BOTH
def test_a_past_outside_the_vocabulary_is_refused_where_it_counts(kernel: Any) -> None:
    with pytest.raises(InvalidArgument, match="9"):
        laws(kernel, np.zeros(3), history=([9], []), repetition_penalty=2.0)
    assert laws(kernel, np.zeros(2), history=([9], []), min_p=0.5)[0].tolist() == [0.5, 0.5]


@BOTH
@settings(max_examples=cases(300))
@given(data=st.data())
def test_a_law_is_a_law(kernel: Any, data: st.DataObject) -> None:
    """Whatever the sampler: no NaN, nothing negative, sum 1, nothing for what may not be drawn."""
    vocabulary = data.draw(st.integers(1, 40))
    generator = np.random.default_rng(data.draw(SEEDS))
    logits = tiny.random_logits(generator, (2, vocabulary), data.draw(st.sampled_from(tiny.STYLES)))
    fields = data.draw(tiny.sampler_fields(vocabulary))
    past = generator.integers(vocabulary, size=12)
    try:
        law = laws(kernel, logits, history=(past[:5], past[5:]), **fields)
    except LogitsError:
        return  # the constraints left nothing
    assert (law >= 0).all()
    np.testing.assert_allclose(law.sum(axis=-1), 1, rtol=1e-12)
    assert not law[logits == -np.inf].any()
