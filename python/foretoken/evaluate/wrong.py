"""A drafter that is never right, to know what the worst drafter costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..drafter.protocol import Draft, DraftRequest


class AlwaysWrong:
    """Knows what will be written, and guesses the next id but one: no guess is ever accepted.

    Args:
        prompts: rows of ids.
        texts: what each is continued with, under the seed and sampler that will be used.
        vocab_size: number of ids, ≥ 2.
        evidence: what the drafts claim; 0 claims nothing.
    """

    def __init__(
        self, prompts: Sequence[np.ndarray], texts: Sequence[np.ndarray], *, vocab_size: int, evidence: int = 0
    ) -> None:
        self._texts = {prompt.tobytes(): text for prompt, text in zip(prompts, texts, strict=True)}
        self._vocab_size, self._evidence = vocab_size, evidence

    @property
    def name(self) -> str:
        """What statistics and traces call it."""
        return "always wrong"

    def open(self, request: DraftRequest) -> WrongSession:
        """A session for one generation."""
        return WrongSession(self._texts, self._vocab_size, self._evidence)


class WrongSession:
    """At work on some rows."""

    def __init__(self, texts: Mapping[bytes, np.ndarray], vocab_size: int, evidence: int) -> None:
        self._texts, self._vocab_size, self._evidence = texts, vocab_size, evidence
        self._rows: dict[int, np.ndarray] = {}
        self._done: dict[int, int] = {}

    def start(self, row: int, prompt: np.ndarray) -> None:
        """Begin a row that starts with these ids."""
        self._rows[row], self._done[row] = self._texts[prompt.tobytes()], 0

    def extend(self, row: int, tokens: Sequence[int]) -> None:
        """Tell what the row was continued with."""
        self._done[row] += len(tokens)

    def propose(self, rows: Sequence[int], k: int) -> list[Draft]:
        """Guess `k` ids for each of these rows, fewer where its text ends."""
        drafts = []
        for row in rows:
            coming = self._rows[row][self._done[row] : self._done[row] + k]
            drafts.append(Draft((coming + 1) % self._vocab_size, evidence=self._evidence))
        return drafts

    def judge(self, row: int, draft: Draft, accepted: int) -> None:
        """There is nothing to learn."""

    def stop(self, row: int) -> None:
        """Forget a row."""
        del self._rows[row], self._done[row]
