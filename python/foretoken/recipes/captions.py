"""Captioned pictures: emoji in nine styles and composed characters, and the many texts that say one of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, normalizers

from ..codec.pixels import Pixels
from ..codec.prompts import Prompts, spaced
from ..model.checkpoint import TOKENIZER
from . import pictures
from .language import train_tokenizer
from .rows import Rows, symbols
from .sprites import ANIMATIONS, DIRECTIONS, Sprites

STYLES = {
    "blob": "blob", "blob2017": "blob 2017", "emojione": "emojione", "fluent-3d": "3d", "fluent-color": "color",
    "fluent-contrast": "contrast", "fluent-flat": "flat", "noto": "noto", "twemoji": "twemoji",
}  # fmt: skip
"""What a text calls each style of `emoji64`."""


@dataclasses.dataclass(frozen=True)
class Caption:
    """What is on a picture.

    Args:
        parts: what it shows, the most telling first: ("red heart",), or ("tan woman", "black page hair", …).
        last: how: "noto style", or what a character does, "walking left".
        tags: other words for it, perhaps none.

    Example:
        >>> str(Caption(("red heart",), "noto style", ("love",)))
        'red heart, noto style'
    """

    parts: tuple[str, ...]
    last: str
    tags: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ", ".join((*self.parts, self.last))

    @property
    def is_character(self) -> bool:
        """Whether it is one of `walk64`'s."""
        return len(self.parts) > 1

    def drawn(self, random: np.random.Generator) -> str:
        """One of the texts that say it, mostly all of it; "" one time in ten, for guidance (2207.12598)."""
        chance = random.random()
        if chance < 0.1:
            return ""
        if self.is_character:
            return str(self) if chance < 0.6 else self._partly(random)
        if chance < 0.7:
            return str(self)
        if chance < 0.85:
            return self.parts[0]
        if chance < 0.9 or not self.tags:
            return self.last
        tags = random.permutation(len(self.tags))[: int(random.integers(1, 4))]
        return ", ".join((*(self.tags[tag] for tag in tags), self.last))

    def _partly(self, random: np.random.Generator) -> str:
        """A character without some of what there is to say, such as "a woman walking left"."""
        person = self.parts[0] if random.random() < 0.5 else self.kind
        others = [part for part in self.parts[1:] if random.random() < 0.4]
        if not others and random.random() < 0.7:
            return f"a {person} {self.last}"
        return ", ".join((person, *others, *([self.last] if random.random() < 0.8 else [])))

    @property
    def kind(self) -> str:
        """The class of a character: "woman", "old man", …"""
        words = self.parts[0].split()
        return " ".join(word for word in words if word in ("old", "woman", "man"))

    @property
    def attributes(self) -> dict[str, str]:
        """What there is to be judged on a character: each attribute, and its value.

        The garment is the uppermost: a cardigan hides most of what is worn below.

        Example:
            >>> parts = ("old tan man", "black flat top, fade hair", "red polo", "gray cardigan", "navy pants", "boots")
            >>> Caption(parts, "walking left").attributes
            {'hair colour': 'black', 'hair style': 'flat top, fade', 'garment colour': 'gray', 'legs colour': 'navy', \
'skin': 'tan', 'kind': 'old', 'direction': 'left'}
        """
        *_, garment, legs, _ = self.parts
        colour, style = self.parts[1].removesuffix(" hair").split(" ", 1)
        return {
            "hair colour": colour,
            "hair style": style,
            "garment colour": garment.split()[0],
            "legs colour": legs.split()[0],
            "skin": self.parts[0].split()[-2],
            "kind": self.kind.split()[0],
            "direction": self.last.split()[-1],
        }


Captioned = tuple[np.ndarray, list[Caption]]
"""Pictures (n, 64, 64, 3) uint8, and what is on each."""


