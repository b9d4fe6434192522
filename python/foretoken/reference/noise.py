"""Noise that is a function of where it is used: (seed, position, row, stream, token) → uniform or Gumbel.

Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), and a logarithm of our own, so
that any machine draws the same bits. Every function here is elementwise and runs on any device.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Iterable

import torch
from torch import Tensor

from ..errors import ArgumentTypeError, InvalidArgument, ShapeError

CHOICE = 0  # a Gumbel for each token: the choice itself
ACCEPT = 1  # a uniform for each sibling: the ratio test
XTC = 2  # a uniform: whether XTC happens
RESIDUAL = 3  # a Gumbel for each token: what replaces a rejected token
DRAFT = 4  # a Gumbel for each token: what a drafter draws under the ratio test, as on all streams behind it
STREAMS = 5
LOWER = 1 << 31  # set in a stream's number where the lower halves of words are drawn

_WORD = 0xFFFFFFFF
_SQRT_HALF = 0.7071067811865476
_LN2_HI, _LN2_LO = 0.6931471803691238, 1.9082149292705877e-10  # the high part times any exponent is exact


@dataclasses.dataclass(frozen=True)
class Place:
    """Where noise is drawn: one (seed, position, row) for each row of a batch, all int64 tensors (rows,).

    Args:
        low: the low 32 bits of each seed.
        high: the high 32 bits.
        positions: in 0..2^32.
        rows: which sample of its prompt a row is, in 0..2^32; 0 unless one prompt is sampled several times.
    """

    low: Tensor
    high: Tensor
    positions: Tensor
    rows: Tensor

    def after(self, count: int) -> Place:
        """The same rows, `count` positions later."""
        return dataclasses.replace(self, positions=self.positions + count)

    def of(self, index: Tensor) -> Place:
        """Some of the rows, by index (n,) or mask (rows,)."""
        return Place(self.low[index], self.high[index], self.positions[index], self.rows[index])


def place(
    seeds: Iterable[int],
    positions: Iterable[int],
    rows: Iterable[int] | None,
    *,
    count: int,
    device: torch.device,
    places: int = 1,
) -> Place:
    """The place of each row of a batch, from integers of any kind.

    Args:
        seeds: (count,) in 0..2^64.
        positions: (count,) in 0..2^32 - places + 1.
        rows: (count,) in 0..2^32, or None for zeros.
        count: how many rows the batch has.
        device: where the noise will be drawn.
        places: how many positions a row may go on from its first.

    Raises:
        ShapeError: not one seed, position and row each.
        InvalidArgument: one is out of its range.
        ArgumentTypeError: one is no integer.

    Example:
        >>> place([7], [0], None, count=1, device=torch.device("cpu")).low
        tensor([7])
    """
    seeds = _within("seeds", seeds, count, 2**64)
    positions = _within("positions", positions, count, 2**32 - places + 1)
    rows = _within("rows", [0] * count if rows is None else rows, count, 2**32)
    parts = ([seed & _WORD for seed in seeds], [seed >> 32 for seed in seeds], positions, rows)
    return Place(*(torch.tensor(part, dtype=torch.int64, device=device) for part in parts))


def integers(name: str, values: Iterable[int], count: int) -> list[int]:
    """One Python integer for each row, from integers of any kind.

    Raises:
        ShapeError: not one for each row.
        ArgumentTypeError: one is no integer.
    """
    try:
        numbers = [operator.index(value) for value in values]
    except TypeError as error:
        raise ArgumentTypeError(f"{name} is not integers ({error}): give one for each row") from error
    if len(numbers) != count:
        raise ShapeError(f"{name} has {len(numbers)} entries, expected {count}: give one for each row")
    return numbers


def _within(name: str, values: Iterable[int], count: int, limit: int) -> list[int]:
    numbers = integers(name, values, count)
    for row, number in enumerate(numbers):
        if not 0 <= number < limit:
            raise InvalidArgument(f"{name}[{row}] is {number}: give one in 0..{limit}")
    return numbers


def philox(counter: tuple[Tensor, ...], key: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Philox4x32 with ten rounds: four words of noise for a counter of four words and a key of two.

    Args:
        counter: four int64 tensors of one broadcastable shape, values in 0..2^32.
        key: two of the same.

    Example:
        >>> zero = torch.zeros((), dtype=torch.int64)
        >>> [f"{int(word):08x}" for word in philox((zero,) * 4, (zero, zero))]
        ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    a, b, c, d = counter
    k, l = key  # noqa: E741
    for _ in range(10):
        # int64 products wrap around, yet all 64 bits are right: mask them instead of reading the sign.
        first, second = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = (
            ((second >> 32) & _WORD) ^ b ^ k,
            second & _WORD,
            ((first >> 32) & _WORD) ^ d ^ l,
            first & _WORD,
        )
        k, l = (k + 0x9E3779B9) & _WORD, (l + 0xBB67AE85) & _WORD  # noqa: E741
    return a, b, c, d


def words(where: Place, stream: int, vocabulary: int) -> Tensor:
    """One 32-bit word for each row and token, (rows, vocabulary) int64: two halves of 16 bits, drawn apart.

    One draw of Philox holds the upper halves of eight tokens. They alone decide whether a token can still win, so on
    the CPU the lower halves of nearly all are never drawn.
    """
    return (_halves(where, stream, vocabulary) << 16) | _halves(where, stream | LOWER, vocabulary)


def _halves(where: Place, stream: int, vocabulary: int) -> Tensor:
    """16 bits for each row and token: token 8b + w + 4h has half h (0: the lower) of word w of block b."""
    block = torch.arange((vocabulary + 7) // 8, device=where.positions.device)[None, :]
    columns = [part[:, None] for part in (where.positions, where.rows, where.low, where.high)]
    positions, rows, low, high = columns
    four = philox((block, positions, rows, torch.full_like(rows, stream)), (low, high))
    four = torch.stack([word.expand(len(positions), block.shape[1]) for word in four], dim=-1)
    return torch.cat([four & 0xFFFF, four >> 16], dim=-1).flatten(1)[:, :vocabulary]


def uniform(where: Place, stream: int, vocabulary: int = 1) -> Tensor:
    """Uniforms strictly between 0 and 1, (rows, vocabulary) float64; exact, on a grid of 2^-33."""
    return (words(where, stream, vocabulary).double() + 0.5) * 2.0**-32


def gumbel(where: Place, stream: int, vocabulary: int) -> Tensor:
    """Standard Gumbel noise, (rows, vocabulary) float64: argmax(ln p + gumbel) is distributed as p."""
    return -ln(-ln(uniform(where, stream, vocabulary)))


def ln(x: Tensor) -> Tensor:
    """The natural logarithm of positive normal float64 numbers, with the same bits on every machine.

    `torch.log` rounds differently on each device; additions, products and quotients do not. With m in
    [sqrt(1/2), sqrt(2)) and s = (m-1)/(m+1), ln m = 2s(1 + s²/3 + s⁴/5 + …); twelve terms reach 2^-53.
    """
    mantissa, exponent = torch.frexp(x)  # mantissa in [1/2, 1)
    low = mantissa < _SQRT_HALF
    m = torch.where(low, 2 * mantissa, mantissa)
    e = (exponent - low.to(exponent.dtype)).double()
    s = (m - 1) / (m + 1)
    z = s * s
    p = torch.full_like(z, 1 / 23)
    for i in range(10, -1, -1):
        p = p * z
        p = p + 1 / (2 * i + 1)
    return e * _LN2_HI + (2 * s * p + e * _LN2_LO)
