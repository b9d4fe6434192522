"""Measure what a model makes.

`foretoken evaluate painter` paints held-out captions in every way, on one model, lets a CLIP of ours judge, and writes
a page with the table and the first pictures, which nobody picked.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..errors import InvalidArgument
from ..evaluate.clip import Clip
from ..lab import painting
from ..painter.job import GUIDANCE, TEMPERATURE
from ..painter.painter import Painter
from .lab import check_page, finish


def options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    painter = parser.add_subparsers(metavar="WHAT", required=True).add_parser(
        "painter", help="pictures from texts", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    painter.add_argument("--data", type=Path, required=True, metavar="DIR", help="the folder of the data")
    painter.add_argument("--painter", default="painter", help="a shipped painter or a folder (default: painter)")
    painter.add_argument("--clip", default="clip", help="the judge: a shipped CLIP or a folder (default: clip)")
    painter.add_argument("--out", type=Path, default=Path("painter.html"), metavar="FILE", help="of the page")
    painter.add_argument("--of", choices=sorted(painting.KINDS), nargs="*", help="kinds of pictures (default: all)")
    painter.add_argument("--captions", type=int, default=100, metavar="N", help="held-out ones (default: 100)")
    painter.add_argument("-n", "--n", type=int, default=2, metavar="N", help="pictures of each (default: 2)")
    painter.add_argument("--seed", type=int, default=0, help="of the first picture (default: 0)")
    painter.add_argument(
        "--guidance", type=float, default=GUIDANCE, metavar="S", help="weight of the text (default: %(default)g)"
    )
    painter.add_argument(
        "--temperature", type=float, default=TEMPERATURE, metavar="T", help="of the choice (default: %(default)g)"
    )
    painter.add_argument("--json", action="store_true", help="write the figures as one JSON object")


def run(options: argparse.Namespace) -> None:
    """Run this command."""
    check_page(options.out)
    if options.captions < 8 or options.n < 1:
        raise InvalidArgument(
            f"{options.captions} captions, {options.n} pictures of each: give 8 or more, and 1 or more"
        )
    tasks = painting.run(
        options.data, Painter.load(options.painter), Clip(options.clip), of=options.of or [*painting.KINDS],
        count=options.captions, n=options.n,
        seed=options.seed, guidance=options.guidance, temperature=options.temperature,
        note=lambda what: print(what, file=sys.stderr, flush=True),
    )  # fmt: skip
    finish(
        tasks, options, title=f"How well does {options.painter} paint?",
        intro="Captions that were never trained on, painted in every way by one model, beside real pictures.",
    )  # fmt: skip
