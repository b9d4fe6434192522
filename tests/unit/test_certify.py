"""A certificate tells right drafters from wrong ones, states what it would notice, and adds costs up as they are."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import foretoken as ft
from benches import _common
from foretoken.cli import certify as command
from foretoken.cli import main
from foretoken.drafter.protocol import Draft, DraftRequest
from foretoken.errors import InvalidArgument, UnsupportedModel
from foretoken.evaluate import certify, drawn, goodness
from foretoken.evaluate.goodness import Drawn
from tests.laws.statistics import tail
from tests.models import FunctionDrafter, TableModel, random_drafter

VOCAB = 24
PROMPTS = [np.array(ids) for ids in ([5, 3, 8], [2, 7], [9, 9, 4, 9, 1])]
SHORT: dict[str, Any] = {"tokens": 12, "maximum": 3, "draws": 256, "repeats": 1}


def table(order: int = 2) -> TableModel:
    return TableModel(VOCAB, order=order, scale=1.2)


def certified(drafter: Any, target: Any = None, **options: Any) -> dict[str, Any]:
    report = ft.certify(table() if target is None else target, drafter, PROMPTS, **{**SHORT, **options})
    assert json.loads(report.to_json())["results"].keys() == report.results.keys()
    return report.results


# The test of a law


@pytest.mark.parametrize("draws", [60, 1000])
def test_the_g_test_is_that_of_the_laws(draws: int) -> None:
    """Beside another implementation, with its own gamma function."""
    random = np.random.default_rng(4)
    for _ in range(20):
        law = random.dirichlet(np.full(40, 0.3))
        counts = random.multinomial(draws, law)
        assert goodness.g_test([Drawn(counts, law)]) == pytest.approx(tail(counts, law), rel=0.5, abs=0.05)
    assert goodness.g_test([Drawn(np.array([5, 1]), np.array([1.0, 0.0]))]) == 0.0
    assert goodness.g_test([Drawn(np.array([5, 0]), np.array([1.0, 0.0]))]) == 1.0


def test_right_draws_are_called_wrong_as_often_as_is_said() -> None:
    random = np.random.default_rng(1)
    law = random.dirichlet(np.full(30, 0.5))
    values = np.array([goodness.g_test([Drawn(random.multinomial(500, law), law)]) for _ in range(600)])
    assert 0.02 < (values < 0.05).mean() < 0.09


def test_what_is_said_to_be_noticed_is() -> None:
    random = np.random.default_rng(2)
    law, other = random.dirichlet(np.full(30, 0.5)), np.eye(30)[3]
    sample = Drawn(random.multinomial(800, law), law)
    share = goodness.noticed([sample], [other], alarm=1e-3, power=0.9)
    assert share is not None
    for factor, low, high in ((1.0, 0.8, 0.97), (0.5, 0.0, 0.6)):
        mixed = (1 - factor * share) * law + factor * share * other
        trials = [goodness.g_test([Drawn(random.multinomial(800, mixed), law)]) < 1e-3 for _ in range(300)]
        assert low < np.mean(trials) < high
    assert goodness.noticed([sample], [law], alarm=1e-3, power=0.9) is None


def test_draws_are_behind_the_text_and_drafted() -> None:
    """Of a target that is certain of the first unit the second one is looked at, and its law is the model's."""
    model, past = table(), np.array([5, 3, 8])
    for sampler in (ft.Sampler(temperature=0.8), ft.Sampler(repetition_penalty=1.3, top_k=7)):
        found = drawn.places(model, ft.SmallModel(model.first(1)), past, sampler=sampler, draws=300)
        assert found[0].drawn.counts.sum() == 300
        assert int(found[0].guesses.sum()) == 300
        assert found[1].guesses.sum() <= found[1].drawn.counts.sum() == found[0].drawn.counts.max()
        logits = model.logits(past.tolist()).astype(float)
        if sampler.top_k:
            assert (found[0].drawn.law > 0).sum() == 7
            assert found[0].drawn.law[8] < np.exp(logits[8]) / np.exp(np.sort(logits)[-7:]).sum() or not logits[8] > 0
        else:
            np.testing.assert_allclose(found[0].drawn.law, np.exp(logits / 0.8) / np.exp(logits / 0.8).sum(), rtol=1e-6)
        assert goodness.g_test([place.drawn for place in found]) > 1e-3


