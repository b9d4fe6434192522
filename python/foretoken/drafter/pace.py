"""How many guesses are worth checking: learnt from what was accepted and from what a forward costs."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from .costs import Adaptive, DraftCosts, ForwardCosts
from .protocol import NOTHING, Draft, Drafter, DraftRequest, DraftSession, WatchingSession, check_drafts

_DECAY = 0.97  # weight of a judgement after the next one: about 30 are remembered
_PRIOR, _PRIOR_WEIGHT = 0.6, 2.0  # a new drafter is believed to be right this often, as if judged this many times
_REACH = 2  # length of the first drafts; doubles whenever one that long was right to its end
_MARGIN = 1.05  # a draft must promise this much, for timings are noisy
_REST = 16  # forwards after which a drafter that was switched off is tried again; doubles with each failure
_LONGEST_REST = 1024
_SELDOM = 4  # while all that was ever said is at rest, a drafter is asked only so often: asking costs, too
_FREE = DraftCosts()  # of guesses that were made already


class Pace:
    """The success of one kind of guess, and the draft length that follows from it."""

    def __init__(self, maximum: int) -> None:
        self._right = np.zeros(maximum)
        self._judged = np.zeros(maximum)
        self._reach = min(_REACH, maximum)
        self._rest = 0
        self._next_rest = _REST

    @property
    def is_resting(self) -> bool:
        """Whether the next draft will be none."""
        return self._rest > 0

    def wait(self) -> None:
        """Let a forward pass without a draft."""
        self._rest -= 1

    def learn(self, drafted: int, accepted: int) -> None:
        """Count a judged draft: its first `accepted` guesses were right, the next one, if any, was wrong."""
        judged = min(drafted, accepted + 1)
        self._right[:judged] *= _DECAY
        self._judged[:judged] *= _DECAY
        self._right[:accepted] += 1
        self._judged[:judged] += 1
        if accepted >= self._reach:
            self._reach = min(2 * self._reach, len(self._right))
        if accepted:  # a try that succeeds ends the long rest it was given in advance
            self._rest, self._next_rest = min(self._rest, _REST), _REST

    def length(self, costs: ForwardCosts, draft: DraftCosts, maximum: int) -> int:
        """The draft length with the highest expected tokens a second, 0 if drafting does not pay."""
        if self.is_resting:
            self.wait()
            return 0
        best, best_speed = 0, _MARGIN / costs.of(1)
        expected, survives, rate = 1.0, 1.0, _PRIOR
        right, judged = self._right.tolist(), self._judged.tolist()
        for k in range(1, min(maximum, self._reach) + 1):
            # Far places are seen rarely; until then they are believed to be like the one before.
            rate = (right[k - 1] + _PRIOR_WEIGHT * rate) / (judged[k - 1] + _PRIOR_WEIGHT)
            survives *= rate
            expected += survives
            speed = expected / (costs.of(k + 1) + draft.of(k))
            if speed > best_speed:
                best, best_speed = k, speed
            elif survives < 0.02:
                break
        if best == 0:
            self._rest, self._next_rest = self._next_rest, min(2 * self._next_rest, _LONGEST_REST)
            return 1  # this once, to see whether it is still no use
        return best


class CompositeSession:
    """The sessions of several drafters on the same rows."""

    def __init__(self, sessions: Sequence[DraftSession]) -> None:
        self.sessions = sessions
        self._watching = [session for session in sessions if isinstance(session, WatchingSession)]
        if self._watching:  # else the draws that it would pass on need not be made
            self.drew = self._pass_draws

    def start(self, row: int, prompt: np.ndarray) -> None:
        """Begin a row everywhere."""
        for session in self.sessions:
            session.start(row, prompt)

    def extend(self, row: int, tokens: Sequence[int]) -> None:
        """Tell everyone what the row was continued with."""
        for session in self.sessions:
            session.extend(row, tokens)

    def stop(self, row: int) -> None:
        """Forget a row everywhere."""
        for session in self.sessions:
            session.stop(row)

    def _pass_draws(self, row: int, tokens: Sequence[int]) -> None:
        for session in self._watching:
            session.drew(row, tokens)


class AdaptiveSession:
    """A drafter's session under an `Adaptive` length; guesses of different evidence are judged apart."""

    def __init__(self, session: DraftSession, costs: ForwardCosts, adaptive: Adaptive, name: str) -> None:
        self._session, self._costs, self._maximum, self.name = session, costs, adaptive.maximum, name
        self._paces: dict[int, Pace] = {}
        self._record = self._pace(0)  # of guesses without evidence: what a model says
        self._own_costs = DraftCosts()
        self._opened = False
        self._skipped = 0  # forwards in a row for which the drafter was not asked
        self.start, self.extend, self.stop = session.start, session.extend, session.stop
        if isinstance(session, WatchingSession):
            self.drew = session.drew

    def _pace(self, evidence: int) -> Pace:
        key = min(evidence, 64).bit_length()
        if key not in self._paces:
            self._paces[key] = Pace(self._maximum)
        return self._paces[key]

    def propose(self, rows: Sequence[int], k: int) -> list[Draft]:
        """Guess as many ids as are expected to pay, at most `k`."""
        only_record = len(self._paces) == 1  # then ask for no more than pays
        if not only_record and self._skipped < _SELDOM - 1:
            said = [pace for pace in self._paces.values() if pace is not self._record]
            if all(pace.is_resting for pace in said):
                self._skipped += 1
                for pace in said:
                    pace.wait()
                return [NOTHING] * len(rows)
        self._skipped = 0
        budget = self._record.length(self._costs, self._own_costs, k) if only_record else k
        if budget == 0:
            return [NOTHING] * len(rows)
        started = time.perf_counter()
        drafts = self._session.propose(rows, budget)
        check_drafts(drafts, len(rows), self.name)
        guessed = max((len(draft.tokens) for draft in drafts), default=0)
        if guessed:
            if self._opened:  # the first draft opens caches and reads prompts, which later ones do not
                self._own_costs.note(guessed, time.perf_counter() - started)
            self._opened = True
        lengths: dict[Pace, int] = {}  # asked once a forward, for that is what a pace counts
        for line, draft in enumerate(drafts):
            if draft.evidence and len(draft.tokens):
                pace = self._pace(draft.evidence)
                if pace not in lengths:
                    lengths[pace] = pace.length(self._costs, _FREE, k)
                drafts[line] = draft.first(lengths[pace])
        return drafts

    def judge(self, row: int, draft: Draft, accepted: int) -> None:
        """Learn what became of a guess."""
        if len(draft.tokens):
            self._pace(draft.evidence).learn(len(draft.tokens), accepted)
        self._session.judge(row, draft, accepted)


def open_paced(drafter: Drafter, request: DraftRequest) -> DraftSession:
    """The session of a drafter, under the adaptive length if the request has one."""
    session = drafter.open(request)
    # A drafter made of drafters paces each of them by itself.
    if request.adaptive is None or isinstance(session, CompositeSession):
        return session
    return AdaptiveSession(session, request.costs, request.adaptive, drafter.name)
