"""Small things that many tests share: logits of every temper, samplers of every kind, histories, exact laws."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from foretoken.reference.chance import Chance
from foretoken.sampler import Sampler

STYLES = ("normal", "flat", "peaked", "ties", "holes", "extreme", "infinite")


def compiled(*, vocab_size: int, end_tokens: tuple[int, ...] = (), min_tokens: int = 0, **fields: Any) -> Any:
    """A sampler as the kernels take it."""
    return Sampler(**fields).compile(vocab_size=vocab_size, end_tokens=end_tokens, min_tokens=min_tokens)


def plain(*, vocab_size: int, end_tokens: tuple[int, ...] = (), min_tokens: int = 0, **fields: Any) -> Any:
    """The same for the twins alone, without the Rust core."""
    sampler = Sampler(**fields)
    values = {field.name: getattr(sampler, field.name) for field in dataclasses.fields(sampler)}
    return SimpleNamespace(**values, vocab_size=vocab_size, end_tokens=end_tokens, min_tokens=min_tokens)


def random_logits(generator: np.random.Generator, shape: tuple[int, ...], style: str) -> np.ndarray:
    """Float32 logits (…, vocabulary) of one of `STYLES`; every row holds something that may be drawn."""
    x = generator.normal(size=shape) * {"flat": 0.1, "peaked": 8.0, "extreme": 1e4}.get(style, 2.0)
    if style == "ties":
        x = np.round(x)
    if style == "holes":
        x[generator.random(shape) < 0.4] = -np.inf
    if style == "extreme":
        x[generator.random(shape) < 0.1] = -3e38
    best = generator.integers(shape[-1], size=(*shape[:-1], 1))
    if style == "holes":
        np.put_along_axis(x, best, 1.0, axis=-1)
    if style == "infinite":
        np.put_along_axis(x, best, np.inf, axis=-1)
    return x.astype(np.float32)


@st.composite
def sampler_fields(draw: st.DrawFn, vocabulary: int) -> dict[str, Any]:
    """Keyword arguments of a random `Sampler`, most features off in most draws, no contradiction.

    Numbers come from a continuous range, for a round threshold may coincide with a round probability, and then the
    last bit of a sum decides differently in two right implementations.
    """
    fields: dict[str, Any] = {}

    def maybe(name: str, values: st.SearchStrategy[Any]) -> None:
        if draw(st.integers(0, 3)) == 0:
            fields[name] = draw(values)

    def between(low: float, high: float) -> st.SearchStrategy[float]:
        return st.integers(1, 10**6).map(lambda i: low + (high - low) * (i - 0.382) / 10**6)

    tokens = st.integers(0, vocabulary - 1)
    fields["temperature"] = draw(st.sampled_from([1.0, 1.0, 0.0]) | between(0.05, 3.0))
    greedy = fields["temperature"] == 0
    if not greedy and draw(st.integers(0, 5)) == 0:
        fields["mirostat_tau"] = draw(between(0.2, 8.0))
        maybe("mirostat_eta", between(0.01, 1.0))
    else:
        maybe("top_k", st.integers(1, vocabulary + 3))
        maybe("top_p", between(0.05, 1.0))
        maybe("min_p", between(0.0, 1.0))
        maybe("top_n_sigma", between(0.1, 4.0))
        if not greedy:
            maybe("typical_p", between(0.05, 1.0))
            maybe("xtc_probability", between(0.2, 1.0))
            maybe("xtc_threshold", between(0.0, 0.4))
    if draw(st.integers(0, 2)) == 0:
        fields["dry_multiplier"] = draw(between(0.1, 3.0))
        maybe("dry_base", between(1.0, 3.0))
        maybe("dry_allowed_length", st.integers(1, 4))
        maybe("dry_range", st.integers(1, 20))
        maybe("dry_breakers", st.lists(tokens, max_size=2))
    maybe("repetition_penalty", between(0.5, 2.0))
    maybe("presence_penalty", between(-1.0, 2.0))
    maybe("frequency_penalty", between(-1.0, 2.0))
    maybe("logit_bias", st.dictionaries(tokens, between(-5.0, 5.0), max_size=3))
    maybe("bad_words", st.lists(st.lists(tokens, min_size=1, max_size=3), max_size=2))
    maybe("allowed_tokens", st.lists(tokens, min_size=1, max_size=max(1, vocabulary // 2)))
    return fields


@contextlib.contextmanager
def decided_by(chance: Chance) -> Iterator[None]:
    """Within it `foretoken.kernels.sample`, `verify` and `process` are the twins, deciding by `chance`.

    With `enumerate_branches` this yields the exact law of whatever is built on the kernels.
    """
    from foretoken import kernels, reference
    from foretoken.reference import sample, verify  # noqa: F401

    def twin(function: Any) -> Any:
        def call(logits: Any, *arguments: Any, threads: int = 1, **keywords: Any) -> Any:
            tensors = [torch.as_tensor(a) if isinstance(a, np.ndarray) else a for a in (logits, *arguments)]
            return function(*tensors, **keywords, chance=chance)

        return call

    twins = {
        "sample": reference.sample.sample,
        "verify": reference.verify.verify,
        "process": reference.sample.process,
    }
    with contextlib.ExitStack() as stack:
        for name, function in twins.items():
            stack.enter_context(mock.patch.object(kernels, name, twin(function)))
        yield


def total_variation(first: dict[Any, float], second: dict[Any, float]) -> float:
    """Half the summed difference of two laws over anything hashable."""
    return sum(abs(first.get(key, 0.0) - second.get(key, 0.0)) for key in first.keys() | second.keys()) / 2


def as_tensor(array: np.ndarray) -> Tensor:
    """A tensor over the same memory."""
    return torch.from_numpy(array)
