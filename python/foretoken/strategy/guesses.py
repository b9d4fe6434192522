"""What the drafters said about all open rows, in the forms that others take it in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..canvas import pad
from ..drafter.laws import stack_laws
from ..drafter.protocol import Draft, Laws


class Guesses:
    """The drafts of the open rows, as lists and as the model and the verifier take them.

    Attributes:
        tokens: (rows, longest) int64, filled up with 0.
        lengths: (rows,) int64.
        ids: the same as lists, not filled up.
        parents: (rows, longest) int64, as in `Draft`, filled up with -1; None if all drafts are chains.
    """

    def __init__(self, drafts: list[Draft]) -> None:
        self.drafts = drafts
        self.tokens, self.lengths = pad([draft.tokens for draft in drafts])
        self.ids: list[list[int]] = [draft.tokens.tolist() for draft in drafts]

        self.parents: np.ndarray | None = None
        if any(draft.parents is not None for draft in drafts):
            self.parents = np.full_like(self.tokens, -1)
            for line, draft in enumerate(drafts):
                count = len(draft.tokens)
                self.parents[line, :count] = np.arange(-1, count - 1) if draft.parents is None else draft.parents

    def before(self, line: int, place: int) -> list[int]:
        """The guesses of a row that lead to one of them, itself included; none for -1."""
        return [self.ids[line][index] for index in self._leading(line, place)]

    def branch(self, line: int, path: list[int]) -> list[int]:
        """Of the guesses of a row, those along a path of accepted ones and on to an end."""
        return [self.ids[line][index] for index in self.places(line, path)]

    def places(self, line: int, path: list[int]) -> Sequence[int]:
        """Where in the draft the guesses of `branch` stand."""
        if self.parents is None or self.drafts[line].parents is None:
            return range(len(self.ids[line]))
        last = path[-1] if path else -1
        for place, parent in enumerate(self.parents[line, : len(self.ids[line])].tolist()):
            if parent == last and place > last:
                last = place
        return self._leading(line, last)

    def _leading(self, line: int, place: int) -> Sequence[int]:
        if self.parents is None or self.drafts[line].parents is None:
            return range(place + 1)
        found: list[int] = []
        while place >= 0:
            found.append(place)
            place = int(self.parents[line, place])
        return found[::-1]

    def probs(self, vocab: int) -> Laws | None:
        """The laws they were drawn from, (rows, longest, …), or None if all were certain."""
        longest = self.tokens.shape[1]
        filler = Draft(np.zeros(1, dtype=np.int64))  # behind a row's last guess nothing is looked at
        places = [
            (draft, place) if place < len(draft.tokens) else (filler, 0)
            for draft in self.drafts
            for place in range(longest)
        ]
        laws = stack_laws(places, vocab)
        if isinstance(laws, tuple):
            ids, probs = (part.reshape(len(self.drafts), longest, -1) for part in laws)
            return ids, probs
        return None if laws is None else laws.reshape(len(self.drafts), longest, vocab)
