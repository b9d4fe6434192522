"""Whether a drafter leaves a target's text as it is, what it is worth here, and how long its drafts should be."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from time import perf_counter
from typing import Any

import numpy as np

from ..canvas import TIE, Canvas, Stats, Step
from ..drafter.costs import Adaptive
from ..drafter.protocol import Drafter
from ..errors import InvalidArgument
from ..generate import generate
from ..model.protocol import CausalModel
from ..sampler import Sampler
from ..strategy.autoregressive import Autoregressive
from .decoding import continuer
from .drawn import Liar, Place, places
from .goodness import g_test, never_seen, noticed
from .report import Report, Table
from .speed import alternate, columns, figures, lengths

ALARM = 1e-3
"""A right drafter is called wrong so often."""
POWER = 0.9
_PAYS = 1.02  # times plain speed that a drafter must reach, for timings are noisy


def certify(
    target: CausalModel, drafter: Drafter, prompts: Sequence[np.ndarray], *, sampler: Sampler | None = None,
    tokens: int = 96, maximum: int = 8, draws: int = 1024, repeats: int = 3, seed: int = 7, name: str = "target",
) -> Report:  # fmt: skip
    """Measure what a drafter does to a target: to its tokens, to its law, to its speed.

    The tokens with and without the drafter are compared under `Coupled`. Under `Rejection` the first drafted places
    behind some prompts are drawn again and again and compared with the target's law (G-test); a drafter that lies about
    its law must be caught, and the smallest fault that would be is stated. Then acceptance by place, what it costs to
    verify 1 to `maximum` guesses, the speed that follows for each draft length, and the measured speed of the best.

    Args:
        target: what checks the guesses.
        drafter: what makes them.
        prompts: rows of ids, one or more.
        sampler: how tokens are chosen; `Sampler()` if None. Without XTC, Mirostat and processors.
        tokens: to add to each prompt, ≥ 8.
        maximum: the longest draft, in [1, 64].
        draws: of each place whose law is tested, ≥ 64.
        repeats: rounds of the timings.
        seed: of everything that is drawn.
        name: of the target, for the report.

    Returns:
        `results` has "exact", "advice" and what they rest on.

    Raises:
        InvalidArgument: a number is out of range, or there is no prompt.

    Example:
        >>> import foretoken as ft
        >>> tale = ft.load("tales")
        >>> prompts = [tale.codec.encode("Once upon a time there was a fox")]
        >>> report = ft.certify(tale.model, ft.EarlyExit(2), prompts, tokens=16, maximum=2, draws=64, repeats=1)
        >>> report.results["exact"], report.results["seed"]["differing"]
        (True, 0)
    """
    sampler = Sampler() if sampler is None else sampler
    if not prompts or tokens < 8 or not 1 <= maximum <= 64 or draws < 64 or repeats < 1:
        raise InvalidArgument(
            f"need a prompt, tokens >= 8, maximum in [1, 64], draws >= 64 and repeats >= 1, got {len(prompts)}, "
            f"{tokens}, {maximum}, {draws} and {repeats}"
        )
    run = _Certificate(target, drafter, prompts, sampler, tokens, maximum, seed)
    same, law = run.seed_test(), run.law_test(draws)
    curve, costs = run.acceptance(), forward_seconds(target, prompts[0], maximum, repeats=5 * repeats)
    predicted = run.predicted(costs)
    speed = run.measured(predicted, repeats)
    exact = same["without_near_tie"] == 0 and (law is None or law["p"] >= ALARM)
    advice = _advice(speed) if exact else "do not draft: the text is not the target's"
    settings = {
        "target": name, "drafter": drafter.name, "kind": type(target).__name__, "prompts": len(prompts),
        "prompt length": lengths(prompts), "tokens": tokens, "draws": draws, "repeats": repeats,
        "temperature": sampler.temperature,
    }  # fmt: skip
    results = {
        "exact": exact, "seed": same, "law": law, "acceptance_by_position": curve,
        "verify_over_plain": [round(second / costs[0], 3) for second in costs],
        "draft_over_plain": {k: round(v / costs[0], 3) for k, v in run.draft_seconds().items()},
        "predicted": predicted, "measured": speed, "advice": advice,
    }  # fmt: skip
    return Report("certify", settings, _tables(results, drafter.name), results)


class _Certificate:
    """One target and drafter, with the runs that several answers rest on."""

    def __init__(
        self, target: CausalModel, drafter: Drafter, prompts: Sequence[np.ndarray], sampler: Sampler, tokens: int,
        maximum: int, seed: int,
    ) -> None:  # fmt: skip
        self.target, self.drafter, self.prompts, self.sampler = target, drafter, prompts, sampler
        self.tokens, self.maximum, self.seed = tokens, maximum, seed
        self.options: dict[str, Any] = {"sampler": sampler, "max_tokens": tokens, "end_tokens": (), "seed": seed}
        shortest, longest = (Autoregressive(drafter, length=length) for length in (1, maximum))
        self.plain = self._alone(Autoregressive())
        self.short, self.long = self._alone(shortest), self._alone(longest)

    def _alone(self, strategy: Autoregressive) -> list[Any]:
        return [generate(self.target, Canvas([prompt]), strategy, **self.options) for prompt in self.prompts]

    def seed_test(self) -> dict[str, Any]:
        """Tokens that are not those of plain decoding, alone and in a batch, of fixed and of adaptive length."""
        together = [
            generate(
                self.target, Canvas(list(self.prompts)), Autoregressive(self.drafter, length=length), **self.options
            )
            for length in (self.maximum, Adaptive(self.maximum))
        ]
        expected = [(out.tokens.tolist(), [gap for step in out.trace for gap in step.gaps]) for out in self.plain]
        found = [[out.tokens.tolist() for out in runs] for runs in (self.short, self.long)]
        found += [[row.tokens.tolist() for row in out.rows] for out in together]
        differing = unexplained = 0
        for texts in found:
            for (tokens, gaps), text in zip(expected, texts, strict=True):
                unlike = [place for place, pair in enumerate(zip(tokens, text, strict=True)) if pair[0] != pair[1]]
                differing += len(unlike)
                unexplained += bool(unlike) and gaps[unlike[0]] >= TIE
        compared = len(found) * sum(len(tokens) for tokens, _ in expected)
        return {
            "compared": compared, "differing": differing, "without_near_tie": unexplained,
            "noticed_rate": round(never_seen(compared, power=POWER), 6),
        }  # fmt: skip

    def law_test(self, draws: int, most: int = 4) -> dict[str, Any] | None:
        """The draws at drafted places against the law, and of a control; None if the drafter never guesses."""
        pasts = []
        for prompt, out in zip(self.prompts, self.long, strict=True):
            written: list[int] = []
            for step in out.trace:
                if step.drafted and len(pasts) < most:
                    pasts.append(np.array([*prompt.tolist(), *written], dtype=np.int64))
                    break
                written += step.tokens
        found: list[Place] = []
        for index, past in enumerate(pasts):
            # Each row of each text has noise of its own: what is added up must be independent.
            keys: dict[str, Any] = {"sampler": self.sampler, "draws": draws, "seed": self.seed + index * draws}
            found += places(self.target, self.drafter, past, **keys)
        guessed = sum(int(place.guesses.sum()) for place in found)
        if not guessed:
            return None
        drawn = [place.drawn for place in found]
        share = noticed(drawn, [place.unchecked() for place in found], alarm=ALARM, power=POWER)
        sizes = np.array([sample.counts.sum() for sample in drawn])
        distance = float(sizes @ [place.distance() for place in found] / sizes.sum())
        result = {
            "p": g_test(drawn), "places": len(found), "draws": int(sizes.sum()), "guesses": guessed,
            "noticed_distance": None if share is None else round(share * distance, 4),
        }  # fmt: skip
        return result | {"control": None if share is None else self._control(pasts, found[::2], share, draws)}

    def _control(
        self, pasts: Sequence[np.ndarray], firsts: Sequence[Place], share: float, draws: int
    ) -> dict[str, Any]:
        """The same test of a drafter that lies, so often that the fault is twice what is noticed."""
        share, caught, distances = min(1.0, 2 * share), [], []
        for index, (past, first) in enumerate(zip(pasts, firsts, strict=True)):
            liar = Liar(first.favourite, share, self.target.vocab_size)
            seed = self.seed + (len(pasts) + index) * draws
            keys: dict[str, Any] = {"sampler": self.sampler, "draws": draws, "seed": seed, "count": 1}
            caught += [place.drawn for place in places(self.target, liar, past, **keys)]
            distances.append(share * first.distance())
        p = g_test(caught)
        return {"distance": round(statistics.fmean(distances), 4), "p": p, "caught": p < ALARM}

    def acceptance(self) -> list[dict[str, Any]]:
        """Of each place in the longest drafts: how often a guess was judged there, and the share that was right."""
        places = []
        for place in range(self.maximum):
            judged, right = (
                sum(getattr(out.stats, name)[place] for out in self.long) for name in ("drafted_at", "accepted_at")
            )
            places.append({"judged": judged, "right": round(right / judged, 4) if judged else None})
        return places

    def draft_seconds(self) -> dict[int, float]:
        """Seconds of a draft of 1 and of the most guesses."""
        return {
            length: min(out.stats.seconds["draft"] / max(1, out.stats.forwards - 2) for out in runs)
            for length, runs in ((1, self.short), (self.maximum, self.long))
        }

    def predicted(self, costs: Sequence[float]) -> dict[int, float]:
        """Times plain speed by draft length: what acceptance and costs add up to."""
        plain = costs[0] + _outside(self.plain)
        # Of the work around the forwards, drafts included, so much to begin with and so much for each guess.
        low, high = _outside(self.short), _outside(self.long)
        slope = (high - low) / (self.maximum - 1) if self.maximum > 1 else 0.0
        steps: list[Step] = [step for out in self.long for step in list(out.trace)[1:]]
        speeds = {}
        for length in range(1, self.maximum + 1):
            made = statistics.fmean(1 + min(step.accepted, length) for step in steps)
            forward = statistics.fmean(costs[min(len(step.drafted), length)] for step in steps)
            speeds[length] = round(made * plain / (forward + low + slope * (length - 1)), 3)
        return speeds

    def measured(self, predicted: dict[int, float], repeats: int) -> dict[str, Any]:
        """Tokens a second of plain decoding, of the length that is predicted to be the best, and of `Adaptive`."""
        best = max(predicted, key=lambda length: predicted[length])
        strategies = {
            "plain": Autoregressive(),
            f"length {best}": Autoregressive(self.drafter, length=best),
            "adaptive": Autoregressive(self.drafter, length=Adaptive(self.maximum)),
        }
        seen: dict[str, list[Stats]] = {kind: [] for kind in strategies}
        contenders = {
            kind: continuer(self.target, strategy, self.sampler, self.tokens, seen[kind])
            for kind, strategy in strategies.items()
        }
        timings = alternate(contenders, list(self.prompts), repeats=repeats)
        return {
            kind: figures(timing, timings["plain"])
            | {
                "tokens_per_forward": round(
                    sum(s.tokens for s in seen[kind]) / sum(s.row_forwards for s in seen[kind]), 3
                ),
                "cells": columns(timing, timings["plain"]),
            }
            for kind, timing in timings.items()
        }


def _outside(runs: Sequence[Any]) -> float:
    """Seconds a forward that go into anything but the target's forwards, where nothing else disturbed."""
    return min(
        (stats.seconds["total"] - stats.seconds["prompt"] - stats.seconds["model"]) / stats.forwards
        for stats in (out.stats for out in runs)
    )


