"""What masked steps do to the law: nothing where a rule looks at laws, and what the field's classic does instead.

Models here are exact: the logits at an unknown position are the true law given what is known.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from foretoken import kernels
from foretoken.reference import reveal as reference
from foretoken.reference.chance import Enumerate, enumerate_branches
from foretoken.rules import EntropyBound, Margin, MaxProbability, Order, SampledConfidence

from .. import tiny
from .statistics import FALSE_ALARM, tail

RNG = np.random.default_rng(5)
PRODUCT = RNG.dirichlet([0.7] * 3, 3)  # a law for each of three positions that do not depend on each other
JOINT = RNG.dirichlet([0.5] * 27).reshape(3, 3, 3)  # and three that do
ROUNDING = 1e-7  # of logits to float32
LAW_BASED = [EntropyBound(0.0), EntropyBound(1.2), MaxProbability(), MaxProbability(0.6), Margin(), Order([1, 0, 2])]


def product(canvas: np.ndarray) -> np.ndarray:
    """Laws (rows, 3, 3) of positions that do not depend on each other."""
    return np.broadcast_to(PRODUCT, (len(canvas), 3, 3))


def joint(canvas: np.ndarray) -> np.ndarray:
    """The law of each position given the known ones, by adding up the joint law."""
    laws = np.zeros((len(canvas), 3, 3))
    for outcome in itertools.product(range(3), repeat=3):
        agrees = ((canvas == -1) | (canvas == outcome)).all(axis=1)
        for position, token in enumerate(outcome):
            laws[:, position, token] += JOINT[outcome] * agrees
    return laws / laws.sum(axis=2, keepdims=True)


def decoded(
    model: Callable[[np.ndarray], np.ndarray], reveal: Callable[..., Any], rows: int, *, fresh: bool = True
) -> np.ndarray:
    """Canvases (rows, 3) once all is known; each step has its own noise, or all have that of step 0."""
    canvas = np.full((rows, 3), -1)
    for step in range(4):
        if (canvas >= 0).all():
            return canvas
        with np.errstate(divide="ignore"):
            logits = np.log(model(canvas)).astype(np.float32)
        canvas = np.asarray(reveal(torch.from_numpy(logits), torch.from_numpy(canvas), step if fresh else 0))
    raise AssertionError("a step revealed nothing")


def enumerated(
    model: Callable[[np.ndarray], np.ndarray], select: Any, *, fresh: bool = True, **count: Any
) -> np.ndarray:
    """The exact law (3, 3, 3) of decoding with the twin, by walking every branch."""
    sampler = tiny.plain(vocab_size=3)
    law = np.zeros((3, 3, 3))

    def run(chance: Enumerate) -> tuple[int, ...]:
        def step(logits: Any, canvas: Any, number: int) -> Any:
            keys = {"seeds": [1], "step": number, "select": select, "chance": chance}
            return reference.reveal(logits, canvas, sampler, **keys, **count).canvas

        return tuple(decoded(model, step, 1, fresh=fresh)[0].tolist())

    for weight, tokens in enumerate_branches(run):
        law[tokens] += weight
    return law


def drawn(
    model: Callable[[np.ndarray], np.ndarray], select: Any, rows: int, *, fresh: bool = True, **count: Any
) -> np.ndarray:
    """How often (3, 3, 3) the kernel decodes each outcome."""
    sampler = tiny.compiled(vocab_size=3)

    def step(logits: Any, canvas: Any, number: int) -> Any:
        return kernels.reveal(
            logits, canvas, sampler, seeds=range(rows), step=number, select=select, threads=2, **count
        ).canvas

    tokens = decoded(model, step, rows, fresh=fresh)
    return np.bincount(np.ravel_multi_index(tuple(tokens.T), (3, 3, 3)), minlength=27)


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Total variation."""
    return float(np.abs(one - other).sum() / 2)


