"""A sheet as an HTML page that needs nothing but itself."""

from __future__ import annotations

import html
from importlib import resources
from string import Template

import numpy as np

from ..codec.png import data_uri, png
from ..trace.marks import visible
from .plots import enlarged
from .sheet import Panel, Sheet

_HUES = 6  # of tokens, in sheet.html
_LEAST = 400  # pixels of a small picture, whose own are then drawn as squares by any viewer


def page(sheet: Sheet) -> str:
    """A whole page: pictures, sounds and style inside, light or dark as the reader's browser is, no script.

    Example:
        >>> "<script" in page(Sheet("<script>", "a text", {}, (), [("<b>", 3)]))
        False
    """
    figures = "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>" for name, value in sheet.figures.items()
    )
    body = ""
    if sheet.panels:
        body += f'<div class="panels">{"".join(_figure(panel) for panel in sheet.panels)}</div>'
    if sheet.pieces:
        spans = [
            f'<span class="t" data-d="{place % _HUES}" title="{token}">{visible(piece)}</span>'
            for place, (piece, token) in enumerate(sheet.pieces)
        ]
        body += f'<div class="text" dir="auto">{"".join(spans)}</div>'
    template = (resources.files("foretoken.view") / "sheet.html").read_text(encoding="utf-8")
    return Template(template).substitute(
        style=style(), title=html.escape(sheet.title), kind=html.escape(sheet.kind), figures=figures, body=body
    )


def style() -> str:
    """Colours and type that all pages share, light or dark as the reader's browser is."""
    return (resources.files("foretoken.view") / "style.css").read_text(encoding="utf-8")


def _figure(panel: Panel) -> str:
    note = f" <small>{html.escape(panel.note)}</small>" if panel.note else ""
    caption = f"<figcaption>{html.escape(panel.title)}{note}</figcaption>"
    sound = ""
    if panel.sound is not None:
        sound = f'<audio controls preload="metadata" src="{data_uri("audio/wav", panel.sound)}"></audio>'
    return f"<figure{' class=wide' if panel.wide else ''}>{caption}{_drawing(panel)}{sound}</figure>"


def _drawing(panel: Panel) -> str:
    """The picture with its lines and labels, in the coordinates of its own pixels."""
    height, width = panel.pixels.shape[:2]
    pixels = panel.pixels if panel.smooth else enlarged(panel.pixels, _LEAST)
    smooth = ' class="smooth"' if panel.smooth else ""
    drawn = f'<image{smooth} width="{width}" height="{height}" href="{data_uri("image/png", png(pixels))}"/>'
    if panel.cells is not None:
        drawn += _lines(height, width, panel.cells[0], panel.cells[1])
    if panel.labels is not None:
        drawn += _labels(panel.pixels, panel.labels)
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(panel.title)}"'
        f"{' preserveAspectRatio=none' if panel.smooth else ''}>{drawn}</svg>"
    )


def _lines(height: int, width: int, rows: int, columns: int) -> str:
    down = "".join(f"M{width * i / columns:g} 0v{height}" for i in range(1, columns))
    across = "".join(f"M0 {height * i / rows:g}h{width}" for i in range(1, rows))
    return (
        f'<path d="{down}{across}" fill="none" stroke="#808080" stroke-opacity="0.5" stroke-width="{width / 640:g}"/>'
    )


def _labels(colours: np.ndarray, labels: np.ndarray) -> str:
    """Numbers of one size in all cells, the longest as wide as its cell; black or white, whichever stands out."""
    digits = max(len(str(label)) for label in labels.reshape(-1).tolist())
    size = min(0.42, 1.4 / digits)
    texts = []
    for (row, column), label in np.ndenumerate(labels):
        place = f'x="{column + 0.5}" y="{row + 0.5}"'
        texts.append(f'<text {place} fill="{"#fff" if is_dark(colours[row, column]) else "#000"}">{label}</text>')
    return f'<g font-size="{size:.3f}">{"".join(texts)}</g>'


def is_dark(colour: np.ndarray) -> bool:
    """Whether white stands out more than black does."""
    return float(colour[:3] @ np.array([0.299, 0.587, 0.114])) < 128
