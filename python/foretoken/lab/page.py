"""The experiments as one HTML page that needs nothing but itself."""

from __future__ import annotations

import html
from collections.abc import Sequence
from importlib import resources
from string import Template
from typing import Any

import numpy as np

from ..codec.png import data_uri, png
from ..evaluate.report import asked
from ..view.page import style
from ..view.plots import enlarged
from .curves import curves
from .task import Outcome, Task

_LEAST = 192  # pixels of a picture's width, so that its own are squares in any viewer


def page(tasks: Sequence[Task], made: dict[str, Any], *, title: str, intro: str) -> str:
    """A whole page: tables, curves, samples and style inside, light or dark as the reader's browser is, no script.

    Args:
        tasks: in order; those that are missing something say what.
        made: where it was measured, as `evaluate.report.machine` has it.
        title, intro: of the page.

    Example:
        >>> where = {"cpu": "x", "cores": 1, "load": 0, "date": "now"}
        >>> "<script" in page([Task("<script>", "", missing="<b>")], where, title="<script>", intro="")
        False
    """
    template = (resources.files("foretoken.lab") / "tasks.html").read_text(encoding="utf-8")
    where = f"{made['cpu']}, {made['cores']} cores, load {made['load']}, {made['date']}"
    body = "".join(_section(task) for task in tasks)
    return Template(template).substitute(
        style=style(), title=html.escape(title), intro=html.escape(intro), where=html.escape(where),
        asked=_asked(tasks), body=body,
    )  # fmt: skip


def _asked(tasks: Sequence[Task]) -> str:
    goals = [goal for task in tasks for goal in task.goals]
    if not goals:
        return ""
    table = asked(goals).tables[0]
    body = _table(table.columns, table.rows, set())
    return f'<section><h2>What was asked</h2><div class="scroll">{body}</div></section>'


def _section(task: Task) -> str:
    heading = f"<h2>{html.escape(task.title)}</h2>"
    if task.missing:
        return f'<section>{heading}<p class="missing">not measured: {html.escape(task.missing)}</p></section>'
    table = task.table()
    cures = {index for index, outcome in enumerate(task.measured) if outcome.cure}
    floors = "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{number(value)}</dd></div>" for name, value in task.floors.items()
    )
    floors = f'<p class="note">To hold beside it: what real answers, or the law itself, have.</p><dl>{floors}</dl>'
    return (
        f'<section>{heading}<p class="note">{html.escape(task.about)}</p>'
        f'<div class="scroll">{_table(table.columns, table.rows, cures)}</div>'
        f'<p class="note">Marked are the cures; the others are yardsticks.</p>{floors if task.floors else ""}'
        f"{curves(task.outcomes)}{_samples(task.outcomes)}</section>"
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]], marked: set[int]) -> str:
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in columns)
    lines = []
    for index, (name, *cells) in enumerate(rows):
        values = "".join(f"<td{' class=no' if cell == 'NO' else ''}>{number(cell)}</td>" for cell in cells)
        kind = " class=cure" if index in marked else ""
        lines.append(f'<tr{kind}><th scope="row">{html.escape(str(name))}</th>{values}</tr>')
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def number(value: Any) -> str:
    """A cell as people read it.

    Example:
        >>> number(0.12345), number(1234.5), number(None), number(1.0), number("<")
        ('0.123', '1,234', '–', '1', '&lt;')
    """
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return html.escape(str(value))


def _samples(outcomes: Sequence[Outcome]) -> str:
    shown = [outcome for outcome in outcomes if outcome.samples]
    if not shown:
        return ""
    blocks = []
    for outcome in shown:
        parts = "".join(_sample(given, made) for given, made in outcome.samples)
        pictures = any(isinstance(made, np.ndarray) for _, made in outcome.samples)
        kind = "pictures" if pictures else "lines"
        blocks.append(
            f'<figure><figcaption>{html.escape(outcome.name)}</figcaption><div class="{kind}">{parts}</div></figure>'
        )
    return f'<h3>Samples</h3><p class="note">Of the first seeds; nobody picked them.</p>{"".join(blocks)}'


def _sample(given: str, made: str | np.ndarray) -> str:
    if isinstance(made, np.ndarray):
        source = data_uri("image/png", png(enlarged(made, _LEAST)))
        return f'<img src="{source}" alt="{html.escape(given)}" title="{html.escape(given)}" width="96">'
    return f'<p dir="auto"><small>{html.escape(given)}</small>{html.escape(made) or "<i>nothing</i>"}</p>'
