"""Trees and whole blocks keep the law: every branch of the twins is taken, as in `test_law.py`.

A drafter that samples draws each guess of a tree with noise of its own. What follows is completed by plain decoding.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from foretoken.reference import noise
from foretoken.reference import ratio as ratio_module
from foretoken.reference.chance import Chance, Enumerate
from foretoken.reference.history import History
from foretoken.reference.sample import process
from foretoken.reference.verify import verify

from .. import tiny
from .test_law import (
    BREAKS,
    BROKEN,
    EXACT,
    PROMPT,
    SAMPLERS,
    PlainDecoding,
    TableModel,
    completed,
    distance,
    settings,
)

VOCABULARY, DEPTH = 3, 2


class Growing:
    """A tree of guesses for the text, each drawn by a model or certain."""

    def __init__(self, sampler: Any, chance: Chance) -> None:
        self.sampler, self.chance = sampler, chance
        self.tokens: list[int] = []
        self.parents: list[int] = []
        self.laws: list[Tensor] = []

    def text(self, place: int) -> list[int]:
        """The guesses that lead to one, itself included."""
        return [] if place < 0 else [*self.text(self.parents[place]), self.tokens[place]]

    def add(self, parent: int, token: int, law: Tensor | None = None) -> int:
        """A guess that is certain, or was drawn from a law; its place."""
        one_hot = torch.nn.functional.one_hot(torch.tensor(token), VOCABULARY).double()
        self.tokens.append(token)
        self.parents.append(parent)
        self.laws.append(one_hot if law is None else law)
        return len(self.tokens) - 1

    def draw(self, parent: int, model: TableModel, *, without: tuple[int, ...] = ()) -> int:
        """A guess by a model, none of the tokens of the guesses `without`; its place."""
        past = History([*PROMPT, *self.text(parent)])
        logits = model.after(tuple(past.tokens.tolist()))[None]
        law = process(logits, self.sampler, **settings(past, self.chance))[0]
        law[[self.tokens[place] for place in without]] = 0
        if not law.any():  # a law of one token, which a sibling has
            return -2
        law = law / law.sum()
        where = noise.place([7], [len(past)], None, count=1, device=law.device)
        token, _ = self.chance.choice(where, noise.DRAFT + len(self.tokens), law.log()[None])
        return self.add(parent, int(token), law)


ONE, OTHER = TableModel(VOCABULARY, 1), TableModel(VOCABULARY, 3)


def two_chains(tree: Growing) -> None:
    """By two drafters that do not look at each other: often twice the same token."""
    for model in (ONE, OTHER):
        tree.draw(tree.draw(-1, model), model)


def without_replacement(tree: Growing) -> None:
    """Siblings that differ, and what follows the second."""
    first = tree.draw(-1, ONE)
    found = tree.draw(-1, ONE, without=(first,))
    if found >= 0:
        tree.draw(found, ONE)
        tree.draw(-1, ONE, without=(first, found))


def certain(tree: Growing) -> None:
    """Guesses that nobody drew, one of them twice."""
    for parent, token in ((-1, 1), (-1, 0), (-1, 1), (0, 2), (2, 0), (1, 2)):
        tree.add(parent, token)


def mixed(tree: Growing) -> None:
    """Drawn ones, and certain ones before and behind them."""
    tree.add(-1, 0)
    first = tree.draw(-1, ONE)
    tree.add(-1, 2)
    tree.add(first, 1)
    tree.draw(first, OTHER)


TREES: dict[str, Callable[[Growing], None]] = {
    function.__name__: function for function in (two_chains, without_replacement, certain, mixed)
}


def tree_distance(
    name: str, grow: Callable[[Growing], None], form: str, *, told: Callable[[Growing], None] = id
) -> float:
    """Total variation between plain decoding and decoding with a verified tree; `told` may change it before."""
    sampler, target = tiny.plain(vocab_size=VOCABULARY, **SAMPLERS[name]), TableModel(VOCABULARY, 0)

    def speculate(chance: Enumerate) -> tuple[tuple[int, ...], History]:
        tree, past = Growing(sampler, chance), History(PROMPT)
        grow(tree)
        told(tree)
        logits = torch.stack([target.after((*PROMPT, *tree.text(place))) for place in range(-1, len(tree.tokens))])
        out = verify(
            logits[None], torch.tensor([tree.tokens]), sampler, **settings(past, chance), rejection=form != "coupled",
            parents=torch.tensor([tree.parents]), draft_probs=_in_form(torch.stack(tree.laws)[None], form),
        )  # fmt: skip
        tokens = tuple(past.output.tolist())
        path = out.path[0, : int(out.accepted[0])].tolist()
        assert [*tree.text(path[-1] if path else -1), tokens[-1]] == list(tokens)
        return tokens, past

    plain = PlainDecoding(target, sampler)
    return tiny.total_variation(plain.law(History(PROMPT), DEPTH + 1), completed(plain, DEPTH + 1, speculate))


def _in_form(laws: Tensor, form: str) -> Any:
    if form == "sparse":
        return torch.where(laws > 0, torch.arange(VOCABULARY), -1), laws
    return laws if form == "dense" else None


@pytest.mark.parametrize("grow", TREES)
@pytest.mark.parametrize("name", SAMPLERS)
def test_trees_keep_the_law_under_the_ratio_test(name: str, grow: str) -> None:
    for form in ("certain", "sparse") if grow == "certain" else ("dense",):
        assert tree_distance(name, TREES[grow], form) < EXACT


def test_sparse_laws_are_the_dense_ones() -> None:
    assert tree_distance("top-k and top-p", two_chains, "sparse") < EXACT


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_coupled_tree_that_is_certain_keeps_the_law(name: str) -> None:
    assert tree_distance(name, certain, "coupled") < EXACT


class OneUniform(Enumerate):
    """All siblings face the same uniform: the second knows that it was not below the bar of the first."""

    def bernoulli(self, where: noise.Place, stream: int, p: Tensor, q: Tensor | float = 1.0, rank: int = 0) -> Tensor:
        if stream != noise.ACCEPT:
            return super().bernoulli(where, stream, p, q, rank)
        low = self.__dict__.setdefault("low", {})
        key, bar = int(where.positions[0]), min(1.0, float(p[0]) / float(torch.as_tensor(q)[0]))
        bound = low.get(key, 0.0)
        low[key] = max(bound, bar)
        odds = torch.tensor([max(0.0, bar - bound)], dtype=torch.float64)
        return super().bernoulli(where, stream, odds, 1.0 - bound, rank)


def _one_test_for_both(tree: Growing) -> None:
    """Takes the second of two equal siblings out, which costs the law."""
    if tree.tokens[0] == tree.tokens[2]:
        del tree.tokens[2:], tree.parents[2:], tree.laws[2:]


def _as_with_replacement(tree: Growing) -> None:
    """Tells the law of the first for all siblings."""
    tree.laws = [tree.laws[0] if parent < 0 else law for parent, law in zip(tree.parents, tree.laws, strict=True)]


def _not_in_proportion(masses: Tensor, p: Tensor) -> Tensor:
    return torch.where(masses.sum(dim=-1, keepdim=True) > 0, masses, p)


def test_broken_trees_are_caught() -> None:
    assert tree_distance("temperature", two_chains, "dense", told=_one_test_for_both) > BROKEN
    assert tree_distance("temperature", without_replacement, "dense", told=_as_with_replacement) > BROKEN
    with mock.patch.object(ratio_module, "shared_out", lambda masses, p: p):  # each against p
        assert tree_distance("temperature", two_chains, "dense") > BROKEN
    with mock.patch.object(ratio_module, "shared_out", _not_in_proportion):
        assert tree_distance("temperature", two_chains, "dense") > BROKEN
    with mock.patch("foretoken.reference.chance.Enumerate", OneUniform):
        assert tree_distance("temperature", two_chains, "dense") > BROKEN


def test_calling_drawn_guesses_certain_costs_guesses_but_not_the_law() -> None:
    """For each draw by itself the law is kept, so it is kept on the whole."""
    assert tree_distance("temperature", two_chains, "certain") < EXACT


# Whole blocks

pair = functools.cache(lambda *case: _compared(*case))


def _compared(name: str, vocabulary: int, k: int, drafts: str, seed: int) -> tuple[float, float, float]:
    """Of blocks the distance from plain decoding; accepted tokens to expect one by one, and as a block."""
    accepted: list[float] = []
    keys: dict[str, Any] = {"drafts": drafts, "own": True, "seed": seed, "accepted": accepted}
    distance(name, vocabulary, k, **keys)
    return distance(name, vocabulary, k, **keys, whole=True), accepted[0], accepted[1]


CASES = [(4, 1, "drawn", 1), (3, 2, "drawn", 7), (3, 2, "drawn", 11), (3, 3, "fixed", 3)]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_block_keeps_the_law_and_no_fewer_guesses(name: str, case: tuple[Any, ...]) -> None:
    off, single, whole = pair(name, *case)
    assert off < EXACT
    assert whole >= single - EXACT


def test_a_block_keeps_more_guesses_where_one_can_make_up_for_another() -> None:
    gains = {(name, case): pair(name, *case)[2] - pair(name, *case)[1] for name in SAMPLERS for case in CASES}
    assert max(abs(gain) for (_, case), gain in gains.items() if case[1] == 1) < EXACT  # alone it can make up for none
    for name in SAMPLERS:
        assert gains[name, CASES[2]] > 0.03 or name == "greedy"


@pytest.mark.parametrize("broken", BREAKS)
def test_a_broken_block_is_caught(broken: str) -> None:
    with BREAKS[broken]():
        assert distance("penalties, DRY and min-p", 3, 2, drafts="drawn", whole=True) > BROKEN
