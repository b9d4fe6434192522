"""A 5-gram model of token ids, the yardstick a small language model has to beat: interpolated modified Kneser–Ney."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..errors import InvalidArgument

_FALLBACK = np.array([0.0, 0.5, 1.0, 1.5])  # discounts where too few counts are there to estimate them (KenLM's)


class KneserNey:
    """Interpolated Kneser–Ney with three discounts an order (Chen & Goodman 1999, §3.3).

    An n-gram is one integer, its last token in the lowest bits; each order is a sorted array of them, so a look-up is
    a binary search and 4 M tokens take 0.5 GB and seconds. The first token of a sequence (END, as a rule) is given
    and never predicted; an n-gram that starts a sequence has nothing before it, so there, as in the highest order, it
    counts as often as it occurs; elsewhere as often as another token stands before it.

    Args:
        sequences: 1-D arrays of ids in [0, vocab_size): whole documents, each behind END and closed by END.
        vocab_size: number of ids.
        order: longest n-gram, in [1, 64 // bits of an id].

    Raises:
        InvalidArgument: the order does not fit, an id is out of range, or nothing is there to learn.

    Example:
        >>> model = KneserNey([np.array([0, 1, 2, 1, 2, 0])], vocab_size=3, order=3)
        >>> round(float(model.law([1, 2]).sum()), 12)
        1.0
    """

    def __init__(self, sequences: Sequence[np.ndarray], *, vocab_size: int, order: int = 5) -> None:
        self.vocab_size, self.order, self._bits = vocab_size, order, max(1, (vocab_size - 1).bit_length())
        if not 1 <= order <= 64 // self._bits:
            raise InvalidArgument(f"order {order} does not fit: {vocab_size} ids allow [1, {64 // self._bits}]")
        sequences = [sequence for sequence in sequences if len(sequence) > 1]
        if not sequences:
            raise InvalidArgument("no sequence has a token to predict; give sequences of two tokens or more")
        flat = np.concatenate(sequences).astype(np.int64)
        if flat.min() < 0 or flat.max() >= vocab_size:
            raise InvalidArgument(f"ids lie in [{flat.min()}, {flat.max()}], the vocabulary is [0, {vocab_size})")
        lengths = np.array([len(sequence) for sequence in sequences])
        self._levels = self._count(flat.astype(np.uint64), lengths)

    def _count(self, flat: np.ndarray, lengths: np.ndarray) -> list[_Level]:
        """One level an order, the shortest n-grams first."""
        starts = np.cumsum(lengths) - lengths
        left = np.repeat(starts + lengths, lengths) - np.arange(len(flat))  # tokens up to the end of the sequence
        levels = []
        longer: np.ndarray | None = None
        for size in range(self.order, 0, -1):
            keys = self._grams(flat, size)
            if longer is None:
                inside = left[: len(keys)] >= size
                if size == 1:
                    inside[starts] = False
                seen = keys[inside]
                if not len(seen):  # no sequence is this long
                    continue
            else:
                # Distinct (size+1)-grams without their first token, and what starts a sequence.
                opening = keys[starts[lengths >= size]] if size > 1 else keys[:0]
                seen = np.concatenate((longer & self._mask(size), opening))
            grams, counts = np.unique(seen, return_counts=True)
            levels.append(_level(grams, counts, grams >> np.uint64(self._bits)))
            longer = grams
        return levels[::-1]

    def _grams(self, flat: np.ndarray, size: int) -> np.ndarray:
        """The n-gram that starts at each place, as one integer; the last places have none."""
        keys = np.zeros(max(0, len(flat) - size + 1), dtype=np.uint64)
        for place in range(size):
            keys = keys << np.uint64(self._bits) | flat[place : place + len(keys)]
        return keys

    def _mask(self, size: int) -> np.uint64:
        return np.uint64((1 << self._bits * size) - 1)

    def bits(self, sequence: np.ndarray) -> np.ndarray:
        """−log2 p of every token of a sequence but the first, given those before it, (length − 1,) float64."""
        flat = np.asarray(sequence).astype(np.uint64)
        p = np.full(len(flat) - 1, 1.0 / self.vocab_size)
        for size, level in enumerate(self._levels, start=1):
            first = max(1, size - 1)  # the first predicted token that has a history this long
            keys = self._grams(flat, size)[first - size + 1 :]
            p[first - 1 :] = level.interpolate(keys, keys >> np.uint64(self._bits), p[first - 1 :])
        return -np.log2(p)

    def law(self, context: Sequence[int]) -> np.ndarray:
        """Probability of every id after a context, which starts a sequence if it is short, (vocab_size,) float64."""
        p = np.full(self.vocab_size, 1.0 / self.vocab_size)
        tokens = np.arange(self.vocab_size, dtype=np.uint64)
        for size, level in enumerate(self._levels[: len(context) + 1], start=1):
            past = np.uint64(0)
            for token in context[len(context) - size + 1 :]:
                past = past << np.uint64(self._bits) | np.uint64(token)
            p = level.interpolate(past << np.uint64(self._bits) | tokens, np.full_like(tokens, past), p)
        return p


class _Level(NamedTuple):
    """The n-grams of one order: what each keeps of its probability, and what each context hands down."""

    grams: np.ndarray  # sorted
    kept: np.ndarray  # (count − discount) / total of the context
    contexts: np.ndarray  # sorted
    handed: np.ndarray  # Σ discounts / total

    def interpolate(self, grams: np.ndarray, contexts: np.ndarray, lower: np.ndarray) -> np.ndarray:
        """p of each n-gram from that of the one a token shorter; a context never seen says nothing."""
        where, known = _find(self.contexts, contexts)
        at, seen = _find(self.grams, grams)
        return np.where(known, np.where(seen, self.kept[at], 0.0) + self.handed[where] * lower, lower)


def _find(ordered: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    at = np.minimum(np.searchsorted(ordered, wanted), len(ordered) - 1)
    return at, ordered[at] == wanted


def _level(grams: np.ndarray, counts: np.ndarray, contexts: np.ndarray) -> _Level:
    starts = np.flatnonzero(np.concatenate(([True], contexts[1:] != contexts[:-1])))
    totals = np.add.reduceat(counts, starts).astype(np.float64)
    discounts = _discounts(counts)[np.minimum(counts, 3)]
    sizes = np.diff(starts, append=len(grams))
    kept = (counts - discounts) / np.repeat(totals, sizes)
    return _Level(grams, kept, contexts[starts], np.add.reduceat(discounts, starts) / totals)


def _discounts(counts: np.ndarray) -> np.ndarray:
    """What is taken off n-grams that count 0, 1, 2, 3 or more, from how many count 1, 2, 3 and 4 (eq. 17)."""
    n = np.bincount(np.minimum(counts, 5), minlength=6)
    if (n[1:5] == 0).any():
        return _FALLBACK
    share = n[1] / (n[1] + 2 * n[2])
    found = np.array([0.0] + [i - (i + 1) * share * n[i + 1] / n[i] for i in (1, 2, 3)])
    return found if ((found >= 0) & (found <= np.arange(4))).all() else _FALLBACK
