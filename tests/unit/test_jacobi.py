"""Jacobi: guesses are the target's own draws at the same places; they settle, and never change a token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

import foretoken as ft
from foretoken.canvas import Canvas
from foretoken.drafter.costs import Adaptive, DraftCosts, ForwardCosts
from foretoken.drafter.jacobi import JacobiSession
from foretoken.drafter.pace import open_paced
from foretoken.drafter.protocol import Draft, DraftRequest, WatchingSession
from foretoken.errors import ArgumentTypeError, InvalidArgument
from tests.models import FunctionDrafter, FunctionSession, TableModel, random_drafter

VOCAB = 48
PROMPTS = [[5, 3, 8], [2], [9, 9, 9, 9, 1]]


class Weak(TableModel):
    """Units that depend on their place, and a little on the one before them."""

    def logits(self, past: Sequence[int]) -> np.ndarray:
        place = np.random.default_rng(len(past)).normal(size=self.vocab_size)
        return (3.0 * place + 0.1 * super().logits(past)).astype(np.float32)


def run(model: Any, strategy: Any = None, **options: Any) -> ft.Generation:
    return ft.generate(model, Canvas(PROMPTS), strategy, **{"max_tokens": 64, "seed": 3, **options})


def texts(out: ft.Generation) -> list[list[int]]:
    return [row.tokens.tolist() for row in out.rows]


@pytest.mark.parametrize("temperature", [0.0, 0.8, 1.0])
def test_what_hangs_little_on_the_past_takes_few_forwards(temperature: float) -> None:
    model, sampler = Weak(), ft.Sampler(temperature=temperature)
    plain = run(model, sampler=sampler)
    fast = run(model, ft.Autoregressive(ft.Jacobi(), length=16), sampler=sampler)
    assert texts(fast) == texts(plain)
    assert plain.stats.forwards > 5 * fast.stats.forwards
    # A window that is never redrawn is right as often as a guess out of the blue.
    unchanged = ft.Autoregressive(FunctionDrafter(lambda row, past, k: Draft(np.full(k, past[-1]))), length=16)
    assert run(model, unchanged, sampler=sampler).stats.forwards > 3 * fast.stats.forwards


def test_the_noise_of_a_place_is_what_settles_it() -> None:
    """Under the ratio test certain guesses are kept with their probability; still far more often than others."""
    model = Weak()
    keys = {"length": 16, "verifier": ft.Rejection()}
    found = run(model, ft.Autoregressive(ft.Jacobi(), **keys)).stats  # type: ignore[arg-type]
    other = run(model, ft.Autoregressive(random_drafter(VOCAB), **keys)).stats  # type: ignore[arg-type]
    assert found.tokens_per_forward > 1.4 > 1.1 > other.tokens_per_forward


@pytest.mark.parametrize("sampler", [ft.Sampler(), ft.Sampler(repetition_penalty=1.4, frequency_penalty=0.2)])
@pytest.mark.parametrize("tree", [False, True])
def test_drew_tells_what_plain_decoding_would_draw_there(sampler: ft.Sampler, tree: bool) -> None:
    """Behind each guess from the first wrong one on, with the right unit in place of that for what looks back."""
    model = TableModel(ends=(0,))
    told = []

    class Watching(FunctionSession):
        def propose(self, rows: Sequence[int], k: int) -> list[Draft]:
            drafts = super().propose(rows, k)
            self.guessed = dict(zip(rows, drafts, strict=True))
            self.told: dict[int, Any] = {}
            return drafts

        def drew(self, row: int, tokens: Sequence[int]) -> None:
            self.told[row] = tokens

        def extend(self, row: int, tokens: Sequence[int]) -> None:
            if row in getattr(self, "told", {}):
                told.append((row, list(self.past[row]), list(tokens), self.guessed[row], self.told.pop(row)))
            super().extend(row, tokens)

    class Watcher(FunctionDrafter):
        def open(self, request: DraftRequest) -> Watching:
            return Watching(self.guess)

    rng = np.random.default_rng(2)

    def guess(row: int, past: list[int], k: int) -> Draft:
        right = int(model.logits(past).argmax())
        chain = [right if rng.random() < 0.5 else 7, *rng.integers(VOCAB, size=3)][:k]
        return Draft(np.array(chain), parents=np.array([-1, 0, 0, 2])[: len(chain)] if tree else None)

    watcher = Watcher(guess)
    if tree:
        watcher.nodes = 4  # type: ignore[attr-defined]
    out = run(model, ft.Autoregressive(watcher, length=4), sampler=sampler, max_tokens=40, end_tokens=())
    assert texts(out) == texts(run(model, sampler=sampler, max_tokens=40, end_tokens=()))
    compiled = ft.kernels.compile_sampler(sampler, vocab_size=VOCAB)
    looks_back = sampler.looks_back
    for row, past, new, draft, tokens in told:
        guesses = draft.tokens.tolist()
        parents = range(-1, len(guesses) - 1) if draft.parents is None else draft.parents.tolist()
        place, found = -1, 0
        while found < len(new) - 1:
            place = next(i for i, up in enumerate(parents) if up == place and guesses[i] == new[found])
            found += 1
        behind: list[int] = []
        while (more := [i for i, up in enumerate(parents) if up == (behind or [place])[-1]]) != []:
            behind.append(more[0])
        room = 40 - (len(past) - len(PROMPTS[row])) - 1  # near the limit drafts are cut
        behind = behind[: room - found]
        assert len(tokens) == len(behind)
        read = past + new[:-1]
        seen = past + new
        for count, (index, token) in enumerate(zip(behind, tokens, strict=True)):
            read.append(guesses[index])
            if count:
                seen.append(guesses[index])
            history = None
            if looks_back:
                history = [ft.kernels.History(PROMPTS[row])]
                history[0].extend(seen[len(PROMPTS[row]) :])
            drawn = ft.kernels.sample(
                torch.from_numpy(model.logits(read))[None], compiled, seeds=[3], positions=[len(read)], history=history
            )
            assert drawn.tokens.tolist() == [token]
    assert len(told) > 20
    assert {len(new) for _, _, new, _, _ in told} >= {1, 2}


def test_adaptive_lengths_find_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a guess costs a fiftieth of a forward, and the first guess for a place is always wrong."""
    model = Weak()
    monkeypatch.setattr(ForwardCosts, "of", lambda self, width: 0.98 + 0.02 * width)
    monkeypatch.setattr(DraftCosts, "of", lambda self, guesses: 0.0)
    worst = ft.Jacobi(start=lambda units: int(model.logits(units).argmin()))
    fast = run(model, ft.Autoregressive(worst, length=Adaptive(16)), max_tokens=200)
    assert texts(fast) == texts(run(model, max_tokens=200))
    assert fast.stats.tokens_per_forward > 3