# Right drafters


@pytest.mark.parametrize(
    "make",
    [
        lambda: ft.SmallModel(table(1)),
        lambda: ft.Jacobi(),
        lambda: random_drafter(VOCAB),
        lambda: ft.Several(ft.Jacobi(), ft.SmallModel(table(1)), tree=True, nodes=6),
    ],
)
def test_a_right_drafter_is_exact(make: Callable[[], Any]) -> None:
    found = certified(make())
    assert found["exact"]
    assert (found["seed"]["differing"], found["seed"]["compared"]) == (0, 4 * 3 * 12)
    law = found["law"]
    assert law["p"] >= certify.ALARM
    assert law["guesses"] > 256
    assert 0 < law["noticed_distance"] < 0.3
    assert law["control"]["caught"]
    assert law["noticed_distance"] < law["control"]["distance"] < 0.6
    assert len(found["acceptance_by_position"]) == len(found["predicted"]) == 3
    assert len(found["verify_over_plain"]) == 4


def test_what_never_guesses_is_not_to_be_used() -> None:
    found = certified(FunctionDrafter(lambda row, past, k: Draft(np.empty(0, dtype=np.int64))))
    assert found["law"] is None
    assert found["acceptance_by_position"][0] == {"judged": 0, "right": None}
    assert found["seed"]["differing"] == 0


def test_a_prediction_is_tokens_by_costs() -> None:
    """Beside forwards of a thousand seconds nothing else counts; a drafter of the target itself is always right."""
    model, prompts = table(), PROMPTS[:1]
    costs = [1000.0, 1100.0, 1300.0, 1600.0]
    for small, rate in ((table(), 1.0), (table(1), None)):
        run = certify._Certificate(model, ft.SmallModel(small), prompts, ft.Sampler(), 200, 3, 7)
        right = [place["right"] for place in run.acceptance()]
        predicted = run.predicted(costs)
        for length in (1, 2, 3):
            expected = 1 + sum(np.prod(right[:count]) for count in range(1, length + 1))
            if rate is not None:
                assert right == [rate] * 3
            assert predicted[length] == pytest.approx(expected * costs[0] / costs[length], rel=0.03)


def test_costs_are_measured_by_width() -> None:
    class Slow(TableModel):
        def open(self, rows: int, capacity: int) -> Any:
            session = super().open(rows, capacity)
            forward = session.forward

            def slowly(tokens: np.ndarray, counts: Any = None, *, last: bool = False) -> Any:
                time.sleep(0.01 * tokens.shape[1])
                return forward(tokens, counts, last=last)

            session.forward = slowly  # type: ignore[method-assign]
            return session

    seconds = certify.forward_seconds(Slow(VOCAB), PROMPTS[0], 3, repeats=3)
    assert all(second >= 0.01 * width for width, second in enumerate(seconds, 1))


def test_what_is_slower_than_plain_decoding_is_not_advised() -> None:
    figures = {"plain": {"ratio": 1.0}, "length 3": {"ratio": 1.01}, "adaptive": {"ratio": 0.97}}
    assert certify._advice(figures) == "do not draft: plain decoding is as fast"
    figures["adaptive"]["ratio"] = 1.5
    assert certify._advice(figures) == "adaptive: 1.50 times plain speed"


# Wrong ones


class Lying(ft.SmallModel):
    """Says that its guesses were drawn from an even law."""

    def open(self, request: DraftRequest) -> Any:
        session = super().open(request)
        propose = session.propose

        def lying(rows: Any, k: int) -> list[Draft]:
            drafts = propose(rows, k)
            return [dataclasses.replace(d, probs=np.full((len(d.tokens), VOCAB), 1 / VOCAB)) for d in drafts]

        session.propose = lying  # type: ignore[method-assign]
        return session


def test_a_drafter_that_lies_about_its_law_is_caught() -> None:
    found = certified(Lying(table(1)))
    assert found["seed"]["differing"] == 0  # under `Coupled` no drafter can do harm
    assert found["law"]["p"] < certify.ALARM
    assert not found["exact"]
    assert found["advice"].startswith("do not draft: the text")


