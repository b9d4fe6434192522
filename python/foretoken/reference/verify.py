"""A block of drafted tokens against the model's rows: which of them plain decoding would have drawn, and what follows.

`Coupled` (rejection=False): every position has its noise, so the token plain decoding would draw there is known; a
drafted token is accepted if it is that token. `Rejection` is speculative sampling: Leviathan et al., 2211.17192.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import ArgumentTypeError, DraftError, ShapeError
from .chance import Chance, NoiseChance
from .history import copies
from .logits import chain, keep, law
from .noise import ACCEPT, CHOICE, RESIDUAL, Place, integers, place
from .sample import advance, check_logits, decide, describe, settle

_TOLERANCE = 1e-6  # how far a drafter's probabilities may sum from one


class Verified(NamedTuple):
    """What `verify` emitted; row r holds accepted[r] + 1 tokens, then padding.

    Args:
        tokens: (rows, k+1) int64, padded with -1.
        accepted: (rows,) int64, how many drafted tokens each row accepted.
        gaps: (rows, k+1) float64, the lead of each token's score over the next best; +inf where nothing competed.
        logprobs: (rows, k+1) float64 of the raw rows, or None.
        top_tokens: (rows, k+1, N) int64, the most probable tokens of the raw rows, or None.
        top_logprobs: (rows, k+1, N) float64 in descending order, or None.
    """

    tokens: Tensor
    accepted: Tensor
    gaps: Tensor
    logprobs: Tensor | None
    top_tokens: Tensor | None
    top_logprobs: Tensor | None


def verify(
    logits: Tensor,
    draft: Tensor | np.ndarray,
    sampler: Any,
    *,
    seeds: Iterable[int],
    positions: Iterable[int],
    lengths: Iterable[int] | None = None,
    rows: Iterable[int] | None = None,
    rejection: bool = False,
    draft_probs: Tensor | np.ndarray | None = None,
    history: Sequence[Any] | None = None,
    logprobs: int | None = None,
    chance: Chance | None = None,
) -> Verified:
    """Emits the accepted part of each row's draft and one token more, as `foretoken.kernels.verify` does.

    Args:
        logits: (rows, k+1, vocabulary) float32; row i follows the text and the first i drafted tokens.
        draft: (rows, k) int64 drafted tokens, here or on any device.
        sampler: a compiled `Sampler`; it sees each accepted token before it judges the next.
        seeds: (rows,) integers in 0..2^64.
        positions: (rows,) of the first new token, in 0..2^32.
        lengths: (rows,) how many tokens each row drafted, in 0..=k; k unless given.
        rows: (rows,) which sample of its prompt each row is; zeros unless given.
        rejection: the ratio test instead of equality with the coupled choice.
        draft_probs: (rows, k, vocabulary) float64, what the drafted tokens were drawn from; certain unless given.
        history: the past of each row; empty unless given.
        logprobs: how many of the most probable tokens to report besides the chosen one, or None for no report.
        chance: who decides; the noise unless given.

    Raises:
        DraftError: a drafted token is outside the vocabulary, or draft_probs are no law that could have drawn it.
        LogitsError: a row that is reached holds NaN, two +inf, or nothing that may be drawn.
        ShapeError, ArgumentTypeError, InvalidArgument: an argument is not as above.
    """
    check_logits(logits, sampler, rank=3)
    count, most = len(logits), logits.shape[1] - 1
    draft = _tensor("draft", draft, torch.int64, (count, most), logits.device)
    if draft_probs is not None:
        shape = (count, most, logits.shape[-1])
        draft_probs = _tensor("draft_probs", draft_probs, torch.float64, shape, logits.device)
    limits = _check_draft(draft, lengths, draft_probs if rejection else None, logits.shape[-1])
    where = place(seeds, positions, rows, count=count, places=most + 1, device=logits.device)
    chance = chance or NoiseChance()
    pasts = copies(history, count=count)
    tokens = torch.full((count, most + 1), -1, dtype=torch.int64, device=logits.device)
    gaps = torch.full((count, most + 1), torch.inf, dtype=torch.float64, device=logits.device)

    going = torch.arange(count, device=logits.device)  # the rows whose drafted tokens were all accepted so far
    for i in range(most + 1):
        names = going.tolist()
        if not names:
            break
        here = where.of(going).after(i)
        scores = chain(logits[going, i], sampler, [pasts[row] for row in names], here, chance, names)
        drafted = limits[going] > i
        guess = draft[going, i] if i < most else torch.full_like(going, -1)
        if rejection:
            q = None if draft_probs is None or i == most else draft_probs[going, i]
            chosen, lead = _ratio_test(scores, sampler, here, chance, drafted, guess, q)
        else:
            chosen, lead = decide(scores, sampler, here, CHOICE, chance)
        tokens[going, i], gaps[going, i] = chosen, lead
        for row, past_scores, token in zip(names, scores, chosen.tolist(), strict=True):
            advance(pasts[row], sampler, past_scores, token)
        # Under the ratio test a rejected token has residual mass 0, so equality means accepted there too.
        going = going[drafted & (chosen == guess)]

    accepted = (tokens >= 0).sum(dim=-1) - 1
    report = (None, None, None) if logprobs is None else _describe(logits, tokens, logprobs)
    if history is not None:
        settle(history, pasts)
    return Verified(tokens, accepted, gaps, *report)


def _ratio_test(
    scores: Tensor, sampler: Any, where: Place, chance: Chance, drafted: Tensor, guess: Tensor, q: Tensor | None
) -> tuple[Tensor, Tensor]:
    """One place of Algorithm 1 of 2211.17192 for a batch of rows: (tokens, gaps).

    Keeps a guess with probability min(1, p/q), else draws from max(p - q, 0); where nothing was drafted draws from p.
    """
    tokens, gaps = guess.clone(), torch.full_like(scores[:, 0], torch.inf)
    bonus = (~drafted).nonzero()[:, 0]
    if len(bonus):
        tokens[bonus], gaps[bonus] = decide(scores[bonus], sampler, where.of(bonus), CHOICE, chance)
    tested = drafted.nonzero()[:, 0]
    if len(tested):
        x, d, here = scores[tested], guess[tested], where.of(tested)
        p, each = law(x, sampler), torch.arange(len(d), device=d.device)
        if q is None:
            # Without the guess, p - q is p, whose logarithm is the score but for a constant.
            x = keep(x, p > 0) if sampler.temperature == 0 else x
            odds, more = 1.0, x.index_put((each, d), torch.tensor(-torch.inf).to(x))
        else:
            odds, more = q[tested][each, d], residual(p, q[tested]).log()
        accept = chance.bernoulli(here, ACCEPT, p[each, d], odds)
        # p ≤ q everywhere means p = q but for the tolerance of their sums: the guess is as good.
        failed = (~accept & (more > -torch.inf).any(dim=-1)).nonzero()[:, 0]
        if len(failed):
            drawn = chance.choice(here.of(failed), RESIDUAL, more[failed])
            tokens[tested[failed]], gaps[tested[failed]] = drawn
    return tokens, gaps


def residual(p: Tensor, q: Tensor) -> Tensor:
    """What p has more than q: a token drawn in proportion to it makes up for what the ratio test rejects."""
    return (p - q).clamp(min=0)


def _describe(logits: Tensor, tokens: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """`describe` at every emitted place; padding says -inf for a logprob and -1 for a token."""
    rows, places, _ = logits.shape
    chosen = torch.full((rows, places), -torch.inf, dtype=torch.float64, device=logits.device)
    ids = torch.full((rows, places, count), -1, dtype=torch.int64, device=logits.device)
    values = torch.full((rows, places, count), -torch.inf, dtype=torch.float64, device=logits.device)
    emitted = tokens >= 0
    chosen[emitted], ids[emitted], values[emitted] = describe(logits[emitted], tokens[emitted], count)
    return chosen, ids, values


def _tensor(name: str, value: Any, dtype: torch.dtype, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Refuses what is not a contiguous tensor or array of this dtype and shape; brings it to the device."""
    tensor = torch.as_tensor(value) if isinstance(value, np.ndarray) else value
    if not isinstance(tensor, Tensor) or tensor.dtype != dtype or not tensor.is_contiguous():
        given = f"{tensor.dtype}, strides {tensor.stride()}" if isinstance(tensor, Tensor) else type(value).__name__
        raise ArgumentTypeError(f"{name} is {given}: give a contiguous tensor of {dtype}")
    if tensor.shape != shape:
        raise ShapeError(f"{name} has shape {tuple(tensor.shape)}, expected {shape}: pass one that fits the logits")
    return tensor.to(device)


