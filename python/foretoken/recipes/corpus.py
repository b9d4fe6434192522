"""Real text → documents → training and validation splits of whole documents."""

from __future__ import annotations

import json
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import CheckpointError, InvalidArgument

END_OF_TEXT = "<|endoftext|>"


def is_held_out(key: str, *, one_in: int) -> bool:
    """Whether what has this key is kept for validation: by its checksum, one in so many.

    Example:
        >>> is_held_out("0_george_10.wav", one_in=10), is_held_out("0_george_18.wav", one_in=10)
        (False, True)
    """
    return zlib.crc32(key.encode()) % one_in == 0


def rows(path: Path) -> Iterator[dict]:
    """The rows of one `.jsonl.xz` file.

    Raises:
        InvalidArgument: there is no such file.
        CheckpointError: it is cut or damaged, or a line is no JSON object.
    """
    try:
        with lzma.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise CheckpointError(f"{path} is damaged: a line holds no JSON object")
                yield row
    except FileNotFoundError:
        raise InvalidArgument(f"no such data file: {path}; pass the folder that holds it as --data") from None
    except (lzma.LZMAError, EOFError, ValueError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} is damaged: {error}") from None


def reflow(text: str) -> str:
    """Undo hard-wrapped prose: a line that starts in lower case continues the one before it."""
    text = text.replace("\ufeff", "").replace("\r\n", "\n")
    text = re.sub(r"[ \t]+\n", "\n", text)
    text = re.sub(r"(?<=[^\n])\n(?=[a-z])", " ", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def stories(folder: Path) -> Iterator[tuple[str, str]]:
    """Children's classics by chapter and African Storybook: (key, text)."""
    for row in rows(folder / "stories.jsonl.xz"):
        text = reflow(row["text"])
        if row["source"].startswith("African"):
            text = text.replace("##\n", "").replace("\n\n\n", "\n\n")
        yield row["title"] + "\n" + row["text"][:64], text


def docs(folder: Path) -> Iterator[tuple[str, str]]:
    """The Rust book, PEPs and textbooks: (key, text); code keeps its lines."""
    for row in rows(folder / "docs.jsonl.xz"):
        yield row["title"], re.sub(r"\n{3,}", "\n\n", row["text"]).strip() + "\n"


def tldr(folder: Path) -> Iterator[tuple[str, str]]:
    """Command help in English, in the Markdown of tldr-pages: (key, text)."""
    for row in rows(folder / "tldr.jsonl.xz"):
        page, english = row["page"], row["en"]
        lines = [f"# {page.rsplit('/', 1)[-1]}", "", *(f"> {line}" for line in english["about"]), ""]
        for step, command in zip(english["steps"], english["commands"], strict=False):
            lines += [f"- {step}:", "", f"`{command}`", ""]
        yield page, "\n".join(lines)


SOURCES: dict[str, Callable[[Path], Iterator[tuple[str, str]]]] = {"stories": stories, "docs": docs, "tldr": tldr}


def split(folder: Path, sources: tuple[str, ...], *, one_in: int = 25) -> tuple[list[str], list[str]]:
    """Documents for training and for validation; a document is held out by the checksum of its key.

    Args:
        folder: the data folder.
        sources: names in `SOURCES`.
        one_in: one document in so many is held out.

    Raises:
        InvalidArgument: a source is unknown or its file is missing.
        CheckpointError: a file is damaged.
    """
    train: list[str] = []
    held_out: list[str] = []
    for name in sources:
        if name not in SOURCES:
            raise InvalidArgument(f"unknown source {name!r}; known: {sorted(SOURCES)}")
        try:
            for key, text in SOURCES[name](folder):
                (held_out if is_held_out(key, one_in=one_in) else train).append(text)
        except (KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{name}.jsonl.xz in {folder} has a row of another kind: {error!r}") from None
    return train, held_out


def unseen(train: list[str], held_out: list[str], *, block: int = 48) -> list[str]:
    """Held-out documents that do not also stand, for the most part and word for word, in a training document.

    Textbooks share chapters, and pages of help are copied from system to system: under two titles one text may be on
    both sides, where a compressor that remembers it looks better than any model that has understood it.

    Args:
        train: documents that were trained on.
        held_out: documents that were not, in any order.
        block: characters that must agree to count as copied; training text is cut at multiples of it.

    Returns:
        Those of `held_out` of which less than half lies in copied blocks.
    """
    known = {text[start : start + block] for text in train for start in range(0, len(text) - block + 1, block)}

    def copied(text: str) -> int:
        covered = end = 0
        for start in range(len(text) - block + 1):
            if text[start : start + block] in known:
                covered += start + block - max(start, end)
                end = start + block
        return covered

    return [text for text in held_out if 2 * copied(text) < len(text)]
