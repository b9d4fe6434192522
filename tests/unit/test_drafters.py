"""Drafters: rubbish is refused, what does not pay is switched off, and those made of models keep their place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import foretoken as ft
from foretoken.canvas import Canvas
from foretoken.drafter.costs import Adaptive, ForwardCosts
from foretoken.drafter.protocol import NOTHING, Draft, DraftRequest
from foretoken.errors import ArgumentTypeError, DraftError, InvalidArgument, ShapeError, UnsupportedModel
from tests.models import FunctionDrafter, FunctionSession, TableModel, tiny_model

PROMPTS = [[5, 3, 8], [2], [9, 9, 9, 9, 1]]
VOCAB = 48


def texts(out: ft.Generation) -> list[list[int]]:
    return [row.tokens.tolist() for row in out.rows]


def run(strategy: Any = None, *, model: Any = None, prompts: Any = PROMPTS, **options: Any) -> ft.Generation:
    model = TableModel() if model is None else model
    return ft.generate(model, Canvas(prompts), strategy, **{"max_tokens": 20, "seed": 3, **options})


PLAIN = texts(run())


def always(tokens: Any, probs: Any = None) -> FunctionDrafter:
    """A drafter that says the same whatever it is asked."""
    return FunctionDrafter(lambda row, past, k: Draft(tokens, probs), "rubbish")


class Answers(FunctionDrafter):
    """A drafter whose whole answer is what this function makes of the rows."""

    def __init__(self, answer: Callable[[Sequence[int], int], Any]) -> None:
        super().__init__(lambda row, past, k: NOTHING, "rubbish")
        self.answer = answer

    def open(self, request: Any) -> FunctionSession:
        session = super().open(request)
        session.propose = self.answer  # type: ignore[method-assign]
        return session


def ids(*tokens: int) -> np.ndarray:
    return np.array(tokens, dtype=np.int64)


ONE = Draft(ids(5))
RUBBISH: dict[str, Any] = {
    "id below 0": always(ids(-1)),
    "id beyond the vocabulary": always(ids(3, VOCAB)),
    "id of 2^62": always(ids(2**62)),
    "too long": always(ids(1, 2, 3, 4)),
    "floats": always(np.array([5.0])),
    "booleans": always(np.array([True])),
    "objects": always(np.array([None])),
    "a list": always([5]),
    "None": always(None),
    "two dimensions": always(ids(5)[None]),
    "no dimension": always(np.int64(5)),
    "no drafts": Answers(lambda rows, k: []),
    "a draft too few": Answers(lambda rows, k: [ONE] * (len(rows) - 1)),
    "a draft too many": Answers(lambda rows, k: [NOTHING] * (len(rows) + 1)),
    "no list": Answers(lambda rows, k: None),
    "one draft": Answers(lambda rows, k: ONE),
    "no Draft": Answers(lambda rows, k: [ids(5)] * len(rows)),
    "an empty draft that is none": Answers(lambda rows, k: [None] * len(rows)),
}
WAYS: dict[str, Callable[[Any], ft.Autoregressive]] = {
    "fixed": lambda drafter: ft.Autoregressive(drafter, length=3),
    "adaptive": lambda drafter: ft.Autoregressive(drafter, length=Adaptive(3)),
    "rejection": lambda drafter: ft.Autoregressive(drafter, length=3, verifier=ft.Rejection()),
    "first of several": lambda drafter: ft.Autoregressive(ft.Several(drafter, ft.NGram()), length=3),
    "asked with others": lambda drafter: ft.Autoregressive(ft.Several(ft.NGram(), drafter, ask_all=True), length=3),
    "adaptive among several": lambda drafter: ft.Autoregressive(ft.Several(drafter, ft.NGram()), length=Adaptive(3)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", RUBBISH)
def test_rubbish_is_refused_with_the_name_of_the_drafter(kind: str, way: str) -> None:
    with pytest.raises(DraftError, match="rubbish"):
        run(WAYS[way](RUBBISH[kind]))
    assert texts(run(WAYS["fixed"](ft.NGram(minimum=1)))) == PLAIN


def law(**changes: float) -> np.ndarray:
    """(1, vocab) probabilities: even, but for these."""
    row = np.full((1, VOCAB), 1 / VOCAB)
    for token, p in changes.items():
        row[0, int(token[1:])] = p
    return row


PROBS: dict[str, Any] = {
    "NaN": law(_7=np.nan),
    "infinity": law(_7=np.inf),
    "negative": law(_7=-0.1, _8=0.1 + 2 / VOCAB),
    "more than one": law(_7=1.0),
    "sum below one": law() * 0.999,
    "never draws its own guess": law(_5=0.0, _6=2 / VOCAB),
    "all zero": law() * 0,
    "a column less": law()[:, :-1],
    "a row more": np.repeat(law(), 2, axis=0),
    "no rows": law()[0],
    "integers": law().astype(np.int64),
    "a list": law().tolist(),
}


@pytest.mark.parametrize("kind", PROBS)
@pytest.mark.parametrize("wrap", [lambda d: d, lambda d: ft.Several(d, ft.NGram())])
def test_probabilities_that_are_none_are_refused(kind: str, wrap: Callable[[Any], Any]) -> None:
    drafter = wrap(always(ids(5), PROBS[kind]))
    with pytest.raises(DraftError):
        run(ft.Autoregressive(drafter, length=1, verifier=ft.Rejection()))
    # Who does not look at them does not care.
    assert texts(run(ft.Autoregressive(drafter, length=1))) == PLAIN
    assert run(ft.Autoregressive(wrap(always(ids(5), law())), length=1, verifier=ft.Rejection())).stats.drafted


def test_a_drafter_that_raises_is_heard() -> None:
    def guess(row: int, past: list[int], k: int) -> Draft:
        raise KeyError("lost")

    for way in WAYS.values():
        with pytest.raises(KeyError, match="lost"):
            run(way(FunctionDrafter(guess)))


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8])
def test_any_integers_are_guesses(dtype: type) -> None:
    out = run(
        ft.Autoregressive(FunctionDrafter(lambda row, past, k: Draft(np.array([5, 6], dtype=dtype)[:k])), length=2)
    )
    assert texts(out) == PLAIN
    assert out.stats.drafted


def test_predictions_behind_the_guesses_of_a_row_are_not_looked_at() -> None:
    """Rows draft as much as they like; what a model predicts for padding is arbitrary, and may be NaN."""

    class Arbitrary(TableModel):
        def open(self, rows: int, capacity: int) -> Any:
            session = super().open(rows, capacity)
            forward = session.forward

            def padded(tokens: np.ndarray, counts: np.ndarray | None = None, *, last: bool = False) -> Any:
                logits = forward(tokens, counts, last=last)
                for row, count in enumerate(() if counts is None or last else counts):
                    logits[row, count:] = np.nan
                return logits

            session.forward = padded  # type: ignore[method-assign]
            return session

    ragged = FunctionDrafter(lambda row, past, k: Draft(np.full(row % (k + 1), 5, dtype=np.int64)))
    for verifier in (ft.Coupled(), ft.Coupled(width=4)):
        assert texts(run(ft.Autoregressive(ragged, verifier, length=3), model=Arbitrary())) == PLAIN
    run(ft.Autoregressive(ragged, ft.Rejection(), length=3), model=Arbitrary(), logprobs=2)


# Arguments


@pytest.mark.parametrize("kind", [ft.NGram, ft.Suffix])
@pytest.mark.parametrize("lengths", [(0, 4), (5, 4), (1, 65), (-1, 4), (1.0, 4), (1, "4"), (None, 4), (True, 4)])
def test_lengths_of_look_ups_are_checked(kind: Any, lengths: tuple[Any, Any]) -> None:
    with pytest.raises(InvalidArgument, match=r"1 <= minimum <= maximum <= 64"):
        kind(minimum=lengths[0], maximum=lengths[1])


def test_a_corpus_is_a_corpus() -> None:
    with pytest.raises(ArgumentTypeError, match="SuffixCorpus"):
        run(ft.Autoregressive(ft.Suffix([[1, 2]])))


@pytest.mark.parametrize("maximum", [0, 65, -1, 2.0, "8", None, True])
def test_adaptive_lengths_are_checked(maximum: Any) -> None:
    with pytest.raises(InvalidArgument, match="maximum"):
        Adaptive(maximum)


@pytest.mark.parametrize("layers", [0, -1, 1.0, "1", None, True])
def test_layers_of_an_early_exit_are_checked(layers: Any) -> None:
    with pytest.raises(InvalidArgument, match="layers"):
        ft.EarlyExit(layers)


@pytest.mark.parametrize(
    ("keys", "error", "message"),
    [
        ({"length": 0}, InvalidArgument, "length"),
        ({"length": 65}, InvalidArgument, "length"),
        ({"length": 2.0}, InvalidArgument, "length"),
        ({"length": True}, InvalidArgument, "length"),
        ({"length": None}, InvalidArgument, "length"),
        ({"drafter": "suffix"}, ArgumentTypeError, "drafter"),
        ({"drafter": ft.Suffix}, ArgumentTypeError, "drafter"),
        ({"verifier": None}, ArgumentTypeError, "verifier"),
        ({"verifier": ft.Rejection}, ArgumentTypeError, "verifier"),
        ({"length": 5, "verifier": ft.Coupled(width=4)}, InvalidArgument, "do not fit"),
    ],
)
def test_arguments_of_the_strategy_are_checked(keys: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ft.Autoregressive(**keys)


@pytest.mark.parametrize("width", [0, 65, -1, 2.5, "4", True])
def test_the_width_of_a_block_is_checked(width: Any) -> None:
    with pytest.raises(InvalidArgument, match="width"):
        ft.Coupled(width=width)


def test_several_are_two_or_more() -> None:
    for drafters in ((), (ft.NGram(),)):
        with pytest.raises(InvalidArgument, match="two drafters"):
            ft.Several(*drafters)
    assert ft.Several(ft.Suffix(), ft.NGram()).name == "suffix|n-gram"


# Drafters made of models


@pytest.mark.parametrize("model", [None, "tales", object(), ft.NGram()])
def test_a_small_model_is_a_model(model: Any) -> None:
    with pytest.raises(UnsupportedModel, match="causal model"):
        ft.SmallModel(model)


def test_a_small_model_shares_the_vocabulary() -> None:
    for vocab_size in (VOCAB - 1, VOCAB + 1):
        for drafter in (small := ft.SmallModel(TableModel(vocab_size)), ft.Several(ft.NGram(), small)):
            with pytest.raises(ShapeError, match=f"{vocab_size} ids, the target {VOCAB}"):
                run(ft.Autoregressive(drafter))


def test_an_early_exit_needs_layers_to_leave_from() -> None:
    model = TableModel()
    model.first = None  # type: ignore[assignment,method-assign]
    with pytest.raises(UnsupportedModel, match="first"):
        run(ft.Autoregressive(ft.EarlyExit(1)), model=model)
    with pytest.raises(InvalidArgument, match=r"\[1, 2\]"):
        run(ft.Autoregressive(ft.EarlyExit(3)), model=tiny_model())


@pytest.mark.parametrize("context", [1, 4, 9, 23])
@pytest.mark.parametrize("verifier", [ft.Coupled(), ft.Rejection()])
def test_a_small_model_may_have_a_shorter_context(context: int, verifier: Any) -> None:
    model, small = TableModel(order=1), TableModel(order=1, context=context)
    out = run(ft.Autoregressive(ft.SmallModel(small), verifier, length=3), model=model)
    assert [len(text) for text in texts(out)] == [20, 20, 20]
    assert (out.stats.drafted == 0) == (context <= 7)  # the longest prompt has 5 units, the first guess comes behind 6
    if verifier == ft.Coupled():
        assert texts(out) == texts(run(model=model))


@pytest.mark.parametrize("layers", [1, 2])
def test_the_same_model_is_always_right(layers: int) -> None:
    """With the noise of the target the target drafts what it will choose; only the shallow one errs."""
    model = tiny_model()
    for sampler in (
        ft.Sampler(temperature=0),
        ft.Sampler(temperature=0.7, top_k=9),
        ft.Sampler(repetition_penalty=1.3),
    ):
        out = run(ft.Autoregressive(ft.EarlyExit(layers), length=4), model=model, sampler=sampler, max_tokens=40)
        assert (out.stats.acceptance == 1.0) == (layers == 2)
        assert out.stats.forwards < 40


def test_under_rejection_a_model_draws_with_noise_of_its_own() -> None:
    """The same law on both sides is always accepted; the tokens are others than those of the target's noise."""
    model = TableModel()
    out = run(ft.Autoregressive(ft.SmallModel(model), ft.Rejection(), length=4), model=model)
    assert out.stats.acceptance == 1.0
    assert texts(out) != PLAIN


