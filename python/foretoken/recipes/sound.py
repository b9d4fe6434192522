"""Recipe: a codec of sound on spoken digits, resumable after a kill at any moment.

foretoken train digits-sound --data DATA --out runs/digits-sound
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..codec.sound_autoencoder import SoundAutoencoder, SoundConfig
from ..codec.sound_codes import SoundCodes
from ..codec.spectrum import log_mel
from ..errors import InvalidArgument
from . import digits, run
from .digits import RATE
from .optimizer import Adam
from .residual_books import ResidualBooks
from .run import RecipeConfig

_SPECTRA = ((64, 8), (128, 16), (256, 32), (512, 40), (1024, 64))
"""Windows and bands of the spectra that are compared: short ones see when, long ones see which tone."""
_FLOOR = 3e-5
"""One step of 16 bits: what is quieter is no sound of the data's."""
_LOUDER, _QUIETER = 3.0, -6.0
"""Decibels by which windows are made louder or quieter."""
_LONGEST_PAUSE = RATE // 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class SoundRecipe(RecipeConfig):
    """What a run trains, for how long; a configuration file states every field.

    Args:
        strides, encoder_widths, encoder_blocks, decoder_widths, decoder_blocks, latent, books, codes: shape of the
            codec, as in `SoundConfig`; its sample rate is that of the data.
        window: samples of one training window, a multiple of the hop.
        batch: windows a step.
        shortened: share of windows that are said by fewer books than all, so that the first ones say the most.
        decay: of the books' moving averages.
        commitment: weight of how far vectors are from their codes.
        waveform: weight of the noise-to-signal ratio of the samples, in nats; the spectra have weight 1.
        steps, warmup, cooldown, rate, save_every, seed: those of every recipe; the seed draws the windows, too.
    """

    recipe = "sound"
    unit = "nats of spectra, and more"

    strides: tuple[int, ...]
    encoder_widths: tuple[int, ...]
    encoder_blocks: tuple[int, ...]
    decoder_widths: tuple[int, ...]
    decoder_blocks: tuple[int, ...]
    latent: int
    books: int
    codes: int
    window: int
    batch: int
    shortened: float
    decay: float
    commitment: float
    waveform: float

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, high in (("shortened", 1), ("decay", 1), ("commitment", 1e3), ("waveform", 1e3)):
            value = getattr(self, name)
            if type(value) not in (int, float) or not 0 <= value <= high:
                raise InvalidArgument(f"{name} must be in [0, {high}], got {value!r}")
        if self.window % self.model().hop:
            raise InvalidArgument(f"window {self.window} is no multiple of the hop, {self.model().hop}")

    def model(self) -> SoundConfig:
        """The shape of the codec that this run trains."""
        names = [field.name for field in dataclasses.fields(SoundConfig) if field.name != "rate"]
        return SoundConfig(rate=RATE, **{name: getattr(self, name) for name in names})


class Trained(nn.Module):
    """All that a run of this recipe trains: the auto-encoder, and the books between its halves."""

    def __init__(self, config: SoundRecipe) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):  # torch's layers draw their first weights from the global generator
            torch.manual_seed(config.seed)
            self.autoencoder = SoundAutoencoder(config.model())
        self.books = ResidualBooks(config.books, config.codes, config.latent, decay=config.decay)


def stream(takes: list[digits.Take], seed: int) -> np.ndarray:
    """All takes in one shuffled row of samples, with pauses of silence between them."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(takes))
    pauses = [np.zeros(rng.integers(0, _LONGEST_PAUSE), dtype=np.float32) for _ in order]
    return np.concatenate([part for i, pause in zip(order, pauses, strict=True) for part in (takes[i].samples, pause)])


def windows(config: SoundRecipe, samples: np.ndarray, rng: np.random.Generator) -> Tensor:
    """(batch, window) samples, anywhere from the stream, louder or quieter, some turned over."""
    if len(samples) < config.window:
        raise InvalidArgument(f"{len(samples)} training samples are fewer than a window of {config.window}")
    starts = rng.integers(0, len(samples) - config.window + 1, config.batch)
    factors = 10 ** (rng.uniform(_QUIETER, _LOUDER, config.batch) / 20) * rng.choice([-1, 1], config.batch)
    chosen = np.stack([samples[start : start + config.window] for start in starts])
    return torch.from_numpy((chosen * factors[:, None]).clip(-1, 1).astype(np.float32))


def spectral_distance(made: Tensor, wanted: Tensor) -> Tensor:
    """How far the spectra of sounds (batch, n) are from each other: nats, the mean of all bands, times and windows."""
    apart = []
    for window, bands in _SPECTRA:
        if window <= wanted.shape[-1]:
            ours, theirs = (log_mel(x, rate=RATE, window=window, bands=bands, floor=_FLOOR) for x in (made, wanted))
            apart.append(F.l1_loss(ours, theirs))
    return torch.stack(apart).mean()


def noise_ratio(made: Tensor, wanted: Tensor) -> Tensor:
    """The logarithm of the error's power over the sound's, the mean of the batch; 0 for silence, -4 at the least."""
    error, power = ((x.square().mean(dim=-1) + 1e-7) for x in (made - wanted, wanted))
    return (error / power).log().clamp(min=-4).mean()


class Run(run.Run[SoundRecipe, Trained]):
    """A training run of a codec of sound; `module` is the codec, `samples` the sound it learns from."""

    def prepare(self, data: Path) -> None:
        """Read the takes that are trained on; make the first weights."""
        takes, _ = digits.split(data)
        self.samples = stream(takes, self.config.seed)
        self.module = Trained(self.config)
        self.optimizer = Adam(dict(self.module.named_parameters()), betas=(0.8, 0.95))

    def loss(self) -> Tensor:
        """Spectra, samples and commitment, each by its weight; the books follow."""
        config, module = self.config, self.module
        rng = np.random.default_rng((config.seed, self.step))
        wanted = windows(config, self.samples, rng)
        short = rng.random(config.batch) < config.shortened
        kept = torch.from_numpy(np.where(short, rng.integers(1, max(2, config.books), config.batch), config.books))
        with torch.autocast("cpu", torch.bfloat16):
            vectors = module.autoencoder.encode(wanted).float()
        frames = vectors.shape[1]
        coded, commitment = module.books(vectors.flatten(0, 1), kept.repeat_interleave(frames), rng)
        with torch.autocast("cpu", torch.bfloat16):
            made = module.autoencoder.decode(coded.view_as(vectors)).float()
        heard = spectral_distance(made, wanted) + config.waveform * noise_ratio(made, wanted)
        return heard + config.commitment * commitment

    def export(self, folder: Path) -> None:
        """Write the codec as a checkpoint folder that `SoundCodes.from_folder` reads; weights in eight bits."""
        SoundCodes(self.module.autoencoder, self.module.books.books.numpy()).save(folder, dtype=torch.int8)
