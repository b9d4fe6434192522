"""Books of codes that follow the vectors they stand for: residual vector quantisation, learnt by moving averages."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

_RARE = 0.1
"""A code that stands for fewer than this share of its book's mean is given a vector of the batch instead."""


class ResidualBooks(nn.Module):
    """Books of codes, each for what those before it left over (SoundStream, 2107.03312).

    A code is the mean of the vectors that chose it, over steps that are forgotten by and by (EMA, 1711.00937); one that
    hardly any choose begins anew where a vector of the batch is. All that changes are buffers: a run that saves its
    state saves them.

    Args:
        books: how many.
        codes: of a book.
        width: numbers of a vector.
        decay: what a step keeps of the sums before.
    """

    books: Tensor
    sums: Tensor
    counts: Tensor

    def __init__(self, books: int, codes: int, width: int, *, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("books", torch.zeros(books, codes, width))
        self.register_buffer("sums", torch.zeros(books, codes, width))
        self.register_buffer("counts", torch.zeros(books, codes))

    def forward(self, vectors: Tensor, kept: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Vectors as their codes say them, with the gradient of the vectors themselves; the books learn from them.

        Args:
            vectors: (n, width) float32.
            kept: (n,) int64, how many books each is said by.
            rng: that chooses vectors for new codes.

        Returns:
            coded (n, width), and the commitment: how far vectors are from their codes, squared, summed over books.
        """
        rest, coded = vectors.detach(), torch.zeros_like(vectors)
        commitment = vectors.new_zeros(())
        for place in range(len(self.books)):
            ids = self._chosen(place, rest, rng)
            codes = self.books[place][ids]
            mask = (kept > place)[:, None]
            commitment = commitment + ((vectors - coded - codes).square() * mask).mean()
            self._learn(place, rest, ids, rng)
            coded, rest = coded + codes * mask, rest - codes
        return vectors + (coded - vectors).detach(), commitment

    @torch.no_grad()
    def _chosen(self, place: int, rest: Tensor, rng: np.random.Generator) -> Tensor:
        if not self.counts[place].any():  # the first step: a book begins with vectors of the batch
            self._restart(place, torch.arange(len(self.counts[place])), rest, rng)
        book = self.books[place]
        return (book.square().sum(dim=1) - 2 * rest @ book.T).argmin(dim=1)

    @torch.no_grad()
    def _learn(self, place: int, rest: Tensor, ids: Tensor, rng: np.random.Generator) -> None:
        chosen = torch.bincount(ids, minlength=len(self.counts[place])).float()
        self.counts[place].lerp_(chosen, 1 - self.decay)
        self.sums[place].lerp_(torch.zeros_like(self.sums[place]).index_add_(0, ids, rest), 1 - self.decay)
        rare = torch.nonzero(self.counts[place] < _RARE * len(rest) / len(chosen))[:, 0]
        if len(rare):
            self._restart(place, rare, rest, rng)
        self.books[place] = self.sums[place] / self.counts[place][:, None]

    def _restart(self, place: int, which: Tensor, rest: Tensor, rng: np.random.Generator) -> None:
        picked = rest[torch.from_numpy(rng.integers(0, len(rest), len(which)))]
        self.sums[place][which] = self.books[place][which] = picked
        self.counts[place][which] = 1.0