class Writing:
    """A model drafter on some rows and, beside it, their texts; what it guesses must be what the model writes."""

    def __init__(self, model: Any, drafter: Any, rows: int, capacity: int) -> None:
        self.model = model
        compiled = ft.kernels.compile_sampler(ft.Sampler(temperature=0), vocab_size=VOCAB)
        none = np.zeros(rows, dtype=np.uint64)
        request = DraftRequest(model, compiled, False, none, none, None, capacity, None, ForwardCosts())
        self.session = drafter.open(request)
        self.texts = {row: [1 + row, 2][: 1 + row % 2] for row in range(rows)}
        self.guessed: dict[int, list[int]] = {row: [] for row in self.texts}
        for row, text in self.texts.items():
            self.session.start(row, np.array(text))

    def step(self, data: st.DataObject) -> None:
        asked = data.draw(st.lists(st.sampled_from(sorted(self.texts)), unique=True, min_size=1))
        k = data.draw(st.integers(1, 4))
        for row, draft in zip(asked, self.session.propose(asked, k), strict=True):
            assert draft.tokens.tolist() == self.expected(row, len(draft.tokens))
        for row, text in list(self.texts.items()):
            right = self.expected(row, 4)[: data.draw(st.integers(0, 4))]
            new = [*right, *data.draw(st.lists(st.integers(0, VOCAB - 1), min_size=not right, max_size=2))]
            if data.draw(st.integers(0, 9)) == 0 and len(self.texts) > 1:
                self.session.stop(row)
                del self.texts[row]
            else:
                text += new
                self.session.extend(row, new)

    def expected(self, row: int, k: int) -> list[int]:
        options = {"model": self.model, "prompts": [self.texts[row]], "max_tokens": k, "end_tokens": ()}
        return texts(run(**options, sampler=ft.Sampler(temperature=0)))[0]


