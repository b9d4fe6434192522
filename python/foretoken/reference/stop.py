"""Stop strings in a stream of bytes, over the edges of its pieces."""

from __future__ import annotations

from collections.abc import Iterable
from typing import SupportsIndex

from ..errors import ArgumentTypeError, InvalidArgument, LimitExceeded
from .rows import whole


class StopStrings:
    """Finds the first stop string of a stream of bytes.

    Args:
        strings: what to look for, none empty, 65,536 bytes together at most.

    Raises:
        InvalidArgument: a string is empty.
        ArgumentTypeError: a string is not bytes.
        LimitExceeded: they are too long.

    Example:
        >>> matcher = StopStrings([b"END"])
        >>> state, hold, match_start = matcher.feed(0, b"the E")
        >>> hold, match_start
        (1, None)
        >>> matcher.feed(state, b"ND.")
        (0, 0, -1)
    """

    def __init__(self, strings: Iterable[bytes]) -> None:
        self.strings = list(strings)
        if not all(isinstance(string, bytes) for string in self.strings):
            raise ArgumentTypeError("stop strings come as a sequence of bytes: encode text first, mostly as UTF-8")
        if b"" in self.strings:
            raise InvalidArgument("a stop string is empty: give at least one byte")
        if sum(map(len, self.strings)) > 65536:
            raise LimitExceeded(f"the stop strings have {sum(map(len, self.strings))} bytes: 65536 is the most")
        # A state is what is remembered of the stream: a beginning of a string, by the order in which they come up.
        beginnings = [b""] + [string[: end + 1] for string in self.strings for end in range(len(string))]
        self._beginnings = list(dict.fromkeys(beginnings))

    def feed(self, state: SupportsIndex, data: bytes) -> tuple[int, int, int | None]:
        """Read the next piece of a stream.

        The match that counts is the one that ends first, and among those that end together the longest: so the answer
        does not depend on how the stream was cut. After a match the rest of the piece is not read and the state is 0.

        Args:
            state: 0 at the beginning of a stream, then what the last call returned.
            data: the piece.

        Returns:
            The next state; how many bytes at the end of the stream may still be the beginning of a stop string; and
            where the match begins, counted from the beginning of this piece (negative: in an earlier one), or None.

        Raises:
            InvalidArgument: this object has no such state.
            ArgumentTypeError: `data` is not bytes.
        """
        number = whole(state)
        if not isinstance(data, bytes):
            raise ArgumentTypeError("data is not bytes: encode the text first")
        if not 0 <= number < len(self._beginnings):
            raise InvalidArgument(f"state is {number}: give 0 to begin, then the state that the last feed returned")
        stream = self._beginnings[number]
        remembered = len(stream)
        for end in range(1, len(data) + 1):
            seen = stream + data[:end]
            found = [len(string) for string in self.strings if seen.endswith(string)]
            if found:
                return 0, 0, len(seen) - max(found) - remembered
        seen = stream + data
        longest = max((beginning for beginning in self._beginnings if seen.endswith(beginning)), key=len)
        return self._beginnings.index(longest), len(longest), None
