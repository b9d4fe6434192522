"""Imports run one way: a module imports from the layers below its own, and layer-mates do not import each other."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "python" / "foretoken"

# From the bottom up; the modules of one line stand side by side. A package stands for everything in it, but for its
# protocol and what the protocol speaks of, which say what others must offer and so lie below all who offer it; and
# for the layers of the Llama, of which a drafter's own are made, too.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "files"),
    ("canvas", "rules", "schedules", "halton"),
    ("trace",),
    ("generation",),
    ("sampler", "layouts", "reference"),
    ("kernels",),
    ("ops", "weights", "shipped", "model.protocol", "drafter.costs", "drafter.taps"),
    ("codec.protocol", "drafter.protocol", "model.llama_config"),
    ("model.llama",),
    ("model", "codec", "drafter"),
    ("strategy",),
    ("ending",),
    ("generate",),
    ("pipeline", "painter"),
    ("hub", "huggingface_generate"),
    ("evaluate", "recipes", "view"),
    ("lab",),
    ("cli",),
    ("__init__", "__main__"),
)
PLACE = {name: layer for layer, names in enumerate(LAYERS) for name in names}


def noun(module: str) -> str | None:
    """The longest name in LAYERS that a dotted path inside the package falls under."""
    parts = module.split(".") if module else ["__init__"]
    return next((name for n in range(len(parts), 0, -1) if (name := ".".join(parts[:n])) in PLACE), None)


def imported(source: str, package: list[str]) -> Iterator[str]:
    """Dotted paths inside foretoken that a file of this package imports, at the top or inside functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            paths = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module.split(".") if node.module else []
            if node.level:
                base = ["foretoken", *package[: len(package) - node.level + 1], *base]
            paths = [[*base, alias.name] for alias in node.names]
        else:
            continue
        yield from (".".join(path[1:]) for path in paths if path[0] == "foretoken")


def complaints(files: dict[str, str]) -> list[str]:
    """One line for each import that runs upwards or sideways; `files` maps paths in the package to sources."""
    found = []
    for path, source in files.items():
        *package, stem = path.removesuffix(".py").split("/")
        here = noun(".".join(package if stem == "__init__" and package else [*package, stem]))
        if here is None:
            found.append(f"{path} has no layer: add it to LAYERS")
            continue
        for target in imported(source, package):
            if target.startswith("_rust"):
                if here != "kernels":
                    found.append(f"{path} imports {target}: kernels is the one importer of the binding")
                continue
            there = noun(target) or "__init__"  # a plain name is taken from the package itself, the topmost layer
            if there != here and PLACE[there] >= PLACE[here]:
                found.append(f"{path} ({here}) imports {target} ({there})")
    return found


def test_no_import_runs_back() -> None:
    """Of the real package."""
    files = {str(path.relative_to(PACKAGE)): path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
    assert complaints(files) == []


def test_a_back_arrow_is_seen() -> None:
    """The control: what must be found is found, what is allowed is not."""
    wrong = {
        "canvas.py": "def late():\n    from .generate import stream",
        "model/llama.py": "from ..drafter import ngram",
        "sampler.py": "from foretoken.kernels import sample",
        "strategy/autoregressive.py": "import foretoken",
        "generate.py": "from . import load, _rust",
        "attic.py": "",
    }
    assert [line.split()[0] for line in complaints(wrong)] == [*list(wrong)[:5], "generate.py", "attic.py"]
    right = {
        "__init__.py": "from .generate import stream as stream",
        "kernels.py": "from . import _rust, reference",
        "drafter/__init__.py": "from .ngram import NGram",
        "drafter/ngram.py": "import numpy\nfrom ..model.protocol import CausalModel\nfrom . import pace",
    }
    assert complaints(right) == []
