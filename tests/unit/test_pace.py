"""Pace: a draft is as long as pays; a drafter that is no use rests, and may come back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretoken.drafter.costs import Adaptive, DraftCosts, ForwardCosts
from foretoken.drafter.pace import AdaptiveSession, Pace
from foretoken.drafter.protocol import Draft
from tests.models import FunctionSession


def costs(forward: float = 1.0, more: float = 0.05) -> ForwardCosts:
    known = ForwardCosts()
    for width in range(1, 12):
        known.note(width, forward + more * (width - 1))
    return known


def drafting(each: float, reading: float = 0.0) -> DraftCosts:
    """A drafter of which both are known."""
    known = DraftCosts()
    for guesses in (1, 2, 3, 2):
        known.note(guesses, reading + each * guesses)
    return known


def test_drafts_cost_their_guesses_and_what_is_read_before() -> None:
    assert DraftCosts().of(3) == 0.0
    known = drafting(0.1, reading=0.2)
    assert [known.of(guesses) for guesses in (1, 3, 8)] == pytest.approx([0.3, 0.5, 1.0], rel=0.1)
    known.note(2, 100.0)
    assert known.of(2) < 0.6
    uniform = DraftCosts()
    for _ in range(5):
        uniform.note(1, 0.3)
    assert 0.3 < uniform.of(2) < 0.6  # what was read for the first guess is not read again for the second


def test_costs_are_learnt_and_hiccups_hardly_count() -> None:
    known = ForwardCosts()
    assert known.of(1) < known.of(8)  # before anything is known, more units cost more
    known.note(1, 0.010)
    assert known.of(1) == 0.010
    assert 0.010 < known.of(4) < 0.020
    known.note(1, 10.0)
    assert known.of(1) == pytest.approx(0.0115)
    for _ in range(100):
        known.note(1, 0.020)
    assert known.of(1) == pytest.approx(0.020, rel=0.01)
    known.note(9, 0.5)
    assert known.of(8) == pytest.approx(0.5, rel=0.1)


def test_pace_grows_with_success_and_ends_where_it_does_not_pay() -> None:
    pace = Pace(8)
    for _ in range(60):
        pace.learn(8, 8)
    assert pace.length(costs(), DraftCosts(), 8) == 8
    assert pace.length(costs(), DraftCosts(), 3) == 3
    assert pace.length(costs(more=5.0), DraftCosts(), 8) == 1  # a tryout: it does not pay
    short = Pace(8)
    for _ in range(60):
        short.learn(8, 2)
    assert short.length(costs(), DraftCosts(), 8) == 2


def test_the_first_drafts_are_short_until_one_was_right_to_its_end() -> None:
    pace = Pace(8)
    lengths = []
    for _ in range(4):
        lengths.append(pace.length(costs(more=0.01), DraftCosts(), 8))
        pace.learn(lengths[-1], lengths[-1])
    assert lengths == [2, 4, 8, 8]
    pace = Pace(8)
    for _ in range(3):
        pace.learn(2, 1)
        assert pace.length(costs(more=0.01), DraftCosts(), 8) <= 2
    assert Pace(1).length(costs(), DraftCosts(), 8) == 1


def test_pace_switches_off_rests_longer_each_time_and_comes_back() -> None:
    pace = Pace(8)
    for _ in range(40):
        pace.learn(1, 0)
    tries = []
    for forward in range(1200):
        if pace.length(costs(), DraftCosts(), 8):
            tries.append(forward)
            pace.learn(1, 0)
    gaps = np.diff(tries)
    assert gaps[0] == 17  # the tryout itself and a rest of 16
    assert (np.diff(gaps) > 0).all()
    assert len(tries) < 9
    # It turns out right again: soon it is trusted, and rests are short.
    lengths = []
    for _ in range(1100):
        if k := pace.length(costs(), DraftCosts(), 8):
            lengths.append(k)
            pace.learn(k, k)
    assert len(lengths) > 150  # the last rest was of 1,024, the next of 16, then none
    assert lengths[-1] == 8


def test_a_slow_drafter_does_not_pay_however_right_it_is() -> None:
    pace = Pace(8)
    for _ in range(60):
        pace.learn(8, 8)
    assert pace.length(costs(), drafting(0.1), 8) > 1
    assert pace.length(costs(), drafting(2.0), 8) == 1
    assert pace.length(costs(), drafting(2.0), 8) == 0


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(1, 8), st.integers(0, 8)), max_size=60), st.integers(0, 8))
def test_pace_is_a_length_whatever_it_learnt(judged: list[tuple[int, int]], maximum: int) -> None:
    pace = Pace(8)
    for drafted, accepted in judged:
        pace.learn(drafted, min(drafted, accepted))
        assert 0 <= pace.length(costs(), drafting(0.01), maximum) <= max(1, maximum)


def test_guesses_of_different_evidence_are_judged_apart() -> None:
    """Long matches are right, short ones wrong: the one are kept whole, the others cut or dropped."""
    session = FunctionSession(lambda row, past, k: Draft(np.full(k, 7), evidence=64 if row else 1))
    paced = AdaptiveSession(session, costs(), Adaptive(8), "test")
    for row in (0, 1):
        paced.start(row, np.array([1]))
    kept = []
    for _ in range(60):
        drafts = paced.propose([0, 1], 8)
        kept.append([len(draft.tokens) for draft in drafts])
        for row, draft in enumerate(drafts):
            paced.judge(row, draft, len(draft.tokens) * row)
    assert kept[-1] == [0, 8]
