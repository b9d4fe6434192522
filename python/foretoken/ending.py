"""Where a row ends: END, stop tokens, stop strings and limits, cut inside a block, once for all strategies."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from . import kernels
from .canvas import Step
from .codec.text import Text, incremental_utf8
from .errors import ArgumentTypeError, InvalidArgument


class StopRule:
    """When rows end; shared by all of them.

    Args:
        end_tokens: END of the model.
        stop_tokens: ids that end a row as well.
        stop: strings that end a row, none empty; the text stops before them.
        codec: how units become text, or None.
        min_tokens: units before which stop strings are not looked for (END cannot be drawn before).

    Raises:
        InvalidArgument: a stop string is empty, or there is no codec to find it with.
        ArgumentTypeError: a stop string is not a string.
    """

    def __init__(
        self,
        *,
        end_tokens: frozenset[int],
        stop_tokens: frozenset[int],
        stop: str | Sequence[str],
        codec: Text | None,
        min_tokens: int,
    ) -> None:
        if not isinstance(stop, Iterable):
            raise ArgumentTypeError(f"stop takes a string or several, got {type(stop).__name__}")
        strings = [stop] if isinstance(stop, str) else list(stop)
        encoded = [_encode(string) for string in strings]
        if strings and codec is None:
            raise InvalidArgument("stop strings need a codec that turns units into text")
        self.end_tokens, self.stop_tokens = end_tokens, stop_tokens
        self.codec, self.min_tokens = codec, min_tokens
        self.strings = kernels.StopStrings(encoded) if strings else None


def _encode(string: object) -> bytes:
    if not isinstance(string, str):
        raise ArgumentTypeError(f"stop takes strings, got {type(string).__name__}")
    if not string:
        raise InvalidArgument("a stop string is empty; it would end every text at once")
    try:
        return string.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"stop string {string!r} is not valid Unicode at character {error.start}") from None


@dataclasses.dataclass
class RowEnding:
    """The end of one row: how much of it is out, and what may not be shown yet."""

    rule: StopRule
    limit: int
    prompt: Sequence[int] | np.ndarray = ()

    def __post_init__(self) -> None:
        self._count = 0
        self._state = 0  # of the stop-string automaton
        self._held = b""  # bytes that may yet turn out to begin a stop string
        self._utf8 = incremental_utf8()
        self._half = False  # whether it waits for the rest of a character
        self._text = None if self.rule.codec is None else self.rule.codec.stream(self.prompt)

    def end(self, step: Step) -> None:
        """Cut the step where the row ends, say why, and set its text."""
        rule, count = self.rule, self._count
        if self.limit == 0:  # its prompt fills the context, other rows of the batch go on
            step.finish_reason = "length"
            _cut(step, 0)
            return
        ready = b""
        stopped = False
        for place, token in enumerate(step.tokens):
            count += 1
            if token in rule.end_tokens:
                step.finish_reason = "end"
            elif token in rule.stop_tokens:
                step.finish_reason = "stop"
            elif self._text is not None:
                new = self._text.feed(token)
                if rule.strings is None or count <= rule.min_tokens:
                    ready += new
                else:
                    shown, stopped = self._look_for_stop(new)
                    ready += shown
            if stopped:
                step.finish_reason = "stop"
            elif step.finish_reason is None and count >= self.limit:
                step.finish_reason = "length"
            if step.finish_reason is not None:
                _cut(step, place + 1)
                break
        self._count = count
        if self._text is not None:
            finished = step.finish_reason is not None
            if finished and not stopped:
                ready += self._held + self._text.finish()  # nothing follows that could complete anything
            step.text = self._decode(ready, finished=finished)

    def _decode(self, ready: bytes, *, finished: bool) -> str:
        if not self._half and ready.isascii():
            return ready.decode()
        text = self._utf8.decode(ready, final=finished)
        self._half = self._utf8.getstate()[0] != b""
        return text

    def _look_for_stop(self, new: bytes) -> tuple[bytes, bool]:
        """Bytes that may be shown, and whether a stop string is complete."""
        assert self.rule.strings is not None
        seen = self._held + new
        self._state, hold, start = self.rule.strings.feed(self._state, new)
        if start is not None:
            # `start` counts from the first byte of `new`; a match that began earlier is negative.
            return seen[: len(self._held) + start], True
        self._held = seen[len(seen) - hold :]
        return seen[: len(seen) - hold], False


def _cut(step: Step, keep: int) -> None:
    if keep == len(step.tokens):
        return
    del step.tokens[keep:], step.gaps[keep:]
    if step.logprobs is not None:
        del step.logprobs[keep:]
    if step.top is not None:
        del step.top[keep:]
    # Guesses behind the end were never part of the text.
    step.drafted = step.drafted[:keep]
    step.accepted = min(step.accepted, keep)
