"""The drawings of a trace: tokens forward by forward, acceptance by position, time by part."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..canvas import Stats, Step
from .marks import duration, percent

PARTS = {"prompt": "prompt", "model": "model", "draft": "guessing", "sample": "choosing, checking"}
_WIDTH, _HEIGHT, _TOP = 264, 100, 18


def strip(steps: Sequence[Step], hue: Callable[[str], str]) -> str:
    """A column for each forward: guesses that were right, the token chosen, guesses that were dropped."""
    columns = []
    for forward, step in enumerate(steps, start=1):
        right = min(step.accepted, len(step.tokens))
        chosen, dropped = len(step.tokens) - right, max(0, len(step.drafted) - step.accepted)
        title = f"forward {forward}: {right} guessed right, {chosen} chosen, {dropped} dropped"
        columns.append(
            f'<b data-f="{forward}"{hue(step.source) if step.drafted else ""} title="{title}"'
            f' style="--a:{right};--s:{chosen};--r:{dropped}"></b>'
        )
    note = "A column is a forward, a square a token; pale squares are guesses that were dropped."
    return f'<p class="note">{note}</p><div class="strip">{"".join(columns)}</div>'


def acceptance(stats: Stats) -> str:
    """Bars: the share of right guesses at each place of a draft; nothing if nothing was drafted."""
    shares = stats.acceptance_by_position
    if not shares:
        return ""
    width = min(52.0, _WIDTH / len(shares))
    foot = _TOP + _HEIGHT
    bars = []
    for place, share in enumerate(shares):
        top = foot - share * _HEIGHT
        bar = f'x="{(place + 0.1) * width:.1f}" width="{0.8 * width:.1f}" rx="2"'
        middle = f'x="{(place + 0.5) * width:.1f}" text-anchor="middle"'
        right, judged = stats.accepted_at[place], stats.drafted_at[place]
        bars.append(
            f"<g><title>guess {place + 1}: {right:,} of {judged:,} right</title>"
            f'<rect class="track" y="{_TOP}" height="{_HEIGHT}" {bar}/>'
            f'<rect class="bar" y="{top:.1f}" height="{foot - top:.1f}" {bar}/>'
            f'<text class="value" y="{top - 4:.1f}" {middle}>{100 * share:.0f}</text>'
            f'<text y="{foot + 15}" {middle}>{place + 1}</text></g>'
        )
    return (
        '<section><h3>How often a guess was right</h3><p class="note">Percent, by its place in the draft. A guess '
        f'behind a refused one is not judged.</p><svg viewBox="0 0 {_WIDTH} {foot + 20}" role="img" '
        f'aria-label="acceptance by position">{"".join(bars)}</svg></section>'
    )


def time(stats: Stats) -> str:
    """A bar and a table of where the seconds went; nothing if none were counted."""
    total = stats.seconds["total"]
    if not total:
        return ""
    spent = {name: stats.seconds[key] for key, name in PARTS.items()}
    spent["everything else"] = max(0.0, total - sum(spent.values()))
    bars = "".join(f'<span data-p="{i}" style="flex:{s / total:.4f}"></span>' for i, s in enumerate(spent.values()))
    lines = "".join(
        f'<tr><th data-p="{i}" scope="row">{name}</th><td>{duration(s)}</td><td>{percent(s / total)}</td></tr>'
        for i, (name, s) in enumerate(spent.items())
    )
    return (
        f'<section><h3>Where the time went</h3><p class="note">{duration(total)} together</p>'
        f'<div class="time">{bars}</div><table>{lines}</table></section>'
    )
