"""Which token each character of a text came from, when a character may be cut into several tokens."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

HALF = "\ufffd"
"""What a piece holds in place of bytes that are no whole character."""


class Alignment:
    """Follows one row: pieces of tokens go in, and the characters that became certain; each comes out with its token.

    Example:
        >>> row = Alignment()
        >>> row.feed(["na", "\\ufffd"], "na")
        [(0, 'na')]
        >>> row.feed(["\\ufffd", "ve"], "ïve")
        [(2, 'ï'), (3, 've')]
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, str]] = deque()
        self._count = 0

    def feed(self, pieces: Sequence[str], text: str) -> list[tuple[int, str]]:
        """Go on with more tokens.

        Args:
            pieces: what each new token looks like on its own.
            text: the characters that became certain with them; those of held tokens may come later.

        Returns:
            (index of the token from the start of the row, its characters), in order; joined they are `text`. A
            character of several tokens comes with the last of them.
        """
        self._waiting.extend(enumerate(pieces, start=self._count))
        self._count += len(pieces)
        released = []
        while text and self._waiting:
            index, piece = self._waiting.popleft()
            if HALF in piece:
                index, length = self._halves(index, piece, text)
            elif text.startswith(piece):
                length = len(piece)
            elif piece.startswith(text):  # the rest may be the beginning of a stop string
                length = len(text)
                self._waiting.appendleft((index, piece[length:]))
            else:
                continue  # a token without text, such as END
            released.append((index, text[:length]))
            text = text[length:]
        if text:
            released.append((max(0, self._count - 1), text))
        return released

    def _halves(self, index: int, run: str, text: str) -> tuple[int, int]:
        """The last token of a run of halves, and how many characters they make together."""
        while self._waiting and HALF in self._waiting[0][1]:
            index, piece = self._waiting.popleft()
            run += piece
        whole = len(run) - run.count(HALF)
        end = text.find(self._waiting[0][1], whole + 1) if self._waiting else -1
        return index, len(text) if end < 0 else end
