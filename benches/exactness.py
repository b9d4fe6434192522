"""Exactness: every drafter, draft length, batch and kind of sampler against plain decoding, token by token.

    python benches/exactness.py                        # everything, minutes
    python benches/exactness.py --only replayed        # logits from a table: any difference is a bug
    python benches/exactness.py --only models          # shipped models: each difference is shown with its gap
    python benches/exactness.py --only transformers    # greedy against transformers.generate, 50 prompts
    python benches/exactness.py --torch                # the same models, run by PyTorch

The reference is each prompt alone with nothing drafted. On replayed logits nothing is rounded, and a native model
rounds each row alike in any company, so nothing may differ. In PyTorch a float32 forward over 4 tokens rounds otherwise
than 4 forwards over one; that can only matter where the chosen token led by less than a near tie, so each difference is
printed with its lead in nats.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np

import foretoken as ft
from benches import _common
from benches._peers import Peer
from foretoken.canvas import TIE
from foretoken.errors import UnknownModel
from foretoken.evaluate.report import Report, Table, joined
from tests.models import TableModel, random_drafter

SAMPLERS = {
    "greedy": ft.Sampler(temperature=0),
    "T": ft.Sampler(temperature=0.8),
    "T+k+p": ft.Sampler(temperature=0.8, top_k=50, top_p=0.95),
    "penalties+DRY+min-p": ft.Sampler(
        repetition_penalty=1.1, presence_penalty=0.2, frequency_penalty=0.1, dry_multiplier=0.8, min_p=0.02
    ),
    "XTC+typical": ft.Sampler(xtc_probability=0.5, xtc_threshold=0.1, typical_p=0.9),
}
LENGTHS = (1, 3, 8)
Drafters = dict[str, Callable[[], Any]]


class Difference(NamedTuple):
    """Where a row first left the reference: in which run, at which place, both tokens, and the lead of the chosen."""

    where: str
    place: int
    expected: int
    found: int
    gap: float


def drafters(model: Any, small: Any) -> Drafters:
    """The rows of the matrix."""
    return {
        "none": lambda: None,
        "NGram": lambda: ft.NGram(minimum=1),
        "Suffix": lambda: ft.Suffix(minimum=1),
        "SmallModel": lambda: ft.SmallModel(small),
        "EarlyExit": lambda: ft.EarlyExit(1),
        "Several": lambda: ft.Several(ft.Suffix(minimum=1), ft.SmallModel(small), ask_all=True),
        "tree": lambda: ft.Several(ft.Suffix(minimum=1), ft.SmallModel(small), tree=True),
        "random": lambda: random_drafter(model.vocab_size, seed=5),
    }


def row_of(out: ft.Generation, row: int) -> tuple[np.ndarray, list[float]]:
    """The tokens of a row, and the lead of each."""
    return out.rows[row].tokens, [gap for step in out.trace if step.row == row for gap in step.gaps]


def compare(where: str, expected: tuple, found: tuple) -> tuple[int, Difference | None]:
    """How many tokens of a row differ, and where it starts."""
    (wanted, leads), (tokens, own_leads) = expected, found
    if len(wanted) == len(tokens) and (wanted == tokens).all():
        return 0, None
    common = min(len(wanted), len(tokens))
    unlike = wanted[:common] != tokens[:common]
    count = int(unlike.sum()) + max(len(wanted), len(tokens)) - common
    if not unlike.any():
        return count, Difference(where, common, -1, -1, float("inf"))
    place = int(unlike.argmax())
    lead = max(leads[place], own_leads[place])  # a near tie must be one in both runs
    return count, Difference(where, place, int(wanted[place]), int(tokens[place]), lead)


def cells(
    model: Any, prompts: Sequence[np.ndarray], sampler: ft.Sampler, options: argparse.Namespace
) -> Iterator[tuple[str, str, int, list[Difference], int]]:
    """(drafter, batch, tokens that differ, differences, tokens compared) for each cell of one sampler."""
    keys = {"sampler": sampler, "max_tokens": options.tokens, "end_tokens": ()}
    seeds = list(range(11, 11 + len(prompts)))
    alone = [
        row_of(ft.generate(model, ft.Canvas([prompt]), seed=seed, **keys), 0)
        for prompt, seed in zip(prompts, seeds, strict=True)
    ]
    for name, make in drafters(model, options.small).items():
        for length in LENGTHS:
            strategy = ft.Autoregressive(drafter=make(), length=length)
            for rows in (1, len(prompts)):
                out = ft.generate(model, ft.Canvas(prompts[:rows]), strategy, seed=seeds[:rows], **keys)
                found, count = [], 0
                for row in range(rows):
                    where = f"{name}, length {length}, batch {rows}, row {row}"
                    differing, difference = compare(where, alone[row], row_of(out, row))
                    count += differing
                    found += [difference] if difference else []
                yield name, f"batch {rows}", count, found, options.tokens * rows


def matrix(name: str, model: Any, prompts: Sequence[np.ndarray], options: argparse.Namespace) -> Report:
    """Every cell, on one model."""
    lines: dict[str, dict[str, int]] = {drafter: {} for drafter in drafters(model, options.small)}
    differences: list[Difference] = []
    total = compared = runs = 0
    for kind, sampler in SAMPLERS.items():
        for drafter, _, count, found, tokens in cells(model, prompts, sampler, options):
            lines[drafter][kind] = lines[drafter].get(kind, 0) + count
            differences += [difference._replace(where=f"{kind}, {difference.where}") for difference in found]
            total, compared, runs = total + count, compared + tokens, runs + 1
    unproved = sum(not difference.gap < TIE for difference in differences)
    title = f"tokens that differ on {name}: {total} of {compared:,}, in {len(differences)} rows, {unproved} no near tie"
    rows = [(drafter, *(counts[kind] for kind in SAMPLERS)) for drafter, counts in lines.items()]
    tables = [Table(title, ("drafter", *SAMPLERS), rows)]
    if differences:
        shown = [(d.where, d.place, d.expected, d.found, f"{d.gap:.1e}") for d in differences]
        tables.append(Table("where rows part", ("run", "place", "alone", "drafted", "lead, nats"), shown))
    settings = {
        "model": name, "kind": type(model).__name__, "dtype": "float32", "lengths": list(LENGTHS),
        "batch": [1, len(prompts)], "prompt length": [len(p) for p in prompts], "tokens": options.tokens,
    }  # fmt: skip
    results = {
        "runs": runs, "tokens": compared, "differing_tokens": total, "differing_rows": len(differences),
        "without_near_tie": unproved, "differences": [d._asdict() for d in differences],
    }  # fmt: skip
    return Report(f"exact {name}", settings, tables, results)


def equality(model: str, options: argparse.Namespace) -> Report:
    """Greedy, ours and `transformers.generate`, on the same weights."""
    pipeline = ft.load(model, model=options.kind)
    folder = Path(model) if Path(model).is_dir() else ft.path(model)
    peer, greedy = Peer(folder), SAMPLERS["greedy"]
    prompts = _common.encoded(pipeline, options.prompts)
    differences = []
    for index, prompt in enumerate(prompts):
        out = ft.generate(pipeline.model, ft.Canvas([prompt]), sampler=greedy, max_tokens=options.tokens, end_tokens=())
        tokens, leads = row_of(out, 0)
        _, difference = compare(f"prompt {index}", (tokens, leads), (peer.ids(prompt, greedy, options.tokens), leads))
        differences += [difference] if difference else []
    equal = len(prompts) - len(differences)
    rows = [(d.where, d.place, d.expected, d.found, f"{d.gap:.1e}") for d in differences]
    title = f"greedy {pipeline.name}: equal to transformers.generate {equal} of {len(prompts)}, {options.tokens} tokens"
    table = Table(title, ("differs", "place", "foretoken", "transformers", "lead, nats"), rows)
    settings = {"model": pipeline.name, "dtype": "float32", "batch": 1, "tokens": options.tokens}
    results = {"prompts": len(prompts), "equal": equal, "differences": [d._asdict() for d in differences]}
    return Report(f"transformers {pipeline.name}", settings, [table], results)


def replayed(options: argparse.Namespace) -> Report:
    """On logits from a table, where nothing is rounded."""
    model = TableModel(vocab_size=64, order=2)
    rng = np.random.default_rng(5)
    prompts = [rng.integers(1, 64, size=length) for length in (9, 1, 3, 17, 2, 30, 5, 11)]
    options.small = model.first(1)
    return matrix("replayed logits", model, prompts, options)


def main(arguments: Sequence[str] | None = None) -> Report:
    """Run the parts that are asked for."""
    parts = ("replayed", "models", "transformers")
    parser = _common.parser(__doc__)
    parser.add_argument("--model", action="append", help="name or folder; may be repeated (default: tales, manual)")
    parser.add_argument("--only", action="append", choices=parts, help="one part; may be repeated")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--prompts", type=int, default=50, help="prompts for the equality with transformers")
    parser.add_argument("--torch", action="store_true", help="run the models in PyTorch instead of the core")
    options = _common.parsed(parser, arguments)
    options.kind = ft.Llama if options.torch else ft.Native
    if options.quick:
        options.model, options.tokens, options.prompts = [_common.tiny_folder()], 6, 2
    wanted = options.only or parts
    reports = [replayed(options)] if "replayed" in wanted else []
    for model in options.model or ["tales", "manual"]:
        if "models" in wanted:
            pipeline = ft.load(model, model=options.kind)
            try:
                options.small = ft.small_model(model, model=options.kind).model
            except UnknownModel:
                options.small = pipeline.model.first(1)
            reports.append(matrix(pipeline.name, pipeline.model, _common.encoded(pipeline, 8), options))
        if "transformers" in wanted:
            reports.append(equality(model, options))
    return _common.finish(joined("exactness", reports), options)


if __name__ == "__main__":
    main()
