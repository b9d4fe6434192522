"""A million kernel calls hold no more memory than a few thousand: nothing is kept that no one asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from foretoken import Sampler, kernels

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
ALLOWED = 2 * 2**20
"""Bytes: at most 20 for each of 100,000 calls, the least a kept object takes being 32."""


def grown(call: Callable[[int], object], calls: int) -> int:
    """By how many bytes the process has grown when `call` has been called so often, after a tenth more to warm up."""
    for step in range(calls // 10):
        call(step)
    before = _resident()
    for step in range(calls):
        call(step)
    return _resident() - before


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE


def calls() -> dict[str, Callable[[int], object]]:
    """What is called, by name; each does one call of a kernel."""
    rng = np.random.default_rng(0)
    sampler = kernels.compile_sampler(Sampler(temperature=0.8, top_p=0.9, repetition_penalty=1.1), vocab_size=32)
    logits, block = rng.normal(size=(1, 32)).astype(np.float32), rng.normal(size=(1, 3, 32)).astype(np.float32)
    canvas, plain = np.full((1, 3), -1), kernels.compile_sampler(Sampler(top_p=0.9), vocab_size=32)
    draft, history = np.array([[3, 4]]), [kernels.History([1, 2, 3])]
    corpus = kernels.SuffixCorpus(20_000)
    suffix, ngram = kernels.Suffix(corpus=corpus), kernels.NGram()
    text = rng.integers(0, 4, 64)
    picture = rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)
    ids, scores = rng.integers(0, 32, (1, 4, 3)), rng.normal(size=(1, 4, 3)).astype(np.float32)
    for row in range(8):
        suffix.start(row, text)
        ngram.start(row, text)

    def look_up(drafter: kernels.Suffix | kernels.NGram) -> Callable[[int], object]:
        def call(step: int) -> object:
            row = step // 64 % 8
            if step % 64 == 0:
                drafter.stop(row)
                drafter.start(row, text)
                if drafter is suffix:
                    corpus.add(text[: step % 60 + 2])  # which drops older documents again and again
            return drafter.propose(row, 4) if step % 2 else drafter.extend(row, text[:3])

        return call

    return {
        "sample": lambda step: kernels.sample(
            logits, sampler, seeds=[step], positions=[0], history=history, commit=False
        ),
        "verify": lambda step: kernels.verify(block, draft, sampler, seeds=[step], positions=[0], logprobs=2),
        "reveal": lambda step: kernels.reveal(block, canvas, plain, seeds=[step], step=step),
        "suffix": look_up(suffix),
        "n-gram": look_up(ngram),
        "chains": lambda step: kernels.lattice_chains(ids, scores, n=2),
        "patches": lambda step: kernels.unpatchify(
            *kernels.patchify(picture, patch=4, size=8 + step % 2 * 4)[:2], patch=4
        ),
        "refusal": lambda step: _refused(lambda: suffix.propose(-1, 1)),
    }


def _refused(call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="row -1 is unknown"):
        call()


COUNTS = {
    "sample": 200_000,
    "verify": 200_000,
    "reveal": 100_000,
    "suffix": 300_000,
    "n-gram": 200_000,
    "chains": 100_000,
    "patches": 20_000,
    "refusal": 20_000,
}


@pytest.mark.parametrize("name", COUNTS)
def test_memory_does_not_grow(name: str) -> None:
    assert grown(calls()[name], COUNTS[name]) < ALLOWED


def test_a_leak_is_seen() -> None:
    """The control: what `sample` returned, kept."""
    kept: list[object] = []
    call = calls()["sample"]
    assert grown(lambda step: kept.append(call(step)), 200_000) > ALLOWED  # more than was freed before
