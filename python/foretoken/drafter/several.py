"""Several drafters in one: whoever has something to say first, or whoever is usually right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import InvalidArgument
from .pace import CompositeSession, open_paced
from .protocol import NOTHING, Draft, Drafter, DraftRequest, DraftSession, check_drafts


class Several:
    """Asks several drafters for each guess.

    Args:
        drafters: two or more, the surest first.
        ask_all: False asks one after another until one has a guess; True asks all and takes the guess with the most
            expected right tokens, by each one's measured success.

    Raises:
        InvalidArgument: fewer than two drafters are given.

    Example:
        >>> import foretoken as ft
        >>> ft.Several(ft.Suffix(), ft.NGram()).name
        'suffix|n-gram'
    """

    def __init__(self, *drafters: Drafter, ask_all: bool = False) -> None:
        if len(drafters) < 2:
            raise InvalidArgument(f"Several takes two drafters or more, got {len(drafters)}")
        self.drafters, self.ask_all = drafters, ask_all

    @property
    def name(self) -> str:
        """What statistics and traces call it."""
        return "|".join(drafter.name for drafter in self.drafters)

    def open(self, request: DraftRequest) -> SeveralSession:
        """A session for one generation."""
        sessions = [open_paced(drafter, request) for drafter in self.drafters]
        return SeveralSession(sessions, [drafter.name for drafter in self.drafters], ask_all=self.ask_all)


class SeveralSession(CompositeSession):
    """The sessions of several drafters on the same rows."""

    def __init__(self, sessions: Sequence[DraftSession], names: Sequence[str], *, ask_all: bool) -> None:
        self._sessions, self._names, self._ask_all = sessions, names, ask_all
        # Right guesses per draft of each child, remembered for about 30 drafts; hopeful at first.
        self._worth = [1.0] * len(sessions)
        self._asked: dict[int, int] = {}

    def start(self, row: int, prompt: np.ndarray) -> None:
        """Begin a row everywhere."""
        for session in self._sessions:
            session.start(row, prompt)

    def extend(self, row: int, tokens: Sequence[int]) -> None:
        """Tell everyone what the row was continued with."""
        for session in self._sessions:
            session.extend(row, tokens)

    def stop(self, row: int) -> None:
        """Forget a row everywhere."""
        for session in self._sessions:
            session.stop(row)
        self._asked.pop(row, None)

    def propose(self, rows: Sequence[int], k: int) -> list[Draft]:
        """One guess a row, by the drafter that was chosen for it."""
        best: dict[int, tuple[float, int, Draft]] = {}
        open_rows = list(rows)
        for child, session in enumerate(self._sessions):
            if not open_rows:
                break
            answers = session.propose(open_rows, k)
            check_drafts(answers, len(open_rows), self._names[child])
            for row, draft in zip(open_rows, answers, strict=True):
                if len(draft.tokens) and (row not in best or self._worth[child] > best[row][0]):
                    best[row] = (self._worth[child], child, draft)
            if not self._ask_all:
                open_rows = [row for row in open_rows if row not in best]
        drafts = []
        for row in rows:
            _, child, draft = best.get(row, (0.0, 0, NOTHING))
            self._asked[row] = child
            source = draft.source or self._names[child]
            drafts.append(Draft(draft.tokens, draft.probs, draft.evidence, source) if len(draft.tokens) else draft)
        return drafts

    def judge(self, row: int, draft: Draft, accepted: int) -> None:
        """Pass the verdict to the drafter that made the guess."""
        child = self._asked[row]
        self._worth[child] += 0.03 * (accepted - self._worth[child])
        self._sessions[child].judge(row, draft, accepted)
