"""Lines of command help in English, each with its German, French or Spanish line: one input, several right answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import CheckpointError
from .corpus import is_held_out, rows

FILE = "tldr.jsonl.xz"
LANGUAGES = {"de": "German", "fr": "French", "es": "Spanish"}
_LISTS = ("about", "steps")


class Pair(NamedTuple):
    """A line and what it is in another language.

    Args:
        english: the line.
        language: a key of `LANGUAGES`.
        text: the line in that language.
    """

    english: str
    language: str
    text: str


def pairs(data: Path, *, one_in: int = 25) -> tuple[list[Pair], list[Pair]]:
    """Pairs to train on and pairs to judge by, in the order of the file; a page is held out by its checksum.

    Only pages count whose lists are as long in the other language as in English, for there line i is line i: of the
    steps of such pages 95 in 100 have the same command, but for placeholders. Many lines stand on many pages ("display
    help"), so what is held out leaves out English lines that training has, in whatever case.

    Args:
        data: the data folder.
        one_in: one page in so many is held out; as for `corpus.split`, whose pages of help these are.

    Raises:
        InvalidArgument: the file is missing.
        CheckpointError: it is damaged, or its rows are of another kind.
    """
    train: list[Pair] = []
    held_out: list[Pair] = []
    try:
        for row in rows(data / FILE):
            side = held_out if is_held_out(row["page"], one_in=one_in) else train
            for language in LANGUAGES:
                if language in row:
                    side += _aligned(row["en"], row[language], language)
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{data / FILE} has a row of another kind: {error!r}") from None
    known = {pair.english.lower() for pair in train}
    return train, [pair for pair in held_out if pair.english.lower() not in known]


def _aligned(english: dict, other: dict, language: str) -> Iterator[Pair]:
    if any(len(english[name]) != len(other[name]) for name in _LISTS):
        return
    for name in _LISTS:
        for line, text in zip(english[name], other[name], strict=True):
            line, text = line.strip(), text.strip()
            if line and text and line != text:
                yield Pair(line, language, text)


def by_language(found: Sequence[Pair]) -> dict[str, list[Pair]]:
    """The same pairs, those of each language together: so that none is drawn more often for having more pages.

    Example:
        >>> by_language([Pair("a", "fr", "b"), Pair("c", "de", "d")])["fr"]
        [Pair(english='a', language='fr', text='b')]
    """
    return {language: [pair for pair in found if pair.language == language] for language in LANGUAGES}
