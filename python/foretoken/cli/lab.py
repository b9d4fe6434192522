"""Experiment: what several right answers do to a decoder, and what cures it.

`foretoken lab multimodality` answers with one shot, one unit after another, and every cure between, and writes a page:
which answer (an exact model of human sentences), which language (a translation whose language is not told), and which
style (a picture whose style is not told). The last two take trained checkpoints; what is missing is said.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from ..errors import InvalidArgument
from ..evaluate.report import machine
from ..files import whole
from ..lab import multimodality
from ..lab.page import page
from ..lab.task import Task


def options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    lab = parser.add_subparsers(metavar="EXPERIMENT", required=True).add_parser(
        "multimodality",
        help="one shot, one after another, and the cures between",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    lab.add_argument("--data", type=Path, required=True, metavar="DIR", help="the folder of the data")
    lab.add_argument(
        "--models", type=Path, nargs="*", default=[], metavar="DIR", help="folders of trained checkpoints, in any order"
    )
    lab.add_argument("--out", type=Path, default=Path("multimodality.html"), metavar="FILE", help="of the page")
    lab.add_argument("--meanings", type=int, default=200, metavar="N", help="of the exact model (default: 200)")
    lab.add_argument("--inputs", type=int, default=60, metavar="N", help="of the trained models (default: 60)")
    lab.add_argument(
        "--temperature", type=float, default=1.0, metavar="T", help="of what trained models draw (default: 1)"
    )
    lab.add_argument("--seed", type=int, default=0, help="of all draws")
    lab.add_argument("--json", action="store_true", help="write the figures as one JSON object")


def run(options: argparse.Namespace) -> None:
    """Run this command."""
    check_page(options.out)
    for name in ("meanings", "inputs"):
        if getattr(options, name) < 1:
            raise InvalidArgument(f"{name} is {getattr(options, name)}: give 1 or more")
    tasks = multimodality.run(
        options.data, options.models, meanings=options.meanings, inputs=options.inputs, seed=options.seed,
        temperature=options.temperature,
        note=lambda what: print(what, file=sys.stderr, flush=True),
    )  # fmt: skip
    finish(
        tasks, options, title="Several right answers",
        intro="What happens when all units are chosen at once and more than one answer is right, and what cures it.",
    )  # fmt: skip


def check_page(out: Path) -> None:
    """Refuse a file that a browser would not take for a page."""
    if out.suffix != ".html":
        raise InvalidArgument(f"{out} is no page: let --out end in .html")


def finish(tasks: Sequence[Task], options: argparse.Namespace, *, title: str, intro: str) -> None:
    """Write the page of some experiments, and their figures to standard output."""
    made = machine()
    with whole(options.out) as part:
        part.write_text(page(tasks, made, title=title, intro=intro), encoding="utf-8")
    if options.json:
        results = {task.title: task.results() for task in tasks}
        print(json.dumps({"out": str(options.out), "results": results, "machine": made}, ensure_ascii=False))
        return
    for task in tasks:
        print(f"{task.title}: not measured: {task.missing}" if task.missing else task.table(), end="\n\n")
    print(options.out)
