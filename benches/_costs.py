"""What a row of units costs a Llama that makes them one after another: computed, and by a line through measurements."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from foretoken.model.llama_config import LlamaConfig, parameter_shapes

ONE_BILLION = LlamaConfig(
    vocab_size=128_256, hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32,
    num_key_value_heads=8, head_dim=64, max_position_embeddings=2**20, rms_norm_eps=1e-5, rope_theta=500_000.0,
    tie_word_embeddings=True, eos_token_id=(),
)  # fmt: skip
"""The shape of Llama 3.2 1B, for scale."""


@dataclasses.dataclass(frozen=True)
class Signal:
    """A signal as a row of units.

    Args:
        name: of the signal and of its units.
        units: how many.
        forwards: that make them; fewer where a layout fills several positions at once.
        symbols: what a unit may be.
    """

    name: str
    units: int
    forwards: int
    symbols: int


def signals() -> list[Signal]:
    """A picture, a second of film and a second of sound, by units from fine to coarse."""
    picture, film, samples = 1024 * 1024, 12 * 64 * 64, 16_000
    steps, books = 50, 4  # codes a second
    singles = {
        "picture 1024², bytes": (3 * picture, 2**8),
        "picture 1024², 24-bit pixels": (picture, 2**24),
        "picture 1024², patches 16²": (picture // 16**2, 1024),
        "film of 1 s, 24-bit pixels": (film, 2**24),
        "film of 1 s, patches 8²": (film // 8**2, 1024),
        "film of 1 s, tubelets 4 × 8²": (film // 8**2 // 4, 1024),
        "sound of 1 s, samples": (samples, 2**8),
        "sound of 1 s, codes": (steps * books, 1024),
    }
    found = [Signal(name, units, units, symbols) for name, (units, symbols) in singles.items()]
    # The delay layout: a step later for each book behind the first.
    return [*found, Signal("sound of 1 s, codes, delayed", steps * books, steps + books - 1, 1024)]


@dataclasses.dataclass(frozen=True)
class Costs:
    """Operations and bytes of a row; a multiplication and an addition are two operations."""

    weights: float
    attention: float
    cache: int
    cache_read: int

    @property
    def operations(self) -> float:
        """Of the whole row."""
        return self.weights + self.attention


def products(config: LlamaConfig) -> int:
    """The weights that a unit is multiplied with: every matrix, the head among them, but not the embedding."""
    ends = ("model.embed_tokens.weight", "lm_head.weight")
    inner = [shape for name, shape in parameter_shapes(config).items() if len(shape) == 2 and name not in ends]
    return sum(rows * columns for rows, columns in inner) + config.vocab_size * config.hidden_size


def costs(config: LlamaConfig, units: int, *, bytes_of_a_number: int) -> Costs:
    """Of a row that begins with nothing: its n-th unit is made by looking at n positions."""
    looks = units * (units + 1) // 2
    cached = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * bytes_of_a_number
    heads = config.num_hidden_layers * config.num_attention_heads * config.head_dim
    return Costs(2.0 * products(config) * units, 4.0 * heads * looks, cached * units, cached * looks)


@dataclasses.dataclass(frozen=True)
class Line:
    """Seconds of a unit by the positions that it looks at: what a forward takes anyway, and what each position adds."""

    start: float
    slope: float

    @staticmethod
    def through(seconds: Mapping[int, float]) -> Line:
        """The line with the least squares of errors in relation to what was measured; it never falls."""
        positions, taken = np.array(list(seconds), dtype=float), np.array(list(seconds.values()))
        rows = np.stack([1 / taken, positions / taken], axis=1)
        start, slope = np.linalg.lstsq(rows, np.ones(len(taken)), rcond=None)[0]
        return Line(float(start), float(slope)) if slope > 0 else Line(float(np.median(taken)), 0.0)

    def at(self, position: float) -> float:
        """Seconds of the unit that looks at so many positions."""
        return self.start + self.slope * position

    def between(self, first: int, last: int) -> float:
        """Seconds of the units behind `first` up to `last`."""
        return self.start * (last - first) + self.slope * (last * (last + 1) - first * (first + 1)) / 2
