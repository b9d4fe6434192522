"""Law: the exact distance between the output law with each drafter and that of plain decoding.

    python benches/law.py

No sample is drawn. A toy model over three tokens is decoded by the real loop and the real drafters while the decisions
of the kernels' twins follow a script; every way they can fall is taken and its probability added up, as
tests/laws/test_engine_law.py does for shorter texts. `Rejection` is compared law against law, also where it judges
whole blocks, which trees are not. `Coupled` shares its
noise with the drafter on purpose, so its law is taken over every noise of a finite set. Broken verifiers, as a
control, must show.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch

import foretoken as ft
from benches import _common
from foretoken.evaluate.report import Report, Table
from foretoken.reference import noise
from foretoken.reference.chance import Atoms, Chance, enumerate_branches
from tests import tiny
from tests.laws.test_engine_law import DRAFTERS
from tests.laws.test_law import BREAKS, BROKEN, PROMPT, SAMPLERS
from tests.models import TappedTable

VOCABULARY = 3
LENGTH = 2  # guesses a draft
CONTROL = "penalties, DRY and min-p"
TREES = ("tree", "tree of draws", "two imaginations", "tree of blocks")
VERIFIERS = {"Rejection": ft.Rejection(), "Rejection(block=True)": ft.Rejection(block=True), "Coupled": ft.Coupled()}
ASKED = 1e-9
Law = dict[tuple[int, ...], float]


def fields(name: str) -> tuple[ft.Sampler, dict[str, Any]]:
    """A sampler of the law tests, and what of it belongs to the call."""
    own = dict(SAMPLERS[name])
    keys = {key: own.pop(key) for key in ("end_tokens", "min_tokens") if key in own}
    return ft.Sampler(**own), keys


def written(name: str, tokens: int, strategy: Any, chance: Chance) -> tuple[tuple[int, ...], int]:
    """The text of one generation whose decisions are those of a chance, and how many guesses it checked."""
    sampler, keys = fields(name)
    with tiny.decided_by(chance):
        out = ft.generate(
            TappedTable(VOCABULARY, scale=1.5), ft.Canvas([list(PROMPT)]), strategy, sampler=sampler,
            max_tokens=tokens, seed=7, **keys,
        )  # fmt: skip
    return tuple(out.tokens.tolist()), out.stats.drafted


def strategy(drafter: str | None, verifier: Any) -> Any:
    """A strategy whose drafter is fresh."""
    return ft.Autoregressive(DRAFTERS[drafter]() if drafter else None, verifier, length=LENGTH)


def law_of(verifier: Any, name: str, tokens: int, drafter: str | None) -> tuple[Law, int]:
    """The exact law of the output with a drafter, or without, and how many guesses were checked on the way."""
    law: Law = {}
    guesses = 0
    made = strategy(drafter, verifier)
    if isinstance(verifier, ft.Rejection):
        runs = enumerate_branches(lambda chance: written(name, tokens, made, chance))
    else:
        runs = over_noises(lambda chance: written(name, tokens, made, chance), tokens)
    for weight, (text, checked) in runs:
        law[text] = law.get(text, 0.0) + weight
        guesses += checked
    return law, guesses


def over_noises(function: Callable[[Chance], Any], tokens: int) -> Iterator[tuple[float, Any]]:
    """A function under every noise of a finite set, all evenly likely: an order of the vocabulary for each place."""
    orders = [torch.tensor(order, dtype=torch.float64) for order in itertools.permutations((-0.8, 0.3, 1.9))][::2]
    filler = torch.zeros(len(PROMPT), VOCABULARY, dtype=torch.float64)
    for atoms in itertools.product(orders, repeat=tokens):
        table = torch.cat([filler, torch.stack(atoms), filler[:LENGTH]])  # a guess may lie behind the end
        yield 1 / len(orders) ** tokens, function(Atoms({noise.CHOICE: table, noise.XTC: table}))


def main(arguments: Sequence[str] | None = None) -> Report:
    """Total variation for every verifier × drafter × sampler."""
    parser = _common.parser(__doc__)
    parser.add_argument("--tokens", type=int, default=4, help="of each text; time grows by its power (default: 4)")
    options = _common.parsed(parser, arguments)
    samplers = list(SAMPLERS)
    if options.quick:
        options.tokens, samplers = 3, ["temperature", "penalties, DRY and min-p"]
    rows, distances = [], {}
    for kind, verifier in VERIFIERS.items():
        plain = {name: law_of(verifier, name, options.tokens, None)[0] for name in samplers}
        for drafter in DRAFTERS:
            if drafter in TREES and verifier == ft.Rejection(block=True):
                continue
            laws = {name: law_of(verifier, name, options.tokens, drafter) for name in samplers}
            line = {name: tiny.total_variation(plain[name], laws[name][0]) for name in samplers}
            guesses = sum(checked for _, checked in laws.values())
            distances[f"{kind}, {drafter}"] = line | {"guesses": guesses}
            rows.append((f"{kind}, {drafter}", *(f"{value:.1e}" for value in line.values()), guesses))
    worst = max(line[name] for line in distances.values() for name in samplers)
    controls = {}
    for broken, patch in BREAKS.items():
        expected, _ = law_of(ft.Rejection(), CONTROL, options.tokens, None)
        with patch():
            found, _ = law_of(ft.Rejection(), CONTROL, options.tokens, "small model")
        controls[broken] = tiny.total_variation(expected, found)
    caught = all(distance > BROKEN for distance in controls.values())
    title = f"total variation from plain decoding: at most {worst:.1e}, asked < {ASKED:.0e}"
    control_rows = [(broken, f"{value:.1e}") for broken, value in controls.items()]
    tables = [
        Table(title, ("verifier, drafter", *samplers, "guesses"), rows),
        Table(f"broken verifiers, all caught: {'yes' if caught else 'NO'}", ("control", "distance"), control_rows),
    ]
    settings = {"vocabulary": VOCABULARY, "draft": LENGTH, "tokens": options.tokens, "prompt": list(PROMPT)}
    results = {"worst": worst, "asked": ASKED, "distances": distances, "controls": controls, "controls_caught": caught}
    return _common.finish(Report("law", settings, tables, results), options)


if __name__ == "__main__":
    main()
