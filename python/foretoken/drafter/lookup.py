"""Drafters that look up what followed the last time: they cost microseconds and know only what was said before."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from .. import kernels
from ..errors import InvalidArgument
from .protocol import Draft, DraftRequest


def _check_lengths(minimum: int, maximum: int) -> None:
    if type(minimum) is not int or type(maximum) is not int or not 1 <= minimum <= maximum <= 64:
        raise InvalidArgument(f"need integers 1 <= minimum <= maximum <= 64, got {minimum!r} and {maximum!r}")


@dataclasses.dataclass(frozen=True)
class NGram:
    """Guesses what followed the most recent earlier occurrence of the last few tokens (prompt look-up, Saxena 2023).

    Args:
        maximum: the longest run of tokens that is looked for, in [1, 64].
        minimum: the shortest, in [1, maximum].

    Raises:
        InvalidArgument: a length is out of range.

    Example:
        >>> session = NGram().session()
        >>> session.start(0, [7, 8, 9, 1, 7, 8])
        >>> session.propose([0], 2)[0].tokens
        array([9, 1])
    """

    maximum: int = 4
    minimum: int = 2

    def __post_init__(self) -> None:
        _check_lengths(self.minimum, self.maximum)

    @property
    def name(self) -> str:
        """What statistics and traces call it."""
        return "n-gram"

    def session(self) -> LookupSession:
        """The look-up by itself, for loops of one's own."""
        return LookupSession(kernels.NGram(max_n=self.maximum, min_n=self.minimum))

    def open(self, request: DraftRequest) -> LookupSession:
        """A session for one generation."""
        return self.session()


@dataclasses.dataclass(frozen=True)
class Suffix:
    """Guesses what most often followed the longest earlier match of a row's end (SAM decoding, 2411.10666).

    Args:
        corpus: token sequences that all rows may also be matched against (`SuffixCorpus`), or None.
        maximum: the longest match that is followed, in tokens, in [1, 64].
        minimum: the shortest match that is worth a guess, in [1, maximum].

    Raises:
        InvalidArgument: a length is out of range.

    Example:
        >>> session = Suffix().session()
        >>> session.start(0, [7, 8, 9, 1, 7, 8])
        >>> session.propose([0], 2)[0].tokens
        array([9, 1])
    """

    corpus: Any = None
    maximum: int = 64
    minimum: int = 2

    def __post_init__(self) -> None:
        _check_lengths(self.minimum, self.maximum)

    @property
    def name(self) -> str:
        """What statistics and traces call it."""
        return "suffix"

    def session(self) -> LookupSession:
        """The look-up by itself, for loops of one's own."""
        return LookupSession(kernels.Suffix(max_match=self.maximum, min_match=self.minimum, corpus=self.corpus))

    def open(self, request: DraftRequest) -> LookupSession:
        """A session for one generation."""
        return self.session()


class LookupSession:
    """A look-up index of the Rust core at work on some rows."""

    def __init__(self, index: Any) -> None:
        self._index = index
        self.start, self.extend, self.stop = index.start, index.extend, index.stop

    def propose(self, rows: Sequence[int], k: int) -> list[Draft]:
        """Guess up to `k` ids for each of these rows; fewer, or none, if nothing was found."""
        found = [self._index.propose(row, k) for row in rows]
        # An n-gram that was seen says nothing of how often something else followed it.
        return [Draft(ids, evidence=matched, chances=next(iter(rest), None)) for ids, *rest, matched in found]

    def judge(self, row: int, draft: Draft, accepted: int) -> None:
        """A look-up has nothing to learn from it but what `extend` tells."""
