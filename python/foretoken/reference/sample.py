"""One token for each row of logits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import ArgumentTypeError, InvalidArgument, ShapeError
from .chance import Chance, NoiseChance, best
from .history import History, copies
from .logits import bound, chain, law, log_softmax, read, surprise_bits
from .noise import CHOICE, DRAFT, Place, place


class Choices(NamedTuple):
    """What `sample` chose.

    Args:
        tokens: (rows,) int64.
        gaps: (rows,) float64, the lead of each token's score over the next best; +inf when it was the only one.
        logprobs: (rows,) float64 of the raw row, or None.
        top_tokens: (rows, N) int64, the most probable tokens of the raw row, or None.
        top_logprobs: (rows, N) float64 in descending order, or None.
    """

    tokens: Tensor
    gaps: Tensor
    logprobs: Tensor | None
    top_tokens: Tensor | None
    top_logprobs: Tensor | None


def sample(
    logits: Tensor,
    sampler: Any,
    *,
    seeds: Iterable[int],
    positions: Iterable[int],
    rows: Iterable[int] | None = None,
    history: Sequence[Any] | None = None,
    logprobs: int | None = None,
    stream: int = CHOICE,
    commit: bool = True,
    chance: Chance | None = None,
) -> Choices:
    """Chooses one token for each row of logits, as `foretoken.kernels.sample` does.

    Args:
        logits: (rows, vocabulary) or (rows, 1, vocabulary) float32, contiguous, on any device.
        sampler: a compiled `Sampler`.
        seeds: (rows,) integers in 0..2^64.
        positions: (rows,) where in its text each new token stands, in 0..2^32.
        rows: (rows,) which sample of its prompt each row is; zeros unless given.
        history: the past of each row; empty unless given.
        logprobs: how many of the most probable tokens to report besides the chosen one, or None for no report.
        stream: which noise decides: CHOICE, or from DRAFT on, up to 2^31, for drafters under the ratio test.
        commit: whether the tokens are added to the histories.
        chance: who decides; the noise unless given.

    Raises:
        LogitsError: a row holds NaN, two +inf, or nothing that may be drawn.
        ShapeError, ArgumentTypeError, InvalidArgument: an argument is not as above.

    Example:
        >>> import foretoken as ft
        >>> greedy = ft.kernels.compile_sampler(ft.Sampler(temperature=0), vocab_size=3)
        >>> sample(torch.tensor([[0.0, 2.0, 1.5]]), greedy, seeds=[0], positions=[0])[:2]
        (tensor([1]), tensor([0.5000], dtype=torch.float64))
    """
    if isinstance(logits, Tensor) and logits.ndim == 3 and logits.shape[1] == 1:
        logits = logits[:, 0]
    check_logits(logits, sampler, rank=2)
    if stream != CHOICE and not DRAFT <= stream < 2**31:
        raise InvalidArgument(f"stream is {stream}: give {CHOICE} to choose, or a number in {DRAFT}..{2**31} to draft")
    where = place(seeds, positions, rows, count=len(logits), device=logits.device)
    chance = chance or NoiseChance()
    pasts = copies(history, count=len(logits))
    scores = chain(logits, sampler, pasts, where, chance, range(len(logits)))
    tokens, gaps = decide(scores, sampler, where, stream, chance)
    report = (None, None, None) if logprobs is None else describe(logits, tokens, logprobs)
    if history is not None and commit:
        for row, past in enumerate(pasts):
            advance(past, sampler, scores[row], int(tokens[row]))
        settle(history, pasts)
    return Choices(tokens, gaps, *report)


def process(
    logits: Tensor,
    sampler: Any,
    *,
    seeds: Iterable[int],
    positions: Iterable[int],
    rows: Iterable[int] | None = None,
    history: Sequence[Any] | None = None,
    chance: Chance | None = None,
) -> Tensor:
    """The law (rows, vocabulary) float64 that `sample` would draw from; arguments and errors are those of `sample`.

    Under XTC it is the law given whether XTC happens there, which noise has decided.
    """
    check_logits(logits, sampler, rank=2)
    where = place(seeds, positions, rows, count=len(logits), device=logits.device)
    pasts = copies(history, count=len(logits))
    return law(chain(logits, sampler, pasts, where, chance or NoiseChance(), range(len(logits))), sampler)


def decide(scores: Tensor, sampler: Any, where: Place, stream: int, chance: Chance) -> tuple[Tensor, Tensor]:
    """The token of each row of scores and its lead; the best one, without noise, at temperature 0."""
    return best(scores) if sampler.temperature == 0 else chance.choice(where, stream, scores)


def advance(past: History, sampler: Any, scores: Tensor, token: int) -> None:
    """Adds a token, drawn from these scores (vocabulary,), to a row's past, and moves Mirostat's bound."""
    if sampler.mirostat_tau > 0:
        error = float(surprise_bits(scores)[token]) - sampler.mirostat_tau
        past.mu = bound(past, sampler) - sampler.mirostat_eta * error
    past.extend([token])


def settle(history: Sequence[Any], pasts: Sequence[History]) -> None:
    """Adds to each history what its scratch copy has more; called once every row has succeeded."""
    for target, past in zip(history, pasts, strict=True):
        target.extend(past.tokens[len(target.tokens) :])
        if past.mu is not None:
            target.mu = past.mu


def describe(logits: Tensor, tokens: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Natural log probabilities under the raw rows: of the tokens, and the `count` most probable (ties: lowest id)."""
    if not 0 <= count <= logits.shape[-1]:
        raise InvalidArgument(f"logprobs is {count}: give None, or a number in 0..={logits.shape[-1]}")
    laws = log_softmax(read(logits, range(len(logits))))
    ordered = laws.sort(dim=-1, descending=True, stable=True)
    return laws.gather(-1, tokens[:, None])[:, 0], ordered.indices[:, :count], ordered.values[:, :count]


def check_logits(logits: Any, sampler: Any, *, rank: int) -> None:
    """Refuses what is not a contiguous float32 tensor of this rank with the sampler's vocabulary.

    Raises:
        ArgumentTypeError: not a tensor, not float32 or not contiguous.
        ShapeError: another rank or vocabulary.
    """
    if not isinstance(logits, Tensor):
        raise ArgumentTypeError(f"logits is a {type(logits).__name__}: give a torch tensor")
    if logits.dtype != torch.float32:
        raise ArgumentTypeError(f"logits is {logits.dtype}: convert it with .float()")
    if not logits.is_contiguous():
        raise ArgumentTypeError("logits is not contiguous: call .contiguous() first")
    if logits.ndim != rank:
        raise ShapeError(f"logits has {logits.ndim} dimensions, expected {rank}")
    if logits.shape[-1] != sampler.vocab_size:
        raise ShapeError(f"logits has {logits.shape[-1]} columns, expected the sampler's {sampler.vocab_size}")
