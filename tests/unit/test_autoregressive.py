"""Seed-exactness: no drafter, length, batch or stream changes one token, for every kind of sampler."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

import foretoken as ft
from foretoken.canvas import TIE
from tests.models import FunctionDrafter, TableModel, TableSession, random_drafter, tiny_model, wrong_drafter

SAMPLERS = {
    "greedy": ft.Sampler(temperature=0),
    "temperature": ft.Sampler(temperature=0.8),
    "top-k, top-p": ft.Sampler(temperature=0.9, top_k=12, top_p=0.95),
    "penalties, DRY, min-p": ft.Sampler(
        repetition_penalty=1.1, presence_penalty=0.2, frequency_penalty=0.1, dry_multiplier=0.8, min_p=0.02
    ),
    "XTC, typical": ft.Sampler(xtc_probability=0.5, xtc_threshold=0.1, typical_p=0.9),
    "mirostat": ft.Sampler(mirostat_tau=3.0),
    "bans": ft.Sampler(logit_bias={3: 2.0, 4: -5.0}, bad_words=[(5,), (6, 7)], allowed_tokens=range(1, 40)),
    "processor": ft.Sampler(processor=lambda past, row: row - 3.0 * (np.arange(len(row)) == past[-1])),
}
DRAFTERS = {
    "n-gram": lambda model: ft.NGram(minimum=1),
    "suffix": lambda model: ft.Suffix(minimum=1),
    "small model": lambda model: ft.SmallModel(model.first(1)),
    "early exit": lambda model: ft.EarlyExit(1),
    "several": lambda model: ft.Several(ft.NGram(minimum=1), ft.SmallModel(model.first(1))),
    "several, ask all": lambda model: ft.Several(ft.Suffix(minimum=1), ft.EarlyExit(1), ask_all=True),
    "tree": lambda model: ft.Several(ft.NGram(minimum=1), ft.SmallModel(model.first(1)), tree=True),
    "tree of three": lambda model: ft.Several(
        random_drafter(model.vocab_size), ft.Suffix(minimum=1), ft.EarlyExit(1), tree=True, nodes=7
    ),
    "random": lambda model: random_drafter(model.vocab_size),
    "jacobi": lambda model: ft.Jacobi(),
    "jacobi behind another": lambda model: ft.Several(ft.NGram(minimum=1), ft.Jacobi(5, ft.above(3))),
    "tree with jacobi": lambda model: ft.Several(ft.Jacobi(), ft.SmallModel(model.first(1)), tree=True, nodes=9),
}
_RNG = np.random.default_rng(5)
PROMPTS = [_RNG.integers(1, 40, size=length).tolist() for length in (9, 1, 3, 17, 2, 30, 5, 11)]


def write(model, prompts=PROMPTS, strategy=None, **options):
    return ft.generate(model, ft.Canvas(prompts), strategy, **{"max_tokens": 60, "seed": 11, **options})


@pytest.mark.parametrize("drafter", DRAFTERS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_no_drafter_changes_a_token(sampler: str, drafter: str) -> None:
    model = TableModel(ends=(0,))
    plain = write(model, sampler=SAMPLERS[sampler])
    for length in (1, 3, 8, ft.Adaptive(6)):
        strategy = ft.Autoregressive(drafter=DRAFTERS[drafter](model), length=length)
        drafted = write(model, sampler=SAMPLERS[sampler], strategy=strategy)
        for a, b in zip(plain.rows, drafted.rows, strict=True):
            assert a.tokens.tolist() == b.tokens.tolist()
            assert a.finish_reason == b.finish_reason
        assert drafted.stats.forwards <= plain.stats.forwards


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_row_does_not_depend_on_its_neighbours(sampler: str) -> None:
    model = TableModel(ends=(0,))
    together = write(model, sampler=SAMPLERS[sampler])
    for prompt, row in zip(PROMPTS, together.rows, strict=True):
        alone = write(model, [prompt], sampler=SAMPLERS[sampler])
        assert alone.rows[0].tokens.tolist() == row.tokens.tolist()


@pytest.mark.parametrize("drafter", DRAFTERS)
def test_real_models_differ_only_at_near_ties(drafter: str) -> None:
    model = tiny_model()
    for sampler in SAMPLERS.values():
        for prompts in (PROMPTS[:1], PROMPTS):
            plain = write(model, prompts, sampler=sampler)
            strategy = ft.Autoregressive(drafter=DRAFTERS[drafter](model), length=3)
            drafted = write(model, prompts, sampler=sampler, strategy=strategy)
            for index, (a, b) in enumerate(zip(plain.rows, drafted.rows, strict=True)):
                if a.tokens.tolist() != b.tokens.tolist():
                    gaps = [gap for step in plain.trace if step.row == index for gap in step.gaps]
                    place = int((a.tokens[: len(b.tokens)] != b.tokens[: len(a.tokens)]).argmax())
                    assert gaps[place] < TIE


def test_samples_of_a_prompt_differ_and_keep_their_noise() -> None:
    model = TableModel()
    four = write(model, PROMPTS[:2], n=4)
    two = write(model, PROMPTS[:2], n=2, strategy=ft.Autoregressive(ft.Suffix(minimum=1), length=3))
    texts = [row.tokens.tolist() for row in four.rows]
    assert len({tuple(text) for text in texts}) == 8
    assert [(row.prompt, row.sample) for row in two.rows] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert [row.tokens.tolist() for row in two.rows] == [texts[0], texts[1], texts[4], texts[5]]


def test_seeds_are_per_prompt() -> None:
    model = TableModel()
    both = write(model, [PROMPTS[0], PROMPTS[0]], seed=[3, 4])
    assert both.rows[0].tokens.tolist() != both.rows[1].tokens.tolist()
    assert both.rows[1].tokens.tolist() == write(model, [PROMPTS[0]], seed=4).rows[0].tokens.tolist()


def test_a_fixed_width_runs_the_same_shape_always() -> None:
    model = TableModel()
    session = model.open(1, 100)
    model.open = lambda rows, capacity: session  # type: ignore[method-assign]
    plain = write(TableModel(), PROMPTS[:1])
    fixed = ft.Autoregressive(drafter=ft.NGram(minimum=1), verifier=ft.Coupled(width=4))
    assert write(model, PROMPTS[:1], strategy=fixed).tokens.tolist() == plain.tokens.tolist()
    assert {width for _, width in session.calls[1:]} == {5}


def test_a_drafter_that_is_always_wrong_is_switched_off() -> None:
    model = TableModel(order=1)
    out = write(model, PROMPTS[:1], max_tokens=400, strategy=ft.Autoregressive(wrong_drafter(model)))
    assert out.stats.accepted == 0
    assert out.stats.drafted < 120


class Slow(TableModel):
    """Its forwards take 2 ms whatever they read, so that a busy machine does not decide what pays."""

    def open(self, rows: int, capacity: int) -> TableSession:
        session = super().open(rows, capacity)
        forward = session.forward

        def slowly(*arguments: Any, **keywords: Any) -> Any:
            time.sleep(0.002)
            return forward(*arguments, **keywords)

        session.forward = slowly  # type: ignore[method-assign]
        return session


def test_a_perfect_drafter_is_trusted() -> None:
    model = Slow(order=1)

    def guess(row: int, past: list[int], k: int) -> ft.Draft:
        ids: list[int] = []
        for _ in range(k):
            ids.append(int(model.logits([*past, *ids]).argmax()))
        return ft.Draft(np.array(ids, dtype=np.int64))

    drafter = FunctionDrafter(guess)
    out = write(
        model, PROMPTS[:1], max_tokens=400, sampler=ft.Sampler(temperature=0), strategy=ft.Autoregressive(drafter)
    )
    assert out.stats.acceptance == 1.0
    assert out.stats.tokens_per_forward > 5


def test_logprobs_come_for_each_token_with_and_without_a_drafter() -> None:
    model = TableModel(ends=(0,))
    plain = write(model, logprobs=3)
    drafted = write(model, logprobs=3, strategy=ft.Autoregressive(ft.NGram(minimum=1), length=4))
    for a, b in zip(plain.rows, drafted.rows, strict=True):
        assert a.logprobs is not None
        assert a.top_logprobs is not None
        assert b.logprobs is not None
        assert len(a.logprobs) == len(a.tokens) == len(a.top_logprobs)
        np.testing.assert_allclose(a.logprobs, b.logprobs)
        assert a.top_logprobs == b.top_logprobs
        assert all(len(top) == 3 for top in a.top_logprobs)
    past = PROMPTS[0]
    row = model.logits(past).astype(np.float64)
    expected = row[plain.rows[0].tokens[0]] - np.log(np.exp(row).sum())
    assert plain.rows[0].logprobs is not None
    assert plain.rows[0].logprobs[0] == pytest.approx(expected)