def _check_draft(draft: Tensor, lengths: Iterable[int] | None, probs: Tensor | None, vocabulary: int) -> Tensor:
    """Refuses a draft that no drafter may return; the number of drafted tokens of each row, (rows,) int64."""
    rows, k = draft.shape
    limits = [k] * rows if lengths is None else integers("lengths", lengths, rows)
    for row, length in enumerate(limits):
        if not 0 <= length <= k:
            raise DraftError(f"row {row} says it drafted {length} tokens: give a length in 0..={k}")
        for i, token in enumerate(draft[row, :length].tolist()):
            if not 0 <= token < vocabulary:
                raise DraftError(f"row {row} has token {token} drafted in place {i}: give ids in 0..{vocabulary}")
            if probs is not None:
                _check_law(probs[row, i], token, f"row {row}, place {i}")
    return torch.tensor(limits, dtype=torch.int64, device=draft.device)


def _check_law(law: Tensor, drawn: int, name: str) -> None:
    if not ((law >= 0) & (law <= 1)).all():  # NaN fails both
        raise DraftError(f"{name}: the drafter gives {law.tolist()}, expected probabilities in [0, 1]")
    if abs(float(law.sum()) - 1) > _TOLERANCE:
        raise DraftError(f"{name}: the drafter's probabilities sum to {float(law.sum())}, expected 1 within 1e-6")
    if law[drawn] == 0:
        raise DraftError(f"{name}: the drafter drew token {drawn}, to which it gives probability 0")
