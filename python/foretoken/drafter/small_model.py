"""A small model as the drafter: its own cache, and the target's noise, so that both tend to choose the same token."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import kernels
from ..canvas import pad
from ..errors import InvalidArgument, ShapeError, UnsupportedModel
from ..model.protocol import CausalModel, DraftingSession, Session
from .protocol import NOTHING, Draft, DraftRequest


class SmallModel:
    """Guesses what a smaller causal model with the same tokenizer would write (2211.17192, 2302.01318).

    Under `Coupled` it draws with the target's own noise, which keeps acceptance high at any temperature (2408.07978);
    under `Rejection` with noise of its own.

    Args:
        model: a causal model over the target's vocabulary.

    Raises:
        UnsupportedModel: it is no causal model.
        ShapeError: on opening, if the vocabularies differ.
    """

    def __init__(self, model: CausalModel) -> None:
        if not isinstance(model, CausalModel):
            kind = type(model).__name__
            raise UnsupportedModel(f"SmallModel needs a causal model, {kind} is none; of a pipeline pass .model")
        self.model = model

    @property
    def name(self) -> str:
        """What statistics and traces call it."""
        return "small model"

    def open(self, request: DraftRequest) -> ModelDrafting:
        """A session for one generation."""
        if self.model.vocab_size != request.model.vocab_size:
            raise ShapeError(
                f"the drafter has {self.model.vocab_size} ids, the target {request.model.vocab_size}; "
                "a small model must share the target's tokenizer"
            )
        return ModelDrafting(self.model, request)


class EarlyExit:
    """Guesses what the target's own first layers, under its own head, would write (LayerSkip, 2404.16710).

    Args:
        layers: how many of the first layers, ≥ 1.

    Raises:
        InvalidArgument: `layers` is no positive integer; on opening, if the target has fewer.
        UnsupportedModel: on opening, if the target cannot be cut.
    """

    def __init__(self, layers: int) -> None:
        if type(layers) is not int or layers < 1:
            raise InvalidArgument(f"layers must be a positive integer, got {layers!r}")
        self.layers = layers

    @property
    def name(self) -> str:
        """What statistics and traces call it."""
        return "early exit"

    def open(self, request: DraftRequest) -> ModelDrafting:
        """A session for one generation."""
        first = getattr(request.model, "first", None)
        if first is None:
            kind = type(request.model).__name__
            raise UnsupportedModel(f"EarlyExit needs a model with a method first(layers); {kind} has none")
        return ModelDrafting(first(self.layers), request)


class ModelDrafting:
    """A causal model drafting for some rows; its cache is opened with the first guess."""

    def __init__(self, model: CausalModel, request: DraftRequest) -> None:
        self._model, self._request = model, request
        self._capacity = min(request.capacity, model.context)
        self._session: Session | None = None
        self._at_once = False  # whether it draws a draft in one call
        self._order: list[int] = []  # row of each line of the cache
        self._unread: dict[int, list[int]] = {}
        self._read: dict[int, int] = {}  # units of a row that are in the cache and true
        self._guessed: dict[int, list[int]] = {}  # guesses that are in the cache, not known to be true

    def start(self, row: int, prompt: np.ndarray) -> None:
        """Begin a row that starts with these ids."""
        if self._session is not None:
            raise UnsupportedModel("rows of a model drafter start together, before its first guess")
        self._order.append(row)
        self._unread[row] = prompt.tolist()
        self._read[row] = 0
        self._guessed[row] = []

    def extend(self, row: int, tokens: Sequence[int]) -> None:
        """Tell what the row was continued with."""
        guessed = self._guessed[row]
        right = 0
        # The newest unit is read again even if it was guessed (by us, while another drafter was asked): what follows it
        # is what `propose` has to know.
        while right < min(len(guessed), len(tokens) - 1) and guessed[right] == tokens[right]:
            right += 1
        self._read[row] += right
        self._guessed[row] = []
        self._unread[row].extend(tokens[right:])

    def judge(self, row: int, draft: Draft, accepted: int) -> None:
        """A model has nothing to learn from it but what `extend` tells."""

    def stop(self, row: int) -> None:
        """Forget a row."""
        line = self._order.index(row)
        del self._order[line], self._unread[row], self._read[row], self._guessed[row]
        if self._session is not None and self._order:
            keep = np.arange(len(self._order) + 1, dtype=np.int64)
            self._session.select(np.delete(keep, line))

    def propose(self, rows: Sequence[int], k: int) -> list[Draft]:
        """Guess up to `k` ids for each of these rows, fewer where the context of the drafter ends."""
        order = self._order
        longest = max(self._read[row] + len(self._unread[row]) for row in order)
        k = min(k, self._capacity - longest)
        if k <= 0:
            return [NOTHING] * len(rows)
        if self._session is None:
            self._session = self._model.open(len(order), self._capacity)
            self._at_once = isinstance(self._session, DraftingSession)
        read = np.array([self._read[row] for row in order], dtype=np.int64)
        self._session.truncate(read)
        tokens, counts = pad([self._unread[row] for row in order])
        positions = read + counts
        guesses, probs = self._draw(self._session, tokens, counts, positions, k)
        drafts = {}
        for line, row in enumerate(order):
            self._read[row] = int(positions[line])
            self._unread[row] = []
            self._guessed[row] = guesses[line, :-1].tolist()  # the last guess was not read
            drafts[row] = Draft(guesses[line], None if probs is None else probs[line])
        return [drafts[row] for row in rows]

    def _draw(
        self, session: Session, tokens: np.ndarray, counts: np.ndarray, positions: np.ndarray, k: int
    ) -> tuple[np.ndarray, np.ndarray | None]:
        request, order = self._request, self._order
        lines = np.array(order)
        seeds, samples = request.seeds[lines], request.samples[lines]
        stream = next(request.streams) if request.rejection else 0
        if self._at_once:
            own = None if request.histories is None else [request.histories[row] for row in order]
            return session.draft(  # type: ignore[attr-defined]
                tokens, counts, k, request.sampler, seeds=seeds, rows=samples, history=own, stream=stream
            )
        logits = session.forward(tokens, counts, last=True)
        # Guesses enter copies of the histories: the target's own must only hold what was accepted.
        histories = None if request.histories is None else [request.histories[row].copy() for row in order]
        keys = {"seeds": seeds, "rows": samples, "history": histories}
        guesses = np.empty((len(order), k), dtype=np.int64)
        probs = np.empty((len(order), k, self._model.vocab_size)) if request.rejection else None
        for i in range(k):
            flat = logits[:, 0]
            if probs is not None:
                probs[:, i] = kernels.process(flat, request.sampler, positions=positions + i, **keys)
            guesses[:, i] = kernels.sample(flat, request.sampler, positions=positions + i, stream=stream, **keys).tokens
            if i + 1 < k:
                logits = session.forward(guesses[:, i : i + 1], last=True)
        return guesses, probs
