"""The native Llama: the logits of its twin in PyTorch, the same bits in any company, and exact with every drafter."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import foretoken as ft
from foretoken import hub, kernels
from foretoken.canvas import Canvas
from foretoken.drafter.costs import ForwardCosts
from foretoken.drafter.protocol import DraftRequest
from foretoken.errors import (
    ArgumentTypeError,
    CheckpointError,
    ForetokenError,
    InvalidArgument,
    LimitExceeded,
    LogitsError,
    ShapeError,
)
from foretoken.model.checkpoint import load_llama, save_llama
from foretoken.model.llama import LlamaModule
from foretoken.model.llama_config import LlamaConfig
from foretoken.model.protocol import CausalModel, DraftingSession
from tests.models import random_drafter, tiny_llama

from ..cases import cases

DTYPES = (torch.float32, torch.bfloat16, torch.int8)
CAPACITY = 24


def drawn_module(data: st.DataObject) -> LlamaModule:
    """Any small Llama; half of them have weights that are bfloat16 already."""
    kv_heads = data.draw(st.integers(1, 3))
    config = LlamaConfig(
        vocab_size=data.draw(st.integers(2, 70)),
        hidden_size=data.draw(st.integers(1, 40)),
        intermediate_size=data.draw(st.integers(1, 50)),
        num_hidden_layers=data.draw(st.integers(1, 3)),
        num_attention_heads=kv_heads * data.draw(st.integers(1, 3)),
        num_key_value_heads=kv_heads,
        head_dim=2 * data.draw(st.integers(1, 17)),
        max_position_embeddings=CAPACITY,
        rms_norm_eps=data.draw(st.sampled_from([1e-6, 1e-2])),
        rope_theta=data.draw(st.sampled_from([100.0, 10000.0, 500000.0])),
        tie_word_embeddings=data.draw(st.booleans()),
        eos_token_id=(),
    )
    module = LlamaModule(config)
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**32)))
    with torch.no_grad():
        for weight in module.parameters():
            weight.normal_(std=0.25, generator=generator).add_(1.0 if weight.ndim == 1 else 0.0)
            if data.draw(st.booleans()):
                weight.copy_(weight.bfloat16())
    return module


def ids(module: LlamaModule, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(module.config.vocab_size, size=shape)


def bits(logits: Any) -> np.ndarray:
    return np.asarray(logits).view(np.uint32)


@settings(max_examples=cases(60))
@given(st.data())
def test_logits_are_those_of_the_twin(data: st.DataObject) -> None:
    module = drawn_module(data)
    tokens = ids(module, 2, data.draw(st.integers(1, CAPACITY)))
    for dtype in (None, torch.float32):
        with torch.no_grad():
            expected = module(torch.from_numpy(tokens)).numpy()
        found = ft.Native(module, dtype=dtype).open(2, CAPACITY).forward(tokens).numpy()
        assert (found.shape, found.dtype) == (expected.shape, np.float32)
        np.testing.assert_allclose(found, expected, atol=1e-4 * max(1.0, float(abs(expected).max())))


@pytest.mark.parametrize("name", hub.names())
@pytest.mark.parametrize("dtype", [None, torch.float32])
def test_shipped_models_predict_alike(name: str, dtype: torch.dtype | None) -> None:
    module = load_llama(ft.path(name))
    tokens = ids(module, 2, 200)
    expected = ft.Llama(module).open(2, 200).forward(tokens).numpy()
    model = ft.Native(module, dtype=dtype)
    assert model.dtype is (dtype or torch.bfloat16)  # their files lose nothing
    np.testing.assert_allclose(model.open(2, 200).forward(tokens).numpy(), expected, atol=1e-4)


def test_rounded_weights_are_near_and_small() -> None:
    module = tiny_llama()
    sizes, errors = [], []
    tokens = ids(module, 1, 20)
    with torch.no_grad():
        expected = module(torch.from_numpy(tokens)).numpy()
    for dtype in DTYPES:
        model = ft.Native(module, dtype=str(dtype).removeprefix("torch."))
        assert model.dtype is dtype
        sizes.append(model.memory)
        errors.append(float(abs(model.open(1, 20).forward(tokens).numpy() - expected).max()) / float(expected.std()))
    assert sizes[0] == 2 * sizes[1] > 3.5 * sizes[2]
    assert errors[0] < 1e-5 < errors[1] < errors[2] < 0.25
    assert ft.Native(module).dtype is torch.float32  # these weights would lose something


class Company:
    """A session under a random history, and the ids of each row, which a fresh session reads one by one."""

    def __init__(self, model: ft.Native, rows: int) -> None:
        self.model, self.session = model, model.open(rows, CAPACITY)
        self.past: list[list[int]] = [[] for _ in range(rows)]

    def forward(self, tokens: np.ndarray, counts: np.ndarray | None, *, last: bool) -> None:
        found = self.session.forward(tokens, counts, last=last).numpy()
        for row, past in enumerate(self.past):
            count = tokens.shape[1] if counts is None else int(counts[row])
            past.extend(tokens[row, :count].tolist())
            alone = self.model.open(1, CAPACITY)
            expected = [alone.forward(np.array([[token]])).numpy()[0, 0] for token in past][-1 if last else -count :]
            np.testing.assert_array_equal(bits(found[row, : len(expected)]), bits(expected))

    def step(self, data: st.DataObject) -> None:
        """One random thing that a strategy may do."""
        room = CAPACITY - max(map(len, self.past))
        kind = data.draw(st.sampled_from(["level", "ragged", "truncate", "select"]))
        width, last = data.draw(st.integers(1, 7)), data.draw(st.booleans())
        tokens = np.random.default_rng(data.draw(st.integers(0, 99))).integers(
            self.model.vocab_size, size=(len(self.past), width)
        )
        if kind == "level" and width <= room:
            self.forward(tokens, None, last=last)
        elif kind == "ragged" and room:
            most = [min(width, CAPACITY - len(past)) for past in self.past]
            self.forward(tokens, np.array([data.draw(st.integers(1, count)) for count in most]), last=last)
        elif kind == "truncate":
            lengths = [data.draw(st.integers(0, len(past) + 1)) for past in self.past]
            self.session.truncate(np.array(lengths))
            self.past = [past[:length] for past, length in zip(self.past, lengths, strict=True)]
        elif kind == "select":
            lines = data.draw(st.lists(st.integers(0, len(self.past) - 1), min_size=1, max_size=4))
            self.session.select(np.array(lines))
            self.past = [list(self.past[line]) for line in lines]
        assert self.session.lengths.tolist() == list(map(len, self.past))


@settings(max_examples=cases(60))
@given(st.data())
def test_a_row_has_the_same_bits_after_any_history(data: st.DataObject) -> None:
    company = Company(
        ft.Native(drawn_module(data), dtype=data.draw(st.sampled_from(DTYPES))), data.draw(st.integers(1, 3))
    )
    for _ in range(data.draw(st.integers(1, 8))):
        company.step(data)


def test_a_wrong_history_has_other_bits() -> None:
    """The control: a session that forgets to forget is found out."""
    company = Company(ft.Native(tiny_llama()), 2)
    tokens = ids(tiny_llama(), 2, 8)
    company.forward(tokens, None, last=False)
    company.past = [past[:5] for past in company.past]
    with pytest.raises(AssertionError):
        company.forward(tokens[:, :2], None, last=False)


@pytest.mark.parametrize("dtype", DTYPES)
def test_threads_and_width_change_no_bit(dtype: torch.dtype) -> None:
    """On a model that is large enough for threads to share it."""
    module = load_llama(ft.path("tales"))
    tokens, expected = ids(module, 3, 12), None
    for threads, widths in ((1, [1] * 12), (2, [12]), (2, [1] * 12), (3, [5, 7]), (7, [4, 8])):
        session, found, at = ft.Native(module, dtype=dtype, threads=threads).open(3, 12), [], 0
        for width in widths:
            found.append(bits(session.forward(tokens[:, at : at + width])))
            at += width
        whole = np.concatenate(found, axis=1)
        expected = whole if expected is None else expected
        np.testing.assert_array_equal(whole, expected)


MODULE = tiny_llama(3)
MODEL = ft.Native(MODULE)
PROMPTS = [[5, 3, 8], [2], [9, 9, 9, 9, 1]]
SAMPLERS = {
    "greedy": ft.Sampler(temperature=0),
    "truncated": ft.Sampler(temperature=0.8, top_k=20, top_p=0.95),
    "penalties": ft.Sampler(repetition_penalty=1.2, presence_penalty=0.3, dry_multiplier=0.5, top_p=0.9),
    "mirostat": ft.Sampler(mirostat_tau=3.0),
}
DRAFTERS: dict[str, Callable[[], Any]] = {
    "NGram": lambda: ft.NGram(minimum=1),
    "Suffix": lambda: ft.Suffix(),
    "SmallModel": lambda: ft.SmallModel(ft.Native(tiny_llama(4, layers=1))),
    "SmallModel, alike": lambda: ft.SmallModel(ft.Native(MODULE, dtype=torch.bfloat16)),
    "SmallModel in PyTorch": lambda: ft.SmallModel(ft.Llama(MODULE)),
    "EarlyExit": lambda: ft.EarlyExit(1),
    "Several": lambda: ft.Several(ft.NGram(minimum=1), ft.SmallModel(MODEL.first(1))),
    "random": lambda: random_drafter(48),
}


def texts(strategy: Any = None, **options: Any) -> list[tuple[list[int], list[float]]]:
    """Tokens and leads of each row; the leads are equal only if the logits are, to the bit."""
    keys = {"max_tokens": 30, "seed": 3, "n": 2, "sampler": SAMPLERS["truncated"], **options}
    out = ft.generate(MODEL, Canvas(PROMPTS), strategy, **keys)
    return [(row.tokens.tolist(), [gap for step in steps for gap in step.gaps]) for row, steps in _steps(out)]


def _steps(out: ft.Generation) -> list[tuple[Any, list[Any]]]:
    return [(row, [step for step in out.trace if step.row == index]) for index, row in enumerate(out.rows)]


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("drafter", DRAFTERS)
def test_no_drafter_changes_a_token_or_a_lead(drafter: str, sampler: str) -> None:
    options = {"sampler": SAMPLERS[sampler], "min_tokens": 5}
    plain = texts(**options)
    for length in (1, 5):
        assert texts(ft.Autoregressive(DRAFTERS[drafter](), length=length), **options) == plain


class OneByOne:
    """A model whose sessions cannot draft: what draws a draft in one call must draw what this draws."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.vocab_size, self.context, self.end_tokens = model.vocab_size, model.context, model.end_tokens

    def open(self, rows: int, capacity: int) -> Any:
        session = self.model.open(rows, capacity)
        assert isinstance(session, DraftingSession)
        return Steps(session)


