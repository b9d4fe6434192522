"""Pictures and texts for a judge of both: which texts are true of which pictures, and what it never sees."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from ..codec.prompts import Prompts
from ..files import whole
from . import captions, corpus
from .captions import POSITIONS, TEXTS, Caption, Captioned

VARIANTS = 12
"""Texts drawn for each picture."""

_CHARACTERS, _SEED = 8000, 7  # others than the painter's


@dataclasses.dataclass(frozen=True, eq=False)
class Pairs:
    """Pictures, each under several texts.

    A text is a set of claims, such as "red heart" and "noto style"; of a picture are true all that one could claim of
    it. So a text is true of each picture of which all its claims are, and not only of its own.

    Args:
        pictures: (n, side, side, 3) uint8.
        texts: (n, variants, positions) int64, 0 behind a text's end.
        claims: (n, variants, most) int64, those of each text, -1 behind the last.
        truths: (n, most) int64, those that are true of each picture, -1 behind the last.
        characters: (n,) bool, whether it shows one of `walk64`'s.
    """

    pictures: np.ndarray
    texts: np.ndarray
    claims: np.ndarray
    truths: np.ndarray
    characters: np.ndarray

    def agree(self, chosen: np.ndarray, variants: np.ndarray) -> np.ndarray:
        """Which texts are true of which pictures: (pictures, texts) bool, of some pictures under these variants."""
        claims, truths = self.claims[chosen, variants], self.truths[chosen]
        claimed, true = np.zeros((2, len(chosen), int(self.truths.max()) + 2), dtype=np.float32)
        lines = np.arange(len(chosen))[:, None]
        claimed[lines, claims], true[lines, truths] = 1, 1
        claimed[:, -1] = 0  # where -1 was written
        return true @ claimed.T == claimed.sum(axis=1)


def is_unseen(caption: Caption) -> bool:
    """Whether the judge never meets a caption of emoji, in any style: one in twenty-five."""
    return corpus.is_held_out(caption.parts[0], one_in=25)


def seen(data: Path) -> Captioned:
    """The emoji that the judge learns from."""
    pictures, said = captions.emoji(data)
    kept = np.array([not is_unseen(caption) for caption in said])
    return pictures[kept], [caption for caption, keep in zip(said, kept, strict=True) if keep]


def claims_of(text: str, caption: Caption) -> list[str]:
    """What a text that was drawn from a caption claims.

    Example:
        >>> claims_of("a woman walking left", Caption(("tan woman", "yellow t-shirt"), "walking left"))
        ['woman', 'walking left']
    """
    if caption.is_character and text.startswith("a ") and text.endswith(caption.last):
        return [text[2 : -len(caption.last) - 1], caption.last]
    framed = f", {text}, "
    return [claim for claim in truths_of(caption) if f", {claim}, " in framed]


def truths_of(caption: Caption) -> list[str]:
    """All that a text may claim of what has this caption."""
    kind = (caption.kind,) if caption.is_character else ()
    return list(dict.fromkeys((*caption.parts, *kind, *caption.tags, caption.last)))


def made(captioned: Captioned, cut: Tokenizer, *, seed: int) -> Pairs:
    """Captioned pictures under texts drawn of them, never the empty one."""
    pictures, said = captioned
    random, numbers = np.random.default_rng(seed), {}
    drawn = [[_drawn(caption, random) for _ in range(VARIANTS)] for caption in said]

    def numbered(rows: list[list[str]]) -> np.ndarray:
        found = np.full((len(rows), max(map(len, rows))), -1)
        for line, row in enumerate(rows):
            found[line, : len(row)] = [numbers.setdefault(claim, len(numbers)) for claim in row]
        return found

    truths = numbered([truths_of(caption) for caption in said])
    claims = numbered([claims_of(text, caption) for caption, texts in zip(said, drawn, strict=True) for text in texts])
    texts = Prompts(cut, positions=POSITIONS)([text for row in drawn for text in row])
    assert (claims[:, 0] >= 0).all(), "a text claims nothing"
    characters = np.array([caption.is_character for caption in said])
    each = (len(said), VARIANTS, -1)
    return Pairs(pictures, texts.reshape(each), claims.reshape(each), truths, characters)


def _drawn(caption: Caption, random: np.random.Generator) -> str:
    while not (text := caption.drawn(random)):
        pass
    return text


def all_of(data: Path) -> tuple[Pairs, Tokenizer]:
    """What the judge learns from, emoji and characters, and the tokenizer of their texts."""
    emoji, characters = seen(data), captions.characters(data, _CHARACTERS, seed=_SEED)
    joined = np.concatenate((emoji[0], characters[0])), [*emoji[1], *characters[1]]
    cut = captions.tokenizer(joined[1], TEXTS)
    return made(joined, cut, seed=_SEED), cut


def save(pairs: Pairs, path: Path) -> None:
    """Write pairs as one file, in place of an old one only when it is whole."""
    with whole(path) as part, part.open("wb") as file:
        np.savez(file, **{field.name: getattr(pairs, field.name) for field in dataclasses.fields(pairs)})


def read(path: Path) -> Pairs:
    """Read what `save` wrote."""
    with np.load(path) as kept:
        return Pairs(**{field.name: kept[field.name] for field in dataclasses.fields(Pairs)})