def emoji(data: Path, *, held_out: bool = False) -> Captioned:
    """Emoji on white, of one side of the split of `pictures.emoji`: a held-out style and caption meet nowhere else.

    Raises:
        InvalidArgument: the file is missing.
        CheckpointError: it is damaged.
    """

    def wanted(row: dict) -> bool:
        return pictures.is_held_out(f"{row['style']}/{row['caption']}") == held_out

    found, captions = [], []
    for row, picture in pictures.rows(data / "emoji64.zip", wanted):
        found.append(picture)
        tags = tuple(tag for tag in row["tags"] if tag != row["caption"])
        captions.append(Caption((row["caption"],), f"{STYLES[row['style']]} style", tags))
    return np.stack(found), captions


def characters(data: Path, count: int, *, seed: int, held_out: bool = False) -> Captioned:
    """Stills of characters in a random pose, of one side of the split of `sprites`.

    Args:
        data: the data folder.
        count: how many.
        seed: of the draw.
        held_out: of the combinations that are never trained on, or of the others.
    """
    sprites, random = Sprites(data / "walk64.zip"), np.random.default_rng((seed, 2))
    names = list(ANIMATIONS)
    found, captions = [], []
    for who in sprites.characters(count, seed=seed, held_out=held_out):
        name, direction = names[int(random.integers(len(names)))], DIRECTIONS[int(random.integers(4))]
        clip = sprites.clip(who, name, direction)
        found.append(clip.frames[int(random.integers(len(clip.frames)))])
        captions.append(Caption(who.attributes, f"{clip.animation} {direction}"))
    return np.stack(found), captions


def trained_characters(data: Path) -> Captioned:
    """Those that a painter is trained on."""
    return characters(data, _CHARACTERS, seed=1)


POSITIONS = 32
"""Ids of a text: the longest caption of a character has 27."""

TEXTS, NAMES = 2048, 16
"""Ids of the tokenizer, and of names that a painter may learn later."""

_CHARACTERS, _VARIANTS = 12_000, 8


def paintings(data: Path, out: Path, *, codec: str) -> Rows:
    """Emoji and as many characters, as rows [text][patches]; each picture under eight texts.

    Args:
        data: the data folder.
        out: of the run; the tokenizer is kept there.
        codec: name or folder of a codec of symbols.
    """
    patches, units = symbols(codec)
    return _rows(data, out, patches.encode, units)


def thumbnails(data: Path, out: Path) -> Rows:
    """The same in 16 × 16 pixels of 8 bits, for a model that writes them one after another; arguments as above."""
    pixels = Pixels(8)
    return _rows(data, out, lambda picture: pixels.encode(thumbnail(picture)), pixels.vocab_size)


def thumbnail(picture: np.ndarray) -> np.ndarray:
    """(64, 64, 3) uint8 as (16, 16, 3), the mean of each 4 × 4 pixels."""
    return picture.reshape(16, 4, 16, 4, 3).mean(axis=(1, 3)).round().astype(np.uint8)


def _rows(data: Path, out: Path, encode: Callable[[np.ndarray], np.ndarray], units: int) -> Rows:
    pictures, captions = (list(part) for part in emoji(data))
    more = trained_characters(data)
    pictures, captions = [*pictures, *more[0]], [*captions, *more[1]]
    cut = tokenizer(captions, TEXTS)
    cut.save(str(out / TOKENIZER))
    prompts, random = Prompts(cut, positions=POSITIONS), np.random.default_rng(1)
    texts = [caption.drawn(random) or None for caption in captions for _ in range(_VARIANTS)]
    conditions = (units + prompts(texts)).reshape(len(captions), -1)
    bodies = [encode(picture) for picture in pictures]
    return Rows(list(conditions), bodies, units, units + TEXTS + NAMES, variants=_VARIANTS)


def labels(captions: Sequence[Caption]) -> dict[str, list[str]]:
    """The attributes of characters as `evaluate.characters` takes them: attribute → value of each."""
    told = [caption.attributes for caption in captions]
    return {name: [each[name] for each in told] for name in told[0]} if told else {}


def tokenizer(captions: list[Caption], vocab_size: int) -> Tokenizer:
    """A byte-level BPE over captions and tags, whatever their case; id 0 says nothing."""
    texts = [text for caption in captions for text in (str(caption), *caption.tags)]
    folding = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    return train_tokenizer([spaced(text) for text in texts], vocab_size, normalizer=folding)