class Steps:
    def __init__(self, session: Any) -> None:
        self.session = session
        self.forward, self.truncate, self.select = session.forward, session.truncate, session.select

    @property
    def lengths(self) -> np.ndarray:
        return self.session.lengths


def drafts(model: CausalModel, sampler: ft.Sampler, *, rejection: bool, k: int = 6) -> list[Any]:
    """What a small model proposes for some rows, before and after they go on."""
    histories = [kernels.History(prompt) for prompt in PROMPTS]
    request = DraftRequest(
        model=model,
        sampler=kernels.compile_sampler(sampler, vocab_size=48, end_tokens=(0,), min_tokens=8),
        rejection=rejection,
        seeds=np.array([1, 2, 3], dtype=np.uint64),
        samples=np.array([0, 1, 0]),
        histories=histories,
        capacity=40,
        adaptive=None,
        costs=ForwardCosts(),
    )
    drafting = ft.SmallModel(model).open(request)
    for row, prompt in enumerate(PROMPTS):
        drafting.start(row, np.array(prompt))
    found = drafting.propose([0, 1, 2], k)
    for row, draft in enumerate(found):
        tokens = [*draft.tokens[: 2 * row].tolist(), 7]
        drafting.extend(row, tokens)
        histories[row].extend(tokens)
    drafting.stop(1)
    found += drafting.propose([0, 2], k)
    assert [len(history.output) for history in histories] == [1, 3, 5]  # guesses are in copies only
    return [(draft.tokens.tolist(), None if draft.probs is None else draft.probs.tolist()) for draft in found]


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("rejection", [False, True])
def test_a_draft_in_one_call_is_a_draft_step_by_step(sampler: str, rejection: bool) -> None:
    at_once = drafts(MODEL, SAMPLERS[sampler], rejection=rejection)
    assert at_once == drafts(OneByOne(MODEL), SAMPLERS[sampler], rejection=rejection)
    assert all(len(tokens) == 6 and (probs is not None) == rejection for tokens, probs in at_once)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_small_model_drafts_what_its_twin_drafts(sampler: str) -> None:
    ours, theirs = (drafts(model, SAMPLERS[sampler], rejection=False) for model in (MODEL, ft.Llama(MODULE)))
    assert ours == theirs


