"""Bits per byte on held-out whole documents: the shipped models beside a 5-gram model and xz.

    python benches/compression.py --data DATA          # or FORETOKEN_DATA, or ../shared/data

Documents are held out by the recipe's own split; those that are copies of training text under another title (`unseen`)
are left out, so no measure has seen them. The 5-gram model counts the same tokens
of the same training documents. `xz` cannot be given a text beforehand, so it is measured twice: on the held-out text
alone, and as what that text adds to training text compressed before it, as much of that as its dictionary holds.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from tqdm import tqdm

import foretoken as ft
from benches import _common
from foretoken.evaluate import compression
from foretoken.evaluate.report import Report, Table
from foretoken.recipes.corpus import split, unseen
from foretoken.recipes.language import LanguageConfig


def splits(model: str, data: Path) -> tuple[list[str], list[str]]:
    """Training documents of a shipped model, as its recipe has them, and the held-out ones that are not copies."""
    configs = Path(ft.__file__).parent / "recipes" / "configs"
    train, held_out = split(data, LanguageConfig.from_file(configs / f"{model}.json").sources)
    return train, unseen(train, held_out)


def spread(documents: Sequence[str], count: int | None) -> Sequence[str]:
    """So many of the documents, at even distances: sources stand one behind the other."""
    return documents if count is None else documents[:: max(1, len(documents) // count)][:count]


def measured(model: str, train: Sequence[str], held_out: Sequence[str]) -> tuple[str, dict[str, float]]:
    """A model's name, and bits per byte by every measure, with what they were taken on."""
    pipeline = ft.load(model)
    end = pipeline.model.end_tokens[0]
    sequences = compression.documents(pipeline.codec, held_out, end)
    learnt = compression.documents(pipeline.codec, train, end)
    size = compression.size(held_out)
    with tqdm(desc=pipeline.name, total=1, disable=None, unit="window", leave=False) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        own = compression.model_bits(pipeline.model, sequences, progress=progress)
    ngram = compression.ngram_bits(learnt, sequences, vocab_size=pipeline.model.vocab_size)
    alone, _ = compression.xz_bytes(held_out)
    primed, used = compression.xz_bytes(held_out, after=train)
    return pipeline.name, {
        "model": own / size,
        "5-gram": ngram / size,
        "xz -9e": 8 * alone / size,
        "xz -9e, primed": 8 * primed / size,
        "bytes": size,
        "tokens": sum(len(sequence) - 1 for sequence in sequences),
        "documents": len(held_out),
        "training_bytes": compression.size(train),
        "primed_with": used,
    }


def main(arguments: Sequence[str] | None = None) -> Report:
    """Measure every model that is asked for."""
    parser = _common.parser(__doc__)
    parser.add_argument("--model", action="append", help="may be repeated (default: all that ship)")
    parser.add_argument("--data", type=Path, help="the data folder the models were trained on")
    parser.add_argument("--documents", type=int, help="so many held-out documents, evenly chosen, for a quick look")
    options = _common.parsed(parser, arguments)
    data = _common.data_folder(options.data)
    results = {}
    if options.quick:
        texts = _common.texts("tales", 20)
        results = dict([measured(_common.tiny_folder(), texts[:10], texts[10:])])
    elif data is None:
        return _common.finish(Report("compression", {"skipped": "no data folder; pass --data"}, [], {}), options)
    else:
        for model in options.model or ["tales", "tales-draft", "manual", "manual-draft"]:
            train, held_out = splits(model, data)
            results |= dict([measured(model, train, spread(held_out, options.documents))])
    measures = ("model", "5-gram", "xz -9e", "xz -9e, primed")
    rows = [
        (name, *(f"{found[measure]:.3f}" for measure in measures), found["documents"], found["bytes"])
        for name, found in results.items()
    ]
    head = ("bits per byte", *measures, "documents", "bytes")
    settings = {"window": "the model's context, stride half of it", "dtype": "float32", "n-gram": "modified Kneser-Ney"}
    table = Table("held-out documents, whole, END included", head, rows)
    return _common.finish(Report("compression", settings, [table], results), options)


if __name__ == "__main__":
    main()
