"""Paint a text.

The picture is written as PNG; a .gif shows how it grew, and a page (HTML) which patch became known when.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InvalidArgument
from ..files import whole
from ..generation import Generation
from ..lab.contenders import one_by_one
from ..painter.job import GUIDANCE, TEMPERATURE
from ..painter.painter import Painter
from ..painter.picture import Picture
from ..sampler import Sampler
from ..strategy.masked import Masked
from ..strategy.oneshot import OneShot
from ..view.growth import gif, growth

_LARGEST = 64  # times: 4096 pixels of a painter's 64


def options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    parser.add_argument("prompt", metavar="PROMPT", help='what to paint, such as "red heart, flat style"')
    parser.add_argument("--model", default="painter", help="a shipped painter or a folder (default: painter)")
    parser.add_argument("--out", type=Path, default=Path("picture.png"), metavar="FILE", help="(default: picture.png)")
    parser.add_argument(
        "--steps",
        type=int,
        default=8,
        metavar="N",
        help="forwards; 1 is all at once, 0 one for each patch (default: 8)",
    )
    parser.add_argument(
        "--guidance", type=float, default=GUIDANCE, metavar="S", help="weight of the text (default: %(default)g)"
    )
    parser.add_argument("--negative", metavar="TEXT", help="what to get away from")
    parser.add_argument(
        "--temperature", type=float, default=TEMPERATURE, metavar="T", help="of the choice (default: %(default)g)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="the same seed paints the same (default: 0)")
    parser.add_argument(
        "-n", "--n", type=int, default=1, metavar="N", help="how many pictures, side by side (default: 1)"
    )
    parser.add_argument("--adapter", action="append", default=[], metavar="FILE", help="a learnt name; may be repeated")
    parser.add_argument("--times", type=int, default=4, metavar="N", help="pixels of each pixel's side (default: 4)")
    parser.add_argument("--gif", type=Path, metavar="FILE", help="write how the first picture grew")
    parser.add_argument("--trace", type=Path, metavar="FILE", help="write a page (HTML) of how each picture grew")
    parser.add_argument("--json", action="store_true", help="write the figures as one JSON object")


def run(options: argparse.Namespace) -> None:
    """Run this command."""
    if options.steps < 0 or not 1 <= options.times <= _LARGEST:
        raise InvalidArgument(f"steps {options.steps}, times {options.times}: give 0 or more, and 1 to {_LARGEST}")
    for path, endings in ((options.out, (".png",)), (options.gif, (".gif",)), (options.trace, (".html", ".htm"))):
        if path is not None and (path.suffix.lower() not in endings or path.is_dir()):
            raise InvalidArgument(f"{path} is to be a file whose name ends in {' or '.join(endings)}")
    painter = Painter.load(options.model)
    for adapter in options.adapter:
        painter.add(adapter)
    out = painter(
        options.prompt, strategy=strategy(painter, options.steps), seed=options.seed, n=options.n,
        guidance=options.guidance, negative=options.negative, sampler=Sampler(temperature=options.temperature),
        logprobs=0, progress=sys.stderr.isatty(),
    )  # fmt: skip
    side_by_side(out).save(options.out, times=options.times)
    if options.gif:
        gif(painter, out, options.gif)
    if options.trace:
        with whole(options.trace) as part:
            part.write_text(growth(painter, options.prompt, out), encoding="utf-8")
    if options.json:
        figures: dict[str, Any] = {"forwards": out.stats.forwards, "seconds": out.stats.seconds["total"]}
        print(json.dumps({"out": str(options.out), "prompt": options.prompt, **figures}))
    else:
        print(options.out)
        print(f"[{out.figures}]", file=sys.stderr)


def side_by_side(out: Generation) -> Picture:
    """All pictures in one row."""
    return Picture(np.concatenate([row.signal.pixels for row in out.rows], axis=1))


def strategy(painter: Painter, steps: int) -> Masked | OneShot:
    """What a number of forwards means."""
    if steps == 0:
        return one_by_one()
    return OneShot() if steps == 1 else painter.steps(steps)
