"""Which answer? Meanings that people put in several ways each, as rows of words."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import CheckpointError, InvalidArgument
from ..recipes.corpus import rows
from .oracle import Oracle

FILE = "e2e.jsonl.xz"
MODES = 5
END = 0
_WORD = re.compile(r"\w+(?:[-'’]\w+)*|[^\w\s]")


class Meaning(NamedTuple):
    """What is to be said, and how people say it.

    Args:
        meaning: such as "name[Alimentum], area[city centre]".
        sentences: words of each way to say it, no two alike.
    """

    meaning: str
    sentences: tuple[tuple[str, ...], ...]


def words(sentence: str) -> tuple[str, ...]:
    """Words and marks of a sentence.

    Example:
        >>> words("It's a family-friendly pub.")
        ("It's", 'a', 'family-friendly', 'pub', '.')
    """
    return tuple(_WORD.findall(sentence))


def meanings(data: Path, count: int, *, modes: int = MODES) -> list[Meaning]:
    """Meanings with so many sentences each, the first of those in the order of their checksums.

    Raises:
        InvalidArgument: the file is missing, or has fewer of them.
        CheckpointError: it is damaged, or its rows are of another kind.
    """
    found = []
    try:
        for row in rows(data / FILE):
            different = tuple(dict.fromkeys(words(sentence) for sentence in row["sentences"]))
            if len(different) >= modes:
                found.append(Meaning(row["meaning"], different[:modes]))
        found.sort(key=lambda each: zlib.crc32(each.meaning.encode()))
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{data / FILE} has a row of another kind: {error!r}") from None
    if len(found) < count:
        raise InvalidArgument(f"{data / FILE} has {len(found)} meanings with {modes} sentences: ask for no more")
    return found[:count]


class Phrasebook(NamedTuple):
    """A few meanings as ids: what an oracle needs, and the words to read its answers by.

    Args:
        answers: (meanings, modes, positions) int64, END behind each.
        words: of each id; that of END is "".
    """

    answers: np.ndarray
    words: tuple[str, ...]

    def oracle(self, *, shared: bool = False) -> Oracle:
        """The exact model of these answers."""
        return Oracle(self.answers, units=len(self.words), end=END, shared=shared)

    def read(self, units: np.ndarray) -> str:
        """The words of an answer up to its END."""
        return " ".join(self.words[unit] for unit in until_end(units))


def phrasebook(some: Sequence[Meaning]) -> Phrasebook:
    """Ids for the words of some meanings; every answer has an END, the longest just one.

    Example:
        >>> book = phrasebook([Meaning("a pub", (("a", "pub"), ("pub", "!", "!")))])
        >>> book.answers.tolist(), book.words
        ([[[2, 3, 0, 0], [3, 1, 1, 0]]], ('', '!', 'a', 'pub'))
    """
    known = ("", *sorted({word for each in some for sentence in each.sentences for word in sentence}))
    ids = {word: unit for unit, word in enumerate(known)}
    width = 1 + max(len(sentence) for each in some for sentence in each.sentences)
    answers = np.full((len(some), len(some[0].sentences), width), END, dtype=np.int64)
    for line, each in enumerate(some):
        for mode, sentence in enumerate(each.sentences):
            answers[line, mode, : len(sentence)] = [ids[word] for word in sentence]
    return Phrasebook(answers, known)


def until_end(units: np.ndarray, end: int = END) -> np.ndarray:
    """What stands before the first END."""
    places = np.flatnonzero(units == end)
    return units[: places[0]] if len(places) else units
