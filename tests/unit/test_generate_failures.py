"""Models and processors that misbehave: an error of its own class, and a next call that knows nothing of it."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

import foretoken as ft
from foretoken.errors import ArgumentTypeError, DraftError, LogitsError, ShapeError
from tests.models import FunctionDrafter, tiny_model
from tests.unit.test_generate import STRATEGIES, Watched, run, texts


class Lying(Watched):
    """Changes its logits from the third forward on."""

    def __init__(self, lie: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.lie = lie

    def after(self, logits: torch.Tensor) -> Any:
        return self.lie(logits) if self.forwards >= 3 else logits


def poke(value: float, *, columns: Sequence[int] = (7,)) -> Callable[[torch.Tensor], torch.Tensor]:
    def lie(logits: torch.Tensor) -> torch.Tensor:
        logits[1, :, list(columns)] = value
        return logits

    return lie


LIES: dict[str, tuple[Callable[[torch.Tensor], Any], type[Exception], str]] = {
    "NaN": (poke(float("nan")), LogitsError, "row 1"),
    "two infinities": (poke(float("inf"), columns=(3, 7)), LogitsError, "row 1"),
    "nothing": (poke(-float("inf"), columns=range(48)), LogitsError, "row 1"),
    "a column less": (lambda x: x[..., :-1], ShapeError, r"\(3, 1, 47\), expected \(3, 1, 48\)"),
    "a row less": (lambda x: x[:-1], ShapeError, r"\(2, 1, 48\)"),
    "a dimension less": (lambda x: x[:, 0], ShapeError, r"\(3, 48\)"),
    "numpy": (lambda x: x.numpy(), ArgumentTypeError, "ndarray"),
    "None": (lambda x: None, ArgumentTypeError, "NoneType"),
    "integers": (lambda x: x.long(), ArgumentTypeError, "int64"),
}


@pytest.mark.parametrize("lie", LIES)
def test_logits_that_are_none_are_refused(lie: str) -> None:
    change, error, message = LIES[lie]
    with pytest.raises(error, match=message):
        run(Lying(change))


def test_a_row_is_named_as_the_user_counts() -> None:
    """When the first row is done the second one comes first in the batch."""
    model = Lying(poke(float("nan")))
    first = texts(run(model.__class__(lambda logits: logits)))[0][0]
    assert first not in [text[0] for text in texts(run())[1:]]
    with pytest.raises(LogitsError, match=r"row 1.*still open, \[1, 2\]"):
        run(model, stop_tokens=[first])


def test_one_infinity_is_a_choice() -> None:
    out = run(Lying(poke(float("inf"))))
    assert set(texts(out)[1][2:]) == {7}
    assert texts(out)[0] == texts(run())[0]


@pytest.mark.parametrize("convert", [torch.Tensor.double, torch.Tensor.clone, lambda x: x.mT.contiguous().mT])
def test_logits_come_in_several_kinds(convert: Callable[[torch.Tensor], torch.Tensor]) -> None:
    assert texts(run(Lying(convert))) == texts(run())


def test_a_tiny_temperature_is_greedy() -> None:
    greedy = run(sampler=ft.Sampler(temperature=0))
    for temperature in (1e-30, 1e-9):
        assert texts(run(sampler=ft.Sampler(temperature=temperature))) == texts(greedy)


@pytest.mark.parametrize(
    ("processor", "error", "message"),
    [
        (lambda past, row: row[:-1], ShapeError, r"\(47,\)"),
        (lambda past, row: None, ShapeError, "processor"),
        (lambda past, row: row * np.nan, LogitsError, "row 0"),
        (lambda past, row: 1 / 0, ZeroDivisionError, "division"),
    ],
)
def test_a_processor_that_misbehaves_is_an_error(processor: Any, error: type[Exception], message: str) -> None:
    for strategy in STRATEGIES.values():
        with pytest.raises(error, match=message):
            run(sampler=ft.Sampler(processor=processor), strategy=strategy)


def test_a_processor_may_call_foretoken() -> None:
    inner = texts(run(prompts=[[1]], max_tokens=1))[0][0]

    def force(past: np.ndarray, row: np.ndarray) -> np.ndarray:
        again = texts(run(prompts=[[1]], max_tokens=1))[0][0]
        return row + 1000.0 * (np.arange(len(row)) == again)

    assert set(texts(run(sampler=ft.Sampler(processor=force)))[0]) == {inner}


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_model_that_fails_leaves_nothing_behind(strategy: str, kind: type[BaseException]) -> None:
    def before(count: int) -> None:
        if count == 4:
            raise kind("in the middle")

    threads = threading.active_count()
    shared = STRATEGIES[strategy]
    expected = texts(run(strategy=shared))
    model = Watched(before)
    with pytest.raises(kind, match="in the middle"):
        run(model, strategy=shared)
    assert model.forwards == 4
    assert threading.active_count() == threads
    assert texts(run(model, strategy=shared)) == expected


def test_a_failing_call_does_not_change_a_later_one() -> None:
    """Sampler, strategy, model and a shared corpus serve many calls; one that fails takes nothing with it."""
    corpus = ft.SuffixCorpus(1 << 20)
    corpus.add(np.arange(48, dtype=np.int64))
    strategy = ft.Autoregressive(ft.Suffix(corpus, minimum=1), length=4)
    sampler = ft.Sampler(repetition_penalty=1.3, mirostat_tau=3.0)
    model = tiny_model()
    before = run(model, strategy=strategy, sampler=sampler)
    saved = pickle.dumps(corpus)
    for _, error, _ in LIES.values():
        with pytest.raises(error):
            run(Lying(next(lie for lie, e, _ in LIES.values() if e is error)), strategy=strategy, sampler=sampler)
    rubbish = ft.Autoregressive(FunctionDrafter(lambda row, past, k: ft.Draft(np.array([99]))), length=2)
    with pytest.raises(DraftError):
        run(model, strategy=rubbish, sampler=sampler)
    assert pickle.dumps(corpus) == saved
    after = run(model, strategy=strategy, sampler=sampler)
    assert texts(after) == texts(before)
    assert after.stats.drafted == before.stats.drafted
