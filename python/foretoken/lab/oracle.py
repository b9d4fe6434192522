"""A model without an error of its own: the exact conditionals of a few equally probable answers to each input.

Whatever comes out wrong is the strategy's doing. `Oracle` predicts all positions at once, `CausalOracle` one after
another, and both are the same law.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..canvas import UNKNOWN, Canvas
from ..errors import InvalidArgument, ShapeError


class Oracle:
    """A `ParallelModel` of the uniform law over each meaning's answers, given what a row already says.

    A row is [meaning][z, if there is a shared one][units of an answer, END behind them]. Ids are those of the units,
    then one for each meaning, then one for each z. The law is that of the answers that agree with most of the known
    units: with all of them where there are such answers, and where nothing can be right any more, with the nearest. A
    known z is the number of an answer, and then the row is that answer, whatever else it says.

    Args:
        answers: (meanings, modes, positions) int64 of ids in [0, units), the modes of a meaning different.
        units: how many ids units have.
        end: the unit behind an answer.
        shared: whether rows have a z.

    Raises:
        ShapeError: answers are not as above.
        InvalidArgument: an id is out of range.

    Example:
        >>> oracle = Oracle(np.array([[[1, 2], [3, 4]]]), units=5, end=0)
        >>> oracle.predict(oracle.canvas([0]).rows[0][None], np.array([3])).exp()[0, 1].tolist()
        [0.0, 0.5, 0.0, 0.5, 0.0, 0.0]
    """

    def __init__(self, answers: np.ndarray, *, units: int, end: int, shared: bool = False) -> None:
        if answers.ndim != 3 or not answers.size:
            raise ShapeError(f"answers have shape {answers.shape}: give (meanings, modes, positions)")
        if answers.min() < 0 or answers.max() >= units or not 0 <= end < units:
            raise InvalidArgument(f"answers hold ids in [{answers.min()}, {answers.max()}], units are [0, {units})")
        self.answers, self.units, self.end, self.shared = answers.astype(np.int64), units, end, shared
        self.meanings, self.modes, self.width = answers.shape

    @property
    def body(self) -> int:
        """Where the answer begins in a row."""
        return 2 if self.shared else 1

    @property
    def vocab_size(self) -> int:
        """Units, meanings and z's."""
        return self.units + self.meanings + (self.modes if self.shared else 0)

    @property
    def context(self) -> int:
        """Positions of a whole row."""
        return self.body + self.width

    @property
    def end_tokens(self) -> tuple[int, ...]:
        """END."""
        return (self.end,)

    def canvas(self, meanings: list[int]) -> Canvas:
        """Rows that only say what is meant, all else to be found."""
        rows = np.full((len(meanings), self.context), UNKNOWN, dtype=np.int64)
        rows[:, 0] = self.units + np.array(meanings)
        return Canvas(list(rows))

    def predict(self, canvas: np.ndarray, lengths: np.ndarray) -> Tensor:
        """Exact log-probabilities of what stands at every position, given all that is known.

        Args:
            canvas: (rows, positions) int64, `UNKNOWN` where a unit is to be found; the first of a row is its meaning.
            lengths: (rows,) int64, positions of each row; what a row has behind them is taken as unknown.

        Returns:
            (rows, positions, vocabulary) float32; those at known positions are zeros.

        Raises:
            ShapeError: a row is longer than `context`.
            InvalidArgument: a row does not begin with a meaning, or has no such z.
        """
        rows, positions = canvas.shape
        if positions > self.context:
            raise ShapeError(f"rows have {positions} positions, this oracle's have {self.context}")
        canvas = np.where(np.arange(positions) < np.asarray(lengths)[:, None], canvas, UNKNOWN)
        meanings = canvas[:, 0] - self.units
        if rows and not (meanings.min() >= 0 and meanings.max() < self.meanings):
            raise InvalidArgument(f"a row does not begin with one of the meanings {self.units} and following")
        answers = self.answers[meanings]
        weights = self._weights(canvas, answers)
        logits = torch.zeros(rows, positions, self.vocab_size)
        unknown = canvas == UNKNOWN
        logits[torch.from_numpy(unknown)] = -torch.inf
        table, body = logits.numpy(), answers[:, :, : positions - self.body]
        with np.errstate(divide="ignore"):
            if self.shared and positions > 1:
                table[unknown[:, 1], 1, self.units + self.meanings :] = np.log(weights[unknown[:, 1]])
            # Of each unit that some answer has at a place, how probable all answers are that have it there.
            same = body[:, :, None] == body[:, None]
            laws = np.log(np.einsum("rn,rnmp->rmp", weights, same))
        for mode in range(self.modes):
            line, place = unknown[:, self.body :].nonzero()
            table[line, place + self.body, body[line, mode, place]] = laws[line, mode, place]
        return logits

    def following(self, read: np.ndarray, lengths: np.ndarray) -> Tensor:
        """What `predict` says of the first position behind what was read, (rows, vocabulary) float32.

        Args:
            read: (rows, positions) int64, `UNKNOWN` behind a row's length.
            lengths: (rows,) int64, each less than `context`.
        """
        answers, lines = self.answers[read[:, 0] - self.units], np.arange(len(read))
        weights, law = self._weights(read, answers), np.zeros((len(read), self.vocab_size))
        body = lengths >= self.body
        law[~body, self.units + self.meanings :] = weights[~body] if self.shared else 0
        units = answers[lines[body], :, lengths[body] - self.body]
        np.add.at(law, (lines[body, None], units), weights[body])
        with np.errstate(divide="ignore"):
            return torch.from_numpy(np.log(law).astype(np.float32))

    def _weights(self, canvas: np.ndarray, answers: np.ndarray) -> np.ndarray:
        """How probable each answer is, (rows, modes)."""
        body = canvas[:, self.body :]
        agreeing = (body[:, None] == answers[:, :, : body.shape[1]]).sum(axis=2)
        weights = (agreeing == agreeing.max(axis=1, keepdims=True)).astype(np.float64)
        if self.shared and canvas.shape[1] > 1:
            said = canvas[:, 1] != UNKNOWN
            z = canvas[said, 1] - self.units - self.meanings
            if z.size and not (z.min() >= 0 and z.max() < self.modes):
                raise InvalidArgument(f"a row has no z of {self.units + self.meanings} and following in second place")
            weights[said] = np.eye(self.modes)[z]
        return weights / weights.sum(axis=1, keepdims=True)


