"""A sheet as a PNG picture, drawn by Pillow on white."""

from __future__ import annotations

import bisect
import io
from typing import Any

import numpy as np

from ..errors import LimitExceeded, MissingExtra
from .page import is_dark
from .plots import symbol_colours
from .sheet import Panel, Sheet

WIDTH, MARGIN, GAP = 1600, 40, 24
_COLUMNS = 4
_TALLEST = 2**14
_LONGEST = 500  # characters of a line, more than fit
_INK, _QUIET, _LINE = (28, 33, 40), (98, 108, 120), (223, 227, 232)


def board(sheet: Sheet) -> bytes:
    """A PNG file: title, figures, panels four in a row, a text's tokens as boxes.

    Raises:
        MissingExtra: Pillow is not installed.
        LimitExceeded: the text is too long for a picture; a page takes it.
    """
    try:
        from PIL import Image
    except ImportError:
        raise MissingExtra(
            "a PNG needs Pillow; install it with: pip install 'foretoken[image]', or write .html"
        ) from None
    # Drawn once to know how high it is, and once on a picture of that height.
    height = _Drawn(Image.new("RGB", (WIDTH, 1)), sheet).bottom + MARGIN
    if height > _TALLEST:
        raise LimitExceeded(f"the picture would be {height} pixels high, more than {_TALLEST}: write .html instead")
    image = Image.new("RGB", (WIDTH, height), (255, 255, 255))
    _Drawn(image, sheet)
    memory = io.BytesIO()
    image.save(memory, "png", optimize=True)
    return memory.getvalue()


class _Drawn:
    """A sheet on a picture; `bottom` is where it ends."""

    def __init__(self, image: Any, sheet: Sheet) -> None:
        from PIL import Image, ImageDraw, ImageFont

        self._pillow, self._fonts = Image, ImageFont
        self.image, self.bottom = image, MARGIN
        self.draw = ImageDraw.Draw(image)
        self._heading(sheet)
        narrow = [panel for panel in sheet.panels if not panel.wide]
        for start in range(0, len(narrow), _COLUMNS):
            self._row(narrow[start : start + _COLUMNS], (WIDTH - 2 * MARGIN - (_COLUMNS - 1) * GAP) // _COLUMNS)
        for panel in sheet.panels:
            if panel.wide:
                self._row([panel], WIDTH - 2 * MARGIN)
        if sheet.pieces:
            self._tokens(sheet)

    def _font(self, size: int) -> Any:
        return self._fonts.load_default(size)

    def _write(self, x: float, y: float, text: str, size: int, ink: tuple[int, ...], width: float = 1e9) -> float:
        """Write one line, cut to a width; returns where it ends."""
        font, text = self._font(size), _plain(text[:_LONGEST])
        if self.draw.textlength(text, font=font) > width:
            fits = bisect.bisect_left(
                range(len(text)), width, key=lambda n: self.draw.textlength(text[:n] + "...", font)
            )
            text = text[: max(0, fits - 1)] + "..."
        self.draw.text((x, y), text, fill=ink, font=font)
        return x + self.draw.textlength(text, font=font)

    def _heading(self, sheet: Sheet) -> None:
        self._write(MARGIN, self.bottom, sheet.title, 34, _INK, WIDTH - 2 * MARGIN)
        self._write(MARGIN, self.bottom + 46, sheet.kind, 19, _QUIET, WIDTH - 2 * MARGIN)
        x, y = float(MARGIN), self.bottom + 88
        for place, (name, value) in enumerate(sheet.figures.items()):
            end = self._write(x, y, value, 30, (0, 122, 85) if place == 0 else _INK)
            x = max(end, self._write(x, y + 38, name, 17, _QUIET)) + 48
        self.bottom = y + 38 + 20 + 16
        self.draw.line([(MARGIN, self.bottom), (WIDTH - MARGIN, self.bottom)], fill=_LINE, width=2)
        self.bottom += 22

    def _row(self, panels: list[Panel], width: int) -> None:
        bottom = self.bottom
        for place, panel in enumerate(panels):
            x = MARGIN + place * (width + GAP)
            self._write(x, self.bottom, panel.title, 20, _INK, width)
            self._write(x, self.bottom + 26, panel.note, 15, _QUIET, width)
            bottom = max(bottom, self._picture(panel, x, self.bottom + 52, width))
        self.bottom = bottom + GAP

    def _picture(self, panel: Panel, x: int, y: int, width: int) -> int:
        rows, columns = panel.pixels.shape[:2]
        # Waves and spectrograms fill a line of their own; the others keep their shape.
        scale = width / columns if not panel.wide else min(width / columns, 340 / rows)
        wide, high = round(columns * scale), round(rows * scale)
        if panel.smooth:
            wide, high = width, min(rows, 240) if panel.wide else high
        filter = self._pillow.Resampling.BILINEAR if panel.smooth else self._pillow.Resampling.NEAREST
        shown = self._pillow.fromarray(panel.pixels).convert("RGBA").resize((wide, high), filter)
        self.image.paste(shown, (x, y), shown)
        if panel.cells is not None:
            self._lines(panel.cells, x, y, wide, high)
        if panel.labels is not None:
            self._labels(panel.pixels, panel.labels, x, y, wide)
        self.draw.rectangle([x, y, x + wide - 1, y + high - 1], outline=_LINE)
        return y + high

    def _lines(self, cells: tuple[int, ...], x: int, y: int, wide: int, high: int) -> None:
        for place in range(1, cells[0]):
            at = y + round(high * place / cells[0])
            self.draw.line([(x, at), (x + wide, at)], fill=_LINE)
        for place in range(1, cells[1]):
            at = x + round(wide * place / cells[1])
            self.draw.line([(at, y), (at, y + high)], fill=_LINE)

    def _labels(self, colours: np.ndarray, labels: np.ndarray, x: int, y: int, wide: int) -> None:
        side = wide / labels.shape[1]
        font = self._font(max(6, int(min(0.42, 1.5 / max(len(str(n)) for n in labels.flat)) * side)))
        for (row, column), label in np.ndenumerate(labels):
            ink = (255, 255, 255) if is_dark(colours[row, column]) else (0, 0, 0)
            place = (x + (column + 0.5) * side, y + (row + 0.5) * side)
            self.draw.text(place, str(label), fill=ink, font=font, anchor="mm")

    def _tokens(self, sheet: Sheet) -> None:
        font, line, x = self._font(20), 34, float(MARGIN)
        for place, (piece, _) in enumerate(sheet.pieces):
            for part in piece.replace("\t", "    ").splitlines(keepends=True) or [""]:
                shown = _plain(part.rstrip("\r\n"))
                wide = self.draw.textlength(shown, font=font) + 2
                if x + wide > WIDTH - MARGIN:
                    x, self.bottom = float(MARGIN), self.bottom + line
                hue = symbol_colours(np.array([place % 6 + 1]))[0]
                fill = tuple(int(255 - (255 - part) * 0.35) for part in hue)
                self.draw.rectangle([x, self.bottom, x + wide - 2, self.bottom + line - 8], fill=fill)
                self.draw.text((x + 1, self.bottom), shown, fill=_INK, font=font)
                x += wide
                if part.endswith(("\n", "\r")):
                    x, self.bottom = float(MARGIN), self.bottom + line
            if self.bottom > _TALLEST:
                return
        self.bottom += line


def _plain(text: str) -> str:
    """The text as far as Pillow's own font has it: ASCII; a sign of multiplication as x, anything else as ?."""
    return "".join(c if " " <= c <= "~" else {"×": "x", "–": "-"}.get(c, "?") for c in text)
