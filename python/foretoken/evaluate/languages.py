"""Which language a line is in, and whether it is in two: by words that only one language has."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from ..errors import InvalidArgument

SURE = 0.95
"""The posterior from which a word speaks for a language."""

_LEAST = 4  # times a word must have been seen: in a small language one sighting would weigh as many
_PRIOR = 0.1  # of counts: a word seen in one language alone is sure from the fourth time on
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_QUOTED = re.compile(r"`[^`]*`|\{\{.*?\}\}")


class Judged(NamedTuple):
    """What the words of a line say.

    Args:
        language: of most of the words that are sure, None if there are none; among equals the first by name.
        mixed: whether sure words of different languages stand in it.
        sure: how many words are sure, and how many there are.
        words: how many there are.
    """

    language: str | None
    mixed: bool
    sure: int
    words: int


class Detector:
    """Posteriors of single words, learnt from lines whose language is known.

    Every language is as probable as the others, and a word's counts are divided by those of its language: how much
    there is to learn from plays no part. What stands in backticks is code, and counts for nothing.

    Args:
        lines: (language, text) each.

    Raises:
        InvalidArgument: there are fewer than two languages.

    Example:
        >>> lines = [("de", "Zeige das Bild"), ("fr", "Affiche la photo"), ("de", "das das"), ("fr", "la la la")] * 4
        >>> detector = Detector(lines)
        >>> detector.judge("Zeige la photo")
        Judged(language='fr', mixed=True, sure=3, words=3)
        >>> detector.judge("das `la` Wort")
        Judged(language='de', mixed=False, sure=1, words=2)
        >>> detector.judge("Zeige La Photo", "Show La Photo")
        Judged(language='de', mixed=False, sure=1, words=1)
    """

    def __init__(self, lines: Iterable[tuple[str, str]]) -> None:
        counts: dict[str, Counter[str]] = {}
        for language, text in lines:
            counts.setdefault(language, Counter()).update(words(text))
        if len(counts) < 2:
            raise InvalidArgument(f"lines are in {len(counts)} languages: give two or more")
        self.languages = tuple(sorted(counts))
        totals = np.array([counts[language].total() for language in self.languages], dtype=np.float64)
        self._speaks: dict[str, str] = {}
        for word in set().union(*counts.values()):
            seen = np.array([counts[language][word] for language in self.languages]) * totals.max() / totals
            posterior = (seen + _PRIOR) / (seen + _PRIOR).sum()
            if posterior.max() > SURE and max(counts[language][word] for language in self.languages) >= _LEAST:
                self._speaks[word] = self.languages[int(posterior.argmax())]

    def judge(self, text: str, source: str = "") -> Judged:
        """What the words of a line say about its language.

        Args:
            text: the line.
            source: what it was translated from; words that stand in it, too, are names, and count for nothing.
        """
        names = set(words(source))
        found = [word for word in words(text) if word not in names]
        votes = Counter(self._speaks[word] for word in found if word in self._speaks)
        best = min(votes, key=lambda language: (-votes[language], language)) if votes else None
        return Judged(best, len(votes) > 1, votes.total(), len(found))


def words(text: str) -> list[str]:
    """Words of a line in lower case, without code.

    Example:
        >>> words("Zeige l'aide de `ls -l` 2 mal")
        ['zeige', "l'aide", 'de', 'mal']
    """
    return [word.lower() for word in _WORD.findall(_QUOTED.sub(" ", text))]


def mixed_rate(judged: Sequence[Judged]) -> float:
    """The share of lines in which languages are mixed, of those with two sure words or more: others cannot show it.

    Example:
        >>> mixed_rate([Judged("de", True, 3, 4), Judged("fr", False, 2, 2), Judged("fr", False, 1, 5)])
        0.5
    """
    telling = [each.mixed for each in judged if each.sure >= 2]
    return float(np.mean(telling)) if telling else 0.0
