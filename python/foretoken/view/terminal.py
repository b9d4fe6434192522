"""Text in a terminal as it comes: which tokens were guessed, which guesses were refused."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable
from typing import Literal, TextIO

from ..canvas import Step
from ..trace.alignment import Alignment

When = Literal["auto", "always", "never"]

_RIGHT = ("32", "36", "35", "34", "33")  # one for each drafter, in the order of their first guess
_CHOSEN, _GIVEN, _REFUSED = "", "2", "2;9;31"


def use_color(stream: TextIO, when: When = "auto") -> bool:
    """Whether to colour: by itself on a terminal that can, unless NO_COLOR (no-color.org) is set and not empty."""
    if when != "auto":
        return when == "always"
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class Terminal:
    """Writes one row's text to a stream, step by step; plain text unless it is coloured.

    Args:
        out: where to write.
        piece: token id → what the token looks like on its own.
        color: whether accepted guesses are coloured and refused ones shown, struck through.

    Example:
        >>> import io
        >>> out = io.StringIO()
        >>> step = Step(0, [66, 67], drafted=[66, 90], accepted=1, source="ngram", gaps=[1.0, 1.0], text="BC")
        >>> Terminal(out, chr, color=False).step(step)
        >>> out.getvalue()
        'BC'
    """

    def __init__(self, out: TextIO, piece: Callable[[int], str], *, color: bool) -> None:
        self.out, self._piece, self._color = out, piece, color
        self._sources: list[str] = []
        self._alignment = Alignment()
        self._style: list[str] = []  # of each token
        self._refused: dict[int, str] = {}  # index of a token → the guess that it was chosen instead of

    def prompt(self, text: str) -> None:
        """Show what was given; only where colour tells it from what was generated."""
        if self._color:
            self._write(text, _GIVEN)
            self.out.flush()

    def step(self, step: Step) -> None:
        """Show what a step made certain."""
        if self._color:
            self._styles(step)
            for index, text in self._alignment.feed([self._piece(token) for token in step.tokens], step.text):
                self._write(self._refused.pop(index, "").replace("\n", "↵"), _REFUSED)
                self._write(text, self._style[index])
        else:
            self.out.write(step.text)
        self.out.flush()

    def _styles(self, step: Step) -> None:
        if step.drafted and step.source not in self._sources:
            self._sources.append(step.source)
        for place in range(len(step.tokens)):
            if place < step.accepted:
                self._style.append(_RIGHT[self._sources.index(step.source) % len(_RIGHT)])
                continue
            if place < len(step.drafted):
                self._refused[len(self._style)] = self._piece(step.drafted[place])
            self._style.append(_CHOSEN)

    def _write(self, text: str, style: str) -> None:
        if text:
            shown = harmless(text)
            self.out.write(f"\x1b[{style}m{shown}\x1b[0m" if style else shown)


def harmless(text: str) -> str:
    """The text with control characters made visible: a model must not move the cursor or retitle the window.

    Example:
        >>> harmless("\\x1b[2J\\n")
        '␛[2J\\n'
    """
    return "".join(_shown(c) for c in text)


def _shown(c: str) -> str:
    if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs"):
        return c
    return chr(0x2400 + ord(c)) if ord(c) < 0x20 else "\ufffd"