def test_rejection_takes_the_laws() -> None:
    out = ft.generate(
        MODEL,
        Canvas(PROMPTS),
        ft.Autoregressive(ft.SmallModel(MODEL), ft.Rejection(), length=4),
        max_tokens=40,
        min_tokens=30,
        seed=1,
    )
    assert out.stats.accepted == out.stats.drafted > 20  # the drafter's law is the target's, to the bit


def test_a_draft_that_fails_leaves_the_session_as_it_was() -> None:
    session = MODEL.open(1, 12)
    session.forward(np.array([[1, 2]]))
    sampler = kernels.compile_sampler(ft.Sampler(bad_words=tuple((token,) for token in range(48))), vocab_size=48)
    with pytest.raises(LogitsError):
        session.draft(np.array([[3]]), None, 4, sampler, seeds=np.array([1], dtype=np.uint64))
    assert session.lengths.tolist() == [2]
    fine = kernels.compile_sampler(ft.Sampler(), vocab_size=48)
    keys = {"seeds": np.array([1], dtype=np.uint64)}
    for wrong in (
        lambda: session.draft(np.array([[3]]), None, 0, fine, **keys),
        lambda: session.draft(np.array([[3]]), None, 2**40, fine, **keys),
        lambda: session.draft(np.array([[3]]), None, 11, fine, **keys),  # 2 read, 1 to read, 10 guesses to read
        lambda: session.draft(np.array([[48]]), None, 2, fine, **keys),
        lambda: session.draft(np.array([[3]]), None, 2, fine, seeds=[1, 2]),
        lambda: session.draft(np.array([[3]]), None, 2, kernels.compile_sampler(ft.Sampler(), vocab_size=47), **keys),
        lambda: session.draft(np.array([[3]]), None, 2, None, **keys),
    ):
        with pytest.raises(ForetokenError):
            wrong()
        assert session.lengths.tolist() == [2]
    assert session.draft(np.array([[3]]), None, 10, fine, **keys)[0].shape == (1, 10)
    assert session.lengths.tolist() == [12]


