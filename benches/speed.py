"""Tokens a second: the plain loop beside transformers, drafters, the worst drafter, overhead, batches.

    python benches/speed.py                      # everything, minutes
    python benches/speed.py --only plain         # the plain loop against transformers.generate
    python benches/speed.py --only drafters --model manual
    python benches/speed.py --torch              # models run by PyTorch instead of the core

Contenders take turns in one process on the same weights; the median of the repeats counts. `--only` names parts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import foretoken as ft
from benches import _common
from benches._peers import Peer
from foretoken import kernels
from foretoken.evaluate import decoding, speed
from foretoken.evaluate.report import Report, Table, asked, joined
from foretoken.recipes.corpus import split
from foretoken.recipes.language import LanguageConfig

_CORPUS_BYTES = 2**28


def plain(model: str, peer: Peer, *, prompts: Sequence[str], repeats: int, tokens: int, run: decoding.Kind) -> Report:
    """Our loop with nothing drafted against `transformers.generate` on the same weights."""
    pipeline, ids = decoding.opened(model, prompts, kind=run)
    rows, results = [], {}
    for kind, sampler in decoding.SAMPLERS.items():
        contenders = {
            "transformers.generate": lambda prompt, sampler=sampler: len(peer.ids(prompt, sampler, tokens)),
            "foretoken": decoding.writer(pipeline, sampler, tokens),
        }
        timings = speed.alternate(contenders, ids, repeats=repeats)
        base = timings["transformers.generate"]
        rows += [(f"{name}, {kind}", *speed.columns(timing, base)) for name, timing in timings.items()]
        results[kind] = {name: speed.figures(timing, base) for name, timing in timings.items()}
    head = ("nothing drafted", "tokens/s", "slow-fast", "× transformers")
    table = Table(f"plain decoding of {pipeline.name}, batch 1", head, rows)
    return Report("plain", decoding.settings(pipeline, ids, tokens=tokens, repeats=repeats), [table], results)


def corpus_of(model: str, data: Path | None) -> kernels.SuffixCorpus | None:
    """The training documents of a shipped model, for `Suffix` to look into; nothing held out is in it."""
    config = Path(ft.__file__).parent / "recipes" / "configs" / f"{model}.json"
    if data is None or not config.exists():
        return None
    train, _ = split(data, LanguageConfig.from_file(config).sources)
    codec = ft.load(model).codec
    corpus = kernels.SuffixCorpus(memory_limit_bytes=_CORPUS_BYTES)
    for text in train:
        corpus.add(codec.encode(text))
    return corpus


def goals(model: str, results: dict[str, dict]) -> Iterator[tuple[str, float, str, float]]:
    """(what, measured, how to compare, asked) for each part that was run."""
    kinds = dict(zip(decoding.SAMPLERS, (2.0, 2.2), strict=True))
    for kind, times in kinds.items():
        if "plain" in results:
            measured = results["plain"][kind]["foretoken"]["ratio"]
            yield f"{model}, {kind}: times transformers.generate", measured, ">=", times
        if "drafters" in results:
            best = results["drafters"][kind]
            least = 1.5 if model == "manual" else 1.2
            yield f"{model}, {kind}: times plain with {best['best']}", best["best_ratio"], ">=", least
        if "wrong" in results:
            for name, found in results["wrong"][kind].items():
                yield f"{model}, {kind}: cost of a drafter that is {name}, %", 100 * found["cost"], "<=", 5.0
        if "overhead" in results:
            outside = results["overhead"][f"plain, {kind}"]["outside"]
            yield f"{model}, {kind}: outside the forward, µs a token", outside, "<=", 60.0
        if "batch" in results:
            yield f"{model}, {kind}: times batch 1 at batch 8", results["batch"][kind]["batch 8"]["ratio"], ">=", 3.0


def main(arguments: Sequence[str] | None = None) -> Report:
    """Run the parts that are asked for."""
    parts = ("plain", "drafters", "wrong", "overhead", "batch")
    parser = _common.parser(__doc__)
    parser.add_argument("--model", action="append", help="name or folder; may be repeated (default: tales, manual)")
    parser.add_argument("--only", action="append", choices=parts, help="one part; may be repeated")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--prompts", type=int, default=8, help="held-out prompts, unpicked (default: 8)")
    parser.add_argument("--corpus", action="store_true", help="let Suffix look into the training text, too")
    parser.add_argument("--data", type=Path, help="data folder, for --corpus")
    parser.add_argument("--torch", action="store_true", help="run the models in PyTorch instead of the core")
    options = _common.parsed(parser, arguments)
    if options.quick:
        options.model, options.repeats, options.tokens, options.prompts = [_common.tiny_folder()], 1, 8, 2
    reports = []
    for model in options.model or ["tales", "manual"]:
        folder = Path(model) if Path(model).is_dir() else ft.path(model)
        draft = folder.with_name(f"{folder.name}-draft")
        keys = {
            "prompts": _common.texts(folder.name, options.prompts),
            "repeats": options.repeats,
            "tokens": options.tokens,
            "run": ft.Llama if options.torch else ft.Native,
        }
        wanted = options.only or parts
        corpus = corpus_of(model, _common.data_folder(options.data)) if options.corpus else None
        runs: dict[str, Callable[..., Report]] = {
            name: getattr(decoding, name) for name in ("wrong", "overhead", "batch")
        }
        if {"plain", "drafters"} & set(wanted):
            peer = Peer(folder, draft if draft.is_dir() else None)
            runs["plain"] = partial(plain, peer=peer)
            runs["drafters"] = partial(decoding.drafters, corpus=corpus, peers=peer.contenders(options.tokens))
        reports.append(joined(folder.name, [runs[name](model, **keys) for name in wanted]))
    found = (goal for report in reports for goal in goals(report.name, report.results))
    name = "speed_torch" if options.torch else "speed"
    return _common.finish(joined(name, [*reports, asked(found)]), options)


if __name__ == "__main__":
    main()
