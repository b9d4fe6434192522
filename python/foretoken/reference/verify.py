"""Drafted tokens against the model's rows: which of them plain decoding would have drawn, and what follows.

`Coupled` (rejection=False): every position has its noise, so the token plain decoding would draw there is known; a
drafted token is accepted if it is that token. `Rejection` is speculative sampling: see `reference.ratio`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import InvalidArgument
from .chance import Chance, NoiseChance
from .draft import Guesses
from .history import History, copies
from .logits import chain
from .noise import CHOICE, Place, place
from .ratio import block_test, ratio_test
from .sample import advance, check_logits, decide, describe, settle


class Verified(NamedTuple):
    """What `verify` emitted; row r holds accepted[r] + 1 tokens, then padding.

    Args:
        tokens: (rows, k+1) int64, padded with -1.
        accepted: (rows,) int64, how many drafted tokens each row accepted.
        path: (rows, k) int64, their places in the draft, each the parent of the next; padded with -1.
        gaps: (rows, k+1) float64, the lead of each token's score over the next best; +inf where nothing competed.
        logprobs: (rows, k+1) float64 of the raw rows, or None.
        top_tokens: (rows, k+1, N) int64, the most probable tokens of the raw rows, or None.
        top_logprobs: (rows, k+1, N) float64 in descending order, or None.
    """

    tokens: Tensor
    accepted: Tensor
    path: Tensor
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
    parents: Tensor | np.ndarray | None = None,
    rows: Iterable[int] | None = None,
    rejection: bool = False,
    block: bool = False,
    draft_probs: Any = None,
    history: Sequence[Any] | None = None,
    logprobs: int | None = None,
    chance: Chance | None = None,
) -> Verified:
    """Emits the accepted part of each row's draft and one token more, as `foretoken.kernels.verify` does.

    Args:
        logits: (rows, k+1, vocabulary) float32; place 0 follows the text, place i+1 follows drafted token i.
        draft: (rows, k) int64 drafted tokens, here or on any device.
        sampler: a compiled `Sampler`; it sees each accepted token before it judges the next.
        seeds: (rows,) integers in 0..2^64.
        positions: (rows,) of the first new token, in 0..2^32.
        lengths: (rows,) how many tokens each row drafted, in 0..=k; k unless given.
        parents: (rows, k) int64, the place of each token's parent, before its own, or -1; a chain unless given.
        rows: (rows,) which sample of its prompt each row is; zeros unless given.
        rejection: the ratio test instead of equality with the coupled choice.
        block: the ratio test of whole blocks; for chains.
        draft_probs: (rows, k, vocabulary) float64, what each token was drawn from given its parents and the siblings
            before it; or (ids, probs), both (rows, k, m), with -1 as padding; certain unless given.
        history: the past of each row; empty unless given.
        logprobs: how many of the most probable tokens to report besides the chosen one, or None for no report.
        chance: who decides; the noise unless given.

    Raises:
        DraftError: a drafted token is outside the vocabulary, a parent does not stand before it, or draft_probs are no
            law that could have drawn it.
        LogitsError: a row that is reached holds NaN, two +inf, or nothing that may be drawn.
        ShapeError, ArgumentTypeError, InvalidArgument: an argument is not as above.
    """
    if block and (parents is not None or not rejection):
        raise InvalidArgument("block contradicts parents and needs rejection: leave one of them out")
    check_logits(logits, sampler, rank=3)
    count, k = len(logits), logits.shape[1] - 1
    probs = draft_probs if rejection else None
    sizes = {"rows": count, "places": k, "vocabulary": logits.shape[-1], "device": logits.device}
    guesses = Guesses(draft, lengths, parents, probs, **sizes)
    where = place(seeds, positions, rows, count=count, places=k + 1, device=logits.device)
    chance = chance or NoiseChance()
    pasts = copies(history, count=count)
    tokens = torch.full((count, k + 1), -1, dtype=torch.int64, device=logits.device)
    gaps = torch.full((count, k + 1), torch.inf, dtype=torch.float64, device=logits.device)
    path = torch.full((count, k), -1, dtype=torch.int64, device=logits.device)
    read = torch.arange(k + 1, device=logits.device).repeat(count, 1)  # the place of the logits of each depth
    if block:
        for row in range(count):
            here = where.of(torch.tensor([row], device=logits.device))
            emitted, leads, pasts[row] = block_test(logits[row], sampler, pasts[row], here, chance, row, guesses)
            tokens[row, : len(emitted)] = torch.tensor(emitted)
            gaps[row, : len(leads)] = torch.tensor(leads, dtype=torch.float64)
            path[row, : len(emitted) - 1] = torch.arange(len(emitted) - 1)
    else:
        _walk(logits, guesses, sampler, where, chance, pasts, tokens, gaps, path, read, rejection=rejection)
    accepted = (tokens >= 0).sum(dim=-1) - 1
    report = (None, None, None) if logprobs is None else _describe(logits, tokens, read, logprobs)
    if history is not None:
        settle(history, pasts)
    return Verified(tokens, accepted, path, gaps, *report)


def _walk(
    logits: Tensor, guesses: Guesses, sampler: Any, where: Place, chance: Chance, pasts: list[History],
    tokens: Tensor, gaps: Tensor, path: Tensor, read: Tensor, *, rejection: bool,
) -> None:  # fmt: skip
    """Goes down every row's tree as far as its guesses stay; writes what is emitted into the last four tensors."""
    count = len(logits)
    going, last = list(range(count)), [-1] * count
    siblings = {row: guesses.after(row, [-1]) for row in going}
    depth = 0
    while going:
        index = torch.tensor(going, device=logits.device)
        here = where.of(index).after(depth)
        read[index, depth] = torch.tensor([last[row] + 1 for row in going], device=logits.device)
        scores = chain(logits[index, read[index, depth]], sampler, [pasts[row] for row in going], here, chance, going)
        if rejection:
            tried = [siblings[row] for row in going]
            chosen, lead, stays = ratio_test(scores, sampler, here, chance, going, guesses, tried)
        else:
            chosen, lead = decide(scores, sampler, here, CHOICE, chance)
            stays = [True] * len(going)
        tokens[index, depth], gaps[index, depth] = chosen, lead
        on = []
        for row, past_scores, token, stay in zip(going, scores, chosen.tolist(), stays, strict=True):
            advance(pasts[row], sampler, past_scores, token)
            # Guesses that are the same token after the same text: what follows any of them follows all.
            same = [i for i in siblings[row] if guesses.tokens[row][i] == token] if stay else []
            if same:
                last[row] = same[0]
                siblings[row] = guesses.after(row, same)
                on.append(row)
        going = on
        depth += 1
    for row, end in enumerate(last):
        places = guesses.path(row, end)
        path[row, : len(places)] = torch.tensor(places, dtype=torch.int64)


def _describe(logits: Tensor, tokens: Tensor, read: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """`describe` of every emitted token; padding says -inf for a logprob and -1 for a token."""
    rows, places, _ = logits.shape
    chosen = torch.full((rows, places), -torch.inf, dtype=torch.float64, device=logits.device)
    ids = torch.full((rows, places, count), -1, dtype=torch.int64, device=logits.device)
    values = torch.full((rows, places, count), -torch.inf, dtype=torch.float64, device=logits.device)
    emitted = tokens >= 0
    along = logits.take_along_dim(read[..., None], dim=1)
    chosen[emitted], ids[emitted], values[emitted] = describe(along[emitted], tokens[emitted], count)
    return chosen, ids, values
