"""What the target would draw behind wrong guesses, for the drafters that go on from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .. import kernels
from ..drafter.protocol import DraftRequest, WatchingSession
from ..errors import LogitsError
from .guesses import Guesses


class Redraws:
    """Draws where a forward has logits that verification had no use for.

    The noise is that of the places. Under the ratio test, which must not be judged by what made the guesses, it is a
    stream of the drafters', and the same one all the time: whatever it says, given it the guesses are a function of the
    text so far and of verdicts on it, and the text keeps its law.

    Args:
        drafting: who is told.
        request: of the generation.
    """

    def __init__(self, drafting: WatchingSession, request: DraftRequest) -> None:
        self._drafting, self._sampler = drafting, request.sampler
        self._stream = next(request.streams) if request.rejection else 0

    def tell(
        self,
        logits: torch.Tensor,
        guesses: Guesses,
        verified: kernels.Verified,
        rows: Sequence[int],
        keys: dict[str, Any],
    ) -> None:
        """Tell the drafter about each row of which a guess was wrong.

        Args:
            logits: (rows, k+1, vocabulary) that the guesses were verified on.
            guesses: what was verified, and `verified` what came of it.
            rows: what the drafter calls the lines of these.
            keys: what `kernels.verify` was given: seeds, positions, rows, history, threads.
        """
        lines: list[int] = []
        picked: list[int] = []  # places of all rows in a row
        positions: list[int] = []
        pasts: list[kernels.History] = []
        for line, accepted in enumerate(verified.accepted.tolist()):
            behind = guesses.places(line, verified.path[line, :accepted].tolist())[accepted:]
            history = None if keys["history"] is None else keys["history"][line]
            for count, place in enumerate(behind):
                lines.append(line)
                picked.append(line * logits.shape[1] + place + 1)
                positions.append(keys["positions"][line] + accepted + 1 + count)
                if history is not None:
                    # It holds the right unit in place of the first wrong guess.
                    history = history.copy()
                    if count:
                        history.extend([guesses.ids[line][place]])
                    pasts.append(history)
        if not lines:
            return
        try:
            drawn = kernels.sample(
                _picked(logits.reshape(-1, logits.shape[-1]), picked), self._sampler,
                seeds=keys["seeds"][lines], positions=positions, rows=keys["rows"][lines],
                history=pasts if keys["history"] is not None else None, stream=self._stream, commit=False,
                threads=keys["threads"],
            ).tokens.tolist()  # fmt: skip
        except LogitsError:
            return  # plain decoding would perhaps never come to such a place
        for line, row in enumerate(rows):
            if own := [token for token, of in zip(drawn, lines, strict=True) if of == line]:
                self._drafting.drew(row, own)


def _picked(logits: torch.Tensor, lines: list[int]) -> torch.Tensor:
    if logits.device.type == "cpu" and logits.dtype == torch.float32:
        # Not by torch, whose threads take a millisecond to wake where others want the cores.
        return torch.from_numpy(logits.detach().numpy()[lines])
    return logits[torch.tensor(lines, device=logits.device)]
