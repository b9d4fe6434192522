"""Measure: list the benches, or run one.

A bench is a module of `foretoken.evaluate` with a function `main(arguments: Sequence[str]) -> object`; what it is
called with is what stands behind its name on the command line.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
from types import ModuleType

from .. import evaluate
from ..errors import InvalidArgument


def options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    parser.add_argument("name", nargs="?", metavar="BENCH", help="which one to run; without it, they are listed")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="the bench's own options")


def run(options: argparse.Namespace) -> None:
    """Run this command."""
    known = benches()
    if options.name is None:
        for name, module in known.items():
            print(f"{name:<10} {(module.__doc__ or '').splitlines()[0]}")
    elif options.name in known:
        known[options.name].main(options.arguments)
    else:
        raise InvalidArgument(f"no bench is called {options.name!r}; there are {list(known)}")


def benches() -> dict[str, ModuleType]:
    """The modules of `foretoken.evaluate` that can be run, by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(evaluate.__path__))
    modules = {name: importlib.import_module(f"{evaluate.__name__}.{name}") for name in names}
    return {name: module for name, module in modules.items() if hasattr(module, "main")}