def independent() -> np.ndarray:
    """The law of `product`, (3, 3, 3)."""
    return np.einsum("a,b,c->abc", *PRODUCT)


def one_each(select: Any) -> dict[str, Any]:
    """One position a step, for a rule that does not say how many itself."""
    bounded = isinstance(select, EntropyBound) or getattr(select, "threshold", None) is not None
    return {} if bounded else {"least": [1], "most": [1], "count": 1}


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("select", LAW_BASED, ids=repr)
def test_rules_that_look_at_laws_keep_the_law_of_independent_positions(select: Any, fresh: bool) -> None:
    """Exactly, and in the kernel's draws; whether the noise is fresh at each step plays no part."""
    assert distance(enumerated(product, select, fresh=fresh, **one_each(select)), independent()) < ROUNDING
    count = {"count": 1} if one_each(select) else {}
    assert tail(drawn(product, select, 20_000, fresh=fresh, **count), independent().ravel()) > FALSE_ALARM


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("select", LAW_BASED, ids=repr)
def test_one_by_one_they_keep_any_law(select: Any, fresh: bool) -> None:
    count = {"least": [1], "most": [1], "count": 1}
    assert distance(enumerated(joint, select, fresh=fresh, **count), JOINT) < ROUNDING
    assert tail(drawn(joint, select, 20_000, fresh=fresh, count=1), JOINT.ravel()) > FALSE_ALARM


def test_what_an_entropy_bound_gets_wrong_is_bounded() -> None:
    """By the sum of the entropies that each step reveals beyond its largest; here two steps at most have such a sum."""
    exact = enumerated(joint, EntropyBound(0.0))
    assert distance(exact, JOINT) < ROUNDING
    loose = enumerated(joint, EntropyBound(0.9))
    divergence = float((JOINT * np.log(JOINT / loose)).sum())
    assert 0.001 < divergence <= 2 * 0.9


def classic(model: Callable[[np.ndarray], np.ndarray], canvas: tuple[int, ...] = (-1, -1, -1)) -> np.ndarray:
    """The law (3, 3, 3) of revealing, again and again, the most probable of the tokens drawn; by its definition."""
    law = np.zeros((3, 3, 3))
    unknown = [position for position in range(3) if canvas[position] == -1]
    if not unknown:
        law[canvas] = 1
        return law
    laws = model(np.array([canvas]))[0]
    for tokens in itertools.product(range(3), repeat=len(unknown)):
        drawn = [laws[position, token] for position, token in zip(unknown, tokens, strict=True)]
        best = int(np.argmax(drawn))
        if min(drawn) > 0:
            after = tuple(tokens[best] if place == unknown[best] else old for place, old in enumerate(canvas))
            law += np.prod(drawn) * classic(model, after)
    return law


def test_the_classic_changes_the_law_even_of_independent_positions() -> None:
    """The control. What is drawn and passed over is drawn again, so the probable becomes more probable."""
    for model, right in ((product, independent()), (joint, JOINT)):
        wrong = classic(model)
        assert distance(wrong, right) > 0.2
        counts = drawn(model, SampledConfidence(), 20_000, count=1)
        assert tail(counts, wrong.ravel()) > FALSE_ALARM
        assert tail(counts, right.ravel()) < FALSE_ALARM


def test_noise_that_a_rule_has_looked_at_must_not_be_used_again() -> None:
    """Where positions depend on each other the second look at the same noise is a choice under another law.

    Where they do not, it is the same choice again: the one case in which the classic would be right.
    """
    count = {"least": [1], "most": [1], "count": 1}
    assert distance(enumerated(product, SampledConfidence(), fresh=False, **count), independent()) < ROUNDING
    with pytest.raises(AssertionError, match="decides twice, under two laws"):
        enumerated(joint, SampledConfidence(), fresh=False, **count)
    again = drawn(joint, SampledConfidence(), 20_000, fresh=False, count=1)
    assert tail(again, JOINT.ravel()) < FALSE_ALARM
    assert tail(again, classic(joint).ravel()) < FALSE_ALARM