def row(*tokens: int) -> np.ndarray:
    return np.array([tokens], dtype=np.int64)


@pytest.mark.parametrize(
    ("error", "tokens", "counts"),
    [
        (InvalidArgument, row(48), None),
        (InvalidArgument, row(-1), None),
        (InvalidArgument, row(2**62), None),
        (InvalidArgument, row(), None),
        (LimitExceeded, row(*range(9)), None),
        (InvalidArgument, row(1, 2), [0]),
        (InvalidArgument, row(1, 2), [3]),
        (InvalidArgument, row(1, 2), [-1]),
        (ShapeError, row(1, 2), [1, 1]),
        (ShapeError, np.array([[1], [2]]), None),
        (ShapeError, np.array([1, 2]), None),
        (ArgumentTypeError, row(1, 2).astype(float), None),
        (ArgumentTypeError, row(1, 2).astype(np.int32), None),
        (ArgumentTypeError, row(1, 2), [0.5]),
    ],
)
def test_wrong_input_is_refused_before_anything_changes(error: Any, tokens: np.ndarray, counts: Any) -> None:
    session = MODEL.open(1, 10)
    session.forward(row(4, 5))
    with pytest.raises(error):
        session.forward(tokens, counts)
    assert session.lengths.tolist() == [2]
    fresh = MODEL.open(1, 10).forward(row(4, 5, 6)).numpy()[:, 2:]
    np.testing.assert_array_equal(bits(session.forward(row(6))), bits(fresh))


