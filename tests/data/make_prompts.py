"""Makes prompts.jsonl: held-out text to measure on, so that nobody needs the data folder for it.

    python tests/data/make_prompts.py --data DATA --tales TALES/tokenizer.json --manual MANUAL/tokenizer.json

Unpicked: the documents that the recipes hold out, in the order of their checksums, one prompt from each. A prompt
starts at a paragraph chosen by the checksum (a tldr page at its top) and runs for 20 to 60 tokens.
"""

from __future__ import annotations

import argparse
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer

from foretoken.recipes.corpus import SOURCES, rows

SHORTEST, LONGEST = 20, 60


def held_out(data: Path, source: str, *, one_in: int = 25) -> Iterator[tuple[int, dict, str]]:
    """(checksum, row, text) of the documents that `recipes.corpus.split` keeps back."""
    for row, (key, text) in zip(rows(data / f"{source}.jsonl.xz"), SOURCES[source](data), strict=True):
        checksum = zlib.crc32(key.encode())
        if checksum % one_in == 0:
            yield checksum // one_in, row, text


def prompt(tokenizer: Tokenizer, text: str, checksum: int, *, top: bool) -> str | None:
    """The words from a paragraph on, or None if the document ends before there are enough."""
    starts = [match.end() for match in re.finditer(r"\n\n(?=\S)", text)]
    start = 0 if top or not starts else starts[checksum % len(starts)]
    rest = text[start : start + 2000]
    wanted = SHORTEST + checksum // 7 % (LONGEST - SHORTEST + 1)
    encoded = tokenizer.encode(rest, add_special_tokens=False)
    if len(encoded.ids) <= wanted:
        return None
    # Cut before a space or a line break: what is left is read as the same tokens again.
    end = encoded.offsets[wanted][0]
    while end > 0 and not rest[end].isspace():
        end -= 1
    count = len(tokenizer.encode(rest[:end], add_special_tokens=False).ids)
    return rest[:end] if SHORTEST <= count <= LONGEST else None


def chosen(data: Path, source: str, model: str, tokenizer: Tokenizer, count: int) -> Iterator[dict]:
    """The first `count` prompts of a source, as rows of the file."""
    for checksum, row, text in sorted(held_out(data, source), key=lambda item: item[0]):
        words = prompt(tokenizer, text, checksum, top=source == "tldr")
        if words is None:
            continue
        name, _, licence = row["source"].rpartition(" (")
        yield {
            "model": model,
            "text": words,
            "tokens": len(tokenizer.encode(words, add_special_tokens=False).ids),
            "source": name,
            "title": row.get("title") or row["page"],
            "licence": licence.rstrip(")"),
        }
        count -= 1
        if count == 0:
            return
    raise SystemExit(f"{source} has too few held-out documents: {count} prompts are missing")


def main() -> None:
    """Write the file beside this one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("data", "tales", "manual"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    options = parser.parse_args()
    tales, manual = (Tokenizer.from_file(str(path)) for path in (options.tales, options.manual))
    found = [
        *chosen(options.data, "stories", "tales", tales, 50),
        *chosen(options.data, "tldr", "manual", manual, 15),
        *chosen(options.data, "docs", "manual", manual, 15),
    ]
    out = Path(__file__).with_name("prompts.jsonl")
    out.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found), encoding="utf-8")
    print(f"{len(found)} prompts in {out}")


if __name__ == "__main__":
    main()
