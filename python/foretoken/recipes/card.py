"""The model card of a language model: what it learnt from, how, how well, and ten texts nobody picked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..hub import load
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

_SAMPLER = Sampler(temperature=0.8, top_k=50, top_p=0.95)


def samples(folder: Path, openings: tuple[str, ...], *, max_tokens: int = 120) -> list[tuple[str, str]]:
    """(opening, continuation) with T = 0.8, top-k 50, top-p 0.95 and seed 0, 1, 2, … — unpicked."""
    pipeline = load(folder)
    return [
        (opening, str(pipeline(opening, max_tokens=max_tokens, seed=seed, sampler=_SAMPLER).signal))
        for seed, opening in enumerate(openings)
    ]


def write_card(folder: Path, config: LanguageConfig, *, name: str, sources: str, figures: dict[str, Any]) -> None:
    """Write `README.md` and `figures.json` of a checkpoint folder.

    Args:
        folder: the checkpoint.
        config: the recipe's configuration.
        name: of the checkpoint.
        sources: the data and its licences, Markdown.
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
        sources,
        "",
        "One whole document in 25, by the checksum of its title, was never trained on; all figures are measured there.",
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
