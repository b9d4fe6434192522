"""`generate`, `stream` and their async forms: the same texts, checked arguments, and nothing half-done."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

import foretoken as ft
from foretoken.canvas import Canvas
from foretoken.errors import (
    ArgumentTypeError,
    InvalidArgument,
    LimitExceeded,
    ShapeError,
    UnsupportedModel,
)
from foretoken.generate import _Run
from tests.models import FunctionDrafter, TableModel, TableSession, random_drafter, tiny_model
from tests.unit.test_text import byte_level

CODEC = ft.Text(byte_level())
PROMPTS = [[5, 3, 8], [2], [9, 9, 9, 9, 1]]
STRATEGIES = {
    "plain": ft.Autoregressive(),
    "drafted": ft.Autoregressive(ft.NGram(minimum=1), length=3),
    "adaptive": ft.Autoregressive(ft.Suffix(minimum=1)),
    "rejection": ft.Autoregressive(ft.NGram(minimum=1), verifier=ft.Rejection(), length=3),
}


def texts(out: ft.Generation) -> list[list[int]]:
    return [row.tokens.tolist() for row in out.rows]


def run(model: Any = None, prompts: Any = PROMPTS, strategy: Any = None, **options: Any) -> ft.Generation:
    model = TableModel() if model is None else model
    return ft.generate(model, Canvas(prompts), strategy, **{"max_tokens": 20, "seed": 3, **options})


class Watched(TableModel):
    """Counts its forwards, and calls `before` with the number of each."""

    def __init__(self, before: Callable[[int], object] = lambda count: None, **shape: Any) -> None:
        super().__init__(**shape)
        self.before, self.forwards = before, 0

    def open(self, rows: int, capacity: int) -> TableSession:
        session = super().open(rows, capacity)
        forward = session.forward

        def watched(tokens: np.ndarray, counts: np.ndarray | None = None, *, last: bool = False) -> torch.Tensor:
            self.forwards += 1
            self.before(self.forwards)
            return self.after(forward(tokens, counts, last=last))

        session.forward = watched  # type: ignore[method-assign]
        return session

    def after(self, logits: torch.Tensor) -> Any:
        return logits


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_stream_is_the_generation_step_by_step(strategy: str) -> None:
    model = TableModel(320, ends=(0,), scale=1.0)
    options = {"codec": CODEC, "seed": 3, "max_tokens": 40, "stop": ["a", "日"]}
    canvas = CODEC.canvas(["once upon", "日本", "x"])
    steps = list(ft.stream(model, canvas, STRATEGIES[strategy], **options))
    out = ft.generate(model, canvas, STRATEGIES[strategy], **options)
    for index, row in enumerate(out.rows):
        own = [step for step in steps if step.row == index]
        assert "".join(step.text for step in own) == row.signal
        assert [token for step in own for token in step.tokens] == row.tokens.tolist()
        assert [step.finish_reason for step in own] == [None] * (len(own) - 1) + [row.finish_reason]
    assert out.stats.tokens == sum(len(step.tokens) for step in steps)
    assert [step.tokens for step in out.trace] == [step.tokens for step in steps]


def test_the_sums_fit() -> None:
    out = run(strategy=STRATEGIES["drafted"], max_tokens=30)
    stats = out.stats
    assert stats.prompt_tokens == 9
    assert stats.tokens == 90
    assert stats.row_forwards == len(list(out.trace)) >= stats.forwards
    assert stats.accepted == sum(stats.accepted_at.values()) <= stats.drafted
    assert stats.by_source == {"n-gram": [stats.drafted, stats.accepted]}
    assert all(seconds >= 0 for seconds in stats.seconds.values())
    assert sum(stats.seconds[part] for part in ("prompt", "model", "draft", "sample")) <= stats.seconds["total"]


@pytest.mark.parametrize("model", [TableModel, tiny_model])
def test_n_samples_are_those_of_a_smaller_n(model: Callable[[], Any]) -> None:
    many = run(model(), n=3)
    assert [(row.prompt, row.sample) for row in many.rows] == [(p, s) for p in range(3) for s in range(3)]
    assert len({tuple(text) for text in texts(many)}) == 9
    assert texts(run(model()))[1] == texts(many)[3]
    assert many.stats.prompt_tokens == 27
    assert [step.row for step in list(many.trace)[:9]] == list(range(9))


def test_seeds() -> None:
    assert texts(run(seed=3)) == texts(run(seed=np.uint64(3))) == texts(run(seed=[3, 3, 3]))
    assert texts(run(seed=np.array([3, 4, 5])))[1] == texts(run(seed=4))[1] != texts(run(seed=3))[1]
    assert texts(run(seed=2**64 - 1)) != texts(run(seed=2**32 - 1))
    assert texts(run(seed=None)) != texts(run(seed=None))


@pytest.mark.parametrize(
    ("seed", "error"),
    [
        (-1, InvalidArgument),
        (2**64, InvalidArgument),
        ([1, 2, -1], InvalidArgument),
        ([1, 2], ShapeError),
        ([], ShapeError),
        (1.0, ArgumentTypeError),
        ("3", ShapeError),
        ("345", ArgumentTypeError),
        (True, ArgumentTypeError),
        ([1, 2, None], ArgumentTypeError),
        ([1, 2, 3.0], ArgumentTypeError),
    ],
)
def test_what_is_no_seed_is_refused(seed: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="seed"):
        run(seed=seed)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_tokens": -1}, InvalidArgument, "max_tokens"),
        ({"max_tokens": 2**63}, LimitExceeded, "max_tokens"),
        ({"max_tokens": 1.0}, ArgumentTypeError, "max_tokens"),
        ({"max_tokens": True}, ArgumentTypeError, "max_tokens"),
        ({"min_tokens": -1}, InvalidArgument, "min_tokens"),
        ({"min_tokens": 21}, InvalidArgument, "contradicts"),
        ({"min_tokens": 508, "max_tokens": None}, LimitExceeded, "min_tokens is 508.*507"),
        ({"min_tokens": None}, ArgumentTypeError, "min_tokens"),
        ({"n": 0}, InvalidArgument, "n must"),
        ({"n": 10**9}, LimitExceeded, "n is 1000000000"),
        ({"n": 4096}, LimitExceeded, "12288 rows"),
        ({"n": "2"}, ArgumentTypeError, "n must"),
        ({"logprobs": -1}, InvalidArgument, "logprobs"),
        ({"logprobs": 101}, LimitExceeded, "logprobs"),
        ({"logprobs": True}, ArgumentTypeError, "logprobs"),
        ({"threads": 0}, InvalidArgument, "threads"),
        ({"threads": 10**6}, LimitExceeded, "threads"),
        ({"sampler": {"temperature": 1.0}}, ArgumentTypeError, "sampler"),
        ({"sampler": ft.Sampler(allowed_tokens=[48])}, InvalidArgument, "48"),
        ({"sampler": ft.Sampler(logit_bias={1000: 1.0})}, InvalidArgument, "1000"),
        ({"sampler": ft.Sampler(bad_words=[(1, 48)])}, InvalidArgument, "48"),
        ({"strategy": "fast"}, ArgumentTypeError, "strategy"),
        ({"strategy": ft.NGram()}, ArgumentTypeError, "strategy"),
        ({"codec": CODEC}, ShapeError, "ids up to"),
        ({"max_tokens": 600}, LimitExceeded, "prompt 2.*507"),
        ({"prompts": [[1], [48]]}, InvalidArgument, "48"),
        ({"prompts": [[1] * 513]}, LimitExceeded, "513.*512"),
        ({"prompts": [[1], [-1, 2]]}, InvalidArgument, "unknown positions"),
    ],
)
def test_arguments_are_refused_before_anything_happens(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    model = Watched()
    for call in (ft.generate, ft.stream, ft.astream, lambda *a, **k: asyncio.run(ft.agenerate(*a, **k))):
        keys = {"max_tokens": 20, **options}
        with pytest.raises(error, match=message):
            call(model, Canvas(keys.pop("prompts", PROMPTS)), keys.pop("strategy", None), **keys)
    assert model.forwards == 0


@pytest.mark.parametrize("model", [None, 5, "tales", object(), torch.nn.Linear(2, 2), TableModel])
def test_what_is_no_model_is_refused(model: Any) -> None:
    with pytest.raises(UnsupportedModel, match="HuggingFace"):
        ft.generate(model, Canvas([[1]]), max_tokens=3)


def test_a_model_that_only_looks_like_one_is_refused() -> None:
    model = TableModel()
    del model.end_tokens
    with pytest.raises(UnsupportedModel, match="end_tokens"):
        run(model)
    mute = type("Mute", (), {"vocab_size": 48, "context": 64, "end_tokens": ()})()
    with pytest.raises(UnsupportedModel, match="causal"):
        run(mute)


@pytest.mark.parametrize("canvas", [[[1, 2]], "text", None])
def test_what_is_no_canvas_is_refused(canvas: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="Canvas"):
        ft.generate(TableModel(), canvas, max_tokens=3)


def test_no_tokens_are_no_forwards() -> None:
    model = Watched()
    out = run(model, max_tokens=0, logprobs=1)
    assert texts(out) == [[], [], []]
    assert [row.finish_reason for row in out.rows] == ["length"] * 3
    assert [row.logprobs for row in out.rows] == [[], [], []]
    assert model.forwards == 0


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_context_is_filled_and_not_more(strategy: str) -> None:
    model = TableModel(context=16)
    prompts = [[1] * 16, [2] * 15, [3] * 4]
    out = run(model, prompts, STRATEGIES[strategy], max_tokens=None)
    assert [len(row.tokens) for row in out.rows] == [0, 1, 12]
    assert [row.finish_reason for row in out.rows] == ["length"] * 3
    assert texts(run(model, prompts[:1], max_tokens=None)) == [[]]
    real = tiny_model()
    assert len(run(real, [[1] * 250], STRATEGIES[strategy], max_tokens=None).tokens) == 6


def test_closing_a_stream_cancels_the_rest() -> None:
    model = Watched()
    steps = ft.stream(model, Canvas(PROMPTS), max_tokens=20)
    assert model.forwards == 0  # nothing happens before it is asked for
    next(steps)
    assert model.forwards == 1
    steps.close()  # type: ignore[attr-defined]
    assert list(steps) == []
    assert model.forwards == 1
    ft.stream(model, Canvas(PROMPTS)).close()  # type: ignore[attr-defined]
    assert model.forwards == 1


def test_breaking_out_of_a_stream_stops_the_drafter_with_it() -> None:
    opened: list[str] = []

    class Drafter(FunctionDrafter):
        def open(self, request: Any) -> Any:
            opened.append("open")
            return super().open(request)

    drafter = Drafter(lambda row, past, k: ft.Draft(np.zeros(k, dtype=np.int64)))
    for _ in ft.stream(TableModel(), Canvas(PROMPTS), ft.Autoregressive(drafter, length=2), max_tokens=9):
        break
    gc.collect()
    # The same strategy begins anew.
    assert texts(run(strategy=ft.Autoregressive(drafter, length=2))) == texts(run())
    assert opened == ["open"] * 2


def test_the_time_of_the_consumer_is_not_counted() -> None:
    run = _Run(TableModel(), Canvas([[1]]), max_tokens=3)
    for step in run.steps():
        assert step.row == 0
        threading.Event().wait(0.2)
    assert 0 < run.stats.seconds["total"] < 0.3


def test_many_threads_at_once_write_what_one_writes() -> None:
    model, strategy = tiny_model(), ft.Autoregressive(ft.Several(ft.Suffix(minimum=1), ft.EarlyExit(1)), length=3)
    samplers = [ft.Sampler(temperature=0.8), ft.Sampler(dry_multiplier=0.8), ft.Sampler(mirostat_tau=3.0)]

    def write(job: int) -> list[list[int]]:
        return texts(
            run(model, strategy=strategy, sampler=samplers[job % 3], seed=job, max_tokens=24, threads=1 + job % 2)
        )

    alone = [write(job) for job in range(12)]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(write, range(12))) == alone


def test_two_streams_may_be_read_in_turns() -> None:
    model = tiny_model()
    streams = [ft.stream(model, Canvas(PROMPTS), STRATEGIES["drafted"], max_tokens=20, seed=seed) for seed in (3, 4)]
    found: list[dict[int, list[int]]] = [{}, {}]
    open_streams = [0, 1]
    while open_streams:
        for index in list(open_streams):
            step = next(streams[index], None)
            if step is None:
                open_streams.remove(index)
            else:
                found[index].setdefault(step.row, []).extend(step.tokens)
    for index, seed in enumerate((3, 4)):
        assert [found[index][row] for row in range(3)] == texts(run(model, seed=seed))


def test_kernel_threads_change_nothing() -> None:
    options = {"n": 4, "logprobs": 2, "strategy": ft.Autoregressive(random_drafter(48), length=3)}
    one, four = run(threads=1, **options), run(threads=4, **options)
    assert texts(one) == texts(four)
    assert [row.logprobs for row in one.rows] == [row.logprobs for row in four.rows]
