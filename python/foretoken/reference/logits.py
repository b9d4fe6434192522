"""The sampler's chain: from rows of logits to the scores a choice is made from, -inf where nothing may be drawn.

Each step is a function of scores (rows, vocabulary) in float64 and is run in the order of `chain`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InvalidArgument, LogitsError
from .chance import Chance
from .history import History
from .noise import XTC, Place

_LONGEST_MATCH = 64  # DRY: a longer repetition is punished no more, which also keeps base**n finite
_BANNED = -torch.inf


def chain(
    logits: Tensor, sampler: Any, histories: Sequence[History], where: Place, chance: Chance, names: Sequence[object]
) -> Tensor:
    """Scores whose softmax is the law of the next token; at temperature 0 the scores whose maximum is taken.

    Args:
        logits: (rows, vocabulary) float32.
        sampler: the fields of `foretoken.Sampler`, and `vocab_size`, `end_tokens`, `min_tokens`.
        histories: the past of each row.
        where: the place of each row's noise.
        chance: decides whether XTC happens.
        names: what each row is called in an error.

    Raises:
        LogitsError: a row holds NaN, two +inf, or nothing that may be drawn.
    """
    x = read(logits, names)
    x = constrain(x, sampler, histories)
    x = penalise(x, sampler, histories)
    x = dry(x, sampler, histories)
    for row, drawable in enumerate((x > _BANNED).any(dim=-1).tolist()):
        if not drawable:
            raise LogitsError(
                f"row {names[row]} has nothing that may be drawn: every token is -inf or banned, so loosen a constraint"
            )
    if sampler.temperature == 0:
        return x
    x = x / sampler.temperature
    if sampler.mirostat_tau > 0:
        bounds = [bound(history, sampler) for history in histories]
        return mirostat(x, torch.tensor(bounds, dtype=torch.float64, device=x.device))
    x = top_n_sigma(x, sampler.top_n_sigma)
    x = top_k(x, sampler.top_k)
    x = top_p(x, sampler.top_p)
    x = min_p(x, sampler.min_p)
    x = typical_p(x, sampler.typical_p)
    if sampler.xtc_probability > 0:
        happens = chance.bernoulli(where, XTC, torch.full_like(x[:, 0], sampler.xtc_probability))
        x = torch.where(happens[:, None], xtc(x, sampler.xtc_threshold), x)
    return x


def law(scores: Tensor, sampler: Any) -> Tensor:
    """The probabilities (rows, vocabulary) of the choice from scores of `chain`."""
    if sampler.temperature == 0:
        return torch.nn.functional.one_hot(scores.argmax(dim=-1), scores.shape[-1]).double()
    return softmax(scores)


def softmax(x: Tensor) -> Tensor:
    """Probabilities in proportion to exp(x); 0 for -inf."""
    weights = (x - x.max(dim=-1, keepdim=True).values).exp()
    return weights / weights.sum(dim=-1, keepdim=True)


def log_softmax(x: Tensor) -> Tensor:
    """The natural logarithm of `softmax`; -inf stays."""
    below = x - x.max(dim=-1, keepdim=True).values
    return below - below.exp().sum(dim=-1, keepdim=True).log()


def read(logits: Tensor, names: Sequence[object]) -> Tensor:
    """The rows in float64; a row with one +inf becomes a row that allows only that token.

    Raises:
        LogitsError: a row holds NaN, or more than one +inf.
    """
    x = logits.double()
    infinite = x == torch.inf
    for row, column in x.isnan().nonzero().tolist():
        raise LogitsError(f"row {names[row]} has NaN in column {column}: the model diverged")
    for row in (infinite.sum(dim=-1) > 1).nonzero()[:, 0].tolist():
        raise LogitsError(f"row {names[row]} has +inf in columns {infinite[row].nonzero()[:, 0].tolist()}: give one")
    only = torch.where(infinite, 0.0, _BANNED)
    return torch.where(infinite.any(dim=-1, keepdim=True), only, x)


def constrain(x: Tensor, sampler: Any, histories: Sequence[History]) -> Tensor:
    """Allowed tokens, bias, bad words, and no end before `min_tokens`."""
    x = x.clone()
    if sampler.allowed_tokens is not None:
        others = torch.ones(x.shape[-1], dtype=torch.bool, device=x.device)
        others[list(sampler.allowed_tokens)] = False
        x[:, others] = _BANNED
    for token, bias in dict(sampler.logit_bias).items():
        x[:, token] += bias
    for row, history in enumerate(histories):
        past = history.tokens.tolist()
        for *start, last in sampler.bad_words:
            if len(start) <= len(past) and past[len(past) - len(start) :] == start:
                x[row, last] = _BANNED
        if len(history.output) < sampler.min_tokens:
            x[row, list(sampler.end_tokens)] = _BANNED
    return x


def penalise(x: Tensor, sampler: Any, histories: Sequence[History]) -> Tensor:
    """Repetition (1909.05858) over prompt and output; frequency and presence over the output, as vLLM means them."""
    r, frequency, presence = sampler.repetition_penalty, sampler.frequency_penalty, sampler.presence_penalty
    if (r, frequency, presence) == (1, 0, 0):
        return x
    for row, history in enumerate(histories):
        past, output = counts(history.tokens, x), counts(history.output, x)
        repeated = torch.where(x[row] > 0, x[row] / r, x[row] * r)
        x[row] = torch.where(past > 0, repeated, x[row])
        x[row] -= frequency * output + presence * output.clamp(max=1)
    return x


def counts(tokens: np.ndarray, x: Tensor) -> Tensor:
    """How often each token of the vocabulary occurs, (vocabulary,) float64: an integer times a number is float32.

    Raises:
        InvalidArgument: one is outside the vocabulary.
    """
    if len(tokens) and tokens.max() >= x.shape[-1]:
        raise InvalidArgument(f"history holds token {tokens.max()}: give ids in 0..{x.shape[-1]}")
    return torch.bincount(torch.as_tensor(tokens), minlength=x.shape[-1]).to(x)


def dry(x: Tensor, sampler: Any, histories: Sequence[History]) -> Tensor:
    """Don't Repeat Yourself: a token that would continue a repeated sequence loses multiplier · base^(n - allowed).

    n is the length of the longest end of the history that occurred before and was then followed by the token
    (oobabooga/text-generation-webui#5677; llama.cpp means the same).
    """
    if sampler.dry_multiplier > 0:
        for row, history in enumerate(histories):
            window = history.tokens.tolist()[-sampler.dry_range :]  # all of it for a range of 0
            matches = repeats(window, set(sampler.dry_breakers))
            for token, length in matches.items():
                if token >= x.shape[-1]:
                    raise InvalidArgument(f"history holds token {token}: give ids in 0..{x.shape[-1]}")
                if length >= sampler.dry_allowed_length:
                    x[row, token] -= sampler.dry_multiplier * sampler.dry_base ** (length - sampler.dry_allowed_length)
    return x


def repeats(tokens: list[int], breakers: set[int]) -> dict[int, int]:
    """For each token that once followed what the tokens now end in: how long that repeated end is, 1 to 64."""
    longest: dict[int, int] = {}
    for place, token in enumerate(tokens):
        n = 0
        while n < min(place, _LONGEST_MATCH) and tokens[place - 1 - n] == tokens[-1 - n] not in breakers:
            n += 1
        if n > 0 and token not in breakers:
            longest[token] = max(n, longest.get(token, 0))
    return longest


def top_n_sigma(x: Tensor, n: float) -> Tensor:
    """Keeps scores within n standard deviations of the best (2411.07641); 0 is off."""
    if n == 0:
        return x
    finite = x > _BANNED
    count = finite.sum(dim=-1, keepdim=True)
    mean = torch.where(finite, x, 0.0).sum(dim=-1, keepdim=True) / count
    variance = torch.where(finite, (x - mean) ** 2, 0.0).sum(dim=-1, keepdim=True) / count
    return keep(x, x >= x.max(dim=-1, keepdim=True).values - n * variance.sqrt())


def top_k(x: Tensor, k: int) -> Tensor:
    """Keeps the k best and those equal to the k-th; 0 is off."""
    if k == 0 or k >= x.shape[-1]:
        return x
    return keep(x, x >= x.topk(k, dim=-1).values[:, -1:])


def top_p(x: Tensor, p: float) -> Tensor:
    """Keeps the shortest prefix of the most probable tokens with mass p (1904.09751); 1 is off."""
    return x if p == 1 else prefix(x, x, p)


def min_p(x: Tensor, p: float) -> Tensor:
    """Keeps tokens at least p times as probable as the best (2407.01082); 0 is off."""
    return x if p == 0 else keep(x, (x - x.max(dim=-1, keepdim=True).values).exp() >= p)


def typical_p(x: Tensor, p: float) -> Tensor:
    """Keeps the mass p whose surprise is nearest to the entropy (2202.00666); 1 is off."""
    if p == 1:
        return x
    surprise = -log_softmax(x)
    entropy = torch.where(x > _BANNED, softmax(x) * surprise, 0.0).sum(dim=-1, keepdim=True)
    return prefix(x, -(surprise - entropy).abs(), p)


def xtc(x: Tensor, threshold: float) -> Tensor:
    """Exclude Top Choices: of the tokens with at least this probability, keeps only the least probable one.

    Introduced in oobabooga/text-generation-webui#6335. Among equals the highest id stays.
    """
    top = softmax(x) >= threshold
    order = x.sort(dim=-1, descending=True, stable=True).indices
    rank = order.argsort(dim=-1)
    last = top.sum(dim=-1, keepdim=True) - 1
    return keep(x, ~(top & (rank < last)))


def mirostat(x: Tensor, mu: Tensor) -> Tensor:
    """Mirostat 2: keeps tokens of at most `mu` (rows,) bits of surprise, or else the best (2007.14966)."""
    best = torch.nn.functional.one_hot(x.argmax(dim=-1), x.shape[-1]).bool()
    return keep(x, best | (surprise_bits(x) <= mu[:, None]))


def surprise_bits(x: Tensor) -> Tensor:
    """-log2 of the probabilities."""
    return -log_softmax(x) / math.log(2)


def bound(history: History, sampler: Any) -> float:
    """Mirostat's bound for the next token of a row."""
    return 2 * sampler.mirostat_tau if history.mu is None else history.mu


def keep(x: Tensor, kept: Tensor) -> Tensor:
    """The scores of some tokens; the others may not be drawn."""
    return torch.where(kept, x, _BANNED)


def prefix(x: Tensor, merit: Tensor, mass: float) -> Tensor:
    """Keeps the tokens of highest merit (ties: lowest id) until their probabilities sum to `mass`."""
    order = merit.sort(dim=-1, descending=True, stable=True).indices
    sums = softmax(x).gather(-1, order).cumsum(dim=-1)
    before = torch.cat([torch.zeros_like(sums[:, :1]), sums[:, :-1]], dim=-1)
    return keep(x, torch.zeros_like(x, dtype=torch.bool).scatter(-1, order, before < mass))
