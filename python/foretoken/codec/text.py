"""Text as tokens: a tokenizer of the `tokenizers` library, and the way back one token after another."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders

from ..canvas import Canvas
from ..errors import ArgumentTypeError, CheckpointError, InvalidArgument


class Text:
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

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    @staticmethod
    def from_file(path: Path) -> Text:
        """Read a `tokenizer.json`."""
        try:
            return Text(Tokenizer.from_file(str(path)))
        except Exception as error:  # the tokenizers library raises bare Exception
            raise CheckpointError(f"cannot read the tokenizer {path}: {error}") from None

    @property
    def vocab_size(self) -> int:
        """One more than the largest id."""
        return self._vocab_size

    @cached_property
    def _vocab_size(self) -> int:
        return max(self.tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    def encode(self, text: str) -> np.ndarray:
        """Token ids of a text, (length,) int64.

        Raises:
            InvalidArgument: the text is empty, or holds half of a surrogate pair.
            ArgumentTypeError: it is not a string.
        """
        if not isinstance(text, str):
            raise ArgumentTypeError(f"a prompt must be a string, got {type(text).__name__}")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidArgument(f"the prompt is not valid Unicode at character {error.start}") from None
        ids = np.array(self.tokenizer.encode(text).ids, dtype=np.int64)
        if not ids.size:
            raise InvalidArgument("the prompt is empty; a model continues at least one token, pass for example '\\n'")
        return ids

    def canvas(self, prompts: Sequence[str]) -> Canvas:
        """The prompts as rows of known units."""
        return Canvas([self.encode(prompt) for prompt in prompts])

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """The text of ids; bytes that are no whole character become U+FFFD."""
        if self._pieces is None:
            return self.tokenizer.decode(list(ids), skip_special_tokens=True)
        return b"".join(self._pieces[i] for i in ids).decode(errors="replace")

    def piece(self, token: int) -> str:
        """What one token looks like on its own; special tokens show their name."""
        if self._pieces is None or not self._pieces[token]:
            return self.tokenizer.id_to_token(token) or f"<{token}>"
        return self._pieces[token].decode(errors="replace")

    def stream(self) -> TextStream:
        """A decoder that is fed token by token."""
        return TextStream(self)

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


def _byte_alphabet() -> dict[int, str]:
    """Byte → the printable character that byte-level BPE writes for it (GPT-2)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


class TextStream:
    """Ids in, bytes out, as far as they can no longer change."""

    def __init__(self, codec: Text) -> None:
        self._pieces = codec._pieces  # noqa: SLF001 - one class in two parts
        self._tokenizer = codec.tokenizer
        self._stream = decoders.DecodeStream(skip_special_tokens=True) if self._pieces is None else None

    def feed(self, token: int) -> bytes:
        """The bytes that this token adds; whole characters only if the tokenizer is not byte-level."""
        if self._pieces is not None:
            return self._pieces[token]
        # Other decoders look at neighbours (a leading space, joined bytes); the library keeps that window.
        return (self._stream.step(self._tokenizer, token) or "").encode()


def incremental_utf8() -> codecs.IncrementalDecoder:
    """A decoder that keeps the first bytes of a character until the others arrive."""
    return codecs.getincrementaldecoder("utf-8")("replace")