@settings(max_examples=25)
@given(st.data())
def test_a_model_drafter_keeps_its_place_whoever_is_asked(data: st.DataObject) -> None:
    """Whatever the rows are continued with, by whose guesses: its own, another drafter's, or none."""
    model = tiny_model()
    writing = Writing(model, ft.SmallModel(model), rows=data.draw(st.integers(1, 3)), capacity=200)
    for _ in range(data.draw(st.integers(1, 6))):
        writing.step(data)


# Several


def test_several_asks_the_next_where_one_is_silent() -> None:
    """Row 1 knows the first drafter, the others the second; each verdict goes to whoever guessed."""
    verdicts: dict[str, list[tuple[int, int]]] = {"one": [], "two": []}

    class Judged(FunctionDrafter):
        def open(self, request: Any) -> FunctionSession:
            session = super().open(request)
            session.judge = lambda row, draft, accepted: verdicts[self.name].append((row, accepted))  # type: ignore
            return session

    one = Judged(lambda row, past, k: Draft(ids(1)) if row == 1 else NOTHING, "one")
    two = Judged(lambda row, past, k: Draft(ids(2)), "two")
    steps = list(run(ft.Autoregressive(ft.Several(one, two), length=2)).trace)
    assert {(step.row == 1, step.source) for step in steps if step.drafted} == {(True, "one"), (False, "two")}
    assert {row for row, _ in verdicts["one"]} == {1}
    assert {row for row, _ in verdicts["two"]} == {0, 2}
    assert len(verdicts["one"]) == sum(step.source == "one" for step in steps)


