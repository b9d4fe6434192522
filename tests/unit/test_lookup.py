"""Look-up drafters: what their drafts say besides tokens."""

from __future__ import annotations

import numpy as np

import foretoken as ft


def test_a_suffix_says_how_likely_its_guesses_are() -> None:
    session = ft.Suffix(minimum=1).session()
    session.start(0, np.array([1, 2, 1, 3, 1, 2, 9, 1]))
    (draft,) = session.propose([0], 2)
    assert draft.tokens.tolist() == [2, 9]
    assert draft.chances is not None
    assert draft.chances.tolist() == [2 / 3, 1 / 2]  # of what followed 1, then of what followed 1, 2
    shorter = draft.first(1)
    assert shorter.chances is not None
    assert shorter.chances.tolist() == [2 / 3]
    session.start(1, np.array([7]))
    assert [len(draft.tokens) for draft in session.propose([1, 0], 2)] == [0, 2]


def test_an_n_gram_does_not() -> None:
    session = ft.NGram().session()
    session.start(0, np.array([7, 8, 9, 1, 7, 8]))
    (draft,) = session.propose([0], 2)
    assert (draft.tokens.tolist(), draft.evidence, draft.chances) == ([9, 1], 2, None)
    assert draft.first(1).chances is None
