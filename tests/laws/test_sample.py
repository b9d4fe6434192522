"""`sample` in Rust is `sample` in torch, draws from the law it says, and changes nothing when it fails."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foretoken import kernels
from foretoken.errors import ArgumentTypeError, ForetokenError, InvalidArgument, LogitsError, ShapeError
from foretoken.reference import noise
from foretoken.reference import sample as twin

from .. import tiny
from ..cases import cases
from . import statistics

BOTH = pytest.mark.parametrize("kernel", [kernels.sample, twin.sample], ids=["rust", "torch"])
DRAWS = 200_000


@settings(max_examples=cases(1200))
@given(data=st.data())
def test_rust_chooses_what_torch_chooses(data: st.DataObject) -> None:
    vocabulary = data.draw(st.integers(1, 300) | st.integers(1, 8))
    rows = data.draw(st.integers(1, 4))
    case = tiny.Case.drawn(data, rows=rows, vocabulary=vocabulary)
    generator = case.generator
    logits = tiny.random_logits(generator, (rows, vocabulary), data.draw(st.sampled_from(tiny.STYLES)))
    stream = data.draw(st.sampled_from([noise.CHOICE, noise.CHOICE, noise.DRAFT, 77, 2**32 - 1]))
    commit = data.draw(st.booleans())

    keys = {**case.keys, "history": case.histories()}
    expected_law = tiny.outcome(twin.process, torch.from_numpy(logits), case.sampler, **keys)
    law = tiny.outcome(kernels.process, torch.from_numpy(logits), case.sampler, **keys)
    tiny.assert_same(law, expected_law)
    sparse = tiny.outcome(kernels.process_sparse, torch.from_numpy(logits), case.sampler, **keys)
    if isinstance(law, type):
        assert sparse is law
    else:
        ids, probs = sparse
        spread = np.zeros((rows, vocabulary + 1))
        np.put_along_axis(spread, ids, probs, axis=1)  # padding falls into the last column
        np.testing.assert_allclose(spread[:, :-1], law, rtol=1e-12)  # sums of another order
        assert (np.diff(ids, axis=1)[ids[:, 1:] >= 0] > 0).all()

    outcomes, pasts = [], []
    for kernel in (kernels.sample, twin.sample):
        past = case.histories()
        keys = {**case.keys, "history": past, "logprobs": case.logprobs, "stream": stream, "commit": commit}
        outcomes.append(tiny.outcome(kernel, torch.from_numpy(logits), case.sampler, **keys))
        pasts.append(past)
    tiny.assert_same(*outcomes)
    tiny.assert_same_pasts(*pasts)
    for before, after in zip(case.histories() or (), pasts[0] or (), strict=True):
        grown = int(commit and not isinstance(outcomes[0], type))
        assert len(after) == len(before) + grown


WIDE: dict[str, dict[str, Any]] = {
    "T, k, p": {"temperature": 0.8, "top_k": 50, "top_p": 0.95},
    "T, p": {"temperature": 0.8, "top_p": 0.95},
    "p, low": {"top_p": 1e-9},
    "p, high": {"temperature": 1.3, "top_p": 0.999999},
    "cold, p": {"temperature": 1e-30, "top_p": 0.5},
    "hot, p": {"temperature": 1e30, "top_p": 0.5},
    "p, min-p": {"top_p": 0.9, "min_p": 0.001},
    "bias, p": {"top_p": 0.97, "logit_bias": {3: 2.0}},
    "k of most": {"top_k": 9_000},
}


@pytest.mark.parametrize("fields", WIDE.values(), ids=list(WIDE))
@pytest.mark.parametrize("vocabulary", [256, 20_011, 128_256])
@pytest.mark.parametrize("style", ["model", "normal", "equal", "few values", "mostly banned"])
def test_wide_rows_choose_what_torch_chooses(style: str, vocabulary: int, fields: dict[str, Any]) -> None:
    """At these sizes the nucleus is found by bounds and drawn from without a list; small rows take other ways."""
    generator = np.random.default_rng(vocabulary)
    ranked = generator.permutation(-1.5 * np.log(np.arange(vocabulary) + 2.0))
    normal = generator.normal(size=vocabulary)
    rows = {
        "model": ranked,
        "normal": normal,
        "equal": np.full(vocabulary, 7.0),
        "few values": np.round(2 * normal),
        "mostly banned": np.where(generator.random(vocabulary) < 0.99, -np.inf, normal),
    }
    logits = torch.from_numpy(rows[style].astype(np.float32)).expand(3, -1).contiguous()
    fields = {**fields, "top_k": min(fields.get("top_k", 0), vocabulary)}
    sampler = tiny.compiled(vocab_size=vocabulary, **fields)
    keys = {"seeds": [1, 2, 2**63], "positions": [0, 5, 2**31]}
    chosen, expected = kernels.sample(logits, sampler, **keys), twin.sample(logits, sampler, **keys)
    np.testing.assert_array_equal(chosen.tokens, expected.tokens)
    np.testing.assert_allclose(chosen.gaps, expected.gaps, rtol=1e-9, atol=1e-12)
    law, expected_law = (kernel.process(logits[:1], sampler, seeds=[1], positions=[0]) for kernel in (kernels, twin))
    np.testing.assert_array_equal(law > 0, np.asarray(expected_law) > 0)
    np.testing.assert_allclose(law, expected_law, rtol=1e-9, atol=1e-300)


def test_the_choice_is_the_argmax_of_scores_and_noise() -> None:
    """The definition, written out: x / T + gumbel(seed, position, row, token)."""
    logits = torch.randn(3, 100)
    where = noise.place([5, 6, 7], [0, 1, 2], [0, 0, 9], count=3, device=logits.device)
    scores = logits.double() / 0.7 + noise.gumbel(where, noise.CHOICE, 100)
    sampler = tiny.compiled(vocab_size=100, temperature=0.7)
    chosen = kernels.sample(logits, sampler, seeds=[5, 6, 7], positions=[0, 1, 2], rows=[0, 0, 9])
    top = scores.topk(2, dim=-1).values
    np.testing.assert_array_equal(chosen.tokens, scores.argmax(dim=-1))
    np.testing.assert_allclose(chosen.gaps, top[:, 0] - top[:, 1], rtol=1e-12)


class Foreign:
    """An array of a library that speaks DLPack and nothing else."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack__(self, **keywords: Any) -> Any:
        return self.array.__dlpack__(**keywords)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()


