"""The laws that guesses were drawn from, of many drafts in one array."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import DraftError
from .protocol import Draft, Laws


def check_laws(draft: Draft, vocab: int) -> None:
    """Refuse laws of another shape than (k, vocab), or (k, m) twice; what they say is checked where they are used.

    Raises:
        DraftError: they are.
    """
    probs, k = draft.probs, len(draft.tokens)
    parts = list(probs) if isinstance(probs, tuple) else [probs]
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    shapes = [part.shape for part in arrays]
    if len(arrays) == len(parts):
        kinds = [part.dtype.kind for part in arrays]
        dense = not isinstance(probs, tuple) and (kinds, shapes) == (["f"], [(k, vocab)])
        pair = isinstance(probs, tuple) and kinds in (["i", "f"], ["u", "f"]) and shapes == [(k, *shapes[0][1:])] * 2
        if dense or (pair and len(shapes[0]) == 2):
            return
    given = shapes or [type(part).__name__ for part in parts]
    raise DraftError(
        f"a draft came with probs {given}, expected a float array {(k, vocab)}, or ids and floats {(k, 'm')}"
    )


def stack_laws(guesses: Sequence[tuple[Draft, int]], vocab: int) -> Laws | None:
    """The laws of some guesses, each a draft and an index into it; None if all were certain.

    They stay in sparse form if no draft gives a dense one.

    Raises:
        DraftError: a draft's laws have another shape than they must.
    """
    drafts = {id(draft): draft for draft, _ in guesses if draft.probs is not None}
    if not drafts:
        return None
    for draft in drafts.values():
        check_laws(draft, vocab)
    if any(not isinstance(draft.probs, tuple) for draft in drafts.values()):
        return _dense(guesses, vocab)
    width = max(draft.probs[0].shape[1] for draft in drafts.values())  # type: ignore[index]
    ids = np.full((len(guesses), max(1, width)), -1, dtype=np.int64)
    probs = np.zeros(ids.shape)
    for line, (draft, index) in enumerate(guesses):
        law = (draft.tokens[index], 1.0) if draft.probs is None else [part[index] for part in draft.probs]
        count = np.size(law[0])
        ids[line, :count], probs[line, :count] = law
    return ids, probs


def _dense(guesses: Sequence[tuple[Draft, int]], vocab: int) -> np.ndarray:
    probs = np.zeros((len(guesses), vocab))
    for line, (draft, index) in enumerate(guesses):
        if draft.probs is None:
            probs[line, draft.tokens[index]] = 1.0
        elif isinstance(draft.probs, tuple):
            ids, law = (part[index] for part in draft.probs)
            if not ((ids >= -1) & (ids < vocab)).all() or len(set(ids[ids >= 0].tolist())) < (ids >= 0).sum():
                raise DraftError(f"a draft's law names tokens {ids.tolist()}: give each id in [0, {vocab}) once")
            probs[line, ids[ids >= 0]] = law[ids >= 0]
        else:
            probs[line] = draft.probs[index]
    return probs
