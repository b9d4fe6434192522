"""Prompt look-up (Saxena 2023): the last few tokens, where they stood before, and what came after."""

from __future__ import annotations

from typing import SupportsIndex

import numpy as np

from ..errors import InvalidArgument
from .rows import Rows, within


class NGram(Rows):
    """Guesses what followed the newest earlier occurrence of the longest n-gram at the end of a row.

    Args:
        max_n: the longest n-gram that is looked for, in tokens, in [1, 64].
        min_n: the shortest, in [1, max_n].

    Raises:
        InvalidArgument: a length is out of range.

    Example:
        >>> drafter = NGram()
        >>> drafter.start(0, [7, 8, 9, 1, 7, 8])
        >>> drafter.propose(0, 5)
        (array([9, 1, 7, 8, 9]), 2)
    """

    def __init__(self, max_n: SupportsIndex = 4, min_n: SupportsIndex = 1) -> None:
        super().__init__()
        self.max_n = within("max_n", max_n, 1, 64)
        self.min_n = within("min_n", min_n, 1, 64)
        if self.min_n > self.max_n:
            raise InvalidArgument(f"min_n is {self.min_n} and max_n {self.max_n}: give min_n <= max_n")

    def propose(self, row: SupportsIndex, k: SupportsIndex) -> tuple[np.ndarray, int]:
        """What may come next.

        Args:
            row: number of a started row.
            k: how many tokens to guess, in [0, 65536].

        Returns:
            int64 ids: `k` of them, or none if no n-gram stood there before; and how long the n-gram is. A copy
            that reaches the end of the row goes on with the tokens it has just proposed, so loops go on.

        Raises:
            InvalidArgument: the row is unknown, or `k` is out of range.
        """
        length, text = within("k", k, 0, 65536), self._text(row)
        place, matched = self._match(text)
        copy = list(text)
        for step in range(length if matched else 0):
            copy.append(copy[place + step])
        return np.array(copy[len(text) :], dtype=np.int64), matched

    def _match(self, text: list[int]) -> tuple[int, int]:
        """Where the newest earlier occurrence of the longest n-gram ends, and the tokens it has."""
        for n in range(self.max_n, self.min_n - 1, -1):
            for end in range(len(text) - 1, n - 1, -1):
                if text[end - n : end] == text[len(text) - n :]:
                    return end, n
        return 0, 0
