"""Small things that many tests share: logits of every temper, samplers of every kind, histories, exact laws."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from foretoken import kernels
from foretoken.errors import ForetokenError
from foretoken.reference import sample, verify
from foretoken.reference.chance import Chance
from foretoken.sampler import Sampler

STYLES = ("normal", "flat", "peaked", "ties", "holes", "extreme", "infinite")


def compiled(*, vocab_size: int, end_tokens: tuple[int, ...] = (), min_tokens: int = 0, **fields: Any) -> Any:
    """A sampler as the kernels take it."""
    return kernels.compile_sampler(
        Sampler(**fields), vocab_size=vocab_size, end_tokens=end_tokens, min_tokens=min_tokens
    )


def plain(*, vocab_size: int, end_tokens: tuple[int, ...] = (), min_tokens: int = 0, **fields: Any) -> Any:
    """The same for the twins alone, without the Rust core."""
    sampler = Sampler(**fields)
    values = {field.name: getattr(sampler, field.name) for field in dataclasses.fields(sampler)}
    return SimpleNamespace(**values, vocab_size=vocab_size, end_tokens=end_tokens, min_tokens=min_tokens)


def history(prompt: Sequence[int], output: Sequence[int]) -> Any:
    """A row's past, as the kernels keep it."""
    past = kernels.History(np.asarray(prompt, dtype=np.int64))
    past.extend(np.asarray(output, dtype=np.int64))
    return past


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


@dataclasses.dataclass
class Case:
    """Random arguments of a kernel, all but logits and draft."""

    sampler: Any
    keys: dict[str, Any]
    pasts: list[tuple[list[int], list[int], float | None]] | None
    logprobs: int | None
    generator: np.random.Generator

    @classmethod
    def drawn(cls, data: st.DataObject, *, rows: int, vocabulary: int) -> Case:
        """A case whose sampler, pasts and places are anything."""
        generator = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
        fields = data.draw(sampler_fields(vocabulary))
        ends = tuple(generator.integers(vocabulary, size=data.draw(st.integers(0, 2))).tolist())
        sampler = compiled(vocab_size=vocabulary, end_tokens=ends, min_tokens=data.draw(st.integers(0, 6)), **fields)
        keys = {
            "seeds": generator.integers(2**64, size=rows, dtype=np.uint64),
            "positions": generator.integers(2**32 - 16, size=rows),
            "rows": generator.integers(2**32, size=rows) if data.draw(st.booleans()) else None,
        }
        pasts = None
        if data.draw(st.integers(0, 4)):
            few = min(vocabulary, 4)  # few distinct tokens, so that they repeat
            lengths = generator.integers(12, size=(rows, 2))
            mus = [float(generator.uniform(0, 8)) if generator.random() < 0.5 else None for _ in range(rows)]
            pasts = [
                (generator.integers(few, size=prompt).tolist(), generator.integers(few, size=output).tolist(), mu)
                for (prompt, output), mu in zip(lengths, mus, strict=True)
            ]
        logprobs = data.draw(st.sampled_from([None, None, 0, min(3, vocabulary), vocabulary]))
        return cls(sampler, keys, pasts, logprobs, generator)

    def histories(self) -> list[Any] | None:
        """Fresh histories of the rows."""
        if self.pasts is None:
            return None
        made = []
        for prompt, output, mu in self.pasts:
            made.append(history(prompt, output))
            made[-1].mu = mu
        return made


def outcome(kernel: Any, *arguments: Any, **keywords: Any) -> Any:
    """What a kernel returns, or the class of the error it raises on purpose."""
    try:
        return kernel(*arguments, **keywords)
    except ForetokenError as error:
        return type(error)


def assert_same(first: Any, second: Any) -> None:
    """Two outcomes are the same error, or the same arrays: integers exactly, numbers to 1e-9."""
    if isinstance(first, type) or isinstance(second, type):
        assert first is second
        return
    for name in getattr(second, "_fields", [None]):
        one, other = (result if name is None else getattr(result, name) for result in (first, second))
        assert (one is None) == (other is None), name
        if one is not None:
            one, other = np.asarray(one), np.asarray(other)
            assert (one.shape, one.dtype) == (other.shape, other.dtype), name
            exact = np.issubdtype(other.dtype, np.integer)
            np.testing.assert_allclose(
                one, other, rtol=0 if exact else 1e-9, atol=0 if exact else 1e-9, err_msg=str(name)
            )


def assert_same_pasts(first: list[Any] | None, second: list[Any] | None) -> None:
    """Two batches of histories hold the same tokens, and the same mu to 1e-9."""
    for one, other in zip(first or (), second or (), strict=True):
        assert one.tokens.tolist() == other.tokens.tolist()
        assert one.prompt_length == other.prompt_length
        assert (one.mu is None) == (other.mu is None)
        assert one.mu is None or abs(one.mu - other.mu) <= 1e-9


@contextlib.contextmanager
def decided_by(chance: Chance) -> Iterator[None]:
    """Within it `foretoken.kernels.sample`, `verify` and `process` are the twins, deciding by `chance`.

    Under `enumerate_branches` this yields the exact law of whatever is built on the kernels, a generation included.
    """

    def through(twin: Any) -> Any:
        def call(logits: Any, *arguments: Any, threads: int = 1, **keywords: Any) -> Any:
            result = twin(torch.as_tensor(logits), *arguments, **keywords, chance=chance)
            if isinstance(result, Tensor):
                return result.numpy()
            return type(result)(*(None if field is None else field.numpy() for field in result))

        return call

    twins = {"sample": sample.sample, "process": sample.process, "verify": verify.verify}
    with contextlib.ExitStack() as stack:
        for name, twin in twins.items():
            stack.enter_context(mock.patch.object(kernels, name, through(twin)))
        yield


def total_variation(first: dict[Any, float], second: dict[Any, float]) -> float:
    """Half the summed difference of two laws over anything hashable."""
    return sum(abs(first.get(key, 0.0) - second.get(key, 0.0)) for key in first.keys() | second.keys()) / 2


def as_tensor(array: np.ndarray) -> Tensor:
    """A tensor over the same memory."""
    return torch.from_numpy(array)
