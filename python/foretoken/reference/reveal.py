"""One masked step: which unknown positions become known, and what they become."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import InvalidArgument, ShapeError
from ..rules import EntropyBound, Margin, MaxProbability, Order, SampledConfidence, bound_of
from .chance import Chance, NoiseChance
from .history import History
from .logits import chain, log_softmax, softmax
from .noise import CHOICE, Place, gumbel, integers, ln, place
from .sample import check_logits, decide

MASKED = 1 << 30  # a token's noise at step s > 0 is of stream MASKED + 2s; that of the choice among positions one more
UNKNOWN = -1


class Confidences(NamedTuple):
    """What is known about unknown positions; all (rows, positions), as in `foretoken.kernels.Confidences`."""

    tokens: Tensor
    gaps: Tensor
    probabilities: Tensor
    entropies: Tensor
    largest: Tensor
    margins: Tensor


class Revealed(NamedTuple):
    """What a step changed; all (rows, positions), as in `foretoken.kernels.Revealed`."""

    canvas: Tensor
    revealed: Tensor
    scores: Tensor
    gaps: Tensor


def reveal(
    logits: Tensor,
    canvas: Tensor,
    sampler: Any,
    *,
    seeds: Iterable[int],
    step: int,
    select: Any,
    count: Any = None,
    least: Iterable[int] | None = None,
    most: Iterable[int] | None = None,
    lengths: Iterable[int] | None = None,
    positions: Iterable[int] | None = None,
    rows: Iterable[int] | None = None,
    chance: Chance | None = None,
) -> Revealed:
    """Reveals some unknown positions of each row, as `foretoken.kernels.reveal` does.

    Scores are worked out in another order than in Rust, so positions whose scores differ by less than 1e-9 may change
    places; tokens are the same.

    Args:
        logits: (rows, positions, vocabulary) float32, contiguous, on any device.
        canvas: (rows, positions) int64, -1 where a token is to be found.
        sampler: a compiled `Sampler`, without what asks for a past.
        seeds: (rows,) integers in 0..2^64.
        step: which step this is, in 0..2^28.
        select: a rule of `foretoken.rules`.
        count: anything but None turns the rule's bound off.
        least: (rows,) how many positions at least; 1 unless given.
        most: (rows,) how many at most; all unless given.
        lengths: (rows,) how many positions of each row take part; all unless given.
        positions: (rows,) where in its text each row begins; zeros unless given.
        rows: (rows,) which sample of its prompt each row is; zeros unless given.
        chance: who decides; the noise unless given.

    Raises:
        LogitsError: logits of an unknown position hold NaN, two +inf, or nothing that may be drawn.
        ShapeError, ArgumentTypeError, InvalidArgument: an argument is not as above.

    Example:
        >>> import foretoken as ft
        >>> greedy = ft.kernels.compile_sampler(ft.Sampler(temperature=0), vocab_size=3)
        >>> logits = torch.tensor([[[0.0, 2.0, 1.5], [9.0, 0.0, 0.0]]])
        >>> keys = dict(seeds=[7], step=0, select=EntropyBound(0.0))
        >>> reveal(logits, torch.tensor([[-1, -1]]), greedy, **keys).canvas
        tensor([[-1,  0]])
    """
    chance = chance or NoiseChance()
    view = View.of(logits, canvas, sampler, seeds, step, lengths, positions, rows, chance)
    nothing = torch.full(canvas.shape, torch.nan, dtype=torch.float64, device=canvas.device)
    drawn: Drawn | None = None
    if isinstance(select, Order):
        own = torch.as_tensor(select.scores((canvas.shape[0], canvas.shape[1])), device=canvas.device)[view.unknown]
    elif isinstance(select, SampledConfidence):
        drawn = view.draw(torch.ones_like(view.where.positions, dtype=torch.bool))
        own = view.probabilities(drawn.tokens)
        if select.temperature > 0:
            own = ln(own) + select.temperature * gumbel(view.where, MASKED + 2 * step + 1, 1)[:, 0]
    else:
        own = {EntropyBound: view.entropies, MaxProbability: view.largest, Margin: view.margins}[type(select)]()
        own = -own if isinstance(select, EntropyBound) else own
    scores = nothing.masked_scatter(view.unknown, own)
    order, inside = ordered(scores, view.unknown, select, bound_of(select) if count is None else None)
    number = how_many(inside, view.unknown, least, most)
    chosen = torch.zeros_like(view.unknown)
    chosen.scatter_(1, order, torch.arange(canvas.shape[1], device=canvas.device)[None, :] < number[:, None])
    new, gaps = canvas.clone(), torch.full_like(nothing, torch.inf)
    if drawn is None:
        drawn = view.draw(chosen[view.unknown])  # only what is revealed is ever drawn
        new[chosen], gaps[chosen] = drawn.tokens, drawn.gaps
    else:
        new[chosen], gaps[chosen] = (part[chosen[view.unknown]] for part in (drawn.tokens, drawn.gaps))
    return Revealed(new, chosen, scores, gaps)


def ordered(scores: Tensor, unknown: Tensor, select: Any, bound: float | None) -> tuple[Tensor, Tensor]:
    """Positions (rows, positions) by falling score, the unknown ones first; and how many (rows,) the bound lets in."""
    order = torch.where(unknown, scores, -torch.inf).sort(dim=1, descending=True, stable=True).indices
    known = ~unknown.gather(1, order)
    order = order.gather(1, known.sort(dim=1, stable=True).indices)
    values = scores.gather(1, order)
    if bound is None:
        inside = torch.ones_like(unknown)
    elif isinstance(select, EntropyBound):
        inside = -(values.cumsum(dim=1) - values) <= bound  # the sum without the last, which is the largest
    else:
        inside = values >= bound
    return order, (inside & unknown.gather(1, order)).sum(dim=1)


def how_many(inside: Tensor, unknown: Tensor, least: Any, most: Any) -> Tensor:
    """The numbers (rows,) of positions to reveal, between the bounds and at most all."""
    rows, places = unknown.shape

    def each(name: str, numbers: Any, otherwise: int) -> Tensor:
        given = integers(name, [otherwise] * rows if numbers is None else numbers, rows)
        if any(number < 0 for number in given):
            raise InvalidArgument(f"{name} is {min(given)}: give numbers of positions, 0 or more")
        return torch.tensor([min(number, places) for number in given], device=unknown.device, dtype=torch.int64)

    number = torch.minimum(torch.maximum(inside, each("least", least, 1)), each("most", most, places))
    return torch.minimum(number, unknown.sum(dim=1))


def confidences(
    logits: Tensor,
    canvas: Tensor,
    sampler: Any,
    *,
    seeds: Iterable[int],
    step: int,
    lengths: Iterable[int] | None = None,
    positions: Iterable[int] | None = None,
    rows: Iterable[int] | None = None,
    chance: Chance | None = None,
) -> Confidences:
    """A token for every unknown position, and how sure it is; arguments and errors are those of `reveal`."""
    view = View.of(logits, canvas, sampler, seeds, step, lengths, positions, rows, chance or NoiseChance())
    drawn = view.draw(torch.ones_like(view.where.positions, dtype=torch.bool))
    nothing = torch.full(canvas.shape, torch.nan, dtype=torch.float64, device=canvas.device)
    parts = (drawn.gaps, view.probabilities(drawn.tokens), view.entropies(), view.largest(), view.margins())
    tokens = canvas.masked_scatter(view.unknown, drawn.tokens)
    return Confidences(tokens, *(nothing.masked_scatter(view.unknown, part) for part in parts))


class Drawn(NamedTuple):
    """Tokens and their leads."""

    tokens: Tensor
    gaps: Tensor


@dataclasses.dataclass(frozen=True)
class View:
    """The laws of the unknown positions, row after row.

    Args:
        unknown: (rows, positions) bool.
        scores: (unknown, vocabulary) whose softmax is what rules look at.
        choices: the same that is drawn from; another at temperature 0.
        where: the noise of each.
        stream: which noise a token is drawn with.
        sampler: draws.
        chance: decides.
    """

    unknown: Tensor
    scores: Tensor
    choices: Tensor
    where: Place
    stream: int
    sampler: Any
    chance: Chance

    @classmethod
    def of(
        cls,
        logits: Tensor,
        canvas: Tensor,
        sampler: Any,
        seeds: Iterable[int],
        step: int,
        lengths: Iterable[int] | None,
        positions: Iterable[int] | None,
        rows: Iterable[int] | None,
        chance: Chance,
    ) -> View:
        """Checks arguments, and runs the sampler's chain where a token is to be found."""
        check_logits(logits, sampler, rank=3)
        count, places = canvas.shape if canvas.ndim == 2 else (-1, -1)
        if (count, places) != tuple(logits.shape[:2]):
            raise ShapeError(f"canvas has shape {tuple(canvas.shape)}, expected {tuple(logits.shape[:2])}")
        if (canvas < UNKNOWN).any():
            raise InvalidArgument(f"canvas is {int(canvas.min())}: give token ids, and -1 where one is to be found")
        if not 0 <= step < 1 << 28:
            raise InvalidArgument(f"step is {step}: give a step in 0..{1 << 28}")
        refuse_past(sampler)
        ends = integers("lengths", [places] * count if lengths is None else lengths, count)
        if any(not 0 <= end <= places for end in ends):
            raise InvalidArgument(f"lengths is {ends}: give at most the number of positions")
        start = [0] * count if positions is None else positions
        here = place(seeds, start, rows, count=count, device=logits.device, places=max(places, 1))
        limit = torch.tensor(ends, device=canvas.device, dtype=torch.int64)
        unknown = (canvas == UNKNOWN) & (torch.arange(places, device=canvas.device)[None, :] < limit[:, None])
        row, position = unknown.nonzero(as_tuple=True)
        where = here.of(row)
        where = dataclasses.replace(where, positions=where.positions + position)
        names = [f"{r}, position {p}," for r, p in zip(row.tolist(), position.tolist(), strict=True)]
        pasts = [History()] * len(names)
        some = logits[unknown]
        choices = chain(some, sampler, pasts, where, chance, names)
        scores = choices if sampler.temperature > 0 else chain(some, warm(sampler), pasts, where, chance, names)
        return cls(unknown, scores, choices, where, CHOICE if step == 0 else MASKED + 2 * step, sampler, chance)

    def draw(self, some: Tensor) -> Drawn:
        """Tokens of some of the unknown positions, by mask (unknown,)."""
        if not bool(some.any()):
            return Drawn(self.where.positions[some], self.scores[some, 0])
        where = self.where.of(some)
        return Drawn(*decide(self.choices[some], self.sampler, where, self.stream, self.chance))

    def probabilities(self, tokens: Tensor) -> Tensor:
        """Of one token each, (unknown,)."""
        return softmax(self.scores).gather(1, tokens[:, None])[:, 0]

    def entropies(self) -> Tensor:
        """In nats, (unknown,)."""
        p = softmax(self.scores)
        return torch.where(p > 0, -p * log_softmax(self.scores), 0.0).sum(dim=1)

    def largest(self) -> Tensor:
        """The largest probabilities, (unknown,)."""
        return softmax(self.scores).max(dim=1).values

    def margins(self) -> Tensor:
        """The largest probabilities less the second largest, (unknown,)."""
        two = torch.nn.functional.pad(softmax(self.scores), (0, 1)).topk(2, dim=1).values
        return two[:, 0] - two[:, 1]


def warm(sampler: Any) -> Any:
    """The same sampler at temperature 1."""
    names = [name for name in dir(sampler) if not name.startswith("_")]
    return SimpleNamespace(**{name: copy.copy(getattr(sampler, name)) for name in names} | {"temperature": 1.0})


def refuse_past(sampler: Any) -> None:
    """Refuses what depends on the order in which tokens were drawn.

    Raises:
        InvalidArgument: the sampler has such a part.
    """
    penalises = (sampler.repetition_penalty, sampler.presence_penalty, sampler.frequency_penalty) != (1, 0, 0)
    long = any(len(word) > 1 for word in sampler.bad_words)
    ends = sampler.min_tokens > 0 and len(sampler.end_tokens) > 0
    if penalises or long or ends or sampler.dry_multiplier > 0 or sampler.mirostat_tau > 0:
        raise InvalidArgument(
            "sampler and canvas contradict each other: what was drawn has no order in a canvas: turn penalties, DRY, "
            "Mirostat, bad words of several tokens and min_tokens off, or change the logits before"
        )
