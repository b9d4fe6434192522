"""The ratio test, of one place and of a whole block: what keeps the target's law whatever the guesses are.

A guess drawn from q stays with probability min(1, p/q), else max(p − q, 0) is drawn from: Leviathan et al., 2211.17192.
Several guesses that follow the same text are tried in turn against what those before left: Miao et al., 2305.09781.
A block as a whole stays no less often, since a likely guess makes up for an unlikely one: Sun et al., 2403.10444.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .chance import Chance
from .draft import Guesses
from .history import History
from .logits import chain, keep, law
from .noise import ACCEPT, CHOICE, RESIDUAL, Place
from .sample import advance, decide


def ratio_test(
    scores: Tensor, sampler: Any, where: Place, chance: Chance, names: list[int], guesses: Guesses,
    siblings: list[list[int]],
) -> tuple[Tensor, Tensor, list[bool]]:  # fmt: skip
    """One place of each row: (tokens, gaps, whether the token is one of the guesses at the places `siblings`).

    Whatever the guesses are, a token has the law p of its scores, as long as each guess was drawn from its q given
    those before it. Where nothing was guessed, p is drawn from.
    """
    p = law(scores, sampler)
    rest = p.clone()  # what the guesses before have left of p, as a law
    bare = keep(scores, p > 0) if sampler.temperature == 0 else scores.clone()  # the same of certain guesses, as scores
    tokens = torch.full((len(names),), -1, dtype=torch.int64, device=scores.device)
    gaps = torch.full_like(scores[:, 0], torch.inf)
    for rank in range(max(map(len, siblings))):
        tried = [i for i, places in enumerate(siblings) if rank < len(places) and tokens[i] < 0]
        if not tried:
            break
        rows, places = [names[i] for i in tried], [siblings[i][rank] for i in tried]
        guess = torch.tensor([guesses.tokens[row][i] for row, i in zip(rows, places, strict=True)], device=p.device)
        index, q = torch.tensor(tried, device=p.device), guesses.laws(rows, places)
        each = torch.arange(len(tried), device=p.device)
        accept = chance.bernoulli(where.of(index), ACCEPT, rest[index, guess], q[each, guess], rank)
        tokens[index[accept]] = guess[accept]
        rest[index] = shared_out(residual(rest[index], q), p[index])
        bare[index, guess] = -torch.inf
    accepted = (tokens >= 0).tolist()
    for stream, chosen in ((CHOICE, [not places for places in siblings]), (RESIDUAL, list(map(bool, siblings)))):
        index = torch.tensor([i for i, row in enumerate(chosen) if row and not accepted[i]], device=p.device).long()
        if len(index) and stream == CHOICE:
            tokens[index], gaps[index] = decide(scores[index], sampler, where.of(index), CHOICE, chance)
        elif len(index):
            # Without certain guesses p - q is p, whose logarithm is the score but for a constant.
            exact = (bare[index] > -torch.inf).any(dim=-1, keepdim=True) & (guesses.probs is None)
            more = torch.where(exact, bare[index], rest[index].log())
            tokens[index], gaps[index] = chance.choice(where.of(index), RESIDUAL, more)
    return tokens, gaps, accepted


def residual(p: Tensor, q: Tensor) -> Tensor:
    """What p has more than q: a token drawn in proportion to it makes up for what the ratio test rejects."""
    return (p - q).clamp(min=0)


def shared_out(masses: Tensor, p: Tensor) -> Tensor:
    """Masses as laws; p where none are left, for then q was p but for the tolerance of their sums."""
    sums = masses.sum(dim=-1, keepdim=True)
    return torch.where(sums > 0, masses / sums, p)


def block_test(
    logits: Tensor, sampler: Any, past: History, where: Place, chance: Chance, row: int, guesses: Guesses
) -> tuple[list[int], list[float], History]:
    """A chain as a whole, Algorithm 2 of 2403.10444: (tokens, gaps, the past with the tokens).

    With p(i) = min(1, p(i−1)·p/q) for guess i, the first i guesses may stay with probability S/(S + 1 − p(i)), where
    S sums what max(p(i)·p − q, 0) leaves of the law behind them; all of them with probability p(k). The longest
    beginning that may stay does, and what was left behind it is drawn from. The uniforms are those of the first
    position, because places are looked at whose own uniforms belong to later blocks.

    Args:
        logits: (k+1, vocabulary) of one row.
        where: of the first new token, one row.
    """
    k = guesses.lengths[row]
    draft = guesses.tokens[row][:k]

    def scores_at(i: int, past: History) -> Tensor:
        return chain(logits[i : i + 1], sampler, [past], where.after(i), chance, [row])

    def happens(i: int, odds: float, total: float) -> bool:
        p, q = torch.tensor([[odds], [total]], dtype=torch.float64, device=logits.device)
        return bool(chance.bernoulli(where, ACCEPT, p, q, i))

    stay, before, scores, rest = 0, past.copy(), logits[:0], logits[:0]
    likely = 1.0
    for i, token in enumerate(draft):
        here = scores_at(i, past)
        p, q = law(here, sampler), guesses.laws([row], [i])
        more = residual(likely * p, q)
        left = float(more.sum())
        if i == 0 or happens(i, left, left + 1 - likely):
            stay, before, scores, rest = i, past.copy(), here, shared_out(more, p)
        likely = min(1.0, likely * float(p[0, token]) / float(q[0, token]))
        if likely == 0:
            break
        advance(past, sampler, here[0], token)
    if k == 0 or (likely > 0 and happens(k, likely, 1.0)):
        scores = scores_at(k, past)
        stay, before = k, past
        chosen, gap = decide(scores, sampler, where.after(k), CHOICE, chance)
    else:
        chosen, gap = chance.choice(where.after(stay), RESIDUAL, rest.log())
    advance(before, sampler, scores[0], int(chosen))
    return [*draft[:stay], int(chosen)], [torch.inf] * stay + [float(gap)], before
