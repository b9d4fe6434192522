"""Say whether a drafter leaves a target's text as it is, what it is worth here, and how long its drafts should be.

DRAFTER is one of: ngram, suffix, jacobi, small:NAME or small:FOLDER (a smaller model with the same tokenizer),
block:NAME or block:FOLDER (one that was trained on the target's states), and exit:LAYERS (the target's own first
layers).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..drafter.block import BlockDrafter
from ..drafter.jacobi import Jacobi
from ..drafter.lookup import NGram, Suffix
from ..drafter.protocol import Drafter
from ..drafter.small_model import EarlyExit, SmallModel
from ..errors import InvalidArgument
from ..evaluate.certify import certify
from ..evaluate.decoding import opened
from ..hub import load
from ..model.llama_session import Llama
from ..model.native import Native
from ..sampler import Sampler

Maker = Callable[[str, Any], Drafter]


def _layers(said: str, kind: Any) -> Drafter:
    if not said.isdecimal():
        raise InvalidArgument(f"exit: takes a number of layers, got {said!r}")
    return EarlyExit(int(said))


DRAFTERS: dict[str, tuple[str, Maker]] = {
    "ngram": ("", lambda said, kind: NGram()),
    "suffix": ("", lambda said, kind: Suffix()),
    "jacobi": ("", lambda said, kind: Jacobi()),
    "small": ("NAME_OR_FOLDER", lambda said, kind: SmallModel(load(said, model=kind).model)),
    "block": ("NAME_OR_FOLDER", lambda said, kind: BlockDrafter(said)),
    "exit": ("LAYERS", _layers),
}
"""By the word before the colon: what stands behind it, and what makes the drafter of that and of what runs models."""


def options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    parser.add_argument("target", metavar="TARGET", help="the model: a shipped one or a folder")
    parser.add_argument("drafter", metavar="DRAFTER", help=f"one of {', '.join(map(_usage, DRAFTERS))}")
    parser.add_argument("--prompts", metavar="FILE", help="lines of JSON with a text each (default: a few of our own)")
    parser.add_argument("--count", type=int, default=8, metavar="N", help="of them, the first ones (default: 8)")
    parser.add_argument("--temperature", type=float, default=1.0, metavar="T", help="0 is greedy (default: 1)")
    parser.add_argument("--tokens", type=int, default=96, metavar="N", help="to add to each prompt (default: 96)")
    parser.add_argument("--maximum", type=int, default=8, metavar="K", help="the longest draft (default: 8)")
    parser.add_argument("--draws", type=int, default=1024, metavar="N", help="of each tested place (default: 1024)")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="rounds of the timings (default: 3)")
    parser.add_argument("--threads", type=int, metavar="N", help="of torch (default: torch's own)")
    parser.add_argument("--torch", action="store_true", help="run models in PyTorch instead of in the core")
    parser.add_argument("--json", action="store_true", help="write one line of JSON instead of tables")


def run(options: argparse.Namespace) -> None:
    """Run this command."""
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    kind = Llama if options.torch else Native
    made = drafter(options.drafter, kind)
    texts = None if options.prompts is None else read_texts(Path(options.prompts), options.target)
    if options.count < 1:
        raise InvalidArgument(f"count must be at least 1, got {options.count}")
    pipeline, prompts = opened(options.target, texts, kind=kind)
    report = certify(
        pipeline.model, made, prompts[: options.count], sampler=Sampler(temperature=options.temperature),
        tokens=options.tokens, maximum=options.maximum, draws=options.draws, repeats=options.repeats,
        name=pipeline.name,
    )  # fmt: skip
    print(report.to_json() if options.json else report)


def drafter(said: str, kind: Any) -> Drafter:
    """The drafter that a word on the command line means.

    Raises:
        InvalidArgument: it means none.
    """
    word, colon, rest = said.partition(":")
    if word not in DRAFTERS or bool(DRAFTERS[word][0]) != bool(rest) or bool(colon) != bool(rest):
        raise InvalidArgument(f"no drafter is called {said!r}; there are {', '.join(map(_usage, DRAFTERS))}")
    return DRAFTERS[word][1](rest, kind)


def _usage(word: str) -> str:
    return f"{word}:{DRAFTERS[word][0]}" if DRAFTERS[word][0] else word


def read_texts(path: Path, model: str) -> list[str]:
    """The texts of a file of prompts, those for this model where lines name one.

    Raises:
        InvalidArgument: a line is no object with a text, or there is none.
    """
    texts: list[str] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict) or not isinstance(row.get("text"), str) or not row["text"]:
            raise InvalidArgument(f"{path}, line {number}: expected a JSON object with a text")
        if row.get("model", Path(model).name) == Path(model).name:
            texts.append(row["text"])
    if not texts:
        raise InvalidArgument(f"{path} holds no prompt for {model}")
    return texts
