"""Which guidance and temperature? Tried on captions that the painter was trained on: held-out ones stay unseen.

    python benches/guidance.py --data DATA

Every pair paints the same captions with the same seeds in 8 steps; a CLIP of ours says how well a picture goes with its
caption, and how far all of them are from the real ones.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import foretoken as ft
from benches import _common
from foretoken.evaluate.clip import Clip
from foretoken.evaluate.report import Report, Table, joined
from foretoken.lab import painting
from foretoken.lab.painting import Way
from foretoken.lab.real_pictures import KINDS, truth
from foretoken.recipes.captions import Captioned

COMPARED = 4000
SHOWN = ("CLIP score", "share of the way", "Fréchet", "recall", "diversity")


def compared(kind: str, painter: ft.Painter, clip: Clip, options: argparse.Namespace, data: Path) -> Report:
    """Every pair on captions of one kind."""

    drawn = KINDS[kind](data)
    less = drawn[0][:COMPARED], drawn[1][:COMPARED]  # nobody asks here whether a picture was copied

    def seen(data: Path, *, held_out: bool = False) -> Captioned:
        return drawn if held_out else less

    ways = [
        Way(f"guidance {guidance:g}, T={temperature:g}", painter.steps(options.steps),
            {"guidance": guidance, "sampler": ft.Sampler(temperature=temperature)})
        for guidance in options.guidance for temperature in options.temperature
    ]  # fmt: skip
    beside = truth(seen, data, painter, clip, count=options.count, n=options.n)
    task = painting.measure(
        kind, beside, painter, clip, ways, n=options.n, note=lambda what: print(what, file=sys.stderr)
    )
    names = [name for name in SHOWN if name in task.outcomes[1].figures]
    names += [name for name in task.outcomes[1].figures if name.endswith(" right")]
    rows = [(each.name, *(each.figures.get(name) for name in names)) for each in task.outcomes]
    results = {each.name: each.figures for each in task.outcomes}
    title = f"{kind}: captions of the training split, {options.steps} steps"
    return Report(kind, {"captions": options.count, "n": options.n}, [Table(title, ("way", *names), rows)], results)


def main(arguments: Sequence[str] | None = None) -> Report:
    """Measure one painter."""
    parser = _common.parser(__doc__)
    parser.add_argument("--data", type=Path, help="the data folder")
    parser.add_argument("--painter", default="painter", help="a shipped one or a folder (default: painter)")
    parser.add_argument("--clip", default="clip", help="the judge (default: clip)")
    parser.add_argument("--of", choices=sorted(KINDS), nargs="*", default=sorted(KINDS), help="kinds of pictures")
    parser.add_argument("--count", type=int, default=24, help="captions of each kind (default: 24)")
    parser.add_argument("-n", type=int, default=2, help="pictures of each caption (default: 2)")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--guidance", type=float, nargs="*", default=[2, 3, 5])
    parser.add_argument("--temperature", type=float, nargs="*", default=[0.5, 0.7, 1])
    options = _common.parsed(parser, arguments)
    data = _common.data_folder(options.data)
    if data is None:
        return _common.finish(Report("guidance", {"skipped": "no data folder; pass --data"}, [], {}), options)
    painter, clip = ft.Painter.load(options.painter), Clip(options.clip)
    reports = [compared(kind, painter, clip, options, data) for kind in options.of]
    return _common.finish(joined("guidance", reports), options)


if __name__ == "__main__":
    main()