def test_arrays_of_other_libraries_are_borrowed() -> None:
    logits = np.random.default_rng(0).normal(size=(3, 50)).astype(np.float32)
    keys = {"seeds": [1, 2, 3], "positions": [0, 0, 0]}
    sampler = tiny.compiled(vocab_size=50)
    chosen = kernels.sample(Foreign(logits), sampler, **keys).tokens
    np.testing.assert_array_equal(chosen, kernels.sample(logits, sampler, **keys).tokens)
    borrowed = kernels.arrays.borrow(Foreign(logits))
    assert borrowed is not None
    assert np.shares_memory(borrowed, logits)


def test_a_row_does_not_depend_on_its_neighbours_or_on_threads() -> None:
    logits, sampler = torch.randn(37, 64), tiny.compiled(vocab_size=64, top_p=0.9)
    seeds, positions = list(range(37)), list(range(100, 137))
    whole = kernels.sample(logits, sampler, seeds=seeds, positions=positions, threads=3).tokens
    for i in range(37):
        alone = kernels.sample(logits[i : i + 1], sampler, seeds=seeds[i : i + 1], positions=positions[i : i + 1])
        assert int(alone.tokens[0]) == int(whole[i])


@BOTH
def test_logprobs_are_of_the_raw_row(kernel: Any) -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0, 3.0]])
    sampler = tiny.compiled(vocab_size=4, temperature=0.0, bad_words=((1,), (3,)))
    out = kernel(logits, sampler, seeds=[0], positions=[0], logprobs=3)
    raw = torch.log_softmax(logits.double(), dim=-1)[0]
    assert int(out.tokens[0]) == 2
    assert float(out.logprobs[0]) == pytest.approx(float(raw[2]), rel=1e-12)
    assert np.asarray(out.top_tokens).tolist() == [[1, 3, 2]]
    np.testing.assert_allclose(out.top_logprobs, raw[None, [1, 3, 2]], rtol=1e-12)


