"""A model that predicts all unknown units at once, as a drafter: the places behind the text are what is unknown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import kernels
from ..canvas import UNKNOWN
from ..errors import InvalidArgument, ShapeError, UnsupportedModel
from ..model.protocol import ParallelModel
from .protocol import NOTHING, Draft, DraftRequest


class MaskedDrafter:
    """Guesses what a masked model of the same units puts behind the last known ones, all places in one pass.

    Each place is drawn as if the others were not: with the target's own noise under `Coupled`, with noise of its own
    under `Rejection`. Whatever the target has seen, the model sees the last units alone, and needs no cache.

    Args:
        model: a parallel model whose first ids are the target's.
        reach: how many of the last units it is given, ≥ 1.

    Raises:
        UnsupportedModel: it is no parallel model.
        InvalidArgument: `reach` is no positive integer.
        ShapeError: on opening, if it has fewer ids than the target, or its context has no room for a guess.
    """

    def __init__(self, model: ParallelModel, *, reach: int = 32) -> None:
        if not isinstance(model, ParallelModel):
            raise UnsupportedModel(
                f"MaskedDrafter needs a model with predict(canvas, lengths), {type(model).__name__} is none"
            )
        if type(reach) is not int or reach < 1:
            raise InvalidArgument(f"reach must be a positive integer, got {reach!r}")
        self.model, self.reach = model, reach

    @property
    def name(self) -> str:
        """What statistics and traces call it."""
        return "masked"

    def open(self, request: DraftRequest) -> MaskedDrafting:
        """A session for one generation."""
        if self.model.vocab_size < request.model.vocab_size or self.model.context <= self.reach:
            raise ShapeError(
                f"the drafter has {self.model.vocab_size} ids and a context of {self.model.context}; the target has "
                f"{request.model.vocab_size} ids, and {self.reach} units are looked back at"
            )
        return MaskedDrafting(self.model, request, self.reach)


class MaskedDrafting:
    """A parallel model drafting for some rows; it remembers the last units of each, and nothing else."""

    def __init__(self, model: ParallelModel, request: DraftRequest, reach: int) -> None:
        self._model, self._request, self._reach = model, request, reach
        self._last: dict[int, list[int]] = {}
        self._length: dict[int, int] = {}

    def start(self, row: int, prompt: np.ndarray) -> None:
        """Begin a row that starts with these ids."""
        self._last[row], self._length[row] = prompt[-self._reach :].tolist(), len(prompt)

    def extend(self, row: int, tokens: Sequence[int]) -> None:
        """Tell what the row was continued with."""
        self._last[row] = (self._last[row] + list(tokens))[-self._reach :]
        self._length[row] += len(tokens)

    def judge(self, row: int, draft: Draft, accepted: int) -> None:
        """A model has nothing to learn from it but what `extend` tells."""

    def stop(self, row: int) -> None:
        """Forget a row."""
        del self._last[row], self._length[row]

    def propose(self, rows: Sequence[int], k: int) -> list[Draft]:
        """Guess up to `k` ids for each of these rows."""
        k = min(k, self._model.context - self._reach)
        if k <= 0 or not rows:
            return [NOTHING] * len(rows)
        known = np.array([len(self._last[row]) for row in rows])
        canvas = np.full((len(rows), known.max() + k), UNKNOWN, dtype=np.int64)
        for line, row in enumerate(rows):
            canvas[line, : known[line]] = self._last[row]
        logits = self._model.predict(canvas, known + k).cpu().numpy()
        places = known[:, None] + np.arange(k)
        laws = logits[np.arange(len(rows))[:, None], places, : self._request.model.vocab_size]  # (rows, k, vocab)
        return self._draw(laws, rows, k)

    def _draw(self, laws: np.ndarray, rows: Sequence[int], k: int) -> list[Draft]:
        request, lines = self._request, np.array(rows)
        stream = next(request.streams) if request.rejection else 0
        # Guesses enter copies of the histories: the target's own must only hold what was accepted.
        histories = None if request.histories is None else [request.histories[row].copy() for row in rows]
        lengths = np.array([self._length[row] for row in rows])
        keys = {"seeds": request.seeds[lines], "rows": request.samples[lines], "history": histories}
        tokens = np.empty((len(rows), k), dtype=np.int64)
        probs = np.empty(laws.shape) if request.rejection else None
        for place in range(k):
            law = np.ascontiguousarray(laws[:, place])
            if probs is not None:
                probs[:, place] = kernels.process(law, request.sampler, positions=lengths + place, **keys)
            chosen = kernels.sample(law, request.sampler, positions=lengths + place, stream=stream, **keys)
            tokens[:, place] = chosen.tokens
        return [Draft(line, None if probs is None else probs[i]) for i, line in enumerate(tokens)]
