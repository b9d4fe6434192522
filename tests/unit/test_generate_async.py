"""The async forms: the same texts, a free event loop, and a cancelled call that leaves nothing running."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest

import foretoken as ft
from foretoken.canvas import Canvas, Step
from tests.models import TableModel
from tests.unit.test_generate import PROMPTS, Watched, run, texts


def test_async_forms_say_the_same() -> None:
    async def both() -> tuple[ft.Generation, list[Step]]:
        out = await ft.agenerate(TableModel(), Canvas(PROMPTS), max_tokens=20, seed=3)
        return out, [step async for step in ft.astream(TableModel(), Canvas(PROMPTS), max_tokens=20, seed=3)]

    out, steps = asyncio.run(both())
    assert texts(out) == texts(run())
    assert [step.tokens for step in steps] == [step.tokens for step in out.trace]


def test_the_event_loop_stays_free_and_calls_run_beside_each_other() -> None:
    barrier = threading.Barrier(3, timeout=30)
    models = [Watched(lambda count: barrier.wait() if count == 2 else None) for _ in range(3)]

    async def all_at_once() -> list[ft.Generation]:
        calls = [ft.agenerate(model, Canvas(PROMPTS), max_tokens=20, seed=3) for model in models]
        return await asyncio.gather(*calls)

    assert all(texts(out) == texts(run()) for out in asyncio.run(all_at_once()))


@pytest.mark.parametrize("fails", [False, True])
def test_cancelling_mid_step_waits_for_the_step_and_stops(fails: bool, caplog: pytest.LogCaptureFixture) -> None:
    entered, leave = threading.Event(), threading.Event()

    def before(count: int) -> None:
        if count == 2:
            entered.set()
            assert leave.wait(30)
            if fails:
                raise OSError("too late to matter")

    model = Watched(before)

    async def cancel() -> None:
        task = asyncio.create_task(ft.agenerate(model, Canvas(PROMPTS), max_tokens=20))
        await asyncio.to_thread(entered.wait, 30)
        task.cancel()
        await asyncio.sleep(0.05)
        assert not task.done()  # the step under way cannot be interrupted
        leave.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    gc.collect()
    assert model.forwards == 2
    assert not caplog.records  # asyncio complains here about errors that nobody looked at


def test_cancelling_twice_leaves_no_step_behind() -> None:
    entered, leave = threading.Event(), threading.Event()

    def before(count: int) -> None:
        if count == 2:
            entered.set()
            assert leave.wait(30)

    model = Watched(before)

    async def cancel() -> None:
        task = asyncio.create_task(ft.agenerate(model, Canvas(PROMPTS), max_tokens=20))
        await asyncio.to_thread(entered.wait, 30)
        for _ in range(2):
            task.cancel()
            await asyncio.sleep(0.02)
        leave.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    gc.collect()
    assert model.forwards == 2


def test_a_loop_that_closes_waits_for_the_step(caplog: pytest.LogCaptureFixture) -> None:
    """Who leaves `asyncio.run` with a generation still at work must not find its thread in the way."""
    entered, leave = threading.Event(), threading.Event()

    def before(count: int) -> None:
        if count == 2:
            entered.set()
            assert leave.wait(30)

    model = Watched(before)
    held = []

    async def forget() -> None:
        held.append(asyncio.create_task(ft.agenerate(model, Canvas(PROMPTS), max_tokens=20)))
        await asyncio.to_thread(entered.wait, 30)
        threading.Timer(0.1, leave.set).start()

    asyncio.run(forget())
    assert held[0].cancelled()
    assert model.forwards == 2
    assert not caplog.records


def test_leaving_an_async_stream_closes_it() -> None:
    model = Watched()

    async def leave() -> None:
        steps = ft.astream(model, Canvas(PROMPTS), max_tokens=20)
        async for _ in steps:
            break
        await steps.aclose()  # type: ignore[attr-defined]

    asyncio.run(leave())
    assert model.forwards == 1


def test_an_error_in_a_thread_reaches_who_awaits() -> None:
    model = Watched(lambda count: 1 / (3 - count))
    with pytest.raises(ZeroDivisionError):
        asyncio.run(ft.agenerate(model, Canvas(PROMPTS), max_tokens=20))
    assert model.forwards == 3
