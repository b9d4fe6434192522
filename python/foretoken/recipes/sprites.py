"""Walking characters, composed of the layers of `walk64`: any number of captioned clips."""

from __future__ import annotations

import dataclasses
import functools
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import CheckpointError, InvalidArgument
from .corpus import is_held_out
from .pictures import SIDE, opened

DIRECTIONS = ("up", "left", "down", "right")
ANIMATIONS = {
    "Walk": "walking",
    "Run": "running",
    "Jump": "jumping",
    "Idle": "standing",
    "Combat 1h - Slash": "slashing",
}
_BODIES = {
    "woman": ("Body 01 - Feminine, Thin", "Feminine, Thin"),
    "man": ("Body 02 - Masculine, Thin", "Masculine, Thin"),
}
_HEADS = {"woman": "Head 01 - Feminine", "man": "Head 02 - Masculine", "old": "Head 03 - Elderly"}


@dataclasses.dataclass(frozen=True)
class Character:
    """Who is drawn: what a caption says, and the folders of the layers, from the back to the front.

    Args:
        attributes: such as "tan woman", "black page hair", "yellow t-shirt".
        layers: folders in the archive; one that lacks an animation's sheet is left out.
    """

    attributes: tuple[str, ...]
    layers: tuple[str, ...]

    @property
    def is_held_out(self) -> bool:
        """Whether the combination is never trained on, whatever its animation or direction: one in ten."""
        key = ", ".join(sorted(attribute.lower() for attribute in self.attributes))
        return is_held_out(key, one_in=10)


@dataclasses.dataclass(frozen=True, eq=False)
class Clip:
    """A character that moves.

    Args:
        character: who.
        animation: what they do, such as "walking".
        direction: where to.
        frames: (frames, 64, 64, 3) uint8, on white.
    """

    character: Character
    animation: str
    direction: str
    frames: np.ndarray

    @property
    def caption(self) -> str:
        """Such as "tan woman, black page hair, yellow t-shirt, blue pants, walking left"."""
        return ", ".join((*self.character.attributes, f"{self.animation} {self.direction}"))


class Sprites:
    """The layers of `walk64.zip`.

    Args:
        path: of the archive.

    Raises:
        InvalidArgument: there is no such file.
        CheckpointError: it is damaged or lacks layers.
    """

    def __init__(self, path: Path) -> None:
        self._archive, self._path = opened(path), path
        self._files = set(self._archive.namelist())
        self._choices: defaultdict[str, list[str]] = defaultdict(list)
        for folder in sorted({name.rsplit("/", 1)[0] for name in self._files if name.endswith(".png")}):
            if "_Behind" not in folder:
                parts = folder.split("/")
                self._choices["/".join(parts[1:-2])].append("/".join(parts[-2:]))
        self._sheet = functools.lru_cache(maxsize=512)(self._read)

    def characters(self, count: int, *, seed: int, held_out: bool = False) -> list[Character]:
        """Characters drawn at random, on one side of the split.

        Args:
            count: how many, some perhaps alike.
            seed: of the draw.
            held_out: of the combinations that are never trained on, or of the others.
        """
        random = np.random.default_rng(seed)
        found: list[Character] = []
        while len(found) < count:
            character = self._draw(random)
            if character.is_held_out == held_out:
                found.append(character)
        return found

    def clip(self, character: Character, animation: str, direction: str) -> Clip:
        """A character's clip.

        Args:
            character: who.
            animation: a key of `ANIMATIONS`.
            direction: one of `DIRECTIONS`.
        """
        row = DIRECTIONS.index(direction)
        canvas: np.ndarray | None = None
        for layer in character.layers:
            name = f"Characters/{layer}/{animation}.png"
            if name not in self._files:
                continue
            sheet = self._sheet(name)[row * SIDE : (row + 1) * SIDE]
            colour, alpha = sheet[..., :3].astype(np.float32), sheet[..., 3:].astype(np.float32) / 255
            canvas = np.full(colour.shape, 255, np.float32) if canvas is None else canvas
            canvas = canvas * (1 - alpha) + colour * alpha
        if canvas is None:
            raise CheckpointError(f"{self._path} has no layer of {character.layers} for {animation}")
        frames = np.round(canvas).astype(np.uint8).reshape(SIDE, -1, SIDE, 3).swapaxes(0, 1)
        return Clip(character, ANIMATIONS[animation], direction, np.ascontiguousarray(frames))

    def clips(self, count: int, *, seed: int, held_out: bool = False) -> list[Clip]:
        """Clips of random characters, animations and directions; arguments as for `characters`."""
        random = np.random.default_rng((seed, 1))
        names = list(ANIMATIONS)
        return [
            self.clip(who, names[int(random.integers(len(names)))], DIRECTIONS[int(random.integers(4))])
            for who in self.characters(count, seed=seed, held_out=held_out)
        ]

    def _read(self, name: str) -> np.ndarray:
        from PIL import Image

        with self._archive.open(name) as file:
            return np.asarray(Image.open(file).convert("RGBA"))

    def _draw(self, random: np.random.Generator) -> Character:
        def one(names: Sequence[str]) -> str:
            if not names:
                raise CheckpointError(f"{self._path} lacks layers")
            return names[int(random.integers(len(names)))]

        sex = one(["woman", "man"])
        body, clothing = _BODIES[sex]
        tone = one(self._choices_of("Body", body))
        old = random.random() < 0.2
        hair = one(self._choices["Hair"])
        garments = {part: one(self._choices[f"Clothing/{clothing}/{part}"]) for part in ("Feet", "Legs", "Torso")}
        over = [one(self._choices[f"Clothing/{clothing}/Torso 2"])] if random.random() < 0.2 else []
        style, colour = hair.split("/")
        behind = f"Hair/{style}/_Behind/{colour}"
        layers = [
            behind,
            f"Body/{body}/{tone}",
            f"Head/{_HEADS['old' if old else sex]}/{tone}",
            *(f"Clothing/{clothing}/{part}/{name}" for part, name in garments.items()),
            *(f"Clothing/{clothing}/Torso 2/{name}" for name in over),
            f"Hair/{hair}",
        ]
        attributes = [
            f"{'old ' if old else ''}{tone} {sex}".lower(),
            f"{_said(hair)} hair",
            *(_said(name) for name in (garments["Torso"], *over, garments["Legs"], garments["Feet"])),
        ]
        return Character(tuple(attributes), tuple(layers))

    def _choices_of(self, part: str, name: str) -> list[str]:
        return [choice.split("/")[1] for choice in self._choices[part] if choice.startswith(f"{name}/")]


def _said(layer: str) -> str:
    """A layer's folder as a caption has it: "Shirt 04 - T-shirt/Yellow" is "yellow t-shirt"."""
    style, colour = layer.split("/")
    return f"{colour} {style.split(' - ', 1)[-1]}".lower()


def walk(data: Path, count: int, *, seed: int, held_out: bool = False) -> list[Clip]:
    """Clips of `walk64.zip` in a data folder; see `Sprites.clips`.

    Raises:
        InvalidArgument: the file is missing.
        CheckpointError: it is damaged.
    """
    try:
        return Sprites(data / "walk64.zip").clips(count, seed=seed, held_out=held_out)
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError) as error:
        if isinstance(error, (CheckpointError, InvalidArgument)):
            raise
        raise CheckpointError(f"{data / 'walk64.zip'} is damaged: {error}") from None
