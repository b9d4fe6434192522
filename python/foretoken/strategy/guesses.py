"""What the drafters said about all open rows, in the forms that others take it in."""

from __future__ import annotations

import numpy as np

from ..canvas import pad
from ..drafter.protocol import Draft
from ..errors import DraftError


class Guesses:
    """The drafts of the open rows, as lists and as the model and the verifier take them.

    Attributes:
        tokens: (rows, longest) int64, filled up with 0.
        lengths: (rows,) int64.
        ids: the same as lists, not filled up.
    """

    def __init__(self, drafts: list[Draft]) -> None:
        self.drafts = drafts
        self.tokens, self.lengths = pad([draft.tokens for draft in drafts])
        self.ids: list[list[int]] = [draft.tokens.tolist() for draft in drafts]

    def dense_probs(self, vocab: int) -> np.ndarray | None:
        """The laws they were drawn from, (rows, longest, vocab) float64, or None if all were certain."""
        if all(draft.probs is None for draft in self.drafts):
            return None
        probs = np.zeros((*self.tokens.shape, vocab))
        for line, draft in enumerate(self.drafts):
            places = np.arange(len(draft.tokens))
            law = draft.probs
            if law is None:
                probs[line, places, draft.tokens] = 1.0
                continue
            if not isinstance(law, np.ndarray) or law.shape != (len(places), vocab) or law.dtype.kind != "f":
                given = getattr(law, "shape", type(law).__name__)
                raise DraftError(f"a draft came with probs {given}, expected a float array {(len(places), vocab)}")
            probs[line, places] = law
        return probs