@BOTH
def test_nothing_is_committed_when_a_row_fails(kernel: Any) -> None:
    logits = torch.zeros(2, 3)
    logits[1, 2] = torch.nan
    pasts = [tiny.history([1], [2]), tiny.history([], [])]
    with pytest.raises(LogitsError, match="row 1"):
        kernel(logits, tiny.compiled(vocab_size=3), seeds=[0, 0], positions=[0, 0], history=pasts)
    assert [past.tokens.tolist() for past in pasts] == [[1, 2], []]


def drawn(logits: np.ndarray, *, positions: np.ndarray | None = None, batch: int = 1000, **fields: Any) -> np.ndarray:
    """How often Rust draws each token from one row of logits (vocabulary,), in `DRAWS` draws."""
    vocabulary = len(logits)
    sampler = tiny.compiled(vocab_size=vocabulary, **fields)
    rows = torch.from_numpy(logits).expand(batch, -1).contiguous()
    positions = np.arange(DRAWS) if positions is None else positions
    counts = np.zeros(vocabulary, dtype=np.int64)
    for start in range(0, DRAWS, batch):
        where = positions[start : start + batch]
        chosen = kernels.sample(rows, sampler, seeds=np.full(batch, 11), positions=where, threads=2)
        counts += np.bincount(chosen.tokens, minlength=vocabulary)
    return counts


def law_of(logits: np.ndarray, **fields: Any) -> np.ndarray:
    sampler = tiny.compiled(vocab_size=len(logits), **fields)
    return twin.process(torch.from_numpy(logits)[None], sampler, seeds=[0], positions=[0])[0].numpy()


@pytest.mark.parametrize(
    ("vocabulary", "fields"),
    [
        (50, {}),
        (50, {"temperature": 1.7, "top_k": 20, "top_p": 0.9}),
        (50, {"min_p": 0.02, "typical_p": 0.9, "logit_bias": {3: 1.0}}),
        (50, {"mirostat_tau": 2.0}),
        (4096, {}),
        (4096, {"temperature": 0.8, "top_k": 500, "top_p": 0.97}),
    ],
)
def test_rust_draws_from_the_law(vocabulary: int, fields: dict[str, Any]) -> None:
    logits = tiny.random_logits(np.random.default_rng(vocabulary), (vocabulary,), "normal")
    counts = drawn(logits, **fields)
    assert statistics.tail(counts, law_of(logits, **fields)) > statistics.FALSE_ALARM


@pytest.mark.parametrize("vocabulary", [50, 4096])
def test_a_slightly_wrong_temperature_is_caught(vocabulary: int) -> None:
    logits = tiny.random_logits(np.random.default_rng(vocabulary), (vocabulary,), "normal")
    assert statistics.tail(drawn(logits, temperature=1.05), law_of(logits)) < statistics.FALSE_ALARM


