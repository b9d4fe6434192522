"""Rows that are filled in at any position: what strategies that look both ways have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import kernels
from ..canvas import UNKNOWN, Step, pad
from ..errors import ArgumentTypeError, LogitsError, ShapeError, UnsupportedModel
from ..model.protocol import CausalModel, ParallelModel
from ..rules import Order
from .lengths import Length, Predicted, UntilEnd, lay_out
from .protocol import Request


class Filling:
    """The rows of one generation under way, each perhaps in several lengths, of which the best stays.

    Args:
        model: what predicts.
        request: the generation.
        length: how many unknown units rows get; None where they have them.
        traced: whether the probability of each unit that is found is wanted.

    Attributes:
        canvas: (lines, positions) int64, `UNKNOWN` where a unit is to be found.
        lengths: (lines,) int64, positions of each line; what lies behind is no part of it.
        logprobs: (lines, positions) float64 of the units that were found, when they were, if they are wanted.
        found: (lines, positions) bool.
    """

    def __init__(self, model: ParallelModel, request: Request, length: Length, *, traced: bool = False) -> None:
        if not isinstance(model, ParallelModel):
            raise UnsupportedModel(
                f"{type(model).__name__} has no predict(canvas, lengths) and cannot be asked for any position; "
                "Autoregressive decodes models that only look back"
            )
        self.model, self.request = model, request
        laid = lay_out(length, model, request)
        self.rows = np.array(laid.rows)
        self.scores = np.array(laid.logprobs)
        self.canvas, self.lengths = pad(laid.lines)
        self.found = np.zeros(self.canvas.shape, dtype=bool)
        self.rerank = length.rerank if isinstance(length, Predicted) else None
        self.beam = len(self.rows) > len(request.limits)
        self.told = request.logprobs is not None
        self.logprobs = np.zeros(self.canvas.shape) if traced or self.beam or self.told else None
        # END ends rows that may end; in one whose length was said it would be a unit like any other.
        self.ends = np.array(model.end_tokens if isinstance(length, UntilEnd) else (), dtype=np.int64)
        self.banned = list(model.end_tokens) if isinstance(length, Predicted) else []
        self.finished = [False] * len(request.limits)

    def unknown(self) -> np.ndarray:
        """Which positions are to be found, (lines, positions) bool."""
        return (self.canvas == UNKNOWN) & (np.arange(self.canvas.shape[1]) < self.lengths[:, None])

    def predict(self, lines: np.ndarray, model: ParallelModel | None = None) -> Tensor:
        """One forward over some lines: logits (lines, positions, vocab)."""
        started = perf_counter()
        model = self.model if model is None else model
        width = int(self.lengths[lines].max())
        canvas = self.canvas[lines, :width]
        logits = model.predict(canvas, self.lengths[lines])
        expected = (*canvas.shape, model.vocab_size)
        if not isinstance(logits, Tensor):
            raise ArgumentTypeError(f"the model returned {type(logits).__name__} as logits, expected a torch tensor")
        if tuple(logits.shape) != expected:
            raise ShapeError(f"the model returned logits of shape {tuple(logits.shape)}, expected {expected}")
        if self.banned:
            with torch.inference_mode():
                logits[..., self.banned] = -torch.inf
        stats = self.request.stats
        stats.forwards += 1
        stats.row_forwards += len(lines)
        stats.seconds["model"] += perf_counter() - started
        return logits

    def reveal(
        self, lines: np.ndarray, logits: Tensor, among: np.ndarray, *, select: Any, count: np.ndarray | None, step: int
    ) -> list[Step]:
        """Find some units of some lines, and say so.

        Args:
            lines: which.
            logits: of them.
            among: (lines, positions) bool, which unknown positions of all lines may be found.
            select, count: as `kernels.reveal` takes them.
            step: of the noise; a function of the strategy and of what the lines themselves went through, never of
                other rows.
        """
        started = perf_counter()
        request, rows = self.request, self.rows[lines]
        width = logits.shape[1]
        canvas, open_to = self.canvas[lines, :width], among[lines, :width]
        if isinstance(select, Order):
            select = Order(select.scores(self.canvas.shape)[lines, :width] * -1)
        result = kernels.reveal(
            logits, np.where(open_to, UNKNOWN, np.maximum(canvas, 0)), request.compiled, seeds=request.seeds[rows],
            rows=request.samples[rows], lengths=self.lengths[lines], step=step, select=select, count=count,
            threads=request.threads,
        )  # fmt: skip
        revealed = result.revealed
        self.canvas[lines, :width] = np.where(revealed, result.canvas, canvas)
        if self.logprobs is not None:
            self._note(lines, logits, revealed)
        steps = []
        for line, row, fresh, units, gaps in zip(
            lines.tolist(), rows.tolist(), revealed, result.canvas, result.gaps, strict=True
        ):
            (places,) = fresh.nonzero()
            tokens = units[places]
            if len(self.ends) and (ended := np.isin(tokens, self.ends)).any():
                self._end(line, int(places[ended].min()))
                places = places[places < self.lengths[line]]
                tokens = units[places]
            self.found[line, places] = True
            steps.append(
                Step(
                    row, tokens.tolist(), [], 0, "", gaps[places].tolist(), logprobs=self._logprobs(line, places),
                    positions=places.tolist(),
                )
            )  # fmt: skip
        request.stats.seconds["sample"] += perf_counter() - started
        return [] if self.beam else self._closed(steps)

    def _logprobs(self, line: int, places: np.ndarray) -> list[float] | None:
        return self.logprobs[line, places].tolist() if self.told and self.logprobs is not None else None

    def place(self, steps: Sequence[Step]) -> list[Step]:
        """Enter what another strategy found behind the known units of its rows."""
        for step in steps:
            assert step.positions is not None
            self.canvas[step.row, step.positions] = step.tokens
            self.found[step.row, step.positions] = True
        return self._closed(list(steps))

    def forget(self, places: np.ndarray) -> None:
        """Make units that were found unknown again: (lines, positions) bool `places`."""
        self.canvas[places] = UNKNOWN
        self.request.stats.tokens -= int((self.found & places).sum())
        self.found &= ~places

    def _note(self, lines: np.ndarray, logits: Tensor, revealed: np.ndarray) -> None:
        assert self.logprobs is not None
        line, place = revealed.nonzero()
        units = torch.from_numpy(self.canvas[lines[line], place]).to(logits.device)
        own = logits[torch.from_numpy(line), torch.from_numpy(place)].log_softmax(dim=-1)
        self.logprobs[lines[line], place] = own.gather(1, units[:, None])[:, 0].cpu().numpy()

    def _end(self, line: int, place: int) -> None:
        """Drop what lies behind an END, also what was found there before."""
        dropped = int(self.found[line, place + 1 :].sum())
        self.found[line, place + 1 :] = False
        self.canvas[line, place + 1 :] = 0
        self.lengths[line] = place + 1
        self.request.stats.tokens -= dropped

    def _closed(self, steps: list[Step]) -> list[Step]:
        """The steps, with the reason why a row ends where nothing of it is left to be found."""
        left: np.ndarray = self.unknown().sum(axis=1)
        for step in steps:
            if not left[step.row] and not self.finished[step.row]:
                self.finished[step.row] = True
                last = self.canvas[step.row, self.lengths[step.row] - 1]
                step.finish_reason = "end" if last in self.ends else "length"
        return steps

    def best(self) -> Iterator[Step]:
        """Of rows in several lengths, the one with the best score, all at once."""
        if not self.beam:
            return
        scores = self.scores + (self._means() if self.rerank is None else self._reranked(self.rerank))
        for row in range(len(self.request.limits)):
            lines = np.flatnonzero(self.rows == row)
            line = lines[scores[lines].argmax()]
            (places,) = self.found[line].nonzero()
            tokens = self.canvas[line, places].tolist()
            yield Step(
                row, tokens, [], 0, "", [np.inf] * len(tokens), logprobs=self._logprobs(int(line), places),
                positions=places.tolist(), finish_reason="length",
            )  # fmt: skip

    def _means(self) -> np.ndarray:
        assert self.logprobs is not None
        return np.where(self.found, self.logprobs, 0).sum(axis=1) / np.maximum(1, self.found.sum(axis=1))

    def _reranked(self, model: CausalModel) -> np.ndarray:
        """Mean log-probability of the found units under a model that looks back, one forward for all lines."""
        session = model.open(len(self.canvas), int(self.lengths.max()))
        logits = session.forward(self.canvas, self.lengths)
        self.request.stats.forwards += 1
        self.request.stats.row_forwards += len(self.canvas)
        if not bool(torch.isfinite(logits).any()):
            raise LogitsError("the model that reranks returned no finite logit")
        ids = torch.from_numpy(self.canvas[:, 1:]).to(logits.device)
        own = logits[:, :-1].log_softmax(dim=-1).gather(2, ids[..., None])[..., 0].cpu().numpy()
        found = self.found[:, 1:]
        return np.where(found, own, 0).sum(axis=1) / np.maximum(1, found.sum(axis=1))
