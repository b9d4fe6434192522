"""The law of whole generations, enumerated: `generate` with every drafter and sampler against plain decoding."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import foretoken as ft
from foretoken.drafter.block import BlockDrafter
from foretoken.drafter.block_model import BlockConfig, BlockModule
from foretoken.drafter.masked import MaskedDrafter
from foretoken.drafter.protocol import Draft, Drafter, DraftRequest
from foretoken.reference.chance import Atoms, Chance, Enumerate, enumerate_branches
from foretoken.reference.noise import DRAFT, Place
from tests import tiny
from tests.laws.test_law import SAMPLERS
from tests.models import FunctionDrafter, ParallelTable, TableModel, TappedTable

VOCABULARY, LENGTH = 3, 3
PROMPT = [0, 1, 2, 0, 1]


def _fixed(row: int, past: list[int], k: int) -> Draft:
    return Draft(np.array([(past[-1] + i * i) % VOCABULARY for i in range(k)], dtype=np.int64))


def block(**changes: Any) -> BlockModule:
    """A block drafter with random weights for `TappedTable`."""
    shape = {
        "target": "table", "vocab_size": VOCABULARY, "hidden_size": TappedTable.hidden, "taps": (0, 1), "layers": 1,
        "heads": 2, "kv_heads": 1, "intermediate_size": 8, "block": 3, "reach": 4, "rank": 4, "order": 2, "latents": 1,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
    }  # fmt: skip
    made = BlockModule(BlockConfig(**(shape | changes)))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in made.parameters():
            weight.normal_(std=0.6, generator=generator)
    return made


BLOCK, HEADS, IMAGINED = block(), block(layers=0), block(latents=2)
DRAFTERS: dict[str, Callable[[], Drafter]] = {
    "n-gram": lambda: ft.NGram(minimum=1),
    "suffix": lambda: ft.Suffix(minimum=1),
    "small model": lambda: ft.SmallModel(TableModel(VOCABULARY, order=1)),
    "early exit": lambda: ft.EarlyExit(1),
    "several": lambda: ft.Several(ft.NGram(minimum=2), ft.SmallModel(TableModel(VOCABULARY, order=1))),
    "tree": lambda: ft.Several(ft.NGram(minimum=1), ft.SmallModel(TableModel(VOCABULARY, order=1)), tree=True),
    "tree of draws": lambda: ft.Several(ft.SmallModel(TableModel(VOCABULARY, order=1)), ft.EarlyExit(1), tree=True),
    "block": lambda: BlockDrafter(BLOCK, native=False),
    "heads": lambda: BlockDrafter(HEADS),
    "two imaginations": lambda: BlockDrafter(IMAGINED, chains=2),
    "masked": lambda: MaskedDrafter(ParallelTable(VOCABULARY), reach=3),
    "tree of blocks": lambda: ft.Several(BlockDrafter(BLOCK, native=False), ft.NGram(minimum=1), tree=True),
    "arbitrary": lambda: FunctionDrafter(_fixed),
}


def texts(name: str, drafter: Drafter | None, verifier: Any, chance: Chance, length: int = LENGTH) -> tuple[int, ...]:
    """What one generation under one of `SAMPLERS` writes when `chance` decides."""
    fields = dict(SAMPLERS[name])
    ends, minimum = fields.pop("end_tokens", ()), fields.pop("min_tokens", 0)
    options = {"sampler": ft.Sampler(**fields), "end_tokens": ends, "min_tokens": minimum}
    strategy = ft.Autoregressive(drafter, verifier, length=2) if drafter else ft.Autoregressive()
    model = TappedTable(VOCABULARY, scale=1.5)
    with tiny.decided_by(chance):
        out = ft.generate(model, ft.Canvas([PROMPT]), strategy, seed=7, max_tokens=length, **options)
    return tuple(out.tokens.tolist())


def law(
    name: str, drafter: Callable[[], Drafter] | None, verifier: Any, length: int = LENGTH
) -> dict[tuple[int, ...], float]:
    """The exact law of the text."""
    total: dict[tuple[int, ...], float] = {}
    for weight, text in enumerate_branches(lambda c: texts(name, drafter and drafter(), verifier, c, length)):
        total[text] = total.get(text, 0.0) + weight
    return total


@pytest.mark.parametrize("drafter", DRAFTERS)
@pytest.mark.parametrize("name", SAMPLERS)
def test_the_ratio_test_keeps_the_law_of_a_generation(name: str, drafter: str) -> None:
    plain = law(name, None, None)
    assert sum(plain.values()) == pytest.approx(1, abs=1e-12)
    assert tiny.total_variation(plain, law(name, DRAFTERS[drafter], ft.Rejection())) < 1e-9


@pytest.mark.parametrize("drafter", ["n-gram", "small model", "several", "block"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_blocks_keep_the_law_of_a_generation(name: str, drafter: str) -> None:
    """One token more, so that a block of two is followed by another."""
    plain = law(name, None, None, LENGTH + 1)
    assert tiny.total_variation(plain, law(name, DRAFTERS[drafter], ft.Rejection(block=True), LENGTH + 1)) < 1e-9


class Repeating(ft.SmallModel):
    """Draws every draft with the same noise."""

    def open(self, request: DraftRequest) -> Any:
        return super().open(dataclasses.replace(request, streams=itertools.repeat(4)))


def test_noise_that_is_drawn_twice_is_refused() -> None:
    """Siblings that share noise are not drawn from what they say, nor is a draft whose noise a block has seen."""
    small = Repeating(TableModel(VOCABULARY, order=1))
    with pytest.raises(AssertionError, match="decides twice"):
        law("temperature", lambda: ft.Several(small, Repeating(TableModel(VOCABULARY)), tree=True), ft.Rejection())
    with pytest.raises(AssertionError, match="decides twice"):
        law("temperature", lambda: small, ft.Rejection(block=True), LENGTH + 1)


class GivenDrafts(Enumerate):
    """Takes every branch of what the verifier decides, while the drafters' noise is given."""

    draws = 0

    def __init__(self, script: list[int], noise: torch.Tensor) -> None:
        super().__init__(script)
        self._given = Atoms(dict.fromkeys(range(DRAFT, DRAFT + 8), noise))

    def choice(self, where: Place, stream: int, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        GivenDrafts.draws += stream >= DRAFT
        return (self._given if stream >= DRAFT else super()).choice(where, stream, scores)


JACOBI: dict[str, Callable[[], Drafter]] = {
    "jacobi": lambda: ft.Jacobi(),
    "tree with jacobi": lambda: ft.Several(ft.NGram(minimum=1), ft.Jacobi(), tree=True),
}


@pytest.mark.parametrize("drafter", JACOBI)
@pytest.mark.parametrize("name", SAMPLERS)
def test_the_law_holds_whatever_noise_makes_the_guesses(
    name: str, drafter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jacobi draws the same noise again and again, so the law is taken given that noise."""
    plain = law(name, None, None, LENGTH + 1)
    GivenDrafts.draws = 0
    for verifier in [ft.Rejection()] if "tree" in drafter else [ft.Rejection(), ft.Rejection(block=True)]:
        noise = torch.from_numpy(np.random.default_rng(1).gumbel(size=(len(PROMPT) + LENGTH + 4, VOCABULARY)))
        given = functools.partial(GivenDrafts, noise=noise)
        monkeypatch.setattr("foretoken.reference.chance.Enumerate", given)
        assert tiny.total_variation(plain, law(name, JACOBI[drafter], verifier, LENGTH + 1)) < 1e-9
    assert GivenDrafts.draws or name == "greedy" or "tree" in drafter


@pytest.mark.parametrize("drafter", [*DRAFTERS, *JACOBI])
def test_coupled_generations_are_the_same_for_every_noise(drafter: str) -> None:
    atoms = [torch.from_numpy(np.random.default_rng(i).gumbel(size=VOCABULARY)) for i in range(4)]
    for name in SAMPLERS:
        for noise in itertools.product(atoms, repeat=LENGTH):
            padding = [atoms[0]] * len(PROMPT)
            table = torch.stack([*padding, *noise, atoms[0], atoms[0]])
            chance = Atoms({0: table, 2: table.flip(1)})
            plain = texts(name, None, None, chance)
            assert texts(name, (DRAFTERS | JACOBI)[drafter](), ft.Coupled(), chance) == plain


def test_a_drafter_that_lies_about_its_law_is_caught() -> None:
    certain = DRAFTERS["arbitrary"]()

    def lie(row: int, past: list[int], k: int) -> Draft:
        draft = _fixed(row, past, k)
        return Draft(draft.tokens, probs=np.full((k, VOCABULARY), 1 / VOCABULARY))

    honest = law("temperature", lambda: certain, ft.Rejection())
    assert tiny.total_variation(honest, law("temperature", lambda: FunctionDrafter(lie), ft.Rejection())) > 1e-3
