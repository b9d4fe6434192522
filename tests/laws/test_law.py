"""Speculation does not change the law: every branch of the twins is taken and the probabilities are added up.

A block is drafted and verified, then completed by plain decoding to a fixed length; the law of the result must be
that of plain decoding. No sample is drawn, so the tolerance is that of float64.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor

from foretoken.reference import noise
from foretoken.reference import ratio as ratio_module
from foretoken.reference import verify as verify_module
from foretoken.reference.chance import Atoms, Chance, Enumerate, enumerate_branches
from foretoken.reference.history import History
from foretoken.reference.sample import process, sample
from foretoken.reference.verify import verify

from .. import tiny

PROMPT = (0, 1, 2, 0, 1)  # ends as it began, so that penalties and DRY have something to say
EXACT = 1e-12
BROKEN = 1e-3

SAMPLERS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "temperature": {"temperature": 0.7},
    "top-k and top-p": {"temperature": 1.3, "top_k": 3, "top_p": 0.83},
    "penalties, DRY and min-p": {
        "repetition_penalty": 1.3,
        "presence_penalty": 0.4,
        "frequency_penalty": 0.3,
        "dry_multiplier": 0.8,
        "dry_allowed_length": 1,
        "min_p": 0.07,
    },
    "XTC and typical": {"xtc_probability": 0.4, "xtc_threshold": 0.15, "typical_p": 0.93},
    "mirostat": {"mirostat_tau": 1.1, "mirostat_eta": 0.6},
    "constraints": {
        "bad_words": ((2, 2), (0, 1, 0, 2)),
        "logit_bias": {0: 1.0, 2: -0.5},
        "end_tokens": (1,),
        "min_tokens": 2,
        "top_n_sigma": 2.05,
    },
}


class TableModel:
    """A model of order two: the logits are a random function of the last two tokens."""

    def __init__(self, vocabulary: int, seed: int, scale: float = 1.5) -> None:
        self.vocabulary, self.seed, self.scale = vocabulary, seed, scale

    @functools.cache  # noqa: B019 - as short-lived as the test
    def after(self, context: tuple[int, ...]) -> Tensor:
        """Logits (vocabulary,) of the token after this context."""
        generator = np.random.default_rng([self.seed, *context[-2:]])
        return tiny.as_tensor((generator.normal(size=self.vocabulary) * self.scale).astype(np.float32))


def settings(history: History, chance: Chance) -> dict[str, Any]:
    """The keyword arguments of a kernel that continues one row."""
    return {"seeds": [7], "positions": [len(history)], "history": [history], "chance": chance}


class PlainDecoding:
    """The exact law of plain decoding, computed once for each history."""

    def __init__(self, model: TableModel, sampler: Any) -> None:
        self.model, self.sampler = model, sampler
        self._known: dict[Any, dict[tuple[int, ...], float]] = {}

    def law(self, history: History, length: int) -> dict[tuple[int, ...], float]:
        """The law of the next `length` tokens."""
        if length == 0:
            return {(): 1.0}
        key = (tuple(history.output.tolist()), history.mu, length)
        if key not in self._known:
            law: dict[tuple[int, ...], float] = {}
            for weight, (token, past) in enumerate_branches(functools.partial(self._step, history)):
                for rest, probability in self.law(past, length - 1).items():
                    law[(token, *rest)] = law.get((token, *rest), 0.0) + weight * probability
            self._known[key] = law
        return self._known[key]

    def _step(self, history: History, chance: Enumerate) -> tuple[int, History]:
        past = history.copy()
        logits = self.model.after(tuple(past.tokens.tolist()))[None]
        return int(sample(logits, self.sampler, **settings(past, chance)).tokens[0]), past


def draft_by(model: TableModel, sampler: Any, k: int, chance: Chance) -> tuple[list[int], Tensor]:
    """What a drafter that samples under the ratio test returns: k tokens and the laws (k, vocabulary) of each."""
    past, laws = History(PROMPT), []
    for _ in range(k):
        logits = model.after(tuple(past.tokens.tolist()))[None]
        laws.append(process(logits, sampler, **settings(past, chance))[0])
        sample(logits, sampler, **settings(past, chance), stream=noise.DRAFT)
    return past.output.tolist(), torch.stack(laws)


def block(
    target: TableModel, sampler: Any, draft: list[int], laws: Tensor | None, chance: Chance, *, rejection: bool,
    whole: bool = False,
) -> tuple[tuple[int, ...], History]:  # fmt: skip
    """The tokens a drafted block becomes, and the history after it."""
    past = History(PROMPT)
    rows = [target.after((*PROMPT, *draft[:i])) for i in range(len(draft) + 1)]
    verified = verify(
        torch.stack(rows)[None],
        torch.tensor([draft], dtype=torch.int64),
        sampler,
        **settings(past, chance),
        rejection=rejection,
        block=whole,
        draft_probs=None if laws is None else laws[None],
    )
    tokens = tuple(past.output.tolist())
    assert verified.tokens[0, : len(tokens)].tolist() == list(tokens)
    assert int(verified.accepted[0]) == len(tokens) - 1
    return tokens, past


def completed(
    plain: PlainDecoding, length: int, speculate: Callable[[Enumerate], tuple[tuple[int, ...], History]]
) -> dict[tuple[int, ...], float]:
    """The law of `length` tokens when the first ones come from a verified block."""
    law: dict[tuple[int, ...], float] = {}
    for weight, (tokens, past) in enumerate_branches(speculate):
        for rest, probability in plain.law(past, length - len(tokens)).items():
            law[(*tokens, *rest)] = law.get((*tokens, *rest), 0.0) + weight * probability
    return law


def distance(
    name: str, vocabulary: int, k: int, *, drafts: str, rejection: bool = True, seed: int = 0, own: bool = False,
    whole: bool = False, accepted: list[float] | None = None,
) -> float:  # fmt: skip
    """Total variation between plain decoding and decoding with a verified block of k drafted tokens.

    The expected number of accepted ones is appended to `accepted`.
    """
    sampler = tiny.plain(vocab_size=vocabulary, **SAMPLERS[name])
    target, drafter = TableModel(vocabulary, 2 * seed), TableModel(vocabulary, 2 * seed + 1)
    # A drafter may have a sampler of its own; with the target's it shares XTC's coin.
    guessing = tiny.plain(vocab_size=vocabulary, temperature=1.4) if own else sampler

    def speculate(chance: Enumerate) -> tuple[tuple[int, ...], History]:
        if drafts == "drawn":
            draft, laws = draft_by(drafter, guessing, k, chance)
        else:
            draft, laws = [(seed + i * i) % vocabulary for i in range(k)], None
        return block(target, sampler, draft, laws, chance, rejection=rejection, whole=whole)

    plain = PlainDecoding(target, sampler)
    expected = plain.law(History(PROMPT), k + 1)
    assert sum(expected.values()) == pytest.approx(1, abs=EXACT)
    if accepted is not None:
        accepted.append(sum(weight * (len(tokens) - 1) for weight, (tokens, _) in enumerate_branches(speculate)))
    return tiny.total_variation(expected, completed(plain, k + 1, speculate))


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize(("vocabulary", "k"), [(4, 1), (3, 2), (3, 3)])
@pytest.mark.parametrize("own", [False, True])
def test_the_ratio_test_keeps_the_law_of_a_drafter_that_samples(
    name: str, vocabulary: int, k: int, *, own: bool
) -> None:
    assert distance(name, vocabulary, k, drafts="drawn", seed=k, own=own) < EXACT


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("rejection", [False, True])
def test_a_draft_that_is_certain_keeps_the_law(name: str, *, rejection: bool) -> None:
    for vocabulary, k, seed in itertools.product((3, 4), (1, 2, 3), (0, 1)):
        assert distance(name, vocabulary, k, drafts="fixed", rejection=rejection, seed=seed) < EXACT


_bernoulli, _chain = Enumerate.bernoulli, verify_module.chain


def _upside_down(
    self: Enumerate, where: noise.Place, stream: int, p: Tensor, q: Tensor | float = 1.0, rank: int = 0
) -> Tensor:
    p, q = torch.as_tensor(p), torch.as_tensor(q)
    p, q = (q, p) if stream == noise.ACCEPT else (p, q)
    return _bernoulli(self, where, stream, p, q, rank)


def _frozen(logits: Tensor, sampler: Any, histories: list[History], *rest: Any) -> Tensor:
    return _chain(logits, sampler, [History(PROMPT) for _ in histories], *rest)


@contextlib.contextmanager
def _freeze() -> Iterator[None]:
    with mock.patch.object(verify_module, "chain", _frozen), mock.patch.object(ratio_module, "chain", _frozen):
        yield


BREAKS: dict[str, Any] = {
    "accepts with min(1, q/p)": lambda: mock.patch.object(Enumerate, "bernoulli", _upside_down),
    "draws again from p": lambda: mock.patch.object(ratio_module, "residual", lambda p, q: p),
    "draws again from |p - q|": lambda: mock.patch.object(ratio_module, "residual", lambda p, q: (p - q).abs()),
    "freezes history at the block": _freeze,
}


@pytest.mark.parametrize("broken", BREAKS)
def test_a_broken_verifier_is_caught(broken: str) -> None:
    with BREAKS[broken]():
        assert distance("penalties, DRY and min-p", 3, 2, drafts="drawn") > BROKEN


def test_a_wrong_draft_law_is_caught() -> None:
    sampler = tiny.plain(vocab_size=3)
    target, drafter = TableModel(3, 0), TableModel(3, 1)

    def speculate(chance: Enumerate) -> tuple[tuple[int, ...], History]:
        draft, _ = draft_by(drafter, sampler, 2, chance)
        return block(target, sampler, draft, torch.full((2, 3), 1 / 3, dtype=torch.float64), chance, rejection=True)

    plain = PlainDecoding(target, sampler)
    assert tiny.total_variation(plain.law(History(PROMPT), 3), completed(plain, 3, speculate)) > BROKEN


def test_noise_shared_with_the_ratio_test_is_refused() -> None:
    """A drafter that draws with the noise of the residual would bias it; enumeration does not let that pass."""
    sampler = tiny.plain(vocab_size=3)
    target, drafter = TableModel(3, 0), TableModel(3, 1)

    def speculate(chance: Enumerate) -> tuple[tuple[int, ...], History]:
        logits, past = drafter.after(PROMPT)[None], History(PROMPT)
        q = process(logits, sampler, **settings(past, chance))
        where = noise.place([7], [len(PROMPT)], None, count=1, device=logits.device)
        draft, _ = chance.choice(where, noise.RESIDUAL, q.log())
        return block(target, sampler, draft.tolist(), q, chance, rejection=True)

    with pytest.raises(AssertionError, match="decides twice"):
        completed(PlainDecoding(target, sampler), 2, speculate)


@pytest.mark.parametrize("name", SAMPLERS)
def test_coupled_output_is_the_same_for_every_noise_and_every_draft(name: str) -> None:
    """For each noise of a finite set: plain decoding, and all drafts of all lengths, give the same tokens."""
    vocabulary, k = 3, 2
    sampler, target = tiny.plain(vocab_size=vocabulary, **SAMPLERS[name]), TableModel(vocabulary, 9, scale=0.6)
    start = len(PROMPT)
    orders = [torch.tensor(order, dtype=torch.float64) for order in itertools.permutations((-0.8, 0.3, 1.9))][::2]
    kinds = set()
    for atoms in itertools.product(orders, repeat=k + 1):
        filler = torch.zeros(start, vocabulary, dtype=torch.float64)
        table = torch.cat([filler, torch.stack(atoms)])
        chance = Atoms({noise.CHOICE: table, noise.XTC: table})
        past = History(PROMPT)
        for _ in range(k + 1):
            sample(target.after(tuple(past.tokens.tolist()))[None], sampler, **settings(past, chance))
        expected = tuple(past.output.tolist())
        kinds.add(expected)
        for length in range(1, k + 1):
            for draft in itertools.product(range(vocabulary), repeat=length):
                tokens, after = block(target, sampler, list(draft), None, chance, rejection=False)
                assert tokens == expected[: len(tokens)]
                agreed = [guess == token for guess, token in zip(draft, expected, strict=False)]
                assert len(tokens) == 1 + sum(itertools.accumulate(agreed, lambda a, b: a and b))
                if len(tokens) == k + 1:
                    assert after.mu == past.mu
    assert len(kinds) > (0 if name == "greedy" else 2)  # the noise does decide something
