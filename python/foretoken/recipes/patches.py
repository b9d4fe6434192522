"""Recipe: an auto-encoder of pictures or films, by patches, resumable after a kill at any moment.

    foretoken train emoji-fsq-64 --data DATA --out runs/emoji-fsq-64

Products are taken in bfloat16: three times as fast as float32 where the processor has them (avx512_bf16, amx), slow
where it does not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..codec.autoencoder import OPTIONAL, AutoencoderConfig, PatchAutoencoder, widened_weights
from ..codec.patches import Film, Patches, cut
from ..errors import InvalidArgument
from ..weights import WEIGHTS, read_tensors
from . import pictures, run, sprites
from .optimizer import Adam
from .run import RecipeConfig

CLIPS = 1500
"""Composed clips in a run: some 10,000 frames, 120 MB."""


def _stills(split: Callable[[Path], pictures.Split]) -> Callable[[Path, int], Sequence[np.ndarray]]:
    return lambda data, seed: list(split(data)[0][:, None])


SOURCES: dict[str, Callable[[Path, int], Sequence[np.ndarray]]] = {
    "emoji": _stills(pictures.emoji),
    "tiles": _stills(pictures.tiles),
    "walk": lambda data, seed: [clip.frames for clip in sprites.walk(data, CLIPS, seed=seed)],
    "motion": lambda data, seed: pictures.motion(data)[0],
}
"""Training films (frames, 64, 64, 3) uint8 of a data folder; a picture is a film of one frame."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PatchesConfig(RecipeConfig):
    """What a run trains, on what, for how long; a configuration file states every field.

    Args:
        sources: names in `SOURCES`.
        shares: how often each source is drawn from; they are divided by their sum.
        start: folder of a checkpoint whose weights are begun with, as far as they fit, or "" for none; `{out}` in it is
            the folder in which the run's folder lies.
        batch: pictures, or pieces of films, a step.
        frames, patch, units, stem, stem_depth, trunk, trunk_depth, mixing, levels, codes, width: those of
            `AutoencoderConfig`.
        steps, warmup, cooldown, rate, save_every, seed: those of every recipe.
    """

    recipe = "patches"
    unit = "mean squared error, from -1 to 1"
    optional_zero = (*RecipeConfig.optional_zero, *OPTIONAL)

    sources: tuple[str, ...]
    shares: tuple[float, ...]
    start: str
    batch: int
    frames: int
    patch: int
    units: int
    stem: int
    stem_depth: int
    trunk: int
    trunk_depth: int
    mixing: int
    levels: tuple[int, ...]
    codes: int
    width: int

    def __post_init__(self) -> None:
        super().__post_init__()
        self.model()
        if not isinstance(self.sources, tuple) or not set(self.sources) <= SOURCES.keys():
            raise InvalidArgument(f"sources must be names of {sorted(SOURCES)}, got {self.sources!r}")
        numbers = isinstance(self.shares, tuple) and all(type(share) in (int, float) for share in self.shares)
        if not numbers or len(self.shares) != len(self.sources) or not all(share > 0 for share in self.shares):
            raise InvalidArgument(f"shares must be a number above 0 for each source, got {self.shares!r}")

    def model(self) -> AutoencoderConfig:
        """The shape of the auto-encoder that this run trains."""
        names = [field.name for field in dataclasses.fields(AutoencoderConfig)]
        return AutoencoderConfig(**{name: getattr(self, name) for name in names})


class Run(run.Run[PatchesConfig, PatchAutoencoder]):
    """A training run of an auto-encoder of pictures or films."""

    def prepare(self, data: Path) -> None:
        """Read the training pictures and films; make the first weights."""
        self.films = [SOURCES[name](data, self.config.seed) for name in self.config.sources]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            self.module = PatchAutoencoder(self.config.model())
        if self.config.start:
            begun = read_tensors(Path(self.config.start.format(out=self.out.parent)) / WEIGHTS)
            state = self.module.state_dict()
            state |= widened_weights(begun, {name: value.shape for name, value in state.items()})
            self.module.load_state_dict(state)
        self.optimizer = Adam(dict(self.module.named_parameters()))

    def loss(self) -> Tensor:
        """The squared error of the step's pictures, as they come back."""
        patches = cut(self.batch(), self.config.model()).flatten(0, 1)
        generator = torch.Generator().manual_seed(self.config.seed * 2**32 + self.step)
        with torch.autocast("cpu", torch.bfloat16):
            back, extra = self.module(patches, generator)
        return F.mse_loss(back.float(), patches) + extra

    def batch(self) -> np.ndarray:
        """Films (batch, frames, 64, 64, 3) uint8 of this step: pieces of random ones, every other one mirrored."""
        random = np.random.default_rng((self.config.seed, self.step))
        shares = np.array(self.config.shares) / sum(self.config.shares)
        frames, films = self.config.frames, []
        for source in random.choice(len(shares), size=self.config.batch, p=shares):
            film = self.films[source][random.integers(len(self.films[source]))]
            start = random.integers(max(1, len(film) - frames + 1))
            piece = film[np.minimum(np.arange(start, start + frames), len(film) - 1)]
            films.append(piece[:, :, ::-1] if random.random() < 0.5 else piece)
        return np.stack(films)

    def export(self, folder: Path) -> None:
        """Write the codec as a checkpoint folder that `codec.load` reads; weights in eight bits."""
        (Patches if self.config.frames == 1 else Film)(self.module).save(folder, dtype=torch.int8)
