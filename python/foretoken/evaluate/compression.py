"""Bits per byte on whole documents: a language model, and what it should beat on the same text.

Every measure is of a code from which the documents could be restored: the models pay for each document's END, the
compressor for a zero byte in its place. The denominator is the documents' UTF-8 bytes alone.
"""

from __future__ import annotations

import lzma
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch.nn import functional as F

from ..canvas import pad
from ..codec.text import Text
from ..errors import InvalidArgument
from ..model.protocol import CausalModel
from .kneser_ney import KneserNey

DICTIONARY = 2**26
"""Bytes that `xz -9` looks back over."""

_LOGITS = 2**24  # numbers in the largest block of logits: 64 MB

Progress = Callable[[int, int], None]


def documents(codec: Text, texts: Sequence[str], end: int) -> list[np.ndarray]:
    """Texts as token ids, END before each and behind it."""
    encoded = codec.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    return [np.array([end, *text.ids, end], dtype=np.int64) for text in encoded]


def size(texts: Sequence[str]) -> int:
    """UTF-8 bytes of texts."""
    return sum(len(text.encode()) for text in texts)


def model_bits(
    model: CausalModel, sequences: Sequence[np.ndarray], *, window: int | None = None, progress: Progress | None = None
) -> float:
    """Bits a language model needs for every token but the first of each sequence.

    Windows overlap by half, and only the second half of each but the first is counted, so a token is predicted from
    at least half a window, or from all that stands before it.

    Args:
        model: a causal model.
        sequences: 1-D arrays of ids.
        window: tokens the model sees at once, even, in [2, context]; None for its context.
        progress: called with (windows done, windows).

    Raises:
        InvalidArgument: the window does not fit.
    """
    window = model.context // 2 * 2 if window is None else window
    if not 2 <= window <= model.context or window % 2:
        raise InvalidArgument(f"window must be even and in [2, {model.context}], got {window}")
    pieces = [piece for sequence in sequences for piece in _windows(sequence, window)]
    pieces.sort(key=lambda piece: -len(piece[0]))  # rows of one batch are about equally long
    rows = max(1, _LOGITS // (window * model.vocab_size))
    total = 0.0
    for start in range(0, len(pieces), rows):
        batch = pieces[start : start + rows]
        tokens, counts = pad([inputs for inputs, _, _ in batch])
        logits = model.open(len(batch), tokens.shape[1]).forward(tokens, counts)
        for row, (inputs, targets, first) in enumerate(batch):
            wanted = torch.from_numpy(targets[first:]).to(logits.device)
            nats = F.cross_entropy(logits[row, first : len(inputs)], wanted, reduction="none")
            total += float(nats.double().sum())
        if progress is not None:
            progress(start + len(batch), len(pieces))
    return total / math.log(2)


def _windows(sequence: np.ndarray, window: int) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """(inputs, targets, first place that counts) so that every token but the first counts once."""
    inputs, targets, counted = sequence[:-1], sequence[1:], 0
    for start in range(0, len(inputs), window // 2):
        end = min(start + window, len(inputs))
        yield inputs[start:end], targets[start:end], counted - start
        counted = end
        if end == len(inputs):
            return


def ngram_bits(
    train: Sequence[np.ndarray], held_out: Sequence[np.ndarray], *, vocab_size: int, order: int = 5
) -> float:
    """Bits of the same tokens under a Kneser–Ney model of the training documents."""
    model = KneserNey(train, vocab_size=vocab_size, order=order)
    return float(sum(model.bits(sequence).sum() for sequence in held_out))


def xz_bytes(texts: Sequence[str], *, after: Sequence[str] = ()) -> tuple[int, int]:
    """Bytes that texts add to what `xz -9e` makes of other texts before them.

    `xz` takes no dictionary, so what came before is compressed with and without the texts, and subtracted.

    Args:
        texts: what is measured.
        after: training texts; only as much as `DICTIONARY` still holds beside the texts, from their end.

    Returns:
        The bytes added, and the bytes of the training texts that were used.
    """
    ours = _join(texts)
    before = _join(after)[-max(1, DICTIONARY - len(ours)) :] if after else b""
    return _compressed(before + ours) - (_compressed(before) if before else 0), len(before)


def _join(texts: Sequence[str]) -> bytes:
    return b"".join(text.encode() + b"\0" for text in texts)


def _compressed(data: bytes) -> int:
    return len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))
