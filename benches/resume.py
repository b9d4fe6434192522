"""kill -9 in training at random moments, then resume: the loss curve and the weights must be those of an unbroken run.

    python benches/resume.py

A toy Llama is trained on the held-out prompts, in processes of their own. Each is killed at a random moment; the next
one goes on from what lies in the folder; the last one is let through.
"""

from __future__ import annotations

import json
import lzma
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
from safetensors.torch import load_file

from benches import _common
from foretoken.evaluate.report import Report, Table

_CHILD = """
import sys, pathlib, torch
from foretoken.recipes.language import LanguageConfig, Run
torch.set_num_threads(1)
folder = pathlib.Path(sys.argv[1])
Run(LanguageConfig.from_file(folder / "config.json"), folder / "data", folder / sys.argv[2]).train(lambda *_: None)
"""


def write_task(folder: Path, steps: int) -> None:
    """A configuration and a data folder of toy size."""
    config = {
        "recipe": "language", "sources": ["stories"], "tokenizer": "", "teacher": "", "vocab_size": 400,
        "hidden_size": 32, "intermediate_size": 64, "layers": 2, "heads": 2, "kv_heads": 1, "context": 64, "window": 32,
        "batch": 4, "steps": [steps], "warmup": 5, "cooldown": 0.5, "rate": 0.01, "save_every": 7, "seed": 3,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "data").mkdir()
    texts = _common.texts("tales", 50)
    rows = [{"source": "prompts", "title": str(i), "text": " ".join(texts[i:] + texts[:i])} for i in range(25)]
    with lzma.open(folder / "data" / "stories.jsonl.xz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def start(folder: Path, name: str) -> subprocess.Popen:
    """A training process on folder/name."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.Popen([sys.executable, "-c", _CHILD, str(folder), name], env=environment)


def logged(folder: Path, name: str) -> list[str]:
    """The lines of a loss curve."""
    path = folder / name / "loss.jsonl"
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def broken(folder: Path, name: str, chance: random.Random, *, kills: int, steps: int) -> list[tuple[int, int]]:
    """Kill training again and again; returns (lines logged, steps saved) at each death."""
    deaths = []
    for after in sorted(chance.randrange(steps * 3 // 4) for _ in range(kills)):
        process = start(folder, name)
        if len(deaths) % 3 == 2:  # every third dies wherever it is, starting, resuming or training
            time.sleep(chance.uniform(0, 3))
        while len(deaths) % 3 != 2 and process.poll() is None and len(logged(folder, name)) <= after:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.05))  # somewhere in a step, or while it saves
        process.kill()
        if (code := process.wait()) != -signal.SIGKILL:
            raise RuntimeError(f"training ended by itself (exit {code}) before death {len(deaths) + 1}: raise --steps")
        deaths.append((len(logged(folder, name)), saved(folder, name)))
    return deaths


def saved(folder: Path, name: str) -> int:
    """The step of the checkpoint."""
    path = folder / name / "state.safetensors"
    if not path.exists():
        return 0
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return int(header["__metadata__"]["step"])


def main(arguments: Sequence[str] | None = None) -> Report:
    """Train once unbroken, once broken, and compare."""
    parser = _common.parser(__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seed", type=int, help="of the moments (default: drawn)")
    options = _common.parsed(parser, arguments)
    if options.quick:
        options.kills, options.steps = 1, 120
    seed = random.randrange(2**32) if options.seed is None else options.seed
    with tempfile.TemporaryDirectory(prefix="foretoken-resume-") as place:
        folder = Path(place)
        write_task(folder, options.steps)
        if start(folder, "unbroken").wait() != 0:
            raise RuntimeError("the unbroken run failed")
        deaths = broken(folder, "broken", random.Random(seed), kills=options.kills, steps=options.steps)
        if start(folder, "broken").wait() != 0:
            raise RuntimeError("the last run failed")
        curves = [logged(folder, name) for name in ("unbroken", "broken")]
        whole, pieced = (load_file(folder / name / "state.safetensors") for name in ("unbroken", "broken"))
    unlike = sum(a != b for a, b in zip(*curves, strict=False)) + abs(len(curves[0]) - len(curves[1]))
    tensors = sum(not torch.equal(whole[name], pieced[name]) for name in whole)
    rows = [(f"death {i + 1}", lines, step) for i, (lines, step) in enumerate(deaths)]
    title = f"{unlike} of {len(curves[0])} losses differ, {tensors} of {len(whole)} tensors of the last state"
    table = Table(title, ("killed", "losses logged", "resumed from step"), rows)
    results = {
        "losses": len(curves[0]), "losses_that_differ": unlike, "tensors_that_differ": tensors,
        "deaths": deaths, "last_loss": json.loads(curves[1][-1])["loss"], "seed": seed,
    }  # fmt: skip
    settings = {"steps": options.steps, "kills": options.kills, "dtype": "float32", "saved every": 7}
    return _common.finish(Report("resume", settings, [table], results), options)


if __name__ == "__main__":
    main()
