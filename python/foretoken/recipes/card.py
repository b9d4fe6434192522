"""The model card of a language model: what it learnt from, how, how well, and ten texts nobody picked.

    python benches/compression.py --data DATA --save          # measures what the card reports
    python -m foretoken.recipes.card benches/results/compression.json

writes the cards of the shipped models that were measured.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..hub import load, path
from ..sampler import Sampler
from .language import LanguageConfig

OPENINGS = {
    "stories": (
        "Once upon a time", "The little girl", "\"Come here,\" said", "In the forest there lived", "The old man looked",
        "One morning", "The king had three", "A dog and a cat", "When the sun rose", "\"I am afraid,\" said the boy",
    ),
    "docs": (
        "# git", "# tar\n\n>", "## Abstract\n\n", "The function returns", "A vector is", "Cells are", "fn main() {",
        "In this chapter", "# docker", "The energy of",
    ),
}  # fmt: skip
"""First words of the ten samples; seed i goes with opening i."""

SOURCES = {
    "stories": "Children's classics (public domain in the US) and African Storybook in English (CC BY); NOTICE names "
    "every book and author.",
    "tldr": "tldr-pages in English (CC BY 4.0).",
    "docs": "The Rust Programming Language (MIT or Apache-2.0), Python Enhancement Proposals (public domain or CC0 "
    "1.0), OpenStax textbooks (CC BY 3.0); NOTICE names them.",
}
"""What each source of `corpus.SOURCES` is, and its licence."""

_SAMPLER = Sampler(temperature=0.8, top_k=50, top_p=0.95)


def samples(folder: Path, openings: tuple[str, ...], *, max_tokens: int = 120) -> list[tuple[str, str]]:
    """(opening, continuation) with T = 0.8, top-k 50, top-p 0.95 and seed 0, 1, 2, … — unpicked."""
    pipeline = load(folder)
    return [
        (opening, str(pipeline(opening, max_tokens=max_tokens, seed=seed, sampler=_SAMPLER).signal))
        for seed, opening in enumerate(openings)
    ]


def figures(measured: dict[str, Any]) -> dict[str, float]:
    """What a card reports, by its words, of one model's results in `benches/compression.py`."""
    counted = f"{measured['documents']} held-out documents ({measured['bytes'] / 1000:.0f} KB)"
    words = {
        "model": f"bits per byte, {counted}",
        "5-gram": "a 5-gram model of the same text (modified Kneser-Ney, same tokens)",
        "xz -9e, primed": "xz -9 primed with the training text",
        "xz -9e": "xz -9 alone",
    }
    return {said: round(measured[name], 3) for name, said in words.items()}


def write_card(folder: Path, config: LanguageConfig, *, name: str, figures: dict[str, float]) -> None:
    """Write `README.md` and `figures.json` of a checkpoint folder.

    Args:
        folder: the checkpoint.
        config: the recipe's configuration.
        name: of the checkpoint.
        figures: measured on held-out documents, name → value.
    """
    kind = "stories" if "stories" in config.sources else "docs"
    texts = samples(folder, OPENINGS[kind])
    pipeline = load(folder)
    steps = config.steps[-1]
    parameters = sum(size for size in _parameter_counts(pipeline.model))
    lines = [
        f"# {name}",
        "",
        f"A Llama-shaped language model of {parameters / 1e6:.1f} M parameters over a byte-level BPE of "
        f"{config.vocab_size:,} tokens, context {config.context}. It ships with foretoken to show and test decoding; "
        "it has learnt language from a few megabytes of text and knows nothing.",
        "",
        "## Data",
        "",
        " ".join(SOURCES[source] for source in config.sources),
        "",
        "One whole document in 25, by the checksum of its title, was never trained on. All figures are measured on "
        "those of them that do not also stand in the training text under another title.",
        "",
        "## Recipe",
        "",
        "```",
        f"foretoken train {name} --data DATA --out runs/{name}",
        "```",
        "",
        f"{steps:,} steps of {config.batch} windows of {config.window} tokens "
        f"({steps * config.batch * config.window / 1e6:.1f} M tokens), Muon and Adam, peak rate {config.rate}"
        f"{', learning the law of its teacher, not the text' if config.teacher else ''}. "
        "Weights are stored in bfloat16 and decoded in float32.",
        "",
        "## Figures",
        "",
        "| | |",
        "|---|---|",
        *(f"| {key} | {value} |" for key, value in figures.items()),
        "",
        "## Ten samples, unpicked",
        "",
        "Temperature 0.8, top-k 50, top-p 0.95; sample i has seed i.",
        "",
    ]
    for opening, text in texts:
        lines += [f"> **{_inline(opening)}**{_inline(text)}", ""]
    (folder / "README.md").write_text("\n".join(lines), encoding="utf-8")
    (folder / "figures.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def _parameter_counts(model: Any) -> list[int]:
    config = model.config
    block = config.hidden_size * (
        2 * config.head_dim * (config.num_attention_heads + config.num_key_value_heads)
        + 3 * config.intermediate_size
        + 2
    )
    heads = 1 if config.tie_word_embeddings else 2
    return [config.num_hidden_layers * block, heads * config.vocab_size * config.hidden_size, config.hidden_size]


def _inline(text: str) -> str:
    """Text inside a Markdown quotation: line breaks kept, markup shown as it is."""
    escaped = text.replace("\\", "\\\\")
    for mark in "*_`<>#[]":
        escaped = escaped.replace(mark, "\\" + mark)
    return escaped.replace("\n", "  \n> ")


def main(arguments: Sequence[str]) -> None:
    """Write the card of each shipped model in a file of `benches/compression.py`."""
    for name, measured in json.loads(Path(arguments[0]).read_text(encoding="utf-8"))["results"].items():
        config = LanguageConfig.from_file(Path(__file__).parent / "configs" / f"{name}.json")
        write_card(path(name), config, name=name, figures=figures(measured))


if __name__ == "__main__":
    main(sys.argv[1:])
