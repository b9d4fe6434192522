"""Say what is installed, what the machine is, and which models are shipped."""

from __future__ import annotations

import argparse
import importlib.util
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from .. import codec
from ..errors import CheckpointError
from ..evaluate import report
from ..hub import names, path


def options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    parser.add_argument("model", nargs="?", metavar="MODEL", help="only this model: a shipped one or a folder")
    parser.add_argument("--json", action="store_true", help="write one JSON object")


def run(options: argparse.Namespace) -> None:
    """Run this command."""
    if options.model is None:
        codecs = {name: model(path(name)) for name in codec.names()}
        facts = machine() | {"models": {name: model(path(name)) for name in names()}, "codecs": codecs}
    else:
        folder = Path(options.model)
        facts = model(folder if folder.is_dir() else path(options.model))
    if options.json:
        print(json.dumps(facts))
    else:
        print("\n".join(lines(facts)))


def machine() -> dict[str, Any]:
    """Versions, threads and what the processor can do, as far as it is cheap to ask."""
    core = importlib.util.find_spec("foretoken._rust")
    found = None if core is None or core.origin is None else Path(core.origin).name
    return report.machine() | {"instructions": torch.backends.cpu.get_cpu_capability(), "core": found}


def model(folder: Path) -> dict[str, Any]:
    """What a checkpoint's files say without loading it: size, shape, and the figures of its card."""
    weights = folder / "model.safetensors"
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        with safe_open(weights, "pt") as file:
            stored = list(file.keys())
            # The scales of matrices in eight bits are no parameters.
            own = [name for name in stored if name.removesuffix(".scale") not in {*stored} - {name}]
            shapes = [file.get_slice(name).get_shape() for name in own]
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} is no checkpoint: {error.filename or weights.name} is missing") from None
    except (ValueError, SafetensorError) as error:
        raise CheckpointError(f"{folder} is damaged: {error}") from None
    said = {
        "folder": str(folder),
        "parameters": sum(torch.Size(shape).numel() for shape in shapes),
        "megabytes": round(weights.stat().st_size / 1e6, 1),
    }
    if "codec" in config:
        said |= {"codec": config["codec"]}
    elif "model" in config:  # of a shape of its own
        said |= {"model": config["model"], "vocabulary": config.get("vocab_size")}
    else:
        keys = {"layers": "num_hidden_layers", "vocabulary": "vocab_size", "context": "max_position_embeddings"}
        said |= {name: config.get(key) for name, key in keys.items()}
    return said | {"figures": figures(folder / "README.md")}


def figures(card: Path) -> dict[str, str]:
    """The two-column table under the heading `## Figures` of a model card; empty if there is none."""
    if not card.exists():
        return {}
    section = card.read_text(encoding="utf-8").partition("\n## Figures\n")[2].partition("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("| \t").split("|")] for line in section.splitlines() if line[:1] == "|"
    ]
    return {row[0]: row[1] for row in rows[2:] if len(row) == 2}


def lines(facts: dict[str, Any], indent: str = "") -> list[str]:
    """Facts for people, one a line; what is not there is said."""
    width = max((len(name) for name in facts), default=0)
    written = []
    for name, value in facts.items():
        if isinstance(value, dict):
            written += [f"{indent}{name}:{'' if value else ' none'}", *lines(value, indent + "  ")]
        else:
            shown = "none" if value is None else f"{value:,}" if isinstance(value, int) else value
            written.append(f"{indent}{name:<{width}}  {shown}")
    return written
