"""Masked steps: the kernel is its twin, rows are alone, and rules that look at laws keep them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foretoken import halton, kernels
from foretoken.errors import ArgumentTypeError, ForetokenError, InvalidArgument, LogitsError, ShapeError
from foretoken.reference import reveal as reference
from foretoken.rules import EntropyBound, Margin, MaxProbability, Order, SampledConfidence

from .. import tiny
from ..cases import cases

PAST = ("mirostat", "dry_", "repetition", "presence", "frequency")
CLOSE = 1e-9


@st.composite
def steps(draw: st.DrawFn) -> dict[str, Any]:
    """Arguments of `confidences`: ragged rows with known and unknown positions."""
    rows, positions = draw(st.integers(0, 4)), draw(st.integers(0, 6))
    vocabulary = draw(st.integers(1, 9) | st.sampled_from([300, 520]))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    fields = draw(tiny.sampler_fields(vocabulary))
    fields = {name: value for name, value in fields.items() if not name.startswith(PAST)}
    if "bad_words" in fields:
        fields["bad_words"] = [word for word in fields["bad_words"] if len(word) == 1]
    logits = tiny.random_logits(generator, (rows, positions, vocabulary), draw(st.sampled_from(tiny.STYLES)))
    known = generator.random((rows, positions)) < draw(st.sampled_from([0.0, 0.3, 0.9]))
    return {
        "logits": torch.from_numpy(logits),
        "canvas": np.where(known, generator.integers(0, 999, (rows, positions)), -1),
        "sampler": tiny.compiled(vocab_size=vocabulary, **fields),
        "seeds": generator.integers(2**64, size=rows, dtype=np.uint64),
        "step": draw(st.sampled_from([0, 1, 2, 7, 2**28 - 1])),
        "lengths": generator.integers(positions + 1, size=rows) if draw(st.booleans()) else None,
        "positions": generator.integers(2**32 - 16, size=rows) if draw(st.booleans()) else None,
        "rows": generator.integers(2**32, size=rows) if draw(st.booleans()) else None,
    }


@st.composite
def rules(draw: st.DrawFn, shape: tuple[int, int]) -> Any:
    """A rule, and how many it is to reveal."""
    share = st.none() | st.floats(0, 1)
    few = st.integers(0, 4)
    each = few | st.lists(few, min_size=shape[0], max_size=shape[0])
    rule = draw(
        st.floats(0, 3).map(EntropyBound)
        | share.map(MaxProbability)
        | share.map(Margin)
        | share.map(lambda threshold: SampledConfidence(threshold=threshold))
        | st.floats(0.1, 9).map(SampledConfidence)
        | st.lists(few, min_size=shape[1], max_size=shape[1]).map(Order)
        | st.just(lambda found: np.nan_to_num(found.largest - found.entropies))
    )
    if not isinstance(rule, EntropyBound) and getattr(rule, "threshold", None) is None:
        return rule, {"count": draw(each)}
    return rule, draw(st.fixed_dictionaries({}, optional={"count": each, "least": each, "most": each}))


def twin(kernel: Any, case: dict[str, Any], **keywords: Any) -> Any:
    """What the twin makes of it."""
    return kernel(**{**case, "canvas": torch.from_numpy(case["canvas"])}, **keywords)


@settings(max_examples=cases(300))
@given(steps())
def test_confidences_are_those_of_the_twin(case: dict[str, Any]) -> None:
    found = tiny.outcome(kernels.confidences, **case)
    expected = tiny.outcome(lambda: twin(reference.confidences, case))
    tiny.assert_same(found, expected)


@settings(max_examples=cases(400))
@given(st.data(), steps())
def test_what_is_revealed_is_what_the_twin_reveals(data: st.DataObject, case: dict[str, Any]) -> None:
    rows, positions = case["canvas"].shape
    rule, counts = data.draw(rules((rows, positions)))
    found = tiny.outcome(kernels.reveal, **case, select=rule, **counts)
    both = {name: kernels.reveal.__globals__["each_row"](name, number, rows) for name, number in counts.items()}
    if "count" in both:
        both["least"] = both["most"] = both["count"]
    if callable(rule):
        told = tiny.outcome(kernels.confidences, **case)
        if isinstance(told, type):
            assert found is told
            return
        scores = rule(told)
        expected = tiny.outcome(lambda: twin(reference.reveal, case, select=Order(0.0 - scores), **both))
    else:
        expected = tiny.outcome(lambda: twin(reference.reveal, case, select=rule, **both))
    if isinstance(found, type) or isinstance(expected, type):
        # An order does not look where it does not reveal; the twin looks everywhere.
        assert found is expected or (isinstance(rule, Order) and expected is LogitsError)
        return
    told = twin(reference.confidences, case)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=CLOSE, atol=CLOSE)
    for row in np.flatnonzero(found.revealed.sum(axis=1) != expected.revealed.sum(dim=1).numpy()):
        # One more or less only where entropies that add up to the bound, but for rounding, decide.
        assert isinstance(rule, EntropyBound)
        scores = expected.scores[row].numpy()
        sums = np.cumsum(np.sort(-scores[~np.isnan(scores)]))
        assert (np.abs(sums - rule.bound) < CLOSE).any()
        return
    np.testing.assert_array_equal(found.canvas, np.where(found.revealed, told.tokens, case["canvas"]))
    np.testing.assert_allclose(found.gaps[found.revealed], told.gaps.numpy()[found.revealed], rtol=CLOSE, atol=CLOSE)
    # Other positions than the twin's only where scores are as good as equal.
    for row, differ in enumerate(found.revealed != expected.revealed.numpy()):
        some = expected.scores.numpy()[row, differ]
        assert not len(some) or np.ptp(some) <= CLOSE * max(1, np.abs(some).max())


def random_case(rows: int, positions: int, vocabulary: int, seed: int = 0, **fields: Any) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    return {
        "logits": tiny.random_logits(generator, (rows, positions, vocabulary), "normal"),
        "canvas": np.where(generator.random((rows, positions)) < 0.4, 3, -1),
        "sampler": tiny.compiled(vocab_size=vocabulary, **fields),
        "seeds": generator.integers(2**63, size=rows),
        "step": 2,
    }


RULES = [
    (EntropyBound(6.0), {}),
    (MaxProbability(0.1), {"least": 2, "most": 7}),
    (Margin(), {"count": 3}),
    (SampledConfidence(4.5), {"count": 4}),
    (Order(halton.ranks(5, 6)), {"count": 5}),
    (lambda found: found.margins, {"count": 5}),
]


@pytest.mark.parametrize(("rule", "counts"), RULES)
def test_threads_and_neighbours_change_nothing(rule: Any, counts: dict[str, Any]) -> None:
    case = random_case(9, 30, 4000, top_p=0.9)
    lengths = np.arange(9) * 4 - np.arange(9) // 8 * 2
    whole = kernels.reveal(**case, select=rule, **counts, lengths=lengths)
    assert whole.revealed.any()
    for threads in (2, 3, 64):
        again = kernels.reveal(**case, select=rule, **counts, lengths=lengths, threads=threads)
        for one, other in zip(whole, again, strict=True):
            np.testing.assert_array_equal(one, other)
    for row in range(9):
        alone = {name: case[name][row : row + 1] for name in ("logits", "canvas", "seeds")}
        # What lies behind a row is cut off instead: it plays no part.
        end = int(lengths[row])
        alone |= {name: np.ascontiguousarray(alone[name][:, :end]) for name in ("logits", "canvas")}
        select = Order(np.asarray(rule.ranks)[:end]) if isinstance(rule, Order) else rule
        single = kernels.reveal(**{**case, **alone}, select=select, **counts)
        for one, other in zip(whole, single, strict=True):
            np.testing.assert_array_equal(one[row, :end], other[0])
        np.testing.assert_array_equal(whole.canvas[row, end:], case["canvas"][row, end:])


@pytest.mark.parametrize(("rule", "counts"), RULES)
def test_known_tokens_stay(rule: Any, counts: dict[str, Any]) -> None:
    case = random_case(6, 30, 50)
    found = kernels.reveal(**case, select=rule, **counts)
    known = case["canvas"] >= 0
    np.testing.assert_array_equal(found.canvas[known], case["canvas"][known])
    assert not found.revealed[known].any()
    done = np.full((6, 30), 4)
    all_known = kernels.reveal(**{**case, "canvas": done}, select=rule, **counts)
    np.testing.assert_array_equal(all_known.canvas, done)


def test_counts_are_exact() -> None:
    """Also where all scores tie, where more is asked for than there is, and where nothing is."""
    case = random_case(5, 12, 7)
    case["logits"][:] = 0.0
    case["canvas"][:] = -1
    case["canvas"][4, 2:] = 1
    for rule in (EntropyBound(), MaxProbability(), Margin(), SampledConfidence(), SampledConfidence(3.0)):
        found = kernels.reveal(**case, select=rule, count=[0, 1, 5, 99, 5])
        assert found.revealed.sum(axis=1).tolist() == [0, 1, 5, 12, 2]
        if rule != SampledConfidence(3.0):
            # Ties go to the lower position; the draws of equal laws are as probable as each other.
            assert found.revealed[2].tolist() == [True] * 5 + [False] * 7
    bounded = kernels.reveal(**case, select=EntropyBound(0.0), least=[0, 1, 2, 3, 9], most=[3, 0, 3, 3, 1])
    assert bounded.revealed.sum(axis=1).tolist() == [1, 0, 2, 3, 1]
    # ln 7 each: two of them fit beside the last under 4 nats.
    assert kernels.reveal(**case, select=EntropyBound(4.0)).revealed.sum(axis=1).tolist() == [3, 3, 3, 3, 2]


def test_the_first_step_draws_what_sample_draws() -> None:
    """All at once is one choice for each position, so one masked step is one shot."""
    case = random_case(3, 8, 400, top_k=30, temperature=0.8)
    case["canvas"][:] = -1
    found = kernels.reveal(**{**case, "step": 0}, count=8, positions=[5, 0, 9])
    for row, start in enumerate([5, 0, 9]):
        keys = {"seeds": [case["seeds"][row]] * 8, "positions": range(start, start + 8)}
        alone = kernels.sample(case["logits"][row], case["sampler"], **keys)
        np.testing.assert_array_equal(found.canvas[row], alone.tokens)
        np.testing.assert_array_equal(found.gaps[row], alone.gaps)
    other = kernels.reveal(**case, count=8, positions=[5, 0, 9])
    assert 0 < (found.canvas != other.canvas).mean() < 1


HOSTILE = {"NaN": [0.0, np.nan], "two +inf": [np.inf, np.inf], "all -inf": [-np.inf, -np.inf]}


@pytest.mark.parametrize("row", HOSTILE.values(), ids=list(HOSTILE))
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_hostile_logits_are_refused_by_row_and_position(row: list[float], temperature: float) -> None:
    sampler = tiny.compiled(vocab_size=2, temperature=temperature)
    canvas = np.array([[-1, -1, 0], [1, -1, -1]])
    before = canvas.copy()
    for place in ((0, 2), (1, 0)):  # known
        logits = np.zeros((2, 3, 2), dtype=np.float32)
        logits[place] = row
        for rule in (EntropyBound(), SampledConfidence(1.0)):
            assert kernels.reveal(logits, canvas, sampler, seeds=[1, 2], step=0, select=rule, count=3).revealed.any()
    logits = np.zeros((2, 3, 2), dtype=np.float32)
    logits[1, 2] = row
    for call in (
        lambda: kernels.reveal(logits, canvas, sampler, seeds=[1, 2], step=0),
        lambda: kernels.reveal(logits, canvas, sampler, seeds=[1, 2], step=0, select=Order([0, 1, 2]), count=2),
        lambda: kernels.confidences(logits, canvas, sampler, seeds=[1, 2], step=0, threads=2),
    ):
        with pytest.raises(LogitsError, match="position 2, row 1 has"):
            call()
    with pytest.raises(LogitsError, match="row 1, position 2, has"):
        reference.confidences(torch.from_numpy(logits), torch.from_numpy(canvas), sampler, seeds=[1, 2], step=0)
    np.testing.assert_array_equal(canvas, before)
    # An order does not look where it does not reveal.
    first = kernels.reveal(logits, canvas, sampler, seeds=[1, 2], step=0, select=Order([0, 1, 2]), count=1)
    assert first.revealed.tolist() == [[True, False, False], [False, True, False]]


def test_certain_positions_cost_nothing() -> None:
    sampler = tiny.compiled(vocab_size=3)
    logits = np.array([[[np.inf, 0, 0], [0, 0, 0], [-np.inf, 2, -np.inf], [0, 0, 0]]], dtype=np.float32)
    canvas = np.full((1, 4), -1)
    found = kernels.reveal(logits, canvas, sampler, seeds=[1], step=0, select=EntropyBound(0.0))
    assert found.revealed.tolist() == [[True, True, True, False]]
    assert (found.canvas[0, 0], found.canvas[0, 2]) == (0, 1)
    told = kernels.confidences(logits, canvas, sampler, seeds=[1], step=0)
    assert told.entropies[0, [0, 2]].tolist() == [0, 0]
    assert told.margins[0].tolist() == [1, 0, 1, 0]


def test_arguments_are_checked() -> None:
    case = random_case(2, 3, 4)

    def refused(error: type[ForetokenError], message: str, **changed: Any) -> None:
        with pytest.raises(error, match=message):
            kernels.reveal(**{**case, **changed})

    refused(InvalidArgument, "does not say how many", select=MaxProbability())
    refused(InvalidArgument, "does not say how many", select=lambda found: found.margins)
    refused(ArgumentTypeError, "select is a str", select="entropy", count=1)
    refused(ArgumentTypeError, "count", select=Margin(), count=1.5)
    refused(InvalidArgument, "least is -1", least=-1)
    refused(ShapeError, "most has 1 entries", most=[1])
    refused(InvalidArgument, "canvas is -2", canvas=np.full((2, 3), -2))
    refused(ArgumentTypeError, "canvas is of float64", canvas=np.zeros((2, 3)))
    refused(ShapeError, "canvas has 2 positions, expected 3", canvas=np.full((2, 2), -1))
    refused(ShapeError, "canvas has 1 dimensions", canvas=np.full(3, -1))
    refused(InvalidArgument, "lengths is 4", lengths=[1, 4])
    refused(ShapeError, "lengths has 1 entries", lengths=[1])
    refused(InvalidArgument, "position 4294967294", positions=[0, 2**32 - 2])
    refused(InvalidArgument, "step is -1", step=-1)
    refused(InvalidArgument, "step is 268435456", step=2**28)
    refused(InvalidArgument, "threads is 0", threads=0)
    refused(ShapeError, "ranks has shape", select=Order([0, 1]), count=1)
    refused(ShapeError, "scores of shape", select=lambda found: found.margins[:1], count=1)
    refused(LogitsError, "scores of row 0 has NaN", select=lambda found: found.margins * np.nan, count=1)
    refused(InvalidArgument, "no order in a canvas", sampler=tiny.compiled(vocab_size=4, presence_penalty=0.5))
    refused(InvalidArgument, "no order in a canvas", sampler=tiny.compiled(vocab_size=4, bad_words=[[1, 2]]))
    for wrong in (-0.1, np.nan):
        for make in (EntropyBound, MaxProbability, Margin, SampledConfidence):
            with pytest.raises(InvalidArgument, match=r"is -0\.1|is nan"):
                make(wrong)
    with pytest.raises(InvalidArgument, match="contradict"):
        SampledConfidence(1.0, threshold=0.5)
    with pytest.raises(ShapeError, match="0 dimensions"):
        Order(3)  # type: ignore[arg-type]
