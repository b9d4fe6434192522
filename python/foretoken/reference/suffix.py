"""Suffix look-up (2411.04975, 2411.10666): the most frequent continuation of the longest repeated end of a row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import SupportsIndex

import numpy as np

from ..errors import ArgumentTypeError, InvalidArgument
from .rows import Rows, token_ids, whole, within


class SuffixCorpus:
    """Documents that many rows look up in; this twin neither measures its memory nor has a file.

    Args:
        memory_limit_bytes: what the Rust class may hold; here only checked.
        max_match: the longest context that is counted, in tokens, in [1, 1024].

    Raises:
        InvalidArgument: a number is out of range.

    Example:
        >>> corpus = SuffixCorpus(1 << 20)
        >>> corpus.add([1, 2, 3])
        >>> len(corpus), corpus.tokens
        (1, 3)
    """

    def __init__(self, memory_limit_bytes: SupportsIndex, *, max_match: SupportsIndex = 64) -> None:
        self.memory_limit_bytes = whole(memory_limit_bytes)
        if self.memory_limit_bytes <= 0:
            raise InvalidArgument(f"memory_limit_bytes is {memory_limit_bytes}: give a positive number of bytes")
        self.max_match = within("max_match", max_match, 1, 1024)
        self.documents: list[list[int]] = []

    def add(self, tokens: Iterable[SupportsIndex]) -> None:
        """Add a document.

        Args:
            tokens: its ids in [0, 2**31), at least one.

        Raises:
            InvalidArgument: there is none, or one is out of range.
        """
        document = token_ids(tokens)
        if not document:
            raise InvalidArgument("tokens is empty: give at least one")
        self.documents.append(document)

    def keep(self, newest: int) -> None:
        """Drop all but the newest documents, as the Rust class does when its memory is used up."""
        self.documents = self.documents[len(self.documents) - newest :]

    def __len__(self) -> int:
        return len(self.documents)

    @property
    def tokens(self) -> int:
        """The number of tokens of all documents."""
        return sum(map(len, self.documents))


class Suffix(Rows):
    """Guesses, token by token, what most often followed the longest match.

    Args:
        max_match: the longest match, in tokens, in [1, 1024] and at most the corpus'.
        corpus: documents to look in where the match is longer there than in the row itself, or None.
        min_match: the shortest match that is worth a guess, in [1, max_match].

    Raises:
        InvalidArgument: a length is out of range or more than the corpus counts.
        ArgumentTypeError: `corpus` is something else.

    Example:
        >>> drafter = Suffix()
        >>> drafter.start(0, [1, 2, 1, 3, 1, 2, 9, 1])
        >>> tokens, probs, match_length = drafter.propose(0, 2)
        >>> tokens, probs.round(2), match_length
        (array([2, 9]), array([0.67, 0.5 ]), 1)
    """

    def __init__(
        self, max_match: SupportsIndex = 64, corpus: SuffixCorpus | None = None, min_match: SupportsIndex = 1
    ) -> None:
        super().__init__()
        if not isinstance(corpus, SuffixCorpus | None):
            raise ArgumentTypeError("corpus is not a SuffixCorpus: give one, or None")
        self.max_match = within("max_match", max_match, 1, 1024)
        self.min_match = within("min_match", min_match, 1, 1024)
        self.corpus = corpus
        if self.min_match > self.max_match:
            raise InvalidArgument(f"min_match is {min_match} and max_match {max_match}: give min_match <= max_match")
        if corpus is not None and corpus.max_match < self.max_match:
            raise InvalidArgument(f"the corpus counts contexts of {corpus.max_match} tokens, not {max_match}")

    def propose(self, row: SupportsIndex, k: SupportsIndex) -> tuple[np.ndarray, np.ndarray, int]:
        """What may come next.

        Each guess is the token that most often (among equals, most recently) followed the longest end of row + draft,
        of at most `max_match` tokens, that anything followed: in the row itself, or in the corpus where that match is
        longer. The draft ends where the match is shorter than `min_match`.

        Args:
            row: number of a started row.
            k: the most tokens to guess, in [0, 65536].

        Returns:
            tokens: (≤ k,) int64 ids.
            probs: for each, float64, its share among the tokens that followed its match.
            match_length: how many tokens at the end of the row the first guess was looked up by; 0 without a guess.

        Raises:
            InvalidArgument: the row is unknown, or `k` is out of range.
        """
        most, text = within("k", k, 0, 65536), self._text(row)
        draft: list[int] = []
        probs: list[float] = []
        match_length = 0
        while len(draft) < most:
            length, followers = self._followers(text + draft, [text])
            if self.corpus is not None:
                longer, shared = self._followers(text + draft, self.corpus.documents)
                if longer > length:
                    length, followers = longer, shared
            if length < self.min_match:
                break
            match_length = match_length or length
            counts = Counter(followers)
            newest = {token: place for place, token in enumerate(followers)}
            best = max(counts, key=lambda token: (counts[token], newest[token]))
            draft.append(best)
            probs.append(counts[best] / len(followers))
        return np.array(draft, dtype=np.int64), np.array(probs, dtype=np.float64), match_length

    def propose_rows(
        self, rows: Sequence[SupportsIndex], k: SupportsIndex
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """`propose` for several rows: tokens (rows, k) padded with -1, shares padded with 0, counts, match lengths."""
        guesses = [self.propose(row, k) for row in rows]
        tokens = np.full((len(guesses), whole(k)), -1, dtype=np.int64)
        probs = np.zeros(tokens.shape)
        for line, (ids, shares, _) in enumerate(guesses):
            tokens[line, : len(ids)], probs[line, : len(ids)] = ids, shares
        counts = np.array([len(ids) for ids, *_ in guesses], dtype=np.int64)
        return tokens, probs, counts, np.array([length for *_, length in guesses], dtype=np.int64)

    def _followers(self, text: list[int], documents: list[list[int]]) -> tuple[int, list[int]]:
        """The longest end of `text` that anything followed in the documents, and all that did, in order."""
        for length in range(min(self.max_match, len(text)), 0, -1):
            context = text[len(text) - length :]
            followers = [
                document[end]
                for document in documents
                for end in range(length, len(document))
                if document[end - length : end] == context
            ]
            if followers:
                return length, followers
        return 0, []