def test_a_verifier_that_lets_guesses_pass_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """One in three first guesses stays whatever the target says."""
    verify, calls = ft.kernels.verify, iter(range(10**6))

    def broken(logits: Any, draft: Any, *others: Any, **keys: Any) -> Any:
        out = verify(logits, draft, *others, **keys)
        for row in range(len(draft)):
            if next(calls) % 3 == 0 and keys["lengths"][row] and out.accepted[row] == 0:
                out.tokens[row, 0] = draft[row, 0]
        return out

    monkeypatch.setattr(ft.kernels, "verify", broken)
    found = certified(ft.SmallModel(table(1)), draws=512)
    assert found["seed"]["without_near_tie"] > 0
    assert found["law"]["p"] < certify.ALARM
    assert not found["exact"]


# Arguments


@pytest.mark.parametrize(
    "options", [{"tokens": 7}, {"maximum": 0}, {"maximum": 65}, {"draws": 63}, {"repeats": 0}, {"prompts": []}]
)
def test_numbers_out_of_range_are_refused(options: dict[str, Any]) -> None:
    prompts = options.pop("prompts", PROMPTS)
    with pytest.raises(InvalidArgument, match="need a prompt"):
        ft.certify(table(), ft.Jacobi(), prompts, **{**SHORT, **options})


@pytest.mark.parametrize(
    "sampler",
    [ft.Sampler(xtc_probability=0.5), ft.Sampler(mirostat_tau=3.0), ft.Sampler(processor=lambda past, row: row)],
)
def test_samplers_without_one_law_are_refused(sampler: ft.Sampler) -> None:
    with pytest.raises(InvalidArgument, match="XTC"):
        certified(ft.Jacobi(), sampler=sampler)


# The command


OPTIONS = ["--tokens", "8", "--maximum", "2", "--draws", "64", "--repeats", "1", "--count", "2"]


@pytest.mark.parametrize("drafter", ["jacobi", "exit:1", "small:{}-draft"])
def test_the_command(drafter: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = _common.tiny_folder()
    assert main(["certify", folder, drafter.format(folder), *OPTIONS, "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    found = json.loads(lines[0])
    assert found["results"]["exact"]
    assert (found["settings"]["target"], found["settings"]["prompts"]) == ("tiny", 2)


def test_the_command_prints_tables(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rows = [
        {"model": "tiny", "text": "Once upon a time"},
        {"model": "other", "text": "no"},
        {"text": "There was a fox"},
    ]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert main(["certify", _common.tiny_folder(), "ngram", *OPTIONS, "--prompts", str(tmp_path / "p.jsonl")]) == 0
    out = capsys.readouterr().out
    assert "n-gram: exact" in out
    assert "use: " in out
    assert "verify, × plain" in out


@pytest.mark.parametrize("said", ["crystal", "ngram:", "ngram:3", "exit", "exit:", "exit:two", "small", ""])
def test_drafters_that_are_none_are_refused(said: str) -> None:
    with pytest.raises(InvalidArgument, match="exit"):
        command.drafter(said, ft.Native)


def test_files_of_prompts_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    for content in ("no json", '["text"]', '{"text": 3}', '{"text": ""}'):
        path.write_text('{"text": "fine"}\n' + content)
        with pytest.raises(InvalidArgument, match="line 2"):
            command.read_texts(path, "tales")
    path.write_text('{"text": "fine", "model": "manual"}\n')
    with pytest.raises(InvalidArgument, match="no prompt for tales"):
        command.read_texts(path, "tales")
    assert command.read_texts(path, "manual") == ["fine"]


def test_a_target_that_cannot_be_cut_says_so() -> None:
    model = table()
    model.first = None  # type: ignore[assignment,method-assign]
    with pytest.raises(UnsupportedModel, match="first"):
        certified(ft.EarlyExit(1), model)


def test_a_drafter_that_looks_at_states_is_right_too() -> None:
    """Its target's states come from a session that is opened in a way of its own."""
    tale = ft.load("tales")
    prompts = [tale.codec.encode("Once upon a time there was a fox")]
    found = ft.certify(tale.model, ft.BlockDrafter("tales-block"), prompts, **SHORT).results
    assert found["exact"]
    assert found["law"]["guesses"] > 100
