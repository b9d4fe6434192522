"""Text as HTML in which every character can be seen and none can do harm."""

from __future__ import annotations

import html
import unicodedata

_PLAIN = {
    " ": '<i class="w"> </i>',
    "\t": '<i class="tab">\t</i>',
    "\u200c": "&#x200c;",  # zero-width joiners hold emoji and many scripts together
    "\u200d": "&#x200d;",
}


def visible(text: str, *, breaks: bool = True) -> str:
    """HTML of a piece of text, with marks for white space, control characters, and halves of characters.

    Spaces, tabs and newlines stay what they are, so that copied text is the text; the marks are drawn by the style.

    Args:
        text: any string, lone surrogates included.
        breaks: whether a newline also breaks the line.

    Example:
        >>> visible("<b>")
        '&lt;b&gt;'
        >>> visible("\\x07")
        '<i class="c" title="control character">U+0007</i>'
    """
    return "".join(_mark(c, breaks=breaks) for c in text) or '<i class="c">nothing</i>'


def _mark(c: str, *, breaks: bool) -> str:
    if c in _PLAIN:
        return _PLAIN[c]
    if c == "\n":
        return '<i class="n"></i>\n' if breaks else '<i class="n"></i>'
    if c == "\ufffd":
        return '<i class="c" title="part of a character">\ufffd</i>'
    # Also formats (Cf) and odd spaces (Z): marks of direction and the like hide or reorder what is on the page.
    if unicodedata.category(c)[0] in "CZ":
        name = unicodedata.name(c, "control character" if ord(c) < 0xA0 else "no character").lower()
        return f'<i class="c" title="{name}">U+{ord(c):04X}</i>'
    return html.escape(c)


def percent(share: float) -> str:
    """A share as percent, with a decimal where it is small."""
    return f"{100 * share:.0f} %" if share >= 0.0995 or share == 0 else f"{100 * share:.1f} %"


def duration(seconds: float) -> str:
    """A time in the unit a person would choose."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.1f} ms"


def rate(per_second: float) -> str:
    """A rate, with a decimal where it is small."""
    return f"{per_second:,.0f}" if per_second >= 100 else f"{per_second:.1f}"