def test_only_who_wants_draws_gets_them() -> None:
    none = np.zeros(1, dtype=np.uint64)
    compiled = ft.kernels.compile_sampler(ft.Sampler(), vocab_size=VOCAB)
    for adaptive in (None, Adaptive()):
        request = DraftRequest(TableModel(), compiled, False, none, none, None, 9, adaptive, ForwardCosts())
        for drafter, wants in (
            (ft.NGram(), False),
            (ft.Several(ft.NGram(), ft.Suffix()), False),
            (ft.Jacobi(), True),
            (ft.Several(ft.NGram(), ft.Several(ft.Suffix(), ft.Jacobi(), tree=True)), True),
        ):
            assert isinstance(open_paced(drafter, request), WatchingSession) == wants  # type: ignore[arg-type]


def test_a_window_moves_on_with_the_row() -> None:
    session = JacobiSession(4, lambda units: 100 + len(units))
    session.start(0, np.array([1, 2]))
    assert session.propose([0], 9)[0].tokens.tolist() == [102, 103, 104, 105]
    session.drew(0, [60, 61, 62])  # one guess was right
    session.extend(0, [102, 50])
    assert session.propose([0], 3)[0].tokens.tolist() == [60, 61, 62]
    session.extend(0, [7])  # nothing was drafted: what was guessed stays
    assert session.propose([0], 9)[0].tokens.tolist() == [61, 62, 107, 108]
    session.drew(0, [70])  # only the first were read
    session.extend(0, [8])
    assert session.propose([0], 3)[0].tokens.tolist() == [70, 107, 108]
    session.stop(0)


def test_places_that_plain_decoding_never_reaches_cannot_end_it() -> None:
    class Broken(TableModel):
        def logits(self, past: Sequence[int]) -> np.ndarray:
            row = super().logits(past)
            return np.full_like(row, np.nan) if past[-1] == 47 else np.where(np.arange(48) == 47, -np.inf, row)

    model = Broken()
    strategy = ft.Autoregressive(ft.Jacobi(start=lambda units: 47), length=4)
    out = run(model, strategy)
    assert texts(out) == texts(run(model))
    assert out.stats.drafted


def test_starts() -> None:
    start = ft.above(3, prefix=1)
    assert [start([9, *range(n)]) for n in (1, 2, 3, 4, 5)] == [0, 1, 0, 1, 2]
    assert ft.repeat([4, 5]) == 5
    for arguments in ({"columns": 0}, {"columns": 2.0}, {"columns": 3, "prefix": -1}, {"columns": 3, "prefix": None}):
        with pytest.raises(InvalidArgument, match="columns"):
            ft.above(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("width", [0, 65, -1, 2.0, True, None])
def test_the_width_is_checked(width: Any) -> None:
    with pytest.raises(InvalidArgument, match="width"):
        ft.Jacobi(width)


def test_the_start_is_checked() -> None:
    with pytest.raises(ArgumentTypeError, match="start"):
        ft.Jacobi(start=3)  # type: ignore[arg-type]
