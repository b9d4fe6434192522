"""Does the judge of pictures and texts tell what belongs together? On pairs, captions and characters that it never saw.

    python benches/clip.py --data DATA                              # the shipped judge
    python benches/clip.py --data DATA --model runs/clip/checkpoint

A text is a whole caption with its style. A mismatched pair is a picture under the text of another of the same set, each
picture under 20 of them. Retrieval asks for the own text of a picture among 100 of its set, and, harder, among 100 that
name the same style, drawn from all captions of emoji. What the codec of the painter makes of the held-out pictures says
how much of a score a painter loses to its codec. Labels are told without having been taught: which of nine texts such
as "noto style", and which of "a woman walking left", "… up".
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np

import foretoken as ft
from benches import _common
from foretoken.codec.patches import Patches
from foretoken.evaluate.clip import Clip, area_under_curve
from foretoken.evaluate.report import Report, Table, asked, joined
from foretoken.recipes import captions, pairs
from foretoken.recipes.captions import Captioned
from foretoken.recipes.sprites import DIRECTIONS

CODEC, AMONG, MISMATCHES = "emoji-fsq-256", 100, 20


def sets(data: Path, count: int) -> dict[str, Captioned]:
    """What is judged, by name; of each at most `count`, spread over its file."""
    train, held_out = captions.emoji(data), captions.emoji(data, held_out=True)
    unseen = [pairs.is_unseen(caption) for caption in train[1]]
    apart = _where(held_out, [not pairs.is_unseen(caption) for caption in held_out[1]], count)
    codec = ft.codec.load(CODEC)
    assert isinstance(codec, Patches)
    back = codec.decode_batch(np.stack([codec.encode(picture) for picture in apart[0]]))
    return {
        "learnt from": _where(train, [not one for one in unseen], count),
        "style and caption seen apart": apart,
        "the same, through the codec": (back, apart[1]),
        "captions never seen": _where(train, unseen, count),
        "characters never seen": captions.characters(data, count, seed=11, held_out=True),
    }


def _where(captioned: Captioned, kept: Sequence[bool], count: int) -> Captioned:
    there = np.flatnonzero(kept)
    chosen = there[np.linspace(0, len(there) - 1, min(count, len(there))).astype(int)]
    return captioned[0][chosen], [captioned[1][index] for index in chosen]


Style = tuple[list[str], np.ndarray]
"""All captions of a style, and the vectors of their texts."""


def styles(judge: Clip, data: Path) -> dict[str, Style]:
    """Those of emoji, by how texts call them."""
    known: dict[str, list[str]] = {}
    for held_out in (False, True):
        for caption in captions.emoji(data, held_out=held_out)[1]:
            known.setdefault(caption.last, []).append(str(caption))
    return {style: (texts, judge.texts(texts)) for style, texts in known.items()}


def judged(judge: Clip, captioned: Captioned, known: dict[str, Style], *, seed: int) -> dict[str, Any]:
    """The figures of one set."""
    pictures, said = captioned
    texts = [str(caption) for caption in said]
    seen, told = judge.images(pictures), judge.texts(texts)
    cosines, random = seen @ told.T, np.random.default_rng(seed)
    others = random.integers(len(texts), size=(len(texts), MISMATCHES))
    wrong = np.array([[texts[other] != text for other in row] for text, row in zip(texts, others, strict=True)])
    mismatched, matched = np.take_along_axis(cosines, others, axis=1)[wrong], cosines.diagonal()
    same = None
    if not said[0].is_character:
        first = []
        for vector, caption, own in zip(seen, said, matched, strict=True):
            candidates, vectors = known[caption.last]
            rivals = np.array([text != str(caption) for text in candidates])
            drawn = random.choice(np.flatnonzero(rivals), AMONG - 1, replace=False)
            first.append(own > (vectors[drawn] @ vector).max())
        same = float(np.mean(first))
    return {
        "pairs": len(texts),
        "area_under_curve": area_under_curve(matched, mismatched),
        "first_among_100": judge.retrieval(pictures, texts, among=AMONG, seed=seed),
        "first_among_100_of_its_style": same,
        "matched": float(matched.mean()),
        "mismatched": float(mismatched.mean()),
    }


def labelled(judge: Clip, emoji: Captioned, walkers: Captioned) -> dict[str, float]:
    """Shares of pictures whose style, and whose direction, come first."""
    names = [f"{style} style" for style in captions.STYLES.values()]
    best = judge.labels(emoji[0], names).argmax(axis=1)
    right = [names[index] == caption.last for index, caption in zip(best, emoji[1], strict=True)]
    facing = []
    for picture, caption in zip(*walkers, strict=True):
        doing = caption.last.rpartition(" ")[0]
        texts = [f"a {caption.kind} {doing} {direction}" for direction in DIRECTIONS]
        facing.append(texts[int(judge.labels(picture[None], texts).argmax())].endswith(caption.last))
    return {"style, of nine": float(np.mean(right)), "direction, of four": float(np.mean(facing))}


def compared(options: Any, data: Path) -> Report:
    """Every set under one judge."""
    judge, found = Clip(options.model), sets(data, options.count)
    known, results = styles(judge, data), {}
    for name, captioned in found.items():
        results[name] = judged(judge, captioned, known, seed=options.seed)
        print(name, results[name], file=sys.stderr)
    labels = labelled(judge, found["style and caption seen apart"], found["characters never seen"])
    head = ("set", "pairs", "area under curve", "first of 100 %", "… of its style %", "matched", "mismatched")
    rows = []
    for name, one in results.items():
        shares = (one["first_among_100"], one["first_among_100_of_its_style"])
        percents = [None if share is None else 100 * share for share in shares]
        rows.append((name, one["pairs"], one["area_under_curve"], *percents, one["matched"], one["mismatched"]))
    tables = [
        Table("matched and mismatched", head, rows),
        Table("labels", ("label", "right %"), [(name, 100 * share) for name, share in labels.items()]),
    ]
    settings = {"model": str(options.model), "seed": options.seed, "among": AMONG, "mismatched a picture": MISMATCHES}
    return Report("clip", settings, tables, {**results, "labels": labels})


def main(arguments: Sequence[str] | None = None) -> Report:
    """Measure a judge."""
    parser = _common.parser(__doc__)
    parser.add_argument("--data", type=Path, help="the folder with emoji64.zip and walk64.zip")
    parser.add_argument("--model", default="clip", help="a shipped judge or a folder (default: clip)")
    parser.add_argument("--count", type=int, default=600, help="pairs of each set, at least 100 (default: 600)")
    parser.add_argument("--seed", type=int, default=0, help="of the draws of other texts")
    options = _common.parsed(parser, arguments)
    data = _common.data_folder(options.data)
    if data is None:
        return _common.finish(Report("clip", {"skipped": "no data folder; pass --data"}, [], {}), options)
    report = compared(options, data)
    apart = report.results["style and caption seen apart"]
    goals = asked(
        [
            ("area under curve, seen apart", apart["area_under_curve"], ">=", 0.95),
            ("first of 100, seen apart, %", 100 * apart["first_among_100"], ">=", 40),
        ]
    )
    return _common.finish(joined("clip", [report, goals]), options)


if __name__ == "__main__":
    main()
