"""The past of one row, and a scratch copy of it that a block of drafted tokens may extend and drop."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..errors import InvalidArgument, ShapeError


class History:
    """What a row has seen: its prompt, then its output, and Mirostat's state; everything recomputed when asked for.

    Args:
        prompt: token ids, ≥ 0.
        mu: Mirostat's bound on surprise in bits; None until a token was drawn under Mirostat.

    Raises:
        InvalidArgument: a token id is negative.

    Example:
        >>> history = History([5, 6])
        >>> history.extend([7])
        >>> history.tokens, history.output, len(history)
        (array([5, 6, 7]), array([7]), 3)
    """

    def __init__(self, prompt: Iterable[int] = (), *, mu: float | None = None) -> None:
        self._tokens: list[int] = []
        self.extend(prompt)
        self.prompt_length = len(self._tokens)
        self.mu = mu

    def extend(self, tokens: Iterable[int]) -> None:
        """Adds tokens to the output."""
        added = [int(token) for token in tokens]
        if any(token < 0 for token in added):
            raise InvalidArgument(f"a token id is {min(added)}: give ids ≥ 0")
        self._tokens.extend(added)

    def copy(self) -> History:
        """The same past, to go on from by itself."""
        other = History(self.tokens[: self.prompt_length], mu=self.mu)
        other.extend(self.output)
        return other

    @property
    def tokens(self) -> np.ndarray:
        """Prompt and output, int64."""
        return np.array(self._tokens, dtype=np.int64)

    @property
    def output(self) -> np.ndarray:
        """The tokens after the prompt, int64."""
        return self.tokens[self.prompt_length :]

    def __len__(self) -> int:
        return len(self._tokens)


def copies(histories: Sequence[Any] | None, *, count: int) -> list[History]:
    """A scratch copy of each row's history, or empty ones: kernels work on these and commit at the end.

    Args:
        histories: anything with `tokens`, `prompt_length` and `mu` for each row, or None.
        count: how many rows the batch has.

    Raises:
        ShapeError: not one history for each row.
        InvalidArgument: one history serves two rows.
    """
    if histories is None:
        return [History() for _ in range(count)]
    if len(histories) != count:
        raise ShapeError(f"history has {len(histories)} entries, expected {count}: give one for each row")
    if len({id(history) for history in histories}) < count:
        raise InvalidArgument("two rows share one history: give each row its own")
    scratch = []
    for history in histories:
        copy = History(history.tokens[: history.prompt_length], mu=history.mu)
        copy.extend(history.tokens[history.prompt_length :])
        scratch.append(copy)
    return scratch