def test_padding_may_hold_anything_and_reach_anywhere() -> None:
    session = MODEL.open(2, 4)
    logits = session.forward(np.array([[1, 2, 3, 4, 5], [6, -9, 99, 2**60, 7]]), np.array([4, 1]))
    assert session.lengths.tolist() == [4, 1]
    np.testing.assert_array_equal(bits(logits[1, 0]), bits(MODEL.open(1, 1).forward(row(6))[0, 0]))


@pytest.mark.parametrize(
    ("error", "call"),
    [
        (InvalidArgument, lambda session: session.truncate(np.array([-1, 0]))),
        (ShapeError, lambda session: session.truncate(np.array([1]))),
        (InvalidArgument, lambda session: session.select(np.array([], dtype=np.int64))),
        (InvalidArgument, lambda session: session.select(np.array([0, 2]))),
        (InvalidArgument, lambda session: session.select(np.array([-1]))),
        (InvalidArgument, lambda session: MODEL.open(0, 5)),
        (InvalidArgument, lambda session: MODEL.open(-1, 5)),
        (InvalidArgument, lambda session: MODEL.open(1, 0)),
        (LimitExceeded, lambda session: MODEL.open(1, 257)),
        (LimitExceeded, lambda session: MODEL.open(1, 2**62)),
        (InvalidArgument, lambda session: MODEL.first(0)),
        (InvalidArgument, lambda session: MODEL.first(3)),
        (InvalidArgument, lambda session: ft.Native(MODULE, dtype=torch.float16)),
        (InvalidArgument, lambda session: ft.Native(MODULE, dtype="bf16")),
        (InvalidArgument, lambda session: ft.Native(MODULE, threads=0)),
        (InvalidArgument, lambda session: ft.Native(MODULE, threads=10**6)),
        (ArgumentTypeError, lambda session: ft.Native(MODULE, threads=1.5)),
        (ArgumentTypeError, lambda session: ft.Native(MODEL)),
        (CheckpointError, lambda session: ft.Native("no/such/folder")),
    ],
)
def test_other_wrong_arguments_are_refused(error: Any, call: Callable[[Any], Any]) -> None:
    session = MODEL.open(2, 8)
    session.forward(np.array([[1, 2], [3, 4]]))
    with pytest.raises(error):
        call(session)
    assert session.lengths.tolist() == [2, 2]


@pytest.mark.parametrize(
    "name", ["model.embed_tokens.weight", "model.layers.1.mlp.up_proj.weight", "model.norm.weight"]
)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_weight_that_is_no_number_is_refused(name: str, value: float) -> None:
    module = tiny_llama()
    with torch.no_grad():
        dict(module.named_parameters())[name].flatten()[7] = value
    with pytest.raises(InvalidArgument, match=name.removeprefix("model.layers.1.mlp.").replace(".", r"\.") + " .* 7"):
        ft.Native(module)


SHAPE = ((48, 32, 48, 2, 4, 2, 8, 256), 1e-5, 1e4)