def test_noise_used_twice_is_caught() -> None:
    logits = tiny.random_logits(np.random.default_rng(50), (50,), "normal")
    counts = drawn(logits, positions=np.arange(DRAWS) // 3)
    assert statistics.tail(counts, law_of(logits)) < statistics.FALSE_ALARM


def test_xtc_happens_as_often_as_it_says() -> None:
    """The law over XTC's coin is the mixture of the laws with and without it."""
    logits = np.log(np.array([0.5, 0.3, 0.2], dtype=np.float32))
    counts = drawn(logits, xtc_probability=0.3, xtc_threshold=0.1)
    assert statistics.tail(counts, np.array([0.35, 0.21, 0.14 + 0.3])) > statistics.FALSE_ALARM


def test_successive_draws_are_independent() -> None:
    rows = torch.zeros(1000, 8)
    sampler = tiny.compiled(vocab_size=8)
    pairs = np.zeros(64, dtype=np.int64)
    for start in range(0, 50_000, 1000):
        where = np.arange(start, start + 1000)
        first = kernels.sample(rows, sampler, seeds=np.full(1000, 4), positions=where).tokens
        for seed, later in ((4, 1), (5, 0)):
            second = kernels.sample(rows, sampler, seeds=np.full(1000, seed), positions=where + later).tokens
            pairs += np.bincount(np.asarray(first) * 8 + np.asarray(second), minlength=64)
    assert statistics.tail(pairs, np.full(64, 1 / 64)) > statistics.FALSE_ALARM


HOSTILE: list[tuple[str, type[ForetokenError], dict[str, Any]]] = [
    ("float64", ArgumentTypeError, {"logits": torch.zeros(2, 3, dtype=torch.float64)}),
    ("half", ArgumentTypeError, {"logits": torch.zeros(2, 3, dtype=torch.float16)}),
    ("integers", ArgumentTypeError, {"logits": torch.zeros(2, 3, dtype=torch.int64)}),
    ("not an array", ArgumentTypeError, {"logits": [[0.0, 1.0, 2.0]] * 2}),
    ("transposed", ArgumentTypeError, {"logits": torch.zeros(3, 2).T}),
    ("every other column", ArgumentTypeError, {"logits": torch.zeros(2, 6)[:, ::2]}),
    ("expanded", ArgumentTypeError, {"logits": torch.zeros(1, 3).expand(2, 3)}),
    ("one dimension", ShapeError, {"logits": torch.zeros(3)}),
    ("three dimensions", ShapeError, {"logits": torch.zeros(2, 2, 3)}),
    ("another vocabulary", ShapeError, {"logits": torch.zeros(2, 4)}),
    ("NaN", LogitsError, {"logits": torch.tensor([[0.0, 1.0, 2.0], [0.0, torch.nan, 0.0]])}),
    ("two +inf", LogitsError, {"logits": torch.tensor([[0.0, 1.0, 2.0], [torch.inf, 0.0, torch.inf]])}),
    ("all -inf", LogitsError, {"logits": torch.full((2, 3), -torch.inf)}),
    ("a negative seed", InvalidArgument, {"seeds": [0, -1]}),
    ("a seed of 65 bits", InvalidArgument, {"seeds": [0, 2**64]}),
    ("a seed that is no integer", ArgumentTypeError, {"seeds": [0, 0.5]}),
    ("too few seeds", ShapeError, {"seeds": [0]}),
    ("a negative position", InvalidArgument, {"positions": [0, -1]}),
    ("a position of 33 bits", InvalidArgument, {"positions": [0, 2**32]}),
    ("too many positions", ShapeError, {"positions": [0, 1, 2]}),
    ("a negative row", InvalidArgument, {"rows": [0, -1]}),
    ("a row of 33 bits", InvalidArgument, {"rows": [0, 2**32]}),
    ("too few rows", ShapeError, {"rows": [0]}),
    ("too few histories", ShapeError, {"history": "one"}),
    ("one history twice", InvalidArgument, {"history": "twice"}),
    ("negative logprobs", InvalidArgument, {"logprobs": -1}),
    ("more logprobs than tokens", InvalidArgument, {"logprobs": 4}),
    ("the stream of the ratio test", InvalidArgument, {"stream": noise.ACCEPT}),
    ("a stream that is none", InvalidArgument, {"stream": 2**32}),
    ("a negative stream", InvalidArgument, {"stream": -1}),
]


@BOTH
@pytest.mark.parametrize(("error", "change"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE])
def test_hostile_arguments_are_refused(kernel: Any, error: type[ForetokenError], change: dict[str, Any]) -> None:
    arguments = {"logits": torch.zeros(2, 3), "seeds": [0, 0], "positions": [0, 0], **change}
    if kernel is kernels.sample and isinstance(arguments["logits"], torch.Tensor):
        arguments["logits"] = arguments["logits"].numpy()  # floating tensors, unlike arrays, are converted
    past = tiny.history([0], [])
    if "history" in arguments:
        arguments["history"] = {"one": [past], "twice": [past, past]}[arguments["history"]]
    with pytest.raises(error):
        kernel(arguments.pop("logits"), tiny.compiled(vocab_size=3), **arguments)
    assert len(past) == 1


@BOTH
def test_extremes_are_served(kernel: Any) -> None:
    def token(row: list[float], **fields: Any) -> tuple[int, float]:
        sampler = tiny.compiled(vocab_size=len(row), **fields)
        out = kernel(torch.tensor([row]), sampler, seeds=[2**64 - 1], positions=[2**32 - 1], rows=[2**32 - 1])
        return int(out.tokens[0]), float(out.gaps[0])

    assert token([-5.0]) == (0, np.inf)
    assert token([-5.0], temperature=0.0) == (0, np.inf)
    assert token([0.0, np.inf, 1.0]) == (1, np.inf)
    assert token([-np.inf, -np.inf, -3e38], temperature=3.0) == (2, np.inf)
    assert token([3e38, -3e38, 1.0], temperature=1e-30)[0] == 0
    assert token([1.0, 1.5, -np.inf], temperature=1e-30)[0] == 1
    assert token([2.0, 2.0, 1.0], temperature=0.0) == (0, 0.0)


@BOTH
def test_equal_logits_stay_equally_likely_when_cold(kernel: Any) -> None:
    """However small the temperature, and however large the logits, a tie is a coin toss."""
    for scale, temperature in ((1.0, 1e-30), (1e30, 1.0), (1e30, 1e-8)):
        sampler = tiny.compiled(vocab_size=2, temperature=temperature)
        out = kernel(torch.full((400, 2), scale), sampler, seeds=[3] * 400, positions=range(400))
        assert 120 < int(np.asarray(out.tokens).sum()) < 280


@pytest.mark.gpu
def test_a_gpu_draws_what_a_cpu_draws() -> None:
    logits = torch.randn(64, 5000)
    sampler = tiny.compiled(vocab_size=5000, temperature=0.8, top_p=0.97, presence_penalty=0.3, dry_multiplier=0.5)
    outcomes, pasts = [], []
    for device in ("cpu", "cuda"):
        past = [tiny.history([i, i + 1, i], [i + 1]) for i in range(64)]
        keys: dict[str, Any] = {"seeds": range(64), "positions": [3] * 64, "history": past, "logprobs": 4}
        outcomes.append(kernels.sample(logits.to(device), sampler, **keys))
        pasts.append(past)
    tiny.assert_same(*outcomes)
    tiny.assert_same_pasts(*pasts)


@BOTH
def test_logits_may_come_as_models_return_them(kernel: Any) -> None:
    logits, greedy = torch.randn(3, 1, 7), tiny.compiled(vocab_size=7, temperature=0.0)
    chosen = kernel(logits, greedy, seeds=[1, 2, 3], positions=[0, 0, 0]).tokens
    assert np.asarray(chosen).tolist() == logits[:, 0].argmax(dim=1).tolist()


@BOTH
def test_no_rows_give_no_tokens(kernel: Any) -> None:
    assert len(kernel(torch.zeros(0, 3), tiny.compiled(vocab_size=3), seeds=[], positions=[]).tokens) == 0
