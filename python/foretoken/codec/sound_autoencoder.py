"""A convolutional auto-encoder of sound: samples to one vector a hop, and back (after SoundStream, 2107.03312).

Loudness goes a way of its own: the first features are divided by the level around them, which stands beside them as its
logarithm, and the last ones are multiplied by a level that the decoder says. So a whisper and a shout look alike to the
layers between.
"""

from __future__ import annotations

import dataclasses
import math

from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InvalidArgument

_LARGEST = 4096
_QUIET = 1e-4
"""What is added to levels: one third of the smallest step of 12 bits."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SoundConfig:
    """The shape of an auto-encoder of sound and of the books of its codes; a file states every field.

    Args:
        rate: samples a second.
        strides: by how much each stage of the encoder shortens; their product is the hop, the samples of a vector.
        encoder_widths, decoder_widths: channels of each stage, in the order of `strides`.
        encoder_blocks, decoder_blocks: residual blocks of each stage.
        latent: numbers of a vector.
        books: how many codes stand for a vector, each for what those before it left over.
        codes: of a book.
    """

    rate: int
    strides: tuple[int, ...]
    encoder_widths: tuple[int, ...]
    encoder_blocks: tuple[int, ...]
    decoder_widths: tuple[int, ...]
    decoder_blocks: tuple[int, ...]
    latent: int
    books: int
    codes: int

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            largest = 2**20 if field.name in ("rate", "codes") else _LARGEST
            numbers = (value,) if field.type == "int" else value
            if type(numbers) is not tuple or any(type(n) is not int or not 1 <= n <= largest for n in numbers):
                raise InvalidArgument(f"{field.name} must be of integers in [1, {largest}], got {value!r}")
            if field.type != "int" and not len(value) == len(self.strides) <= 8:
                raise InvalidArgument(f"{field.name} has {len(value)} stages, strides {len(self.strides)}, at most 8")
        if not self.strides or self.strides[0] % 2:
            raise InvalidArgument(f"strides must begin with an even number, got {self.strides!r}")

    @property
    def hop(self) -> int:
        """Samples that one vector stands for."""
        return math.prod(self.strides)

    @property
    def reach(self) -> int:
        """No vector or sample depends on frames further away: blocks see three places far, the level eight."""
        return 3 * max(sum(self.encoder_blocks), sum(self.decoder_blocks)) + 12


class SoundAutoencoder(nn.Module):
    """Samples (batch, n) ↔ vectors (batch, n / hop, latent).

    Args:
        config: its shape.
    """

    def __init__(self, config: SoundConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.decoder = Encoder(config), Decoder(config)

    def encode(self, samples: Tensor) -> Tensor:
        """The vectors (batch, frames, latent) of samples (batch, frames · hop)."""
        return self.encoder(samples)

    def decode(self, vectors: Tensor) -> Tensor:
        """The samples (batch, frames · hop) of vectors (batch, frames, latent)."""
        return self.decoder(vectors)


class Encoder(nn.Module):
    """Samples to vectors."""

    def __init__(self, config: SoundConfig) -> None:
        super().__init__()
        first, *strides = config.strides
        self.stride = first
        width = config.encoder_widths[0]
        self.first = nn.Conv1d(1, width, 2 * first, first, first // 2, bias=False)
        self.level = nn.Conv1d(1, width, 1)
        self.stages = nn.ModuleList([_blocks(width, config.encoder_blocks[0])])
        self.shorten = nn.ModuleList()
        for stride, after, count in zip(strides, config.encoder_widths[1:], config.encoder_blocks[1:], strict=True):
            self.shorten.append(nn.Conv1d(width, after, stride, stride))
            self.stages.append(_blocks(after, count))
            width = after
        self.last = nn.Conv1d(width, config.latent, 1)

    def forward(self, samples: Tensor) -> Tensor:
        """Vectors (batch, frames, latent)."""
        level = _level(samples, self.stride)
        x = self.first(samples[:, None]) / level + self.level(level.log())
        x = self.stages[0](x)
        for shorten, stage in zip(self.shorten, self.stages[1:], strict=False):  # torch's lists have no typed slices
            x = stage(shorten(x))
        return self.last(_normal(x)).transpose(1, 2)


def _level(samples: Tensor, stride: int) -> Tensor:
    """Root mean square around each stride, over 16 of them, (batch, 1, n / stride)."""
    power = F.avg_pool1d(samples.float().square()[:, None], stride)
    return F.avg_pool1d(power, 17, 1, 8, count_include_pad=False).sqrt() + _QUIET


class Decoder(nn.Module):
    """Vectors to samples."""

    def __init__(self, config: SoundConfig) -> None:
        super().__init__()
        first, *strides = config.strides
        width = config.decoder_widths[-1]
        self.first = nn.Conv1d(config.latent, width, 3, padding=1)
        self.stages = nn.ModuleList([_blocks(width, config.decoder_blocks[-1])])
        self.strides = list(reversed(strides))
        self.lengthen = nn.ModuleList()
        widths, counts = config.decoder_widths[-2::-1], config.decoder_blocks[-2::-1]
        for stride, after, count in zip(self.strides, widths, counts, strict=True):
            self.lengthen.append(nn.Conv1d(width, after * stride, 1))
            self.stages.append(_blocks(after, count))
            width = after
        self.level = nn.Conv1d(width, 1, 1)
        nn.init.constant_(self.level.bias, -4.0)  # pyright: ignore[reportArgumentType] - as loud as speech, at first
        self.last = nn.ConvTranspose1d(width, 1, 2 * first, first, first // 2, bias=False)

    def forward(self, vectors: Tensor) -> Tensor:
        """Samples (batch, frames · hop)."""
        x = self.stages[0](self.first(vectors.transpose(1, 2)))
        for stride, lengthen, stage in zip(self.strides, self.lengthen, self.stages[1:], strict=False):
            x = lengthen(x)
            batch, wide, frames = x.shape
            x = x.view(batch, wide // stride, stride, frames).transpose(2, 3).reshape(batch, wide // stride, -1)
            x = stage(x)
        x = _normal(x)
        level = self.level(x).float().clamp(-12, 2).exp()
        return self.last(x * level)[:, 0]


def _blocks(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(Block(width, (1, 3)[i % 2]) for i in range(count)))


class Block(nn.Module):
    """Adds what three neighbours, `dilation` apart, say of the middle one."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.near = nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation)
        self.mix = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, width, n) to the same shape."""
        return x + self.mix(F.gelu(self.near(_normal(x))))


def _normal(x: Tensor) -> Tensor:
    """Each place's channels divided by their root mean square."""
    return x * (x.float().square().mean(dim=1, keepdim=True) + 1e-6).rsqrt().to(x.dtype)