@pytest.mark.parametrize(
    ("error", "shape"),
    [
        (InvalidArgument, ((48, 32, 48, 2, 4, 3, 8, 256), 1e-5, 1e4)),
        (InvalidArgument, ((48, 32, 48, 2, 4, 2, 7, 256), 1e-5, 1e4)),
        (InvalidArgument, ((0, 32, 48, 2, 4, 2, 8, 256), 1e-5, 1e4)),
        (InvalidArgument, ((48, 2**40, 48, 2, 4, 2, 8, 256), 1e-5, 1e4)),
        (InvalidArgument, ((48, 32, 48, 2, 4, 2, 8, 256), 0.0, 1e4)),
        (InvalidArgument, ((48, 32, 48, 2, 4, 2, 8, 256), 1e-5, float("inf"))),
        (ShapeError, ((49, 32, 48, 2, 4, 2, 8, 256), 1e-5, 1e4)),
        (ShapeError, ((48, 32, 48, 2, 8, 2, 8, 256), 1e-5, 1e4)),
        (ArgumentTypeError, ((48, 32, 48, 3, 4, 2, 8, 256), 1e-5, 1e4)),  # a block more than there are weights
    ],
)
def test_weights_that_do_not_fit_are_refused(error: Any, shape: Any) -> None:
    weights = {name: weight.detach().numpy() for name, weight in MODULE.named_parameters()}
    assert kernels.NativeModel(SHAPE, weights).dtype == "float32"
    with pytest.raises(error):
        kernels.NativeModel(shape, weights)
    for wrong in ({**weights, "model.norm.weight": None}, {**weights, "model.norm.weight": np.ones(32)}):
        with pytest.raises(ArgumentTypeError):
            kernels.NativeModel(SHAPE, wrong)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tied", [True, False])
def test_a_model_pickles_with_its_bits(dtype: torch.dtype, tied: bool) -> None:
    module = load_llama(ft.path("tales-draft")) if tied else MODULE
    model = ft.Native(module, dtype=dtype, threads=2)
    again = pickle.loads(pickle.dumps(model))
    assert (again.dtype, again.threads, again.config) == (dtype, 2, module.config)
    tokens = ids(module, 1, 9)
    np.testing.assert_array_equal(bits(again.open(1, 9).forward(tokens)), bits(model.open(1, 9).forward(tokens)))


def test_a_child_goes_on_where_its_parent_was() -> None:
    """After a forward in two threads: the child lacks the one that stands by, and does its part alone."""
    model = ft.Native(ft.path("tales"), threads=2)
    session = model.open(1, 20)
    session.forward(row(1, 2, 3))
    expected = model.open(1, 20).forward(row(1, 2, 3, 4)).numpy()[0, 3]
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        found = session._core.forward(row(4), None, False)  # nothing of torch, whose threads a child lacks
        os.write(writing, found.tobytes())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    np.testing.assert_array_equal(np.frombuffer(said, dtype=np.float32), expected)


def test_a_pipeline_and_its_drafter_run_natively(tmp_path: Path) -> None:
    def text(pipeline: ft.Pipeline, drafter: Any = None) -> Any:
        return pipeline("Once upon a time", max_tokens=40, seed=7, strategy=ft.Autoregressive(drafter)).tokens.tolist()

    tale = ft.load("tales", model=ft.Native)
    assert isinstance(tale.model, ft.Native)
    small = ft.small_model("tales", model=ft.Native)
    assert isinstance(small.model, ft.Native)
    assert text(tale) == text(tale, small) == text(ft.load("tales"))
    with pytest.raises(ArgumentTypeError, match="Native"):
        ft.load("tales", model="native")  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_folders_of_every_float_are_read(dtype: torch.dtype, tmp_path: Path) -> None:
    save_llama(tiny_llama(), tmp_path, dtype=dtype)
    model, tokens = ft.Native(tmp_path), ids(tiny_llama(), 1, 9)
    assert model.dtype is (torch.bfloat16 if dtype is torch.bfloat16 else torch.float32)
    expected = ft.Llama(load_llama(tmp_path)).open(1, 9).forward(tokens)
    np.testing.assert_allclose(model.open(1, 9).forward(tokens), expected, atol=1e-4)


def test_the_model_says_what_it_is() -> None:
    assert isinstance(MODEL, CausalModel)
    assert (MODEL.vocab_size, MODEL.context, MODEL.end_tokens, MODEL.device.type) == (48, 256, (0,), "cpu")
    assert [len(MODEL.first(layers).layers) for layers in (1, 2)] == [1, 2]
    sizes: Sequence[int] = [MODEL.first(layers).memory for layers in (1, 2)]
    assert sizes[0] < sizes[1] == MODEL.memory
