"""Conditional acceptance by position, drawn: a small chart for each way to answer, beside the first."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np

from .task import Outcome

_WIDTH, _HEIGHT, _LEFT, _TOP, _FOOT = 220, 96, 26, 8, 16


def curves(outcomes: Sequence[Outcome]) -> str:
    """The charts as HTML, or nothing if no curve was measured; the first outcome's is drawn into all, pale.

    Example:
        >>> curves([Outcome("a", {}), Outcome("b", {})])
        ''
    """
    measured = [outcome for outcome in outcomes if len(outcome.curve)]
    if not measured:
        return ""
    first = measured[0]
    charts = "".join(_chart(outcome, first) for outcome in measured)
    note = (
        "How probably a verifier takes each unit, those before it taken. Falling means that modes are mixed, rising "
        f"that one was committed to. A curve ends where nothing got that far; pale is {html.escape(first.name)}."
    )
    return f'<h3>Acceptance by position</h3><p class="note">{note}</p><div class="curves">{charts}</div>'


def _chart(outcome: Outcome, first: Outcome) -> str:
    places = max(len(outcome.curve), 2)
    grid = "".join(
        f'<path class="grid" d="M{_LEFT} {_y(share):.1f}H{_WIDTH}"/>'
        f'<text x="{_LEFT - 4}" y="{_y(share) + 3:.1f}" text-anchor="end">{share:g}</text>'
        for share in (0, 0.5, 1)
    )
    ticks = "".join(
        f'<text x="{_x(place, places):.1f}" y="{_TOP + _HEIGHT + 12}" text-anchor="middle">{place + 1}</text>'
        for place in sorted({0, places // 2, places - 1})
    )
    lines = "" if outcome is first else _line(first.curve, places, "pale")
    title = ", ".join(f"{share:.2f}" for share in outcome.curve if not np.isnan(share))
    return (
        f"<figure><figcaption>{html.escape(outcome.name)}</figcaption>"
        f'<svg viewBox="0 0 {_WIDTH + 4} {_TOP + _HEIGHT + _FOOT}" role="img" aria-label="acceptance by position: '
        f'{html.escape(outcome.name)}"><title>{title}</title>{grid}{ticks}{lines}'
        f"{_line(outcome.curve, places, 'own')}</svg></figure>"
    )


def _line(curve: Sequence[float], places: int, kind: str) -> str:
    there = [(place, share) for place, share in enumerate(curve[:places]) if not np.isnan(share)]
    points = " ".join(f"{_x(place, places):.1f},{_y(share):.1f}" for place, share in there)
    return f'<polyline class="{kind}" points="{points}"/>'


def _x(place: int, places: int) -> float:
    return _LEFT + 4 + (_WIDTH - _LEFT - 8) * place / (places - 1)


def _y(share: float) -> float:
    return _TOP + _HEIGHT * (1 - share)
