"""What an auto-encoder squeezes its signal through: symbols by FSQ or VQ, or low-dimensional vectors."""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import kernels


class Bottleneck(nn.Module, abc.ABC):
    """Numbers to units and back; `forward` is the way through while training.

    Args:
        inputs: how many numbers the encoder gives for each unit.
        width: how many the decoder gets.
        vocab_size: how many symbols there are, None for vectors.
    """

    def __init__(self, *, inputs: int, width: int, vocab_size: int | None) -> None:
        super().__init__()
        self.inputs, self.width, self.vocab_size = inputs, width, vocab_size

    @abc.abstractmethod
    def forward(self, numbers: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """What the decoder gets, (..., width), and what to add to the loss.

        Args:
            numbers: (..., inputs) of the encoder.
            generator: of whatever is drawn.
        """

    @abc.abstractmethod
    def encode(self, numbers: Tensor) -> np.ndarray:
        """Units (...) int64, or (..., width) float32, of the encoder's numbers (..., inputs)."""

    @abc.abstractmethod
    def decode(self, units: np.ndarray) -> Tensor:
        """What the decoder gets for units, (..., width) float32 on the CPU."""


class FSQ(Bottleneck):
    """Finite scalar quantisation (Mentzer et al. 2309.15505): each of a few numbers is rounded to one of a few levels.

    Args:
        levels: of each number; their product is the vocabulary.
    """

    middle: Tensor

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__(inputs=len(levels), width=len(levels), vocab_size=math.prod(levels))
        self.levels = list(levels)
        self.register_buffer("middle", torch.tensor([level // 2 for level in levels], dtype=torch.float32), False)

    def bounded(self, numbers: Tensor) -> Tensor:
        """Numbers (..., m) as values in [-1, 1] or what an even count of levels lacks of it, before rounding."""
        levels = 2 * self.middle + torch.tensor([level % 2 for level in self.levels], device=numbers.device)
        reach = (levels - 1) * (1 + 1e-3) / 2  # the factor lets the outermost levels be reached
        offset = torch.where(levels % 2 == 0, 0.5, 0.0)
        return (torch.tanh(numbers.float() + torch.atanh(offset / reach)) * reach - offset) / self.middle

    def forward(self, numbers: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        values = self.bounded(numbers)
        rounded = torch.round(values * self.middle) / self.middle
        return values + (rounded - values).detach(), values.new_zeros(())

    def encode(self, numbers: Tensor) -> np.ndarray:
        return kernels.fsq_encode(self.bounded(numbers), self.levels)

    def decode(self, units: np.ndarray) -> Tensor:
        return torch.from_numpy(kernels.fsq_decode(units, self.levels))


class VQ(Bottleneck):
    """Vector quantisation (van den Oord et al. 1711.00937); codes follow the mean of what chose them.

    A code that is hardly chosen any more is put where a vector of the batch lies (as in EnCodec, 2210.13438).

    Args:
        codes: how many.
        width: numbers of a code.
    """

    codebook: Tensor
    counts: Tensor
    sums: Tensor

    DECAY, COMMIT = 0.99, 0.25
    ALIVE, TRIAL = 0.2, 3
    """A code is moved that is chosen less often than this part of what all codes would be, were they chosen alike; a
    moved one has as many times that for a start, some hundred steps."""

    def __init__(self, codes: int, width: int) -> None:
        super().__init__(inputs=width, width=width, vocab_size=codes)
        self.register_buffer("codebook", torch.zeros(codes, width))
        self.register_buffer("counts", torch.zeros(codes))
        self.register_buffer("sums", torch.zeros(codes, width))

    def forward(self, numbers: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        vectors = numbers.float()
        rows = vectors.detach().reshape(-1, self.width)
        if not self.counts.any():
            self._restart(torch.ones_like(self.counts, dtype=torch.bool), rows, generator)
        ids = torch.cdist(rows, self.codebook).argmin(dim=1)
        chosen = self.codebook[ids].view_as(vectors)
        self._follow(rows, ids, generator)
        return vectors + (chosen - vectors).detach(), self.COMMIT * F.mse_loss(vectors, chosen)

    @torch.no_grad()
    def _follow(self, rows: Tensor, ids: Tensor, generator: torch.Generator) -> None:
        counts = torch.bincount(ids, minlength=len(self.counts)).float()
        sums = torch.zeros_like(self.sums).index_add_(0, ids, rows)
        self.counts.lerp_(counts, 1 - self.DECAY)
        self.sums.lerp_(sums, 1 - self.DECAY)
        self.codebook.copy_(self.sums / self.counts.clamp(min=1e-6)[:, None])
        self._restart(self.counts < self._alive(rows), rows, generator)

    def _restart(self, dead: Tensor, rows: Tensor, generator: torch.Generator) -> None:
        count = int(dead.sum())
        if count:
            places = torch.randint(len(rows), (count,), generator=generator)
            self.codebook[dead] = rows[places]
            self.counts[dead] = self.TRIAL * self._alive(rows)
            self.sums[dead] = self.TRIAL * self._alive(rows) * rows[places]

    def _alive(self, rows: Tensor) -> float:
        return self.ALIVE * len(rows) / len(self.codebook)

    def encode(self, numbers: Tensor) -> np.ndarray:
        return kernels.nearest(numbers.float(), self.codebook).ids

    def decode(self, units: np.ndarray) -> Tensor:
        return self.codebook.cpu()[torch.from_numpy(units)]


class Gaussian(Bottleneck):
    """The bottleneck of a variational auto-encoder (Kingma & Welling 1312.6114): a normal law for each number.

    Units are the means, shifted and scaled so that each number has mean 0 and variance 1 over the training data: what
    diffusion and flows over them want.

    Args:
        width: numbers of a unit.
        pull: weight of the divergence from the standard normal law, in nats a number; small as in latent diffusion
            (2112.10752), for the decoder to lose nothing that can be kept.
    """

    shift: Tensor
    square: Tensor

    DECAY = 0.999

    def __init__(self, width: int, *, pull: float = 1e-6) -> None:
        super().__init__(inputs=2 * width, width=width, vocab_size=None)
        self.pull = pull
        self.register_buffer("shift", torch.zeros(width))
        self.register_buffer("square", torch.ones(width))

    def forward(self, numbers: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        mean, spread = numbers.float().chunk(2, dim=-1)
        spread = spread.clamp(-30, 20)  # log of the variance
        divergence = 0.5 * (mean**2 + spread.exp() - 1 - spread).mean()
        with torch.no_grad():
            rows = mean.reshape(-1, self.width)
            self.shift.lerp_(rows.mean(dim=0), 1 - self.DECAY)
            self.square.lerp_((rows**2).mean(dim=0), 1 - self.DECAY)
        noise = torch.randn(mean.shape, generator=generator).to(mean.device)
        return mean + (0.5 * spread).exp() * noise, self.pull * divergence

    @property
    def _scale(self) -> Tensor:
        return (self.square - self.shift**2).clamp(min=1e-8).sqrt()

    def encode(self, numbers: Tensor) -> np.ndarray:
        mean = numbers.float()[..., : self.width]
        return ((mean - self.shift) / self._scale).cpu().numpy()

    def decode(self, units: np.ndarray) -> Tensor:
        return torch.from_numpy(units) * self._scale.cpu() + self.shift.cpu()
