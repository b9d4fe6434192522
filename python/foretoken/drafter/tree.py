"""The guesses of several drafters as one tree, so that one forward checks them all."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from .laws import stack_laws
from .pace import CompositeSession
from .protocol import NOTHING, Draft, DraftRequest, DraftSession, check_drafts


class TreeDrafting(CompositeSession):
    """Asks all drafters, merges what they say, and tells each how far it was right."""

    def __init__(
        self, sessions: Sequence[DraftSession], names: Sequence[str], request: DraftRequest, *, nodes: int
    ) -> None:
        super().__init__(sessions)
        self._names, self._nodes = names, nodes
        self._rejection, self._vocab = request.rejection, request.model.vocab_size
        self._said: dict[int, list[Draft]] = {}  # by row: what each of the drafters guessed the last time

    def propose(self, rows: Sequence[int], k: int) -> list[Draft]:
        """One tree a row: each branch at most `k` long."""
        answers = []
        for session, name in zip(self.sessions, self._names, strict=True):
            answers.append(session.propose(rows, k))
            check_drafts(answers[-1], len(rows), name)
        drafts = []
        for row, said in zip(rows, zip(*answers, strict=True), strict=True):
            self._said[row] = list(said)
            named = [(draft, draft.source or name) for draft, name in zip(said, self._names, strict=True)]
            drafts.append(merged(named, nodes=self._nodes, rejection=self._rejection, vocab=self._vocab))
        return drafts

    def judge(self, row: int, draft: Draft, accepted: int) -> None:
        """Verdicts are passed on by `extend`, which knows what each of the drafters should have said."""

    def extend(self, row: int, tokens: Sequence[int]) -> None:
        """Tell everyone what the row was continued with, and how much of it they had guessed."""
        for session, draft in zip(self.sessions, self._said.pop(row, ()), strict=False):
            if len(draft.tokens):
                session.judge(row, draft, reach(draft, tokens))
        super().extend(row, tokens)

    def stop(self, row: int) -> None:
        """Forget a row everywhere."""
        super().stop(row)
        self._said.pop(row, None)


def reach(draft: Draft, tokens: Sequence[int]) -> int:
    """How many of these tokens, from the first, one branch of a draft has guessed.

    Example:
        >>> reach(Draft(np.array([5, 6, 7]), parents=np.array([-1, -1, 1])), [6, 7, 8])
        2
    """
    parents = range(-1, len(draft.tokens) - 1) if draft.parents is None else draft.parents.tolist()
    ends, count = {-1}, 0
    for token in tokens:
        known = zip(parents, draft.tokens.tolist(), strict=True)
        ends = {place for place, (parent, guess) in enumerate(known) if parent in ends and guess == token}
        if not ends:
            break
        count += 1
    return count


def merged(named: Sequence[tuple[Draft, str]], *, nodes: int, rejection: bool, vocab: int) -> Draft:
    """Several drafts, each with the name of who made it, as one.

    Guesses that are the same token after the same text become one. Under the ratio test one that was drawn stays by
    itself: that another drew the same token does not make it certain, and leaving its test out would bias the law. What
    is certain may join it, if it is tried behind it, where nothing of the token is left; so drawn drafts come first.

    Args:
        named: drafts and their names.
        nodes: the most guesses that the tree may have; those that come last are left out, whatever they are.
        rejection: whether the ratio test will judge.
        vocab: size of the vocabulary.

    Example:
        >>> first, second = Draft(np.array([5, 6])), Draft(np.array([5, 7]))
        >>> tree = merged([(first, "a"), (second, "b")], nodes=16, rejection=False, vocab=9)
        >>> tree.tokens, tree.parents, tree.source
        (array([5, 6, 7]), array([-1,  0,  0]), 'a|b')
    """
    named = [(draft, name) for draft, name in named if len(draft.tokens)]
    if len(named) < 2:
        return dataclasses.replace(named[0][0], source=named[0][1]).first(nodes) if named else NOTHING
    if rejection:
        named = sorted(named, key=lambda item: item[0].probs is None)
    parents: list[int] = []
    parts: list[tuple[Draft, int]] = []
    known: dict[tuple[int, int], int] = {}
    for draft, _ in named:
        own = rejection and draft.probs is not None
        places: list[int | None] = []  # in the tree
        above = range(-1, len(draft.tokens) - 1) if draft.parents is None else draft.parents.tolist()
        for index, (before, token) in enumerate(zip(above, draft.tokens.tolist(), strict=True)):
            parent = -1 if before < 0 else places[before]
            place = None if parent is None or own else known.get((parent, token))
            if place is None and parent is not None and len(parents) < nodes:
                place = len(parents)
                parents.append(parent)
                parts.append((draft, index))
                known.setdefault((parent, token), place)
            places.append(place)
    tokens = np.array([draft.tokens[index] for draft, index in parts], dtype=np.int64)
    chain = parents == list(range(-1, len(parents) - 1))
    return Draft(
        tokens,
        stack_laws(parts, vocab) if rejection else None,
        source="|".join(dict.fromkeys(name for _, name in named)),
        parents=None if chain else np.array(parents, dtype=np.int64),
    )
