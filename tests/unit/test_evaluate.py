"""Yardsticks measure what they say: laws add up, windows cover every token once, contenders take turns."""

from __future__ import annotations

import io
import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from time import sleep

import numpy as np
import pytest
import torch

import foretoken as ft
from benches import _common
from foretoken.errors import InvalidArgument, ShapeError
from foretoken.evaluate import compression, decoding, speed
from foretoken.evaluate.kneser_ney import KneserNey
from foretoken.evaluate.report import Report, Table, joined, machine
from tests.models import TableModel

V = 7
_RNG = np.random.default_rng(0)
DOCUMENTS = [
    np.concatenate(([0], _RNG.choice(6, p=[0, 0.4, 0.3, 0.15, 0.1, 0.05], size=size), [0])) for size in range(40)
]
CONTEXTS = ([0], [0, 1], [1, 1], [2, 3, 1], [0, 1, 2, 1], [5, 5, 5, 5], [6, 6, 6, 6, 6], [1, 2, 1, 2, 1, 3])


@pytest.mark.parametrize("order", [1, 2, 3, 5, 8])
def test_kneser_ney_adds_up_to_one(order: int) -> None:
    model = KneserNey(DOCUMENTS, vocab_size=V, order=order)
    for context in CONTEXTS:
        law = model.law(context)
        assert (law > 0).all()  # id 6 was never seen, and is possible
        assert math.isclose(law.sum(), 1, abs_tol=1e-12)


def test_kneser_ney_scores_a_text_by_its_laws() -> None:
    model = KneserNey(DOCUMENTS, vocab_size=V)
    for text in (*DOCUMENTS[:3], DOCUMENTS[30], np.array([0, 6, 6, 1, 2, 6, 0])):
        slow = [-np.log2(model.law(text[:i].tolist())[text[i]]) for i in range(1, len(text))]
        np.testing.assert_allclose(model.bits(text), slow)


class SlowKneserNey:
    """The definition, with dictionaries."""

    def __init__(self, texts: list[list[int]], order: int) -> None:
        grams = [
            Counter(tuple(t[i : i + n]) for t in texts for i in range(n == 1, len(t) - n + 1)) for n in range(order + 1)
        ]
        self.counts = [Counter() for _ in range(order + 1)]
        self.counts[order] = grams[order]
        for n in range(1, order):
            self.counts[n].update(gram[1:] for gram in grams[n + 1])
            if n > 1:
                self.counts[n].update(tuple(text[:n]) for text in texts if len(text) >= n)
        self.discounts = [self.estimate(counts) for counts in self.counts]

    @staticmethod
    def estimate(counts: Counter) -> list[float]:
        n = Counter(counts.values())
        if not all(n[i] for i in (1, 2, 3, 4)):
            return [0, 0.5, 1, 1.5]
        share = n[1] / (n[1] + 2 * n[2])
        return [0, 1 - 2 * share * n[2] / n[1], 2 - 3 * share * n[3] / n[2], 3 - 4 * share * n[4] / n[3]]

    def p(self, token: int, context: tuple[int, ...]) -> float:
        n = len(context) + 1
        lower = self.p(token, context[1:]) if context else 1 / V
        row = {gram: count for gram, count in self.counts[n].items() if gram[:-1] == context}
        if not row:
            return lower
        discount = self.discounts[n]
        total = sum(row.values())
        handed = sum(discount[min(count, 3)] for count in row.values()) / total
        count = row.get((*context, token), 0)
        return (count - discount[min(count, 3)]) / total + handed * lower


def test_kneser_ney_is_its_definition() -> None:
    slow = SlowKneserNey([document.tolist() for document in DOCUMENTS], 3)
    assert slow.discounts[3] != [0, 0.5, 1, 1.5]  # estimated, not the fallback
    fast = KneserNey(DOCUMENTS, vocab_size=V, order=3)
    for context in ([0], [0, 1], [1, 1], [3, 1], [5, 5], [6, 6]):
        np.testing.assert_allclose(fast.law(context), [slow.p(token, tuple(context)) for token in range(V)], rtol=1e-12)


def test_kneser_ney_learns() -> None:
    model = KneserNey(DOCUMENTS[:35], vocab_size=V)
    assert np.mean(model.bits(DOCUMENTS[39])) < math.log2(V)


