"""Which answer? The exact model of five human sentences for each meaning: every error is the strategy's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ..canvas import Canvas
from ..evaluate.acceptance import conditional_acceptance, laws_before, matched, ratio
from ..evaluate.modes import adjacent_repetition, mode_distance, modes, modes_covered, total_correlation, valid_rate
from ..generate import generate
from ..strategy.oneshot import OneShot
from .contenders import Contender, contenders
from .oracle import CausalOracle
from .sentences import END, Meaning, Phrasebook, meanings, phrasebook, until_end
from .task import Outcome, Task

TITLE = "Which answer? Five human sentences for one meaning"
BOUND = 0.3
PLACES = 24
"""Of the curves."""
_TOGETHER = 10  # meanings of one batch
_SHOWN = 2  # meanings of which a sample is shown


def run(
    data: Path, *, count: int = 200, n: int = 20, seed: int = 0, note: Callable[[str], None] = lambda _: None
) -> Task:
    """The experiment.

    Args:
        data: the data folder.
        count: meanings.
        n: answers to each.
        seed: of all draws.
        note: is told what is being done.

    Raises:
        InvalidArgument, CheckpointError: see `sentences.meanings`.
    """
    found = meanings(data, count)
    return measure(found, contenders(bound=BOUND), n=n, seed=seed, note=note)


def measure(
    found: Sequence[Meaning],
    ways: Sequence[Contender],
    *,
    n: int,
    seed: int = 0,
    note: Callable[[str], None] = lambda _: None,
) -> Task:
    """The experiment on these meanings; arguments as for `run`."""
    books = [phrasebook(found[start : start + _TOGETHER]) for start in range(0, len(found), _TOGETHER)]
    outcomes = []
    for way in ways:
        note(way.name)
        outcomes.append(_outcome(way, books, n, seed))
    draft = drafted(books, n=n, seed=seed)
    outcomes.append(Outcome("one shot as a draft, ratio test", {}, draft.tolist()))
    m = len(found[0].sentences)
    apart = float(np.mean([total_correlation(answers) for book in books for answers in book.answers]))
    law = {"valid": 1.0, f"modes of {m}": m * (1 - (1 - 1 / m) ** n), "total correlation (nats)": apart}
    about = (
        f"{len(found)} meanings (E2E NLG, CC-BY-SA 4.0), {m} sentences of different people each, {n} answers to each. "
        "The model is exact: the law of the sentences that agree with what a row already says, all equally probable. "
        "Acceptance by position is how probably a verifier that reads from left to right says the same word; under the "
        "ratio test of speculative sampling, it takes a drawn word with probability min(1, p/q)."
    )
    return Task(TITLE, about, outcomes, law, _goals(outcomes, m))


def _goals(outcomes: Sequence[Outcome], m: int) -> list[tuple[str, float, str, float]]:
    by_name = {each.name: each.figures for each in outcomes}
    asked = [
        ("one shot, sampled", "valid", "<=", 0.05), ("one shot, argmax", "valid", "<=", 0.05),
        ("shared z, one shot", "valid", ">=", 0.99), ("every 4th AR, rest NAR", "valid", ">=", 0.95),
        (f"steps by entropy ≤ {BOUND:g}", "valid", ">=", 0.95),
        (f"steps by entropy ≤ {BOUND:g}", f"modes of {m}", ">=", 0.9 * m),
    ]  # fmt: skip
    return [
        (f"{name}: {measure}", float(by_name[name][measure] or 0), sign, number)
        for name, measure, sign, number in asked
        if name in by_name
    ]


def _outcome(way: Contender, books: Sequence[Phrasebook], n: int, seed: int) -> Outcome:
    said: list[np.ndarray] = []
    read: list[np.ndarray] = []
    accepts, lengths, samples = [], [], []
    forwards = seconds = 0.0
    for book in books:
        oracle = book.oracle(shared=way.shared)
        canvas = oracle.canvas(list(range(oracle.meanings)))
        prompts = Canvas([row[:1] for row in canvas.rows])
        model = CausalOracle(oracle) if way.causal else oracle
        out = generate(
            model, prompts if way.causal else canvas, way.strategy, sampler=way.sampler, seed=seed, n=n,
            end_tokens=(END,),
        )  # fmt: skip
        forwards, seconds = forwards + out.stats.row_forwards, seconds + out.stats.seconds["total"]
        answers = [until_end(row.units[oracle.body :]) for row in out.rows]
        whole = np.full((len(answers), oracle.width), END)
        for line, answer in enumerate(answers):
            whole[line, : len(answer)] = answer
        said += [modes(whole[i * n : (i + 1) * n], book.answers[i]) for i in range(oracle.meanings)]
        read += answers
        verifier = CausalOracle(book.oracle())
        ended = [np.append(answer, END)[: oracle.width] for answer in answers]
        prompt = [prompts.rows[row.prompt] for row in out.rows]
        laws = laws_before(verifier, prompt, ended)[:, :PLACES]
        units = whole[:, : laws.shape[1]]
        accepts.append(_fitted(matched(laws, units)))
        lengths.append([len(answer) for answer in ended])
        if len(samples) < _SHOWN:
            samples.append((book.read(book.answers[0, 0]), book.read(answers[0])))
    figures: dict[str, float | None] = {
        "valid": valid_rate(said),
        f"modes of {books[0].answers.shape[1]}": modes_covered(said),
        "distance": mode_distance(said, books[0].answers.shape[1]),
        "repeats": adjacent_repetition(read),
        "forwards": forwards / len(read),
        "ms each": 1000 * seconds / len(read),
    }
    curve = conditional_acceptance(np.concatenate(accepts), np.concatenate(lengths), places=PLACES)
    return Outcome(way.name, figures, curve.tolist(), samples, way.cure)


def drafted(books: Sequence[Phrasebook], *, n: int = 20, seed: int = 0) -> np.ndarray:
    """Conditional acceptance of one shot as a draft under the ratio test, (PLACES,)."""
    accepts, lengths = [], []
    for book in books:
        oracle = book.oracle()
        canvas = oracle.canvas(list(range(oracle.meanings)))
        out = generate(oracle, canvas, OneShot(), seed=seed, n=n)
        rows = np.stack([row.units for row in out.rows])
        marginals = oracle.predict(np.stack(canvas.rows), np.full(oracle.meanings, oracle.context))
        q = marginals.exp().numpy()[:, 1 : PLACES + 1].repeat(n, axis=0)
        units = rows[:, 1 : PLACES + 1]
        laws = laws_before(CausalOracle(oracle), [row[:1] for row in rows], list(units))
        accepts.append(_fitted(ratio(laws, q, units)))
        lengths.append([units.shape[1]] * len(units))
    return conditional_acceptance(np.concatenate(accepts), np.concatenate(lengths), places=PLACES)


def _fitted(accepts: np.ndarray) -> np.ndarray:
    return np.pad(accepts, ((0, 0), (0, PLACES - accepts.shape[1])))