class CausalOracle:
    """The same law as a `CausalModel`, for plain AR and as a verifier; a row ends with END.

    Args:
        oracle: whose law.
    """

    def __init__(self, oracle: Oracle) -> None:
        self.oracle = oracle
        self.vocab_size, self.context, self.end_tokens = oracle.vocab_size, oracle.context, oracle.end_tokens

    def open(self, rows: int, capacity: int) -> OracleSession:
        """An empty past for some rows of at most `capacity` units."""
        return OracleSession(self.oracle, rows, capacity)


class OracleSession:
    """A `Session` that keeps what its rows have read, for everything else follows from that."""

    def __init__(self, oracle: Oracle, rows: int, capacity: int) -> None:
        self._oracle = oracle
        self._read = np.full((rows, min(capacity, oracle.context)), UNKNOWN, dtype=np.int64)
        self._lengths = np.zeros(rows, dtype=np.int64)

    @property
    def lengths(self) -> np.ndarray:
        """Units read by each row."""
        return self._lengths.copy()

    def forward(self, tokens: np.ndarray, counts: np.ndarray | None = None, *, last: bool = False) -> Tensor:
        """Read more units and predict what follows each; behind a whole row, and behind `counts`, all is alike."""
        rows, width = tokens.shape
        counts = np.full(rows, width) if counts is None else counts
        logits = torch.zeros(rows, width, self._oracle.vocab_size)
        for place in range(width):
            taking = np.flatnonzero(counts > place)
            self._read[taking, self._lengths[taking]] = tokens[taking, place]
            self._lengths[taking] += 1
            asked = taking[self._lengths[taking] < self._oracle.context]
            if len(asked):
                logits[asked, place] = self._oracle.following(self._read[asked], self._lengths[asked])
        return logits[np.arange(rows), counts - 1][:, None] if last else logits

    def truncate(self, lengths: np.ndarray) -> None:
        """Forget everything behind `lengths` units."""
        self._lengths = np.minimum(self._lengths, lengths)
        self._read[np.arange(self._read.shape[1]) >= self._lengths[:, None]] = UNKNOWN

    def select(self, rows: np.ndarray) -> None:
        """Keep these rows, in this order."""
        self._read, self._lengths = self._read[rows], self._lengths[rows]