@pytest.mark.parametrize(
    ("documents", "keys", "message"),
    [
        ([[0]], {}, "no sequence"),
        ([[0, 7]], {}, "vocabulary"),
        ([[0, -1]], {}, "vocabulary"),
        ([[0, 1]], {"order": 0}, "order"),
        ([[0, 1]], {"order": 22}, "order"),
    ],
)
def test_kneser_ney_refuses(documents: list, keys: dict, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        KneserNey([np.array(document) for document in documents], vocab_size=V, **keys)


@pytest.mark.parametrize("window", [4, 10, 64])
def test_windows_do_not_change_what_a_short_sighted_model_says(window: int) -> None:
    """A model that looks two tokens back has them in every window, so bits are those of the whole text."""
    model = TableModel(vocab_size=V, order=2, context=64)
    expected = 0.0
    for text in DOCUMENTS:
        for place in range(1, len(text)):
            row = torch.from_numpy(model.logits(text[:place].tolist())).double()
            expected -= float(row.log_softmax(-1)[text[place]]) / math.log(2)
    seen: list[tuple[int, int]] = []
    found = compression.model_bits(model, DOCUMENTS, window=window, progress=lambda *done: seen.append(done))
    assert found == pytest.approx(expected, rel=1e-6)
    assert seen[-1][0] == seen[-1][1]


def test_windows_look_back_at_least_half() -> None:
    text = np.arange(1000)
    pieces = list(compression._windows(text, 64))
    counted = np.concatenate([targets[first:] for _, targets, first in pieces])
    assert counted.tolist() == text[1:].tolist()
    assert all(first >= 32 for _, _, first in pieces[1:])


@pytest.mark.parametrize("window", [0, 3, 66])
def test_windows_must_fit(window: int) -> None:
    with pytest.raises(InvalidArgument, match="window"):
        compression.model_bits(TableModel(context=64), DOCUMENTS, window=window)


def test_a_compressor_that_has_seen_the_text_needs_next_to_nothing() -> None:
    texts = _common.texts("tales", 20)
    alone, _ = compression.xz_bytes(texts)
    primed, used = compression.xz_bytes(texts, after=["something else", *texts])
    assert used == compression.size(["something else", *texts]) + 21
    assert primed < alone / 10
    assert alone < compression.size(texts)


def test_contenders_take_turns_and_the_median_counts() -> None:
    calls: list[tuple[str, int]] = []

    def contender(name: str, seconds: float) -> Callable[[int], int]:
        def run(item: int) -> int:
            calls.append((name, item))
            sleep(seconds)
            return item

        return run

    timings = speed.alternate({"slow": contender("slow", 0.02), "fast": contender("fast", 0.0)}, [5, 6], repeats=3)
    assert calls[:2] == [("slow", 5), ("fast", 5)]  # warm-up
    assert calls[2:6] == [("slow", 5), ("fast", 5), ("fast", 6), ("slow", 6)]
    assert len(calls) == 2 + 2 * 2 * 3
    assert timings["slow"].tokens == [5, 6]
    assert timings["slow"].tokens_per_second < 11 / 0.04
    assert timings["fast"].over(timings["slow"]) > 1
    timing = speed.Timing([10], [[1.0, 5.0, 2.0]])
    assert (timing.tokens_per_second, timing.spread) == (5.0, (2.0, 10.0))


@pytest.mark.parametrize(("contenders", "items", "repeats"), [({}, [1], 1), ({"a": int}, [], 1), ({"a": int}, [1], 0)])
def test_nothing_to_time_is_refused(contenders: dict, items: list, repeats: int) -> None:
    with pytest.raises(InvalidArgument):
        speed.alternate(contenders, items, repeats=repeats)


def test_a_report_ends_in_one_line_of_json(tmp_path: Path) -> None:
    table = Table("t", ("what", "a", "b"), [("x", 1234.5, None), ("longer", 0.12345, 3)])
    assert str(table) == "t\nwhat        a  b\nx       1,234  -\nlonger  0.123  3"
    report = joined("both", [Report("one", {"batch": 1}, [table], {"a": 1}), Report("two", {}, [], {"b": [2]})])
    out = io.StringIO()
    report.show(out)
    last = json.loads(out.getvalue().splitlines()[-1])
    assert last["results"] == {"one": {"a": 1}, "two": {"b": [2]}}
    assert last["machine"].keys() == machine().keys()
    kept = json.loads(report.save(tmp_path / "new").read_text(encoding="utf-8"))
    assert kept["results"] == last["results"]
    assert kept["command"].startswith("python ")


def test_a_ragged_table_is_refused() -> None:
    with pytest.raises(ShapeError, match="2 columns"):
        Table("t", ("a", "b"), [(1,)])


def test_a_drafter_that_is_always_wrong_is() -> None:
    found = decoding.wrong(_common.tiny_folder(), prompts=_common.texts("tales", 2), repeats=1, tokens=12).results
    for kind in decoding.SAMPLERS:
        assert found[kind]["never right"]["drafted"] > 0
        assert found[kind]["never right"]["accepted"] == found[kind]["never right and sure"]["accepted"] == 0


def test_benches_of_an_installed_package_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(speed.benches()) == {"drafters", "wrong", "overhead", "batch"}
    threads = torch.get_num_threads()
    report = speed.main(["overhead", "batch", "--model", _common.tiny_folder(), "--repeats", "1", "--tokens", "4"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == json.loads(report.to_json())
    assert set(report.results) == {"overhead", "batch"}
    assert torch.get_num_threads() == threads
    with pytest.raises(InvalidArgument, match="no benchmark"):
        speed.main(["nonsense"])


def test_drafters_that_a_model_cannot_have_are_left_out() -> None:
    folder = _common.tiny_folder()
    assert {"SmallModel", "Several"} <= decoding.lineup(folder, ft.load(folder)).keys()
    draft = f"{folder}-draft"
    assert decoding.lineup(draft, ft.load(draft)).keys() == {"NGram", "Suffix", "EarlyExit", "SmallModel", "Several"}