def test_ask_all_prefers_who_was_right() -> None:
    model = TableModel(order=1)

    def right(row: int, past: list[int], k: int) -> Draft:
        return Draft(ids(int(model.logits(past).argmax())))

    wrong = FunctionDrafter(lambda row, past, k: Draft(ids(int(model.logits(past).argmin()))), "wrong")
    several = ft.Several(wrong, FunctionDrafter(right, "right"), ask_all=True)
    options = {"model": model, "sampler": ft.Sampler(temperature=0), "max_tokens": 60}
    out = run(ft.Autoregressive(several, length=1), **options)
    assert out.stats.by_source["right"][0] > 4 * out.stats.by_source["wrong"][0]
    # The other way asks the first, who always has something to say.
    first = run(ft.Autoregressive(ft.Several(wrong, FunctionDrafter(right, "right")), length=1), **options)
    assert first.stats.by_source.keys() == {"wrong"}


def test_several_may_hold_several() -> None:
    inner = ft.Several(ft.NGram(minimum=1), ft.Suffix(minimum=1))
    out = run(ft.Autoregressive(ft.Several(inner, ft.SmallModel(TableModel(order=1))), length=3))
    assert texts(out) == PLAIN
    assert out.stats.by_source.keys() <= {"n-gram", "suffix", "small model"}


def test_an_adaptive_drafter_is_asked_for_no_more_than_may_be_used() -> None:
    asked = []

    def guess(row: int, past: list[int], k: int) -> Draft:
        asked.append((row, k))
        return NOTHING

    out = run(ft.Autoregressive(FunctionDrafter(guess), length=Adaptive(6)), max_tokens=9)
    assert texts(out) == [text[:9] for text in PLAIN]
    assert asked
    assert all(1 <= k <= 6 for _, k in asked)
    asked.clear()
    run(ft.Autoregressive(FunctionDrafter(guess), length=6), max_tokens=4)
    assert [k for row, k in asked if row == 0] == [2, 1]  # never for the last unit
