"""What the benches share: options, held-out prompts, toy models for a quick run, where results go."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import foretoken as ft
from foretoken.drafter.block_model import BlockConfig, BlockModule, save_block
from foretoken.evaluate.report import Report
from foretoken.model.checkpoint import load_llama, save_llama
from foretoken.model.protocol import CausalModel
from foretoken.recipes.language import train_tokenizer
from tests.models import tiny_llama

ROOT = Path(__file__).resolve().parents[1]
PROMPTS = ROOT / "tests" / "data" / "prompts.jsonl"
RESULTS = ROOT / "benches" / "results"


def parser(description: str | None) -> argparse.ArgumentParser:
    """Options of every bench."""
    made = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    made.add_argument("--quick", action="store_true", help="toy models with random weights, in seconds: does it run?")
    made.add_argument("--save", action="store_true", help="write benches/results/NAME.json")
    made.add_argument("--threads", type=int, help="of torch (default: torch's own)")
    return made


def parsed(made: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options of a run; threads are set."""
    options = made.parse_args(arguments)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    return options


def finish(report: Report, options: argparse.Namespace) -> Report:
    """Print the report, its JSON last, and keep it if asked to."""
    if options.save:
        print(f"saved in {report.save(RESULTS)}", file=sys.stderr)
    report.show()
    return report


def texts(model: str, count: int) -> list[str]:
    """The first `count` held-out prompts of a model, those of `tales` if it has none of its own."""
    rows = [json.loads(line) for line in PROMPTS.read_text(encoding="utf-8").splitlines()]
    own = [row["text"] for row in rows if row["model"] == model] or [r["text"] for r in rows if r["model"] == "tales"]
    # Sources alternate, so that a few prompts are of all kinds.
    half = (len(own) + 1) // 2
    mixed = [text for pair in zip(own[:half], own[half:], strict=False) for text in pair] + own[len(own) // 2 : half]
    return mixed[:count]


def encoded(pipeline: ft.Pipeline, count: int) -> list[np.ndarray]:
    """The same as ids, each at most an eighth of the context."""
    longest = pipeline.model.context // 8
    return [pipeline.codec.encode(text)[:longest] for text in texts(pipeline.name, count)]


class Writer:
    """A contender that continues a prompt, or a pair of prompt and seed; keeps what it wrote and what that cost."""

    def __init__(self, model: CausalModel, strategy: ft.Autoregressive, **options: Any) -> None:
        self.model, self.strategy, self.options = model, strategy, options
        self.texts: dict[tuple[bytes, int], list[int]] = {}
        self.stats: list[ft.Stats] = []

    def __call__(self, item: Any) -> int:
        prompt, seed = item if isinstance(item, tuple) else (item, self.options["seed"])
        options = {**self.options, "seed": seed}
        out = ft.generate(self.model, ft.Canvas([prompt]), self.strategy, end_tokens=(), **options)
        self.texts[prompt.tobytes(), seed] = out.tokens.tolist()
        self.stats.append(out.stats)
        return out.stats.tokens

    def worth(self) -> tuple[float, float]:
        """Tokens a forward, and of them guesses."""
        forwards = sum(stats.row_forwards for stats in self.stats)
        tokens, accepted = (sum(getattr(stats, name) for stats in self.stats) for name in ("tokens", "accepted"))
        return round(tokens / forwards, 3), round(accepted / forwards, 3)

    def differing(self, other: Writer) -> int:
        """How many tokens are not the other's."""
        pairs = [(text, other.texts[prompt]) for prompt, text in self.texts.items()]
        return sum(a != b for one, two in pairs for a, b in zip(one, two, strict=True))


def tiny_folder() -> str:
    """A folder `tiny` with a toy Llama and its tokenizer, and `tiny-draft` beside it; removed when Python ends."""
    global _tiny
    if _tiny is None:
        _tiny = tempfile.TemporaryDirectory(prefix="foretoken-bench-")
        tokenizer = train_tokenizer(texts("tales", 20), 300)
        for name, layers in (("tiny", 2), ("tiny-draft", 1)):
            folder = Path(_tiny.name) / name
            save_llama(tiny_llama(layers=layers, vocab_size=300), folder)
            tokenizer.save(str(folder / "tokenizer.json"))
    return os.path.join(_tiny.name, "tiny")


def tiny_block(model: str) -> str:
    """The folder of a block drafter with random weights for a toy model, beside it."""
    shape = load_llama(Path(model)).config
    module = BlockModule(
        BlockConfig(
            target="tiny", vocab_size=shape.vocab_size, hidden_size=shape.hidden_size, taps=(0, 1), layers=1, heads=4,
            kv_heads=2, intermediate_size=32, block=4, reach=8, rank=8, order=2, latents=1,
            rms_norm_eps=shape.rms_norm_eps, rope_theta=shape.rope_theta,
        )
    )  # fmt: skip
    module.initialise(torch.Generator().manual_seed(1))
    save_block(module, Path(f"{model}-block"))
    return f"{model}-block"


_tiny: tempfile.TemporaryDirectory[str] | None = None


def data_folder(given: Path | None) -> Path | None:
    """The folder with the training data: given, or FORETOKEN_DATA, or the project's; None if there is none."""
    for folder in (given, os.environ.get("FORETOKEN_DATA"), ROOT.parent / "shared" / "data"):
        if folder is not None and Path(folder).is_dir():
            return Path(folder)
    return None
