"""Trees: two drafters in one forward beside the better of them, and whole blocks beside one guess after another.

    python benches/tree.py

The same drafters guess as a chain (the first that has something to say) and as a tree (all they say, merged). Under
`Coupled` every token must be that of plain decoding; the tokens that differ are counted. Contenders take turns on the
same weights and held-out prompts; the median of the repeats counts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import foretoken as ft
from benches import _common
from benches._common import Writer
from foretoken.evaluate import decoding, speed
from foretoken.evaluate.report import Report, Table, joined

LENGTH = 4  # guesses of a branch, where the length is fixed


def strategies(model: str) -> dict[str, ft.Autoregressive]:
    """Nothing drafted; n-grams and a small model, as a chain and as a tree, of adaptive and of fixed length."""
    small = ft.small_model(model)
    found = {"plain": ft.Autoregressive()}
    for kind, length in (("adaptive", ft.Adaptive()), (f"{LENGTH} guesses", LENGTH)):
        for name, drafter in (
            ("n-gram", ft.NGram()),
            ("small model", small),
            ("chain of both", ft.Several(ft.NGram(), small)),
            ("tree of both", ft.Several(ft.NGram(), small, tree=True)),
        ):
            found[f"{name}, {kind}"] = ft.Autoregressive(drafter, length=length)  # type: ignore[arg-type]
    return found


def trees(model: str, prompts: Sequence[str], *, tokens: int, repeats: int) -> Report:
    """Tokens a forward and a second under `Coupled`."""
    pipeline, ids = decoding.opened(model, prompts)
    tables, results = [], {}
    for kind, sampler in decoding.SAMPLERS.items():
        options = {"sampler": sampler, "max_tokens": tokens, "seed": 7}
        writers = {name: Writer(pipeline.model, strategy, **options) for name, strategy in strategies(model).items()}
        timings = speed.alternate(writers, ids, repeats=repeats)
        rows, results[kind] = [], {}
        for name, writer in writers.items():
            (forward, accepted), differing = writer.worth(), writer.differing(writers["plain"])
            columns = speed.columns(timings[name], timings["plain"])
            rows.append((name, *columns, forward, accepted, differing))
            results[kind][name] = speed.figures(timings[name], timings["plain"]) | {
                "tokens_per_forward": forward, "accepted_per_forward": accepted, "differing": differing
            }  # fmt: skip
        head = (kind, "tokens/s", "slow-fast", "× plain", "tokens/forward", "guesses/forward", "tokens differ")
        tables.append(Table(f"trees on {pipeline.name}", head, rows))
    return Report("trees", decoding.settings(pipeline, ids, tokens=tokens, repeats=repeats), tables, results)


def blocks(model: str, prompts: Sequence[str], *, tokens: int, seeds: int) -> Report:
    """Tokens a forward of the ratio tests: of one guess after another, of whole blocks, of trees."""
    pipeline, ids = decoding.opened(model, prompts)
    small = ft.small_model(model)
    tree = ft.Several(ft.NGram(), small, tree=True)
    contenders: dict[str, Callable[[int], ft.Autoregressive]] = {
        "one after another": lambda length: ft.Autoregressive(small, ft.Rejection(), length),
        "whole blocks": lambda length: ft.Autoregressive(small, ft.Rejection(block=True), length),
        "tree with n-grams": lambda length: ft.Autoregressive(tree, ft.Rejection(), length),
    }
    sampler, lengths = ft.Sampler(temperature=0.8, top_k=50, top_p=0.95), (LENGTH, 2 * LENGTH)
    rows, results = [], {}
    for name, make in contenders.items():
        worths = []
        for length in lengths:
            writers = [
                Writer(pipeline.model, make(length), sampler=sampler, max_tokens=tokens, seed=seed)
                for seed in range(seeds)
            ]
            for prompt in ids:
                for writer in writers:
                    writer(prompt)
            stats = [stats for writer in writers for stats in writer.stats]
            worths.append(round(sum(s.tokens for s in stats) / sum(s.row_forwards for s in stats), 3))
        rows.append((name, *worths))
        results[name] = {f"length {length}": worth for length, worth in zip(lengths, worths, strict=True)}
    head = ("the ratio test of", *(f"tokens/forward, {length} guesses" for length in lengths))
    table = Table(f"Rejection on {pipeline.name}, a small model's guesses, T=0.8, k=50, p=0.95", head, rows)
    settings = decoding.settings(pipeline, ids, tokens=tokens, repeats=1) | {"seeds": seeds}
    return Report("blocks", settings, [table], results)


def main(arguments: Sequence[str] | None = None) -> Report:
    """Both parts."""
    parser = _common.parser(__doc__)
    parser.add_argument("--model", default="tales", help="name or folder with a drafter beside it (default: tales)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--prompts", type=int, default=8, help="held-out prompts, unpicked (default: 8)")
    parser.add_argument("--seeds", type=int, default=4, help="texts of each prompt for the ratio tests (default: 4)")
    options = _common.parsed(parser, arguments)
    if options.quick:
        options.model, options.repeats, options.tokens, options.prompts, options.seeds = (
            _common.tiny_folder(),
            1,
            8,
            2,
            1,
        )
    prompts = _common.texts(Path(options.model).name, options.prompts)
    parts = [
        trees(options.model, prompts, tokens=options.tokens, repeats=options.repeats),
        blocks(options.model, prompts, tokens=options.tokens, seeds=options.seeds),
    ]
    return _common.finish(joined("tree", parts), options)


if __name__ == "__main__":
    main()