def forward_seconds(model: CausalModel, prompt: np.ndarray, maximum: int, *, repeats: int) -> list[float]:
    """Seconds of a forward that reads 1, 2, … maximum + 1 units behind a prompt, the quickest of the repeats."""
    widths = range(1, maximum + 2)
    session = model.open(1, len(prompt) + maximum + 1)
    session.forward(prompt[None], last=True)
    length = np.array([len(prompt)], dtype=np.int64)
    taken: dict[int, list[float]] = {width: [] for width in widths}
    for _ in range(repeats + 1):
        for width in widths:
            tokens = np.resize(prompt, (1, width))
            started = perf_counter()
            session.forward(tokens)
            taken[width].append(perf_counter() - started)
            session.truncate(length)
    return [min(taken[width][1:]) for width in widths]


def _advice(speed: dict[str, Any]) -> str:
    best = max((kind for kind in speed if kind != "plain"), key=lambda kind: speed[kind]["ratio"])
    if speed[best]["ratio"] < _PAYS:
        return "do not draft: plain decoding is as fast"
    return f"{best}: {speed[best]['ratio']:.2f} times plain speed"


def _tables(results: dict[str, Any], drafter: str) -> list[Table]:
    same, law = results["seed"], results["law"]
    rows: list[tuple[Any, ...]] = [
        ("seed: tokens compared", same["compared"]),
        ("seed: tokens that differ", same["differing"]),
        ("seed: rows that differ before a near tie", same["without_near_tie"]),
        (f"seed: rate of differing tokens that shows with power {POWER}", same["noticed_rate"]),
    ]
    if law is None:
        rows.append(("law: not tested, for nothing was guessed", None))
    else:
        control = law["control"]
        rows += [
            ("law: draws", law["draws"]),
            (f"law: p of the G-test, asked >= {ALARM}", f"{law['p']:.3g}"),
            (f"law: total variation that shows with power {POWER}", law["noticed_distance"]),
            ("control: total variation of a drafter that lies", control and control["distance"]),
            ("control: caught", control and ("yes" if control["caught"] else "NO")),
        ]
    verdict = "exact" if results["exact"] else "NOT EXACT"
    curve, costs, predicted = (results[key] for key in ("acceptance_by_position", "verify_over_plain", "predicted"))
    lines = [
        (str(length), place["judged"], place["right"], costs[length], predicted[length])
        for length, place in enumerate(curve, 1)
    ]
    speeds = [(kind, *found.pop("cells"), found["tokens_per_forward"]) for kind, found in results["measured"].items()]
    drafts = ", ".join(f"{share:.2g} for {length}" for length, share in results["draft_over_plain"].items())
    return [
        Table(f"{drafter}: {verdict}", ("test", "found"), rows),
        Table(
            f"by guess, and by length; drafts cost {drafts}, in plain forwards",
            ("guess", "judged", "right if those before", "verify, × plain", "predicted speed, × plain"), lines,
        ),
        Table(f"use: {results['advice']}", ("measured", "tokens/s", "slow-fast", "× plain", "tokens/forward"), speeds),
    ]  # fmt: skip
