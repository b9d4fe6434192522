"""The three experiments, as far as what they need is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import InvalidArgument
from . import which_answer, which_language, which_style
from .answering import Trained, gather
from .task import Task


def run(
    data: Path,
    folders: Sequence[Path],
    *,
    meanings: int = 200,
    inputs: int = 60,
    seed: int = 0,
    temperature: float = 1.0,
    note: Callable[[str], None] = lambda _: None,
) -> list[Task]:
    """Run those experiments whose inputs are there; the others say what is missing.

    Args:
        data: the data folder.
        folders: of trained checkpoints, of any of the tasks.
        meanings: of the exact model.
        inputs: of the trained models.
        seed: of all draws.
        temperature: of what the trained models draw; the exact one has 1.
        note: is told what is being done.

    Raises:
        CheckpointError: a file or a checkpoint is broken.
        InvalidArgument: there are too few meanings or pictures.
    """
    models = gather(folders)
    options: dict[str, Any] = {"inputs": inputs, "seed": seed, "temperature": temperature, "note": note}
    asked: list[tuple[str, str, str, Callable[[Trained | None], Task]]] = [
        (which_answer.TITLE, "e2e.jsonl.xz", "",
         lambda _: which_answer.run(data, count=meanings, seed=seed, note=note)),
        (which_language.TITLE, "tldr.jsonl.xz", "language",
         lambda trained: which_language.run(data, _there(trained), **options)),
        (which_style.TITLE, "emoji64.zip", "style",
         lambda trained: which_style.run(data, _there(trained), **options)),
    ]  # fmt: skip
    tasks = []
    for title, file, kind, experiment in asked:
        trained = models[kind] if kind else None
        if not (data / file).exists():
            tasks.append(Task(title, "", missing=f"there is no {file} in {data}"))
        elif isinstance(trained, str):
            tasks.append(Task(title, "", missing=trained))
        else:
            note(title)
            tasks.append(experiment(trained))
    if all(task.missing for task in tasks):
        raise InvalidArgument("nothing can be measured: " + "; ".join(task.missing for task in tasks))
    return tasks


def _there(trained: Trained | None) -> Trained:
    assert trained is not None
    return trained
