"""The rows of a look-up drafter, kept as plain lists, and the checks all look-ups share."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import SupportsIndex

from ..errors import ArgumentTypeError, InvalidArgument


class Rows:
    """Texts by number; everything a look-up answers is found by reading the whole text again."""

    def __init__(self) -> None:
        self._texts: dict[int, list[int]] = {}

    def start(self, row: SupportsIndex, prompt: Iterable[SupportsIndex]) -> None:
        """Begin a row.

        Args:
            row: its number, any that is not in use.
            prompt: token ids in [0, 2**31); may be empty.

        Raises:
            InvalidArgument: the row is started already, or an id is out of range.
            ArgumentTypeError: something is no whole number.
        """
        number, tokens = whole(row), token_ids(prompt)
        if number in self._texts:
            raise InvalidArgument(f"row {number} is already started: stop it first, or give another number")
        self._texts[number] = tokens

    def extend(self, row: SupportsIndex, tokens: Iterable[SupportsIndex]) -> None:
        """Continue a row; either all the tokens are taken or none.

        Raises:
            InvalidArgument: the row is unknown, or an id is out of range.
            ArgumentTypeError: something is no whole number.
        """
        number, added = whole(row), token_ids(tokens)
        self._text(number).extend(added)

    def stop(self, row: SupportsIndex) -> None:
        """Forget a row.

        Raises:
            InvalidArgument: the row is unknown.
        """
        number = whole(row)
        self._text(number)
        del self._texts[number]

    def _text(self, row: SupportsIndex) -> list[int]:
        if whole(row) not in self._texts:
            raise InvalidArgument(f"row {row} is unknown: start it first")
        return self._texts[whole(row)]


def whole(value: SupportsIndex) -> int:
    """The value as an int, refused if it is none or needs more than 64 bits."""
    try:
        number = operator.index(value)
    except TypeError as error:
        raise ArgumentTypeError(f"expected a whole number, got {value!r}") from error
    if not -(2**63) <= number < 2**63:
        raise InvalidArgument(f"{number} does not fit 64 bits: give a smaller number")
    return number


def within(name: str, value: SupportsIndex, low: int, high: int) -> int:
    """The value as an int, refused outside [low, high]."""
    number = whole(value)
    if not low <= number <= high:
        raise InvalidArgument(f"{name} is {number}: give a number of tokens in {low}..={high}")
    return number


def token_ids(tokens: Iterable[SupportsIndex]) -> list[int]:
    """The ids as a list, refused if one is outside [0, 2**31)."""
    ids = [whole(token) for token in tokens]
    for place, token in enumerate(ids):
        if not 0 <= token < 2**31:
            raise InvalidArgument(f"token {token} in place {place}: give ids in 0..2147483648")
    return ids
