"""Text as tokens: a tokenizer of the `tokenizers` library, and the way back one token after another."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders

from ..errors import ArgumentTypeError, CheckpointError, InvalidArgument
from .protocol import Codec

_LARGEST_VOCABULARY = 2**24
_WINDOW = 16  # ids before a text that may decide how it begins


class Text(Codec[str]):
    """Text ↔ token ids.

    Args:
        tokenizer: a tokenizer; its post-processor (a BOS token, say) is applied to prompts.

    Example:
        >>> from tokenizers import Tokenizer, decoders, models, pre_tokenizers
        >>> alphabet = {unit: i for i, unit in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
        >>> plain = Tokenizer(models.BPE(alphabet, []))
        >>> plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        >>> plain.decoder = decoders.ByteLevel()
        >>> Text(plain).decode(Text(plain).encode("naïve"))
        'naïve'
    """

    unit, width = "token", 1

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    @staticmethod
    def from_file(path: Path) -> Text:
        """Read a `tokenizer.json`; padding and truncation it may ask for are left out, they would change prompts.

        Raises:
            CheckpointError: the file is missing, broken, or gives two tokens one id.
        """
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except BaseException as error:
            raise CheckpointError(f"cannot read the tokenizer {path}: {_complaint(error)}") from None
        ids = tokenizer.get_vocab(with_added_tokens=True).values()
        if max(ids, default=0) >= _LARGEST_VOCABULARY:
            raise CheckpointError(f"the tokenizer {path} has ids up to {max(ids)}, supported are {_LARGEST_VOCABULARY}")
        if len(set(ids)) < len(ids):
            raise CheckpointError(f"the tokenizer {path} gives {len(ids) - len(set(ids))} ids to more than one token")
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return Text(tokenizer)

    @property
    def vocab_size(self) -> int:
        """One more than the largest id."""
        return self._vocab_size

    @cached_property
    def _vocab_size(self) -> int:
        return max(self.tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    def encode(self, signal: str) -> np.ndarray:
        """Token ids of a text, (length,) int64.

        Raises:
            InvalidArgument: the text is empty, holds half of a surrogate pair, or is more than the tokenizer can take.
            ArgumentTypeError: it is not a string.
        """
        if not isinstance(signal, str):
            raise ArgumentTypeError(f"a prompt must be a string, got {type(signal).__name__}")
        try:
            signal.encode()
        except UnicodeEncodeError as error:
            raise InvalidArgument(f"the prompt is not valid Unicode at character {error.start}") from None
        try:
            ids = np.array(self.tokenizer.encode(signal).ids, dtype=np.int64)
        except BaseException as error:
            raise InvalidArgument(f"the tokenizer cannot encode the prompt: {_complaint(error)}") from None
        if not ids.size:
            raise InvalidArgument("the prompt is empty; a model continues at least one token, pass for example '\\n'")
        return ids

    def grid(self, signal: str) -> tuple[int, ...]:
        """How many tokens a text has."""
        return (len(self.encode(signal)),)

    def decode(self, units: Sequence[int] | np.ndarray, grid: tuple[int, ...] | None = None) -> str:
        """The text of ids; bytes that are no whole character become U+FFFD, ids the tokenizer lacks become nothing.

        Raises:
            InvalidArgument: an id is negative.
            ArgumentTypeError: the ids are no integers.
        """
        array = np.asarray(units)
        if array.size and array.dtype.kind not in "iu":
            raise ArgumentTypeError(f"ids must be integers, got {array.dtype}")
        if array.size and array.min() < 0:
            raise InvalidArgument(f"an id is at least 0, got {array.min()}")
        known = array[array < self.vocab_size].tolist()
        if self._pieces is not None:
            return b"".join([self._pieces[i] for i in known]).decode(errors="replace")
        text = self.tokenizer.decode(known, skip_special_tokens=True)
        if "�" in text:  # the library gives up on all the bytes around a broken one
            stream = self.stream()
            text = b"".join([*map(stream.feed, known), stream.finish()]).decode()
        return text

    def piece(self, token: int) -> str:
        """What one token looks like on its own; special tokens show their name."""
        if self._pieces is None or not 0 <= token < len(self._pieces) or not self._pieces[token]:
            return (self.tokenizer.id_to_token(token) if token >= 0 else None) or f"<{token}>"
        return self._pieces[token].decode(errors="replace")

    def stream(self, after: Sequence[int] | np.ndarray = ()) -> TextStream:
        """A decoder that is fed token by token.

        Args:
            after: ids of the text that is continued; some tokenizers write the space between words or not by them.
        """
        return TextStream(self, after)

    @cached_property
    def _pieces(self) -> list[bytes] | None:
        """The bytes of each id, or None if this tokenizer's decoder is not the byte-level one."""
        if not isinstance(self.tokenizer.decoder, decoders.ByteLevel):
            return None
        byte_of = {character: byte for byte, character in _byte_alphabet().items()}
        special = {i for i, token in self.tokenizer.get_added_tokens_decoder().items() if token.special}
        pieces = [b""] * self.vocab_size
        for token, i in self.tokenizer.get_vocab(with_added_tokens=True).items():
            if i in special:
                continue
            known = all(character in byte_of for character in token)
            pieces[i] = bytes(byte_of[c] for c in token) if known else token.encode()
        return pieces


def _complaint(error: BaseException) -> str:
    """What the tokenizers library says: it raises bare Exception, and panics are no Exception at all."""
    if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
        raise error
    return str(error)


def _byte_alphabet() -> dict[int, str]:
    """Byte → the printable character that byte-level BPE writes for it (GPT-2)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


class TextStream:
    """Ids in, bytes out, as far as they can no longer change.

    What a token adds may depend on its neighbours (a leading space, joined bytes), unless the tokenizer is byte-level:
    it is what the text of the last certain ids and the new ones has more than the text of the last certain ids. The
    library's `DecodeStream` raises where a broken byte follows a character made of bytes.
    """

    def __init__(self, codec: Text, after: Sequence[int] | np.ndarray = ()) -> None:
        self._pieces = codec._pieces
        self._tokenizer = codec.tokenizer
        self._ids: list[int] = []  # from a place on where a character begins
        self._certain = 0  # how many of them have given their text
        self._before = ""  # the text of those
        if self._pieces is None:
            start = max(0, len(after) - _WINDOW)
            while start > 0 and self._is_byte(int(after[start])):
                start -= 1
            for token in after[start:]:
                self.feed(int(token))

    def feed(self, token: int) -> bytes:
        """The bytes that this token adds; whole characters only if the tokenizer is not byte-level."""
        if self._pieces is not None:
            return self._pieces[token] if token < len(self._pieces) else b""  # models round their vocabulary up
        self._ids.append(token)
        now = self._decode(self._ids)
        if now == self._before or now.endswith("�"):  # bytes of a character may still be to come
            return b""
        new = self._news(now)
        del self._ids[: self._certain]
        self._certain, self._before = len(self._ids), self._decode(self._ids)
        return new.encode()

    def finish(self) -> bytes:
        """The bytes of the last tokens, if more tokens could have changed them: half a character, say."""
        return b"" if self._pieces is not None else self._news(self._decode(self._ids)).encode()

    def _news(self, now: str) -> str:
        if now.startswith(self._before):
            return now[len(self._before) :]
        # One broken byte makes all the bytes around it unreadable; those before it were shown already.
        return self._decode(self._ids[self._certain :])

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=True)

    def _is_byte(self, token: int) -> bool:
        return (self._tokenizer.id_to_token(token) or "").startswith("<0x")


def incremental_utf8() -> codecs.IncrementalDecoder:
    """A decoder that keeps the first bytes of a character until the others arrive."""
    return codecs.getincrementaldecoder("utf-8")("replace")
