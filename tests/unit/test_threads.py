"""Threads of Python: at once they get what each gets alone, a kernel lets the others run, and the GIL stays off."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import foretoken as ft
from foretoken import Sampler, kernels
from tests.models import tiny_llama

FREE = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
"""Whether this is a build of Python that can do without the GIL."""

MANY = 100_000
"""Columns of logits: a kernel has to take long to be watched."""

ENOUGH = 10
"""Turns of another thread that tell; one that is locked out gets its turn before or after the call, at most."""


def logits(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def text(length: int, vocab_size: int = 1000) -> np.ndarray:
    return np.random.default_rng(1).integers(0, vocab_size, length)


def slow_kernels() -> dict[str, Callable[[], object]]:
    """One call of each kernel, made to take tens of milliseconds or more."""
    typical = kernels.compile_sampler(Sampler(typical_p=0.9), vocab_size=MANY)
    rows, block, draft = logits(32, MANY), logits(4, 9, MANY), text(32).reshape(4, 8)
    certain = np.tile(np.array([50.0] + [0.0] * (MANY - 1), dtype=np.float32), (4, 9, 1))
    session = ft.Native(ft.path("tales"), threads=1).open(4, 256)
    ids, scores = text(128_000).reshape(40, 200, 16), logits(40, 200, 16)
    return {
        "sample": lambda: kernels.sample(rows, typical, seeds=[1] * 32, positions=[0] * 32),
        "process": lambda: kernels.process(rows, typical, seeds=[1] * 32, positions=[0] * 32),
        "verify": lambda: kernels.verify(
            block + certain, draft * 0, typical, seeds=[1] * 4, positions=[0] * 4, logprobs=100
        ),
        "reveal": lambda: kernels.reveal(block, np.full((4, 9), -1), typical, seeds=[1] * 4, step=1),
        "suffix": lambda: kernels.Suffix().start(0, text(400_000)),
        "corpus": lambda: kernels.SuffixCorpus(1 << 28).add(text(400_000)),
        "n-gram": lambda: kernels.NGram().start(0, text(400_000)),
        "chains": lambda: kernels.lattice_chains(ids, scores, n=32),
        "native": lambda: session.forward(text(1000).reshape(4, 250)),
        "stop": lambda: kernels.StopStrings([b"END"]).feed(0, bytes(50_000_000)),
    }


def turns(call: Callable[[], object]) -> int:
    """How often another thread of Python, which always sleeps a moment, has had its turn while `call` ran."""
    count, done = 0, threading.Event()

    def look() -> None:
        nonlocal count
        while not done.is_set():
            count += 1
            time.sleep(0.0005)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        while count == 0:
            time.sleep(0)
        before = count
        call()
        return count - before
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("name", slow_kernels())
def test_a_kernel_lets_others_run(name: str) -> None:
    assert turns(slow_kernels()[name]) > ENOUGH


@pytest.mark.skipif(FREE, reason="needs a GIL")
def test_what_keeps_the_gil_is_seen() -> None:
    """The control: as long as a kernel, in one call that lets no one in between."""
    assert turns(lambda: sum(range(10_000_000))) <= 3


def test_who_waits_for_a_session_lets_others_run() -> None:
    """One thread is in a forward, another asks for the session, and a third must not notice."""
    session = ft.Native(ft.path("tales"), threads=1).open(4, 256)

    def forward() -> None:
        session.truncate(np.zeros(4, dtype=np.int64))
        session.forward(text(1000).reshape(4, 250))

    assert turns_while_waiting(forward, lambda: session.lengths) > ENOUGH


def test_who_waits_for_a_history_lets_others_run() -> None:
    sampler = kernels.compile_sampler(Sampler(dry_multiplier=0.8), vocab_size=8)
    past = np.zeros(1 << 22, dtype=np.int64)
    history = [kernels.History(past)]

    def sample() -> None:
        kernels.sample(logits(1, 8), sampler, seeds=[1], positions=[0], history=history)

    assert turns_while_waiting(sample, lambda: history[0].prompt_length) > ENOUGH


def turns_while_waiting(work: Callable[[], object], ask: Callable[[], object]) -> int:
    """The most turns of a third thread while `ask` waited for `work`, of many tries: some ask when all is done."""
    most = 0
    for _ in range(50):
        worker = threading.Thread(target=work)
        worker.start()
        time.sleep(0.002)
        most = max(most, turns(ask))
        worker.join()
        if most > ENOUGH:
            break
    return most


def test_eight_threads_get_what_one_gets() -> None:
    """With a sampler, a corpus, a model and look-ups that all share; some in two threads of the core themselves."""
    rng = np.random.default_rng(2)
    rows, block, draft = logits(4, 2000), 3 * logits(2, 5, 2000), rng.integers(0, 2000, (2, 4))
    plain = kernels.compile_sampler(Sampler(temperature=0.8, top_k=50, top_p=0.95), vocab_size=2000)
    penalties = kernels.compile_sampler(Sampler(repetition_penalty=1.2, dry_multiplier=0.8), vocab_size=2000)
    small = kernels.compile_sampler(Sampler(), vocab_size=48)
    corpus, model = kernels.SuffixCorpus(1 << 22), ft.Native(tiny_llama(), threads=2)
    for _ in range(20):
        corpus.add(rng.integers(0, 6, 300))
    suffix, ngram, past = kernels.Suffix(corpus=corpus), kernels.NGram(), text(300, 6)

    def work(number: int) -> list[Any]:
        histories = [kernels.History(past[: 30 + row]) for row in range(4)]
        session, threads, found = model.open(2, 256), 1 + number % 2, []
        for drafter in (suffix, ngram):
            drafter.start(number, past[number:200])
        for step in range(30):
            keys: Any = {"seeds": [1000 * number + step] * 4, "positions": [step] * 4, "threads": threads}
            found.append(kernels.sample(rows, plain, logprobs=2, **keys))
            found.append(kernels.sample(rows, penalties, history=histories, **keys))
            keys |= {"seeds": keys["seeds"][:2], "positions": [step] * 2}
            found.append(kernels.verify(block, draft, plain, rejection=bool(step % 2), **keys))
            for drafter in (suffix, ngram):
                found.append(drafter.propose(number, 8))
                drafter.extend(number, past[step : step + 3])
            found.append(session.draft(np.full((2, 1), step % 48), None, 3, small, seeds=keys["seeds"]))
            found.append([session.lengths, *(history.tokens for history in histories)])
        for drafter in (suffix, ngram):
            drafter.stop(number)
        return plainly(found)

    alone = [work(number) for number in range(8)]
    for _ in range(3):
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(work, range(8))) == alone


def plainly(value: Any) -> Any:
    """The same without arrays, so that it can be compared."""
    if isinstance(value, (list, tuple)):
        return [plainly(part) for part in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


def test_nothing_is_lost_where_all_write() -> None:
    """Eight threads on one history, one corpus and one session: the counts add up."""
    history, corpus, suffix = kernels.History(), kernels.SuffixCorpus(1 << 22), kernels.Suffix()
    session = ft.Native(tiny_llama(), threads=2).open(1, 256)
    greedy = kernels.compile_sampler(Sampler(temperature=0), vocab_size=8)

    def write(number: int) -> None:
        suffix.start(number, [number])
        for step in range(20):
            history.extend([number])
            kernels.sample(logits(1, 8), greedy, seeds=[0], positions=[0], history=[history])
            corpus.add([number, step])
            suffix.extend(number, [step])
            session.forward(np.array([[number]]), last=True)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    assert (len(history), len(corpus), session.lengths.tolist()) == (320, 160, [160])
    written = np.full(8, 20)
    written[logits(1, 8).argmax()] += 160
    np.testing.assert_array_equal(np.bincount(history.tokens, minlength=8), written)


GIL_STAYS_OFF = """
import importlib.util, sys
{before}
gil = sys._is_gil_enabled()
{after}
assert sys._is_gil_enabled() == gil, "the GIL came back"
print(gil)
"""
ALONE = """
spec = importlib.util.spec_from_file_location("foretoken._rust", {path!r})
spec.loader.exec_module(importlib.util.module_from_spec(spec))
"""


@pytest.mark.skipif(not FREE, reason="needs a free-threaded Python")
@pytest.mark.parametrize("whole", [False, True])
def test_the_gil_stays_off(whole: bool) -> None:
    """The core turns it on nowhere; the package not by itself, though what it depends on may."""
    found = importlib.util.find_spec("foretoken._rust")
    assert found is not None
    alone = ALONE.format(path=found.origin)
    dependencies = "import numpy, safetensors.torch, tokenizers, torch, tqdm"
    code = GIL_STAYS_OFF.format(
        before=dependencies if whole else "import numpy", after="import foretoken" if whole else alone
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHON_GIL"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert whole or run.stdout == "False\n"
