"""The kernels: a row of 32 k or 128 k logits to a token, guesses verified; beside transformers, llama.cpp, the floor.

    python benches/kernels.py

`foretoken bench kernels` prints the same from an installed package.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benches import _common
from foretoken.evaluate import kernels
from foretoken.evaluate.report import Report


def main(arguments: Sequence[str] | None = None) -> Report:
    """Measure everything."""
    parser = _common.parser(__doc__)
    parser.add_argument("--vocabulary", type=int, action="append", help="may be repeated (default: 32000, 128256)")
    parser.add_argument("--repeats", type=int, default=15)
    options = _common.parsed(parser, arguments)
    if options.quick:
        options.vocabulary, options.repeats = [500], 1
    report = kernels.report(options.vocabulary or [32_000, 128_256], repeats=options.repeats)
    return _common.finish(report, options)


if __name__ == "__main__":
    main()
