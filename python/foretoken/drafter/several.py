"""Several drafters in one: whoever has something to say first, or whoever is usually right."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ..errors import InvalidArgument
from .pace import CompositeSession, open_paced
from .protocol import NOTHING, Draft, Drafter, DraftRequest, DraftSession, check_drafts
from .tree import TreeDrafting


class Several:
    """Asks several drafters for each guess.

    Args:
        drafters: two or more, the surest first.
        ask_all: False asks one after another until one has a guess; True asks all and takes the guess with the most
            expected right tokens, by each one's measured success.
        tree: asks all and checks all guesses in one forward, as a tree in which those that begin alike share their
            beginning (2305.09781). Needs a model that reads trees (`Llama` does). Each drafter keeps its own adaptive
            length, what it would be if it were alone.
        nodes: the most guesses of a tree, in [2, 64]; the last drafter's are cut first.

    Raises:
        InvalidArgument: fewer than two drafters are given, or `nodes` is out of range.

    Example:
        >>> import foretoken as ft
        >>> ft.Several(ft.Suffix(), ft.NGram()).name
        'suffix|n-gram'
    """

    def __init__(self, *drafters: Drafter, ask_all: bool = False, tree: bool = False, nodes: int = 16) -> None:
        if len(drafters) < 2:
            raise InvalidArgument(f"Several takes two drafters or more, got {len(drafters)}")
        if type(nodes) is not int or not 2 <= nodes <= 64:
            raise InvalidArgument(f"nodes must be an integer in [2, 64], got {nodes!r}")
        self.drafters, self.ask_all = drafters, ask_all
        # Of others a tree is one guess among several, too.
        self.nodes = nodes if tree else max(getattr(drafter, "nodes", 0) for drafter in drafters)
        self.tree = tree
        self.taps: tuple[int, ...] = tuple(
            sorted({tap for drafter in drafters for tap in getattr(drafter, "taps", ())})
        )

    @property
    def name(self) -> str:
        """What statistics and traces call it."""
        return "|".join(drafter.name for drafter in self.drafters)

    def open(self, request: DraftRequest) -> SeveralSession | TreeDrafting:
        """A session for one generation."""
        sessions = [open_paced(drafter, request) for drafter in self.drafters]
        names = [drafter.name for drafter in self.drafters]
        if self.tree:
            return TreeDrafting(sessions, names, request, nodes=self.nodes)
        return SeveralSession(sessions, names, ask_all=self.ask_all)


class SeveralSession(CompositeSession):
    """Takes the guess of one of several drafters for each row."""

    def __init__(self, sessions: Sequence[DraftSession], names: Sequence[str], *, ask_all: bool) -> None:
        super().__init__(sessions)
        self._names, self._ask_all = names, ask_all
        # Right guesses per draft of each child, remembered for about 30 drafts; hopeful at first.
        self._worth = [1.0] * len(sessions)
        self._asked: dict[int, int] = {}

    def stop(self, row: int) -> None:
        """Forget a row everywhere."""
        super().stop(row)
        self._asked.pop(row, None)

    def propose(self, rows: Sequence[int], k: int) -> list[Draft]:
        """One guess a row, by the drafter that was chosen for it."""
        best: dict[int, tuple[float, int, Draft]] = {}
        open_rows = list(rows)
        for child, session in enumerate(self.sessions):
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
            drafts.append(dataclasses.replace(draft, source=source) if len(draft.tokens) else draft)
        return drafts

    def judge(self, row: int, draft: Draft, accepted: int) -> None:
        """Pass the verdict to the drafter that made the guess."""
        child = self._asked[row]
        self._worth[child] += 0.03 * (accepted - self._worth[child])
        self.sessions[child].judge(row, draft, accepted)
