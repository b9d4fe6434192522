"""An auto-encoder of pictures and films: patches in, units between, patches out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InvalidArgument
from .bottleneck import FSQ, VQ, Bottleneck, Gaussian

MERGE = 2
"""How many patches by how many become one place of the trunk."""

OPTIONAL = ("mixing", "codes")
"""Numbers of a configuration that may be 0."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """The shape of an auto-encoder; a checkpoint states every field.

    Args:
        frames: how many neighbouring frames a unit spans; 1 for pictures.
        patch: side of the patches that go in, in pixels.
        units: units of a place of the trunk, 2 × 2 patches: 1, or 4, which then lie as the patches do.
        stem, stem_depth: channels and residual blocks at one place a patch.
        trunk, trunk_depth: the same at one place for 2 × 2 patches.
        mixing: blocks that mix all frames of a place; 0 for pictures.
        levels: of FSQ; none for the others.
        codes: of VQ; 0 for the others.
        width: numbers of a code of VQ, or of a vector; as many as there are levels for FSQ.
    """

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
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type == "int" and (type(value) is not int or not (field.name not in OPTIONAL) <= value < 2**16):
                raise InvalidArgument(f"{field.name} must be an integer of at least 1, got {value!r}")
        if self.units not in (1, MERGE**2):
            raise InvalidArgument(f"units must be 1 or {MERGE**2}, got {self.units}")
        if type(self.levels) is not tuple or any(type(n) is not int or not 2 <= n < 2**16 for n in self.levels):
            raise InvalidArgument(f"levels must be integers of at least 2, got {self.levels!r}")
        if self.levels and (self.codes or self.width != len(self.levels)):
            raise InvalidArgument(f"{len(self.levels)} levels take width {len(self.levels)} and no codes")

    @property
    def place(self) -> int:
        """Side of a place of the trunk in pixels; sides of pictures are multiples of it."""
        return MERGE * self.patch

    def bottleneck(self) -> Bottleneck:
        """What signals are squeezed through."""
        if self.levels:
            return FSQ(self.levels)
        return VQ(self.codes, self.width) if self.codes else Gaussian(self.width)


class Residual(nn.Module):
    """x + conv(silu(conv(silu(norm(x))))), 3 × 3 each, over a grid with the channels last."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels))
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)  # a block begins as nothing

    def forward(self, x: Tensor) -> Tensor:  # (B, H, W, C)
        inner = F.silu(normed(x) * self.gain).permute(0, 3, 1, 2)  # in memory, channels stay last
        return x + self.second(F.silu(self.first(inner))).permute(0, 2, 3, 1)


class Mixing(nn.Module):
    """x + linear(silu(linear(norm(x)))) at each place by itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels))
        self.first = nn.Linear(channels, 2 * channels)
        self.second = nn.Linear(2 * channels, channels)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:  # (..., C)
        return x + self.second(F.silu(self.first(normed(x) * self.gain)))


class PatchAutoencoder(nn.Module):
    """Convolutions at one place a patch, then at one place for 2 × 2 patches, the bottleneck, and the way back.

    Each frame goes its way alone, by the same weights, up to the bottleneck, where what a unit spans meets. There is no
    notion of where a patch lies, so pictures may have any size that the places fill.

    Args:
        config: its shape.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        numbers, stem, trunk = 3 * config.patch**2, config.stem, config.trunk
        joined = config.frames * trunk
        self.bottleneck = config.bottleneck()
        self.patch_in = nn.Linear(numbers, stem)
        self.stem_in = nn.Sequential(*(Residual(stem) for _ in range(config.stem_depth)))
        self.merge = nn.Linear(MERGE**2 * stem, trunk)
        self.trunk_in = nn.Sequential(*(Residual(trunk) for _ in range(config.trunk_depth)))
        self.mix_in = nn.Sequential(*(Mixing(joined) for _ in range(config.mixing)))
        self.gain_in = nn.Parameter(torch.ones(joined))
        self.squeeze = nn.Linear(joined, config.units * self.bottleneck.inputs)
        self.widen = nn.Linear(config.units * self.bottleneck.width, joined)
        self.mix_out = nn.Sequential(*(Mixing(joined) for _ in range(config.mixing)))
        self.trunk_out = nn.Sequential(*(Residual(trunk) for _ in range(config.trunk_depth)))
        self.split = nn.Linear(trunk, MERGE**2 * stem)
        self.stem_out = nn.Sequential(*(Residual(stem) for _ in range(config.stem_depth)))
        self.gain_out = nn.Parameter(torch.ones(stem))
        self.patch_out = nn.Linear(stem, numbers)

    def squeezed(self, patches: Tensor) -> Tensor:
        """What goes into the bottleneck, (B, H, W, inputs), of patches (B, frames, rows, columns, numbers)."""
        x = self.trunk_in(self.merge(merged(self.stem_in(self.patch_in(patches.flatten(0, 1))))))
        x = self.mix_in(x.unflatten(0, (-1, self.config.frames)).movedim(1, 3).flatten(3))
        x = self.squeeze(normed(x) * self.gain_in)
        return x if self.config.units == 1 else parted(x)

    def widened(self, codes: Tensor) -> Tensor:
        """Patches (B, frames, rows, columns, numbers) of what comes out of the bottleneck, (B, H, W, width)."""
        x = self.mix_out(self.widen(codes if self.config.units == 1 else merged(codes)))
        x = x.unflatten(3, (self.config.frames, -1)).movedim(3, 1).flatten(0, 1)
        x = self.stem_out(parted(self.split(self.trunk_out(x))))
        return self.patch_out(normed(x) * self.gain_out).unflatten(0, (-1, self.config.frames))

    def forward(self, patches: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Patches as they come back, and the bottleneck's part of the loss."""
        codes, extra = self.bottleneck(self.squeezed(patches), generator)
        return self.widened(codes), extra


def widened_weights(weights: Mapping[str, Tensor], shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """The weights of an auto-encoder of pictures as those of one of films, as far as they fit.

    What joins the frames begins with the mean of what they say, and says the same to all of them: a film that stands
    still is coded as its picture from the first step on.

    Args:
        weights: of pictures, by name.
        shapes: of the weights that are wanted.
    """
    found = {}
    for name, shape in shapes.items():
        weight = weights.get(name)
        if weight is not None and name == "squeeze.weight":
            frames = shape[1] // weight.shape[1]
            weight = weight.repeat(1, frames) / frames
        elif weight is not None and name in ("gain_in", "widen.weight", "widen.bias"):
            weight = weight.repeat(shape[0] // weight.shape[0], *[1] * (weight.ndim - 1))
        if weight is not None and weight.shape == shape:
            found[name] = weight
    return found


def normed(x: Tensor) -> Tensor:
    """Each place's channels divided by their root mean square."""
    return F.rms_norm(x, (x.shape[-1],))


def merged(x: Tensor) -> Tensor:
    """(B, 2H, 2W, C) → (B, H, W, 4C)."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // MERGE, MERGE, width // MERGE, MERGE, channels).transpose(2, 3)
    return x.reshape(batch, height // MERGE, width // MERGE, MERGE**2 * channels)


def parted(x: Tensor) -> Tensor:
    """(B, H, W, 4C) → (B, 2H, 2W, C), the inverse of `merged`."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height, width, MERGE, MERGE, channels // MERGE**2).transpose(2, 3)
    return x.reshape(batch, height * MERGE, width * MERGE, channels // MERGE**2)
