"""Texts that say what is wanted, as rows of one length: the condition of a painter, the input of a CLIP."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from ..errors import ArgumentTypeError, InvalidArgument, LimitExceeded
from .text import Text

NONE = 0
"""The id behind a text, up to the end of its row; a row of nothing else says nothing."""


def spaced(text: str) -> str:
    """A text whose first word is cut like any other: behind a space, which a comma never has.

    Example:
        >>> spaced("red heart "), spaced(", flat")
        (' red heart', ', flat')
    """
    text = text.strip()
    return f" {text}" if text[:1].isalnum() else text


class Prompts:
    """Text → a fixed number of ids.

    A tokenizer over bytes knows every word: one that it never saw becomes several ids.

    Args:
        tokenizer: what cuts texts; its id 0 is `NONE`.
        positions: ids of each row.
        names: words that are one id each, whatever the tokenizer makes of them: word → id.

    Example:
        >>> from tokenizers import models
        >>> letters = Tokenizer(models.BPE({"": 0, "a": 1, "b": 2, " ": 3}, []))
        >>> Prompts(letters, positions=4, names={"S*": 9})(["ab", "S* b"]).tolist()
        [[3, 1, 2, 0], [9, 3, 2, 0]]
    """

    def __init__(self, tokenizer: Tokenizer, *, positions: int, names: dict[str, int] | None = None) -> None:
        self.tokenizer, self.positions, self.names = tokenizer, positions, dict(names or {})

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], *, positions: int) -> Prompts:
        """Read a `tokenizer.json`; raises what `Text.from_file` does."""
        return cls(Text.from_file(Path(path)).tokenizer, positions=positions)

    @property
    def vocab_size(self) -> int:
        """Ids of the tokenizer; those of names lie elsewhere."""
        return self.tokenizer.get_vocab_size()

    def __call__(self, texts: Iterable[str | None]) -> np.ndarray:
        """Ids (texts, positions) int64; None says nothing.

        Raises:
            ArgumentTypeError: a text is none.
            InvalidArgument: a text is empty.
            LimitExceeded: a text has more ids than there are positions.
        """
        if isinstance(texts, (str, bytes)) or not isinstance(texts, Iterable):
            raise ArgumentTypeError(f"prompts must be several texts, got {texts!r}")
        rows = [self._ids(text) for text in texts]
        found = np.full((len(rows), self.positions), NONE, dtype=np.int64)
        for line, row in enumerate(rows):
            found[line, : len(row)] = row
        return found

    def _ids(self, text: str | None) -> list[int]:
        if text is None:
            return []
        if not isinstance(text, str):
            raise ArgumentTypeError(f"a prompt must be a text, got {text!r}")
        if not text.strip():
            raise InvalidArgument("the prompt is empty: say what is wanted, or give None for anything at all")
        try:
            text.encode()
        except UnicodeEncodeError as error:  # a lone surrogate, of which the tokenizer would say that it is no str
            raise InvalidArgument(f"the prompt is no valid text: {error}") from None
        ids = [known for part in self._parts(text) for known in part]
        if NONE in ids:
            raise InvalidArgument(f"{text!r} holds the sign that says nothing: leave it out, or give None")
        if len(ids) > self.positions:
            raise LimitExceeded(f"the prompt has {len(ids)} tokens, at most {self.positions} are read; shorten it")
        return ids

    def _parts(self, text: str) -> Iterable[list[int]]:
        longest_first = sorted(self.names, key=len, reverse=True)  # "S*2" before "S*"
        pattern = f"({'|'.join(map(re.escape, longest_first))})"
        for part in re.split(pattern, text) if self.names else [text]:
            if part in self.names:
                yield [self.names[part]]
            else:
                yield self.tokenizer.encode(spaced(part), add_special_tokens=False).ids

    def pieces(self, text: str) -> list[str]:
        """What each id of a prompt stands for, to be looked at.

        Example:
            >>> from tokenizers import models
            >>> Prompts(Tokenizer(models.BPE({"": 0, "a": 1}, [])), positions=4, names={"S*": 9}).pieces("a S*")
            ['a', 'S*']
        """
        by_id = {known: name for name, known in self.names.items()}
        return [by_id.get(known) or self.tokenizer.decode([known]).strip() for known in self._ids(text)]
