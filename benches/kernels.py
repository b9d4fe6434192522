"""The kernels: a row of 32 k or 128 k logits to a token, guesses verified; beside transformers, llama.cpp, the floor.

    python benches/kernels.py
    python benches/kernels.py --plot benches/results/kernels.png      # time against vocabulary, too

`foretoken bench kernels` prints the same from an installed package, without the plot.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benches import _common, _curve
from foretoken.evaluate import kernels
from foretoken.evaluate.report import Report


def main(arguments: Sequence[str] | None = None) -> Report:
    """Measure everything."""
    parser = _common.parser(__doc__)
    parser.add_argument("--vocabulary", type=int, action="append", help="may be repeated (default: 32000, 128256)")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--plot", type=Path, help="draw time against vocabulary there; its ending says the format")
    options = _common.parsed(parser, arguments)
    sizes = _curve.SIZES
    if options.quick:
        options.vocabulary, options.repeats, sizes = [500], 3, _curve.SIZES[:2]
    report = kernels.report(options.vocabulary or [32_000, 128_256], repeats=options.repeats)
    if options.plot is not None:
        curve = _curve.measured(sizes, repeats=options.repeats)
        where = f"{report.made['cpu']}, one thread, float32, median of {options.repeats}"
        _curve.draw(curve.results, options.plot, machine=where)
        tables, results = [*report.tables, *curve.tables], report.results | {"curve": curve.results}
        report = dataclasses.replace(report, tables=tables, results=results)
    return _common.finish(report, options)


if __name__ == "__main__":
    main()
