"""How a picture grew: which patches became known when, how sure the painter was, and where each word was looked at."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..errors import InvalidArgument, MissingExtra
from ..files import whole
from ..generation import Generation
from ..model.attention import attention
from ..painter.painter import Painter
from ..painter.picture import Picture
from ..painter.preview import Preview, Previews
from .page import page
from .plots import heat
from .sheet import Panel, Sheet

_WORDS = 8  # of which attention is shown


class Growth(NamedTuple):
    """What happened to one picture.

    Args:
        previews: after each forward that found a patch.
        when: (down, across) int64, the forward that found each patch; 0 if it was given.
        sure: (down, across) float64, how probable it was then; 1 if it was given.
    """

    previews: list[Preview]
    when: np.ndarray
    sure: np.ndarray


def growths(painter: Painter, out: Generation) -> list[Growth]:
    """How each picture of a generation grew.

    Args:
        painter: who painted.
        out: what it returned, with `logprobs=0`.

    Raises:
        InvalidArgument: it has no log-probabilities.
    """
    if any(step.logprobs is None for step in out.trace):
        raise InvalidArgument("how sure the painter was is not known: paint with logprobs=0")
    previews = Previews(painter.rows, list(out.trace.prompts))
    own: list[list[Preview]] = [[] for _ in out.rows]
    when = np.zeros((len(out.rows), painter.rows.cells), dtype=np.int64)
    sure = np.ones((len(out.rows), painter.rows.cells))
    for step in out.trace:
        preview = previews.after(step)
        if not preview.fresh.any():
            continue  # the shared imagination
        own[step.row].append(preview)
        for place, chance in zip(step.positions or (), step.logprobs or (), strict=True):
            if place >= painter.rows.body:
                when[step.row, place - painter.rows.body] = len(own[step.row])
                sure[step.row, place - painter.rows.body] = np.exp(chance)
    shape = painter.rows.grid
    return [
        Growth(each, one.reshape(shape), other.reshape(shape)) for each, one, other in zip(own, when, sure, strict=True)
    ]


def growth(painter: Painter, prompts: str | Sequence[str | None] | None, out: Generation) -> str:
    """A page of how pictures grew; see `growths`.

    Args:
        painter: who painted.
        prompts: what was asked for.
        out: what came out.
    """
    texts = [prompts] if prompts is None or isinstance(prompts, str) else list(prompts)
    panels: list[Panel] = []
    for row, found in zip(out.rows, growths(painter, out), strict=True):
        text, steps = texts[row.prompt], len(found.previews)
        panels.append(Panel(text or "anything", row.signal.pixels, f"sample {row.sample + 1}"))
        panels.append(Panel("when", heat(found.when / steps), f"dark: first, of {steps} forwards", found.when.shape))
        panels.append(Panel("how sure", heat(found.sure), "bright: probability near 1 when it was found"))
        panels += [
            Panel(f"after {place} of {steps}", each.picture.pixels, f"{100 * each.progress:.0f} % known")
            for place, each in _few(found.previews)
        ]
        if row.prompt == row.sample == 0 and text is not None:
            panels += _looks(painter, text, row.units)
    stats = out.stats
    figures = {
        "forwards": f"{stats.forwards:,}", "patches": f"{stats.tokens:,}",
        "ms a picture": f"{1000 * stats.seconds['total'] / len(out.rows):,.0f}",
    }  # fmt: skip
    return page(Sheet("; ".join(text or "anything" for text in texts), f"painted by {painter.name}", figures, panels))


def _few(previews: list[Preview]) -> list[tuple[int, Preview]]:
    """At most 8 of them, the last among them, with their places from 1."""
    chosen = np.unique(np.linspace(0, len(previews) - 1, min(8, len(previews))).round().astype(int))
    return [(int(place) + 1, previews[place]) for place in chosen]


def _looks(painter: Painter, text: str, units: np.ndarray) -> list[Panel]:
    """How much each patch of a finished picture looks at each word, over all layers and heads."""
    rows = painter.rows
    weights = attention(painter.reader(units), units).mean(axis=(0, 1))
    first = rows.body - painter.prompts.positions
    found = []
    for place, piece in enumerate(painter.prompts.pieces(text)[:_WORDS]):
        own = weights[rows.body :, first + place].reshape(rows.grid)
        own = (own - own.min()) / max(float(own.max() - own.min()), 1e-9)
        found.append(Panel(f"looks at “{piece}”", heat(own), "bright: much; all layers and heads"))
    return found


def gif(painter: Painter, out: Generation, path: str | os.PathLike[str], *, times: int = 4, row: int = 0) -> None:
    """Write how one picture grew as an animation that lasts two seconds and rests on the end.

    Args:
        painter, out: as for `growths`.
        path: of the file.
        times: the side of the square that each pixel becomes.
        row: which picture.

    Raises:
        MissingExtra: Pillow is not installed.
        InvalidArgument: there is no such picture, or no log-probabilities.
        OSError: the file cannot be written.
    """
    try:
        from PIL import Image
    except ImportError:
        raise MissingExtra("a GIF needs Pillow; install it with: pip install 'foretoken[image]'") from None
    found = growths(painter, out)
    if not 0 <= row < len(found):
        raise InvalidArgument(f"row is {row}: there are {len(found)} pictures")
    steps = found[row].previews
    begun = steps[:-1]
    frames = [Image.fromarray(each.picture.enlarged(times).pixels) for each in begun[:: max(1, len(begun) // 64)]]
    frames.append(Image.fromarray(Picture(out.rows[row].signal.pixels).enlarged(times).pixels))
    each = max(20, 2000 // len(frames))
    with whole(path) as part:
        frames[0].save(
            part, format="GIF", save_all=True, append_images=frames[1:], duration=[each] * (len(frames) - 1) + [1500],
            loop=0,
        )  # fmt: skip
