"""Rows of units under a condition, from real data: what an autoregressive or a masked model is trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from ..codec.hub import load
from ..codec.sound_codes import SoundCodes
from ..errors import InvalidArgument
from ..layouts import delay
from ..model.checkpoint import TOKENIZER
from . import captions, pictures, translations
from . import digits as spoken
from .language import train_tokenizer
from .rows import Rows, symbols

TLDR_UNITS = 2048
"""Tokens that English, German, French and Spanish share; 0 is END, and the id behind them separates."""

LONGEST_LINE = 40
"""Tokens; longer lines are left out."""

LONGEST_TAKE = 50
"""Frames of a spoken digit, one second; what is behind is left out."""

STYLES = tuple(captions.STYLES)
GROUPS = (
    "", "Activities", "Animals & Nature", "Component", "Flags", "Food & Drink", "Objects", "People & Body",
    "Smileys & Emotion", "Symbols", "Travel & Places",
)  # fmt: skip


def emoji_condition(units: int, style: str | None, group: str) -> np.ndarray:
    """The ids that stand before the patches of an emoji.

    Args:
        units: codes of the codec.
        style: one of `STYLES`, or None to leave it open.
        group: one of `GROUPS`, Unicode's.

    Raises:
        InvalidArgument: there is no such style or group.

    Example:
        >>> emoji_condition(1000, "noto", "Flags")
        array([1007, 1014])
        >>> emoji_condition(1000, None, "Flags")
        array([1009, 1014])
    """
    if (style is not None and style not in STYLES) or group not in GROUPS:
        raise InvalidArgument(f"there is no style {style!r} or no group {group!r}: give one of {STYLES} and {GROUPS}")
    told = len(STYLES) if style is None else STYLES.index(style)
    return np.array([units + told, units + len(STYLES) + 1 + GROUPS.index(group)])


def emoji(data: Path, *, codec: str, held_out: bool = False) -> Rows:
    """Emoji as rows [style][group][patches], training or held out as `pictures.emoji` says.

    Args:
        data: the data folder.
        codec: name or folder of a codec of symbols.
        held_out: whether those of the validation split are wanted.
    """
    patches, units = symbols(codec)
    conditions, bodies = [], []
    for row, picture in pictures.rows(data / "emoji64.zip"):
        if pictures.is_held_out(f"{row['style']}/{row['caption']}") == held_out:
            conditions.append(emoji_condition(units, row["style"], row["group"]))
            bodies.append(patches.encode(picture))
    return Rows(conditions, bodies, units, units + len(STYLES) + 1 + len(GROUPS), untold=units + len(STYLES))


def tldr(data: Path, out: Path) -> Rows:
    """Lines of command help as rows [English][SEP][German, French or Spanish], each language as often as the others.

    Args:
        data: the data folder.
        out: of the run; the tokenizer that all languages share is trained on them and kept there.
    """
    train, _ = translations.pairs(data)
    texts = [text for pair in train for text in (pair.english, pair.text)]
    tokenizer = train_tokenizer(texts, TLDR_UNITS)
    tokenizer.save(str(out / TOKENIZER))
    by_language = [
        [row for row in tokenized(tokenizer, pairs) if max(map(len, row)) <= LONGEST_LINE]
        for pairs in translations.by_language(train).values()
    ]
    most = max(len(rows) for rows in by_language)
    rows = [rows[index % len(rows)] for rows in by_language for index in range(most)]
    separator = TLDR_UNITS
    conditions = [np.append(english, separator) for english, _ in rows]
    return Rows(conditions, [text for _, text in rows], TLDR_UNITS, TLDR_UNITS + 1, end=0)


def tokenized(tokenizer: Tokenizer, pairs: list[translations.Pair]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The ids of each pair's English line and of the other."""
    sides = [[pair.english for pair in pairs], [pair.text for pair in pairs]]
    english, other = (tokenizer.encode_batch_fast(side, add_special_tokens=False) for side in sides)
    for one, two in zip(english, other, strict=True):
        yield np.array(one.ids, dtype=np.int64), np.array(two.ids, dtype=np.int64)


def digits(data: Path, *, codec: str, held_out: bool = False) -> Rows:
    """Spoken digits as rows [digit][speaker][codes], the books of a frame behind each other; END follows.

    The first book says the most: every so manieth unit, as many as there are books, is a condensed version.

    Args:
        data: the data folder.
        codec: name or folder of a codec of sound by codes.
        held_out: whether those of the validation split are wanted.
    """
    codes = load(codec)
    if not isinstance(codes, SoundCodes):
        raise InvalidArgument(f"{codec} is no codec of sound by codes")
    books, end = codes.config.books, codes.vocab_size
    splits = spoken.split(data)
    speakers = sorted({take.speaker for take in splits[0]})
    conditions, bodies = [], []
    for take in splits[held_out]:
        row = codes.encode(take.samples)
        bodies.append(delay(len(row) // books, books).grid(row)[: books * LONGEST_TAKE])
        conditions.append(np.array([end + 1 + take.digit, end + 11 + speakers.index(take.speaker)]))
    return Rows(conditions, bodies, end + 1, end + 11 + len(speakers), end=end)


SOURCES: dict[str, Callable[[Path, str, Path], Rows]] = {
    "captions": lambda data, codec, out: captions.paintings(data, out, codec=codec),
    "emoji": lambda data, codec, out: emoji(data, codec=codec),
    "digits": lambda data, codec, out: digits(data, codec=codec),
    "thumbnails": lambda data, codec, out: captions.thumbnails(data, out),
    "tldr": lambda data, codec, out: tldr(data, out),
}
"""Training rows of the data folder, by a codec, for a run's folder."""
