"""Trained models that answer in every way: the same condition, all that follows from it, and what it took."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..canvas import UNKNOWN, Canvas
from ..errors import CheckpointError
from ..evaluate.acceptance import conditional_acceptance, laws_before, matched
from ..generate import generate
from ..model.checkpoint import TOKENIZER, load_llama
from ..model.llama_session import Llama
from ..model.masked import KIND, MaskedLlama
from ..model.protocol import CausalModel
from ..painter.painter import is_painter
from ..weights import CONFIG, read_object
from .contenders import Contender

TOGETHER = 32
"""Rows of one batch: logits of 256 patches take 34 MB."""


class Trained(NamedTuple):
    """Models of the same rows.

    Args:
        masked: that looks both ways.
        causal: that looks back; None leaves out the autoregressive row, and all acceptance.
        folder: of the masked one, for what lies beside it.
    """

    masked: MaskedLlama
    causal: CausalModel | None
    folder: Path


class Answers(NamedTuple):
    """What was answered.

    Args:
        bodies: of each condition's samples, side by side, what follows the condition, without END.
        forwards: of the model, for one answer.
        milliseconds: for one answer.
    """

    bodies: list[np.ndarray]
    forwards: float
    milliseconds: float


def gather(folders: Sequence[Path]) -> dict[str, Trained | str]:
    """The models in some folders by what they answer, "language" or "style"; or a sentence that says what is missing.

    A folder with a tokenizer beside its weights is of language, unless it is a painter's.

    Raises:
        CheckpointError: a folder holds no model, or two hold the same kind.
    """
    kinds: dict[tuple[str, bool], Path] = {}
    for folder in folders:
        task = "language" if (folder / TOKENIZER).exists() and not is_painter(folder) else "style"
        key = task, read_object(folder / CONFIG).get("model") == KIND
        if key in kinds:
            raise CheckpointError(f"{kinds[key]} and {folder} hold models of one kind: give one of them")
        kinds[key] = folder
    found: dict[str, Trained | str] = {}
    for task, config in (("language", "tldr-masked"), ("style", "painter")):
        masked, causal = kinds.get((task, True)), kinds.get((task, False))
        if masked is None:
            found[task] = f"no masked model of it is among --models; foretoken train {config} makes one"
        else:
            found[task] = Trained(MaskedLlama(masked), Llama(load_llama(causal)) if causal else None, masked)
    return found


def answer(
    way: Contender, models: Trained, conditions: Sequence[np.ndarray], *, body: int, seed: int, n: int = 1
) -> Answers:
    """Answer every condition n times.

    Args:
        way: how; where its strategy has a length of its own, rows end where END says.
        models: whose rows are [z, where there are some][condition][body].
        conditions: ids of each.
        body: the most units of an answer, END among them.
        seed: of all draws.
        n: answers to each condition.
    """
    masked = models.masked
    head: list[int] = []
    if masked.latents and not way.causal:
        head = [UNKNOWN if way.shared else masked.config.untold]
    grows = way.causal or getattr(way.strategy, "length", None) is not None
    tail = [] if grows else [UNKNOWN] * body
    rows = [np.concatenate((head, condition, tail)).astype(np.int64) for condition in conditions]
    sampler = way.sampler
    if way.causal:  # the masked model rules out by itself what only conditions say
        sampler = dataclasses.replace(sampler, allowed_tokens=range(masked.config.units))
    bodies, forwards, seconds = [], 0, 0.0
    step = max(1, TOGETHER // n)
    for start in range(0, len(rows), step):
        some = rows[start : start + step]
        model = models.causal if way.causal else masked
        out = generate(
            model, Canvas(some), way.strategy, sampler=sampler, seed=[seed + start + i for i in range(len(some))],
            n=n, max_tokens=body if way.causal else None, end_tokens=masked.end_tokens,
        )  # fmt: skip
        forwards, seconds = forwards + out.stats.row_forwards, seconds + out.stats.seconds["total"]
        for row in out.rows:
            made = row.units[len(some[row.prompt]) - len(tail) :]
            bodies.append(made[:-1] if len(made) and made[-1] in masked.end_tokens else made)
    return Answers(bodies, forwards / len(bodies), 1000 * seconds / len(bodies))


def acceptance(
    models: Trained, conditions: Sequence[np.ndarray], bodies: Sequence[np.ndarray], *, places: int
) -> list[float]:
    """Conditional acceptance of answers by the causal model, END among their units; nothing if there is none.

    Args:
        models: of which the causal one verifies.
        conditions: ids of each answer's.
        bodies: of each answer.
        places: how many places to report.
    """
    if models.causal is None:
        return []
    accepts, lengths = [], []
    ends = list(models.masked.end_tokens[:1])
    for start in range(0, len(bodies), TOGETHER):
        some = [np.concatenate((body, ends)).astype(np.int64)[:places] for body in bodies[start : start + TOGETHER]]
        there = [line for line, units in enumerate(some) if len(units)]
        if not there:
            continue
        units = np.zeros((len(there), places), dtype=np.int64)
        for row, line in enumerate(there):
            units[row, : len(some[line])] = some[line]
        laws = laws_before(models.causal, [conditions[start + line] for line in there], [some[line] for line in there])
        likely = matched(laws, units[:, : laws.shape[1]])
        accepts.append(np.pad(likely, ((0, 0), (0, places - likely.shape[1]))))
        lengths += [len(some[line]) for line in there]
    if not accepts:
        return []
    return conditional_acceptance(np.concatenate(accepts), np.array(lengths), least=0.5).tolist()