def test_what_xtc_decides_holds_for_all_steps() -> None:
    """A position that was passed over while XTC spared it must not get a second chance to be spared."""
    sampler = tiny.compiled(vocab_size=3, xtc_probability=0.5, xtc_threshold=0.2)
    rows, canvas = 20_000, np.full((20_000, 3), -1)
    logits = np.log(product(canvas)).astype(np.float32)
    single = np.full((rows, 3), -1)
    everything = kernels.reveal(logits, single, sampler, seeds=range(rows), step=0, count=3).canvas
    for step in range(3):
        keys = {"seeds": range(rows, 2 * rows), "step": step}
        canvas = kernels.reveal(logits, canvas, sampler, **keys, select=EntropyBound(0.0), count=1).canvas
    for position in range(3):
        one, other = (np.bincount(tokens[:, position], minlength=3) for tokens in (everything, canvas))
        law = (one + other) / (one + other).sum()
        assert tail(one, law) > FALSE_ALARM
        assert tail(other, law) > FALSE_ALARM


SENTENCES = """
a man in a red shirt rides a brown horse
a man rides a horse on the wide open beach
a man on a horse rides along the sandy beach
the rider in red sits on his brown horse .
someone rides a horse near the sea at noon .
"""


def sentences() -> tuple[np.ndarray, int]:
    """Five ways to say it (5, words), uniform; and the size of the vocabulary."""
    words = [line.split() for line in SENTENCES.strip().splitlines()]
    vocabulary = sorted({word for line in words for word in line})
    return np.array([[vocabulary.index(word) for word in line] for line in words]), len(vocabulary)


def said(select: Any, rows: int = 3000, limit: int = 20, **count: Any) -> tuple[float, np.ndarray, float]:
    """Valid answers, how often each sentence is said, and forwards, with the exact conditionals of five sentences."""
    texts, size = sentences()
    canvas = np.full((rows, texts.shape[1]), -1)
    sampler, forwards, seeds = tiny.compiled(vocab_size=size), 0.0, np.arange(rows)
    for step in range(limit):
        open_ = (canvas == -1).any(axis=1)
        agree = ((canvas[:, None] == -1) | (canvas[:, None] == texts[None])).all(axis=2)
        some = np.flatnonzero(open_ & agree.any(axis=1))  # the others have said what no sentence goes on from
        if not len(some):
            break
        laws = np.zeros((len(some), texts.shape[1], size))
        for text, weight in zip(texts, agree[some].T, strict=True):
            laws[:, np.arange(len(text)), text] += weight[:, None]
        with np.errstate(divide="ignore"):
            logits = np.log(laws).astype(np.float32)
        found = kernels.reveal(logits, canvas[some], sampler, seeds=seeds[some], step=step, select=select, **count)
        canvas[some] = found.canvas
        forwards += len(some) / rows
    modes = (canvas[:, None] == texts[None]).all(axis=2).sum(axis=0)
    return float(modes.sum() / rows), modes / rows, forwards


def test_five_sentences() -> None:
    """The oracle: uniform over five ways to say one thing. Who mixes sentences, and who says some too often."""
    uniform = np.full(5, 0.2)
    at_once, _, _ = said(EntropyBound(), count=99)
    assert at_once < 0.01  # one shot mixes them all
    valid, modes, forwards = said(EntropyBound(0.3))
    assert valid > 0.99
    assert distance(modes, uniform) < 0.03
    assert forwards < 5
    biased_valid, biased, _ = said(SampledConfidence(threshold=0.8))
    right_valid, right, _ = said(MaxProbability(threshold=0.8))
    assert min(biased_valid, right_valid) > 0.99
    assert distance(right, uniform) < 0.03
    assert distance(biased, uniform) > 0.1
    assert tail(np.round(3000 * biased), uniform) < FALSE_ALARM
