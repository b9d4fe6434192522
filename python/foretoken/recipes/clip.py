"""Recipe: a CLIP, the judge of pictures and texts, resumable after a kill at any moment.

    foretoken train clip --data DATA --out runs/clip

Products are taken in bfloat16, as in the recipe of patches.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from ..errors import InvalidArgument
from ..files import whole
from ..model.checkpoint import TOKENIZER
from ..model.clip import ClipConfig, ClipModule, save_clip
from . import pairs, run
from .optimizer import Muon
from .run import RecipeConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipRecipe(RecipeConfig):
    """What a run trains and for how long; a configuration file states every field.

    Args:
        source: one of `SOURCES`.
        batch: pairs a step.
        characters: share of them that are of characters.
        shift: the most pixels that a picture is moved, down and across.
        stem, image_size, image_inner, image_layers, image_heads, text_size, text_inner, text_layers, text_heads, width:
            those of `ClipConfig`.
        steps, warmup, cooldown, rate, save_every, seed: those of every recipe.
    """

    recipe = "clip"
    unit = "nats a pair"
    optional_zero = (*RecipeConfig.optional_zero, "shift")

    source: str
    batch: int
    characters: float
    shift: int
    stem: tuple[int, ...]
    image_size: int
    image_inner: int
    image_layers: int
    image_heads: int
    text_size: int
    text_inner: int
    text_layers: int
    text_heads: int
    width: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.source not in SOURCES:
            raise InvalidArgument(f"source must be one of {sorted(SOURCES)}, got {self.source!r}")
        if type(self.characters) not in (int, float) or not 0 <= self.characters <= 1:
            raise InvalidArgument(f"characters must be a share in [0, 1], got {self.characters!r}")
        self.model(1, 1, 2 ** len(self.stem))

    def model(self, vocab_size: int, positions: int, side: int) -> ClipConfig:
        """The shape of the model that this run trains on such texts and pictures."""
        known = {"vocab_size": vocab_size, "positions": positions, "side": side}
        names = {field.name for field in dataclasses.fields(ClipConfig)} - known.keys()
        return ClipConfig(**known, **{name: getattr(self, name) for name in names})


SOURCES = {"captions": pairs.all_of}
"""Pairs of a data folder, and the tokenizer of their texts."""


class Run(run.Run[ClipRecipe, ClipModule]):
    """A training run of two towers; `pairs` is what they learn from."""

    def prepare(self, data: Path) -> None:
        """Make the pairs, once; the first weights."""
        kept = self.out / "pairs.npz"
        if not kept.exists():
            made, cut = SOURCES[self.config.source](data)
            cut.save(str(self.out / TOKENIZER))
            pairs.save(made, kept)
        self.pairs = pairs.read(kept)
        vocab_size = Tokenizer.from_file(str(self.out / TOKENIZER)).get_vocab_size()
        shape = self.config.model(vocab_size, self.pairs.texts.shape[2], self.pairs.pictures.shape[1])
        self.module = ClipModule(shape)
        self.module.initialise(torch.Generator().manual_seed(self.config.seed))
        self.optimizer = Muon(self.module)

    def loss(self) -> Tensor:
        """How surprising it is which text of the batch belongs to which picture, and the other way round."""
        random = np.random.default_rng((self.config.seed, self.step))
        chosen = self._chosen(random)
        variants = random.integers(self.pairs.texts.shape[1], size=len(chosen))
        true = torch.from_numpy(self.pairs.agree(chosen, variants))
        pictures = shifted(self.pairs.pictures[chosen], self.config.shift, random)
        x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
        ids = torch.from_numpy(self.pairs.texts[chosen, variants])
        with torch.autocast("cpu", torch.bfloat16):
            seen, said = self.module.images(x), self.module.texts(ids[:, : int((ids > 0).sum(dim=1).max())])
        return contrast(seen @ said.T, true, self.module.scale)

    def _chosen(self, random: np.random.Generator) -> np.ndarray:
        """Indices of the step's pairs: a fixed share of characters, none twice."""
        characters = round(self.config.characters * self.config.batch)
        parts = []
        for kind, count in ((False, self.config.batch - characters), (True, characters)):
            some = np.flatnonzero(self.pairs.characters == kind)
            parts.append(random.permutation(some)[:count])
        return np.concatenate(parts)

    def export(self, folder: Path) -> None:
        """Write the model as a checkpoint folder that `evaluate.Clip` reads; weights in eight bits."""
        save_clip(self.module, folder, dtype=torch.int8)
        with whole(folder / TOKENIZER) as part:
            part.write_bytes((self.out / TOKENIZER).read_bytes())


def contrast(cosines: Tensor, true: Tensor, scale: Tensor) -> Tensor:
    """Nats of telling the own text of each picture from the others, and the own picture of each text (2103.00020).

    What is true of a picture without being its own text is no candidate: to push it away would be to unlearn.

    Args:
        cosines: (n, n) float32, of pictures and texts; their own ones on the diagonal.
        true: (n, n) bool, which texts are true of which pictures.
        scale: what cosines are multiplied with.
    """
    own = torch.arange(len(cosines))
    others = true & ~torch.eye(len(cosines), dtype=torch.bool)
    logits = (scale * cosines).masked_fill(others, -torch.inf)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def shifted(pictures: np.ndarray, most: int, random: np.random.Generator) -> np.ndarray:
    """Pictures (n, side, side, 3), each moved by up to so many pixels; what comes in is white."""
    if not most:
        return pictures
    side = pictures.shape[1]
    wide = np.pad(pictures, ((0, 0), (most, most), (most, most), (0, 0)), constant_values=255)
    places = random.integers(2 * most + 1, size=(len(pictures), 2))
    return np.stack(
        [one[down : down + side, across : across + side] for one, (down, across) in zip(wide, places, strict=True)]
    )
