"""What a masked model is asked for in training: the patterns of unknown units that decoding will meet."""

from __future__ import annotations

import math

import numpy as np

EVERY = 4
"""The condensed version of a body that a cascade writes first: every so manieth unit."""

_SHARES = (0.6, 0.1, 0.15, 0.15)  # of the patterns below


def unknown(random: np.random.Generator, length: int) -> np.ndarray:
    """Which units of a body a training row asks for, (length,) bool; at least one.

    Random places, as many as a cosine schedule leaves at a random moment (MaskGIT, 2202.04200); all; what follows a
    beginning, as an autoregressive model is asked; or of every fourth unit what follows a beginning, or all between.

    Example:
        >>> bool(unknown(np.random.default_rng(0), 8).any())
        True
    """
    kind = random.choice(len(_SHARES), p=_SHARES)
    places = np.arange(length)
    if kind == 1:
        return np.ones(length, dtype=bool)
    begun = int(random.integers(length))
    if kind == 2:
        return places >= begun
    if kind == 3:
        condensed = places % EVERY == 0
        return ~condensed if random.random() < 0.5 and length > 1 else ~condensed | (places >= begun)
    count = max(1, math.ceil(math.cos(math.pi / 2 * random.random()) * length))
    return random.permutation(length) < count
