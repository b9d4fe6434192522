"""One masked step: which unknown positions become known, and what they become."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch

from .. import _rust
from ..errors import ArgumentTypeError, InvalidArgument, ShapeError
from ..rules import EntropyBound, Margin, MaxProbability, Order, SampledConfidence, bound_of
from .arrays import Array, Integers, borrow, to_float32, wholes


class Confidences(NamedTuple):
    """What `confidences` found; all (rows, positions), float64 but for the tokens, and NaN where a token is known.

    Args:
        tokens: int64, the token that would be revealed; the canvas' own where it is known.
        gaps: the lead of that choice over the next best.
        probabilities: of the token.
        entropies: of the law, in nats.
        largest: the largest probability.
        margins: the largest probability less the second largest.
    """

    tokens: np.ndarray
    gaps: np.ndarray
    probabilities: np.ndarray
    entropies: np.ndarray
    largest: np.ndarray
    margins: np.ndarray


class Revealed(NamedTuple):
    """What `reveal` changed; all (rows, positions).

    Args:
        canvas: int64, the new canvas.
        revealed: bool, whether a position became known.
        scores: float64, what unknown positions were ordered by, the highest first; NaN elsewhere.
        gaps: float64, the lead of each choice over the next best; +inf where nothing was revealed, or nothing competed.
    """

    canvas: np.ndarray
    revealed: np.ndarray
    scores: np.ndarray
    gaps: np.ndarray


Rule: TypeAlias = (
    EntropyBound | MaxProbability | Margin | SampledConfidence | Order | Callable[[Confidences], Any]
)  # the last is a rule of the caller's own

_NUMBERS = {EntropyBound: 0, MaxProbability: 1, Margin: 2, SampledConfidence: 3}


def reveal(
    logits: Array,
    canvas: Array,
    sampler: _rust.Sampler,
    *,
    seeds: Integers,
    step: int,
    select: Rule = EntropyBound(),  # noqa: B008 (frozen)
    count: int | Integers | None = None,
    least: int | Integers = 1,
    most: int | Integers | None = None,
    lengths: Integers | None = None,
    positions: Integers | None = None,
    rows: Integers | None = None,
    threads: int = 1,
) -> Revealed:
    """Reveal some unknown positions of each row; known tokens stay, and their logits are not read.

    The token of a position is the argmax of processed logits plus noise keyed by (seed, row, position, token, step); at
    step 0 it is what `sample` would choose. A rule that looks at laws alone keeps the law of what is revealed, whether
    each step has its own number or all have 0. One that looks at draws needs its own for each: noise for which a
    position was passed over is not noise any more.

    At temperature 0 the best token is taken, and rules look at the law of temperature 1.

    Args:
        logits: (rows, positions, vocabulary) float32, of one forward over the canvas.
        canvas: (rows, positions) int64, -1 where a token is to be found.
        sampler: what `compile_sampler` returns, without what asks for a past: penalties, DRY, Mirostat, bad words of
            several tokens, `min_tokens`. What XTC decides at a position holds for all steps.
        seeds: (rows,) integers in 0..2^64.
        step: which step this is, in 0..2^28.
        select: the rule that says which positions come first; among equals the lower one. A function of yours gets
            `Confidences` and returns scores (rows, positions), the highest are revealed.
        count: how many each row reveals, or all it has; a number, or (rows,). None leaves it to the rule's bound.
        least: how many at least where the bound decides.
        most: how many at most where the bound decides, which counts more than `least`; no limit unless given.
        lengths: (rows,) how many positions of each row take part, all unless given.
        positions: (rows,) where in its text each row of the canvas begins, in 0..2^32; zeros unless given.
        rows: (rows,) which sample of its prompt each row is; zeros unless given.
        threads: over how many the positions are spread, ≥ 1; ignored for logits on another device.

    Raises:
        LogitsError: logits that were looked at hold NaN, two +inf, or nothing that may be drawn.
        ShapeError, ArgumentTypeError, InvalidArgument: an argument is not as above.

    Example:
        >>> from foretoken.kernels import compile_sampler
        >>> from foretoken.sampler import Sampler
        >>> greedy = compile_sampler(Sampler(temperature=0), vocab_size=3)
        >>> logits = torch.tensor([[[0.0, 2.0, 1.5], [9.0, 0.0, 0.0], [0.0, 0.0, 4.0], [5.0, 5.0, 0.0]]])
        >>> canvas = np.array([[-1, -1, -1, 2]])
        >>> reveal(logits, canvas, greedy, seeds=[7], step=0, count=1).canvas
        array([[-1,  0, -1,  2]])
        >>> reveal(logits, canvas, greedy, seeds=[7], step=0, select=EntropyBound(0.1)).canvas
        array([[-1,  0,  2,  2]])
        >>> reveal(logits, canvas, greedy, seeds=[7], step=0, select=Order([0, 1, 2, 3]), count=2).revealed
        array([[ True,  True, False, False]])
        >>> reveal(logits, canvas, greedy, seeds=[7], step=0, select=lambda found: found.entropies, count=1).canvas
        array([[ 1, -1, -1,  2]])
    """
    tokens = wholes("canvas", canvas)
    count_rows, places = _shape(tokens)
    least, most = _counts(select, count, least, most, count_rows, places)
    own = callable(select)
    keys: dict[str, Any] = {"seeds": seeds, "step": step, "lengths": lengths, "positions": positions, "rows": rows}
    if own:
        found = confidences(logits, tokens, sampler, **keys, threads=threads)
        scores = _scores(select(found), tokens.shape)
        revealed = _rust.choose(tokens, lengths, scores, least, most)
        shown = np.where(np.isnan(found.gaps), np.nan, scores)
        return Revealed(
            np.where(revealed, found.tokens, tokens), revealed, shown, np.where(revealed, found.gaps, np.inf)
        )
    array = borrow(logits)
    if array is None:
        from ..reference.reveal import reveal as twin

        assert isinstance(logits, torch.Tensor)
        there = torch.as_tensor(tokens, device=logits.device)
        keys |= {"least": least, "most": most}
        result = twin(to_float32(logits), there, sampler, **keys, select=select, count=count)
        return Revealed(*(part.cpu().numpy() for part in result))
    scores = select.scores(tokens.shape) if isinstance(select, Order) else None
    temperature = select.temperature if isinstance(select, SampledConfidence) else 0.0
    bound = bound_of(select) if count is None else None
    start = [0] * count_rows if positions is None else positions
    return Revealed(
        *_rust.reveal(
            array, tokens, sampler, seeds, start, rows, lengths, step, _NUMBERS.get(type(select), -1), bound,
            temperature, scores, least, most, threads,
        )
    )  # fmt: skip


def confidences(
    logits: Array,
    canvas: Array,
    sampler: _rust.Sampler,
    *,
    seeds: Integers,
    step: int,
    lengths: Integers | None = None,
    positions: Integers | None = None,
    rows: Integers | None = None,
    threads: int = 1,
) -> Confidences:
    """Draw a token for every unknown position and say how sure it is; arguments and errors are those of `reveal`.

    Example:
        >>> from foretoken.kernels import compile_sampler
        >>> from foretoken.sampler import Sampler
        >>> greedy = compile_sampler(Sampler(temperature=0), vocab_size=3)
        >>> found = confidences(torch.zeros(1, 2, 3), np.array([[-1, 5]]), greedy, seeds=[7], step=0)
        >>> found.tokens, found.largest.round(3)
        (array([[0, 5]]), array([[0.333,   nan]]))
    """
    tokens = wholes("canvas", canvas)
    count_rows, _ = _shape(tokens)
    array = borrow(logits)
    if array is None:
        from ..reference.reveal import confidences as twin

        assert isinstance(logits, torch.Tensor)
        there = torch.as_tensor(tokens, device=logits.device)
        keys: dict[str, Any] = {"seeds": seeds, "step": step, "lengths": lengths, "positions": positions, "rows": rows}
        return Confidences(*(part.cpu().numpy() for part in twin(to_float32(logits), there, sampler, **keys)))
    start = [0] * count_rows if positions is None else positions
    return Confidences(*_rust.confidences(array, tokens, sampler, seeds, start, rows, lengths, step, threads))


def _shape(tokens: np.ndarray) -> tuple[int, int]:
    if tokens.ndim != 2:
        raise ShapeError(f"canvas has {tokens.ndim} dimensions, expected 2")
    return tokens.shape[0], tokens.shape[1]


def _counts(select: Any, count: Any, least: Any, most: Any, rows: int, places: int) -> tuple[Any, Any]:
    """How many at least and at most, for each row."""
    if not (callable(select) or isinstance(select, (*_NUMBERS, Order))):
        raise ArgumentTypeError(f"select is a {type(select).__name__}: give a rule, or a function from Confidences")
    if count is None and bound_of(select) is None:
        raise InvalidArgument(f"{select} does not say how many positions to reveal: give a count")
    if count is not None:
        exactly = each_row("count", count, rows)
        return exactly, exactly
    most = places if most is None else most
    return each_row("least", least, rows), each_row("most", most, rows)


def each_row(name: str, number: Any, rows: int) -> Any:
    """The same number for every row, unless there is one for each.

    Example:
        >>> each_row("count", 3, 2)
        [3, 3]
    """
    if isinstance(number, (bool, float)):
        raise ArgumentTypeError(f"{name} is {number!r}: give an integer, or one for each row")
    return [int(number)] * rows if isinstance(number, (int, np.integer)) else number


def _scores(scores: Any, shape: tuple[int, ...]) -> np.ndarray:
    """What a rule of the caller's returned, as the core takes it."""
    found = scores.detach().cpu().numpy() if isinstance(scores, torch.Tensor) else np.asarray(scores)
    if found.dtype.kind not in "iufb":
        raise ArgumentTypeError(f"the rule returned {found.dtype}: return scores (rows, positions) of float64")
    if found.shape != shape:
        raise ShapeError(f"the rule returned scores of shape {found.shape}, expected {shape}")
    return np.ascontiguousarray(found, dtype=np.float64)
