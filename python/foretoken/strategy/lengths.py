"""How many units an answer gets before they are filled in."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import kernels
from ..canvas import UNKNOWN, pad
from ..errors import ArgumentTypeError, InvalidArgument, LimitExceeded, UnsupportedModel
from ..model.protocol import CausalModel, LengthModel, ParallelModel
from .protocol import Request


@dataclasses.dataclass(frozen=True)
class Predicted:
    """The model says how long; the likeliest lengths are all tried, and the best answer stays (1711.02281, 1904.09324).

    A candidate's score is log P(length) plus its mean log-probability, or plus that under `rerank`. With one length the
    length is drawn like a unit, from its law, by the seed; at temperature 0 it is the likeliest.

    Args:
        beam: how many lengths, the likeliest, in [1, 64].
        rerank: a causal model over the same rows that scores the candidates in one forward, or None.
        longest: the most units of an answer where a model without a head for lengths is asked by its END: one forward
            over so many unknown units gives P(length = l) = p_END(l) · Π (1 - p_END). None where there is a head.

    Raises:
        InvalidArgument: a number is out of range.
        ArgumentTypeError: `rerank` is no causal model.
    """

    beam: int = 5
    rerank: CausalModel | None = None
    longest: int | None = None

    def __post_init__(self) -> None:
        if type(self.beam) is not int or not 1 <= self.beam <= 64:
            raise InvalidArgument(f"beam must be an integer in [1, 64], got {self.beam!r}")
        if self.longest is not None and (type(self.longest) is not int or self.longest < 1):
            raise InvalidArgument(f"longest must be an integer of at least 1, or None, got {self.longest!r}")
        if self.rerank is not None and not isinstance(self.rerank, CausalModel):
            raise ArgumentTypeError(f"rerank must be a causal model, got {type(self.rerank).__name__}")


@dataclasses.dataclass(frozen=True)
class UntilEnd:
    """A fixed number of units; END may come anywhere, and what follows the first one is dropped.

    Args:
        maximum: how many units, END among them, ≥ 1.

    Raises:
        InvalidArgument: `maximum` is no positive integer.
    """

    maximum: int

    def __post_init__(self) -> None:
        if type(self.maximum) is not int or self.maximum < 1:
            raise InvalidArgument(f"maximum must be an integer of at least 1, got {self.maximum!r}")


Length = Predicted | UntilEnd | None
"""None for rows whose unknown positions are there already."""


@dataclasses.dataclass
class Laid:
    """Rows laid out, each perhaps in several lengths.

    Attributes:
        lines: (units,) int64 each, `UNKNOWN` where one is to be found.
        rows: which output row each line is a candidate of, rising.
        logprobs: of each line's length; zeros where there was no choice.
    """

    lines: list[np.ndarray]
    rows: list[int]
    logprobs: list[float]


def lay_out(length: Length, model: ParallelModel, request: Request) -> Laid:
    """The lines that are to be filled in: unknown positions behind what each row has, as `length` says.

    Raises:
        InvalidArgument: there is nothing to fill in and no length, or a length where positions are given already.
        UnsupportedModel: the model does not say how long an answer is.
        LimitExceeded: an answer does not fit the context.
    """
    rows = [request.canvas.rows[i // request.n] for i in range(len(request.limits))]
    if isinstance(length, Predicted):
        return _predicted(length, model, request, rows)
    if length is None:
        if any((row != UNKNOWN).all() for row in rows):
            raise InvalidArgument(
                "a row has no unknown position, and the strategy no length: give it Predicted() or UntilEnd(n)"
            )
    else:
        if not model.end_tokens:
            raise UnsupportedModel("UntilEnd needs a model with END; this one has none: give positions to fill in")
        rows = [_grown(row, length.maximum, model) for row in rows]
    return Laid(rows, list(range(len(rows))), [0.0] * len(rows))


def _grown(row: np.ndarray, count: int, model: ParallelModel) -> np.ndarray:
    if len(row) + count > model.context:
        raise LimitExceeded(f"{len(row)} units and {count} to come do not fit the model's context of {model.context}")
    return np.pad(row, (0, count), constant_values=UNKNOWN)


def _predicted(length: Predicted, model: ParallelModel, request: Request, rows: list[np.ndarray]) -> Laid:
    laws = _laws(length, model, request, rows)
    room = request.limits
    laid = Laid([], [], [])
    if length.beam == 1:
        keys = {"seeds": request.seeds, "rows": request.samples, "positions": [0] * len(rows)}
        sampler = kernels.compile_sampler(request.sampler, vocab_size=laws.shape[1], end_tokens=[], min_tokens=0)
        drawn = kernels.sample(laws, sampler, stream=_STREAM, **keys).tokens.tolist()
        choices = [[count] for count in drawn]
    else:
        choices = laws.topk(min(length.beam, laws.shape[1]), dim=1).indices.tolist()
    for row, counts in enumerate(choices):
        for count in counts:
            if count <= room[row] and laws[row, count] > -torch.inf:
                laid.lines.append(_grown(rows[row], count, model))
                laid.rows.append(row)
                laid.logprobs.append(float(laws[row, count]))
        if not laid.rows or laid.rows[-1] != row:
            raise LimitExceeded(f"no likely length of row {row}, {counts}, fits the {room[row]} units that it may have")
    return laid


_STREAM = 4  # of the noise: a length is no unit of any position


def _laws(length: Predicted, model: Any, request: Request, rows: list[np.ndarray]) -> Tensor:
    """Log-probabilities (rows, longest + 1) of the lengths."""
    if length.longest is None:
        if not isinstance(model, LengthModel):
            raise UnsupportedModel(
                f"{type(model).__name__} has no predict_lengths; ask its END with Predicted(longest=…), or UntilEnd(n)"
            )
        return model.predict_lengths(*pad(rows)).contiguous()
    if not model.end_tokens:
        raise UnsupportedModel("Predicted(longest=…) asks a model's END, and this one has none")
    canvas, counts = pad([_grown(row, length.longest, model) for row in rows])
    logits = model.predict(canvas, counts)
    request.stats.forwards += 1
    request.stats.row_forwards += len(rows)
    starts = torch.tensor([len(row) for row in rows], device=logits.device)
    places = starts[:, None] + torch.arange(length.longest, device=logits.device)
    own = logits[torch.arange(len(rows), device=logits.device)[:, None], places]
    return posterior(own, model.end_tokens).contiguous()


def posterior(logits: Tensor, end_tokens: tuple[int, ...]) -> Tensor:
    """What END at every position says of the length: log P(l) = log p_END(l) + Σ log(1 - p_END) before it.

    Args:
        logits: (rows, positions, vocab) of one forward over unknown positions.
        end_tokens: ids of END.

    Returns:
        (rows, positions + 1) float32; the last is that of no END at all.

    Example:
        >>> posterior(torch.tensor([[[0.0, 0.0], [0.0, 0.0]]]), (1,)).exp()
        tensor([[0.5000, 0.2500, 0.2500]])
    """
    ends = logits.log_softmax(dim=-1)[..., list(end_tokens)].logsumexp(dim=-1).clamp(max=0)
    going_on = torch.log1p(-ends.exp().clamp(max=1)).cumsum(dim=1)
    before = torch.nn.functional.pad(going_on, (1, 0))
    return torch.cat((ends + before[:, :-1], before[:, -1:]), dim=1).float()
