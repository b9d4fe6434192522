"""Teaches a painter a new word from a few pictures, and keeps what others mean beside it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..canvas import UNKNOWN, Canvas
from ..codec.prompts import Prompts
from ..errors import ArgumentTypeError, InvalidArgument, LimitExceeded
from ..generate import generate
from ..model.masked import MaskedLlama, MaskedModule
from ..strategy.masked import Masked
from . import shown
from .adapter import Adapter, rounded
from .adapters import refuse_taken, spare_id
from .rows import Rows
from .stages import Inversion, Learner, Stage, stages_of

_PRIOR, _MOST_OTHERS = 32, 64
"""Pictures at least that the painter makes of what is to stay as it is, and texts at most that a caller may add; the
logits of 32 take 20 MB."""


@dataclasses.dataclass(frozen=True)
class Learned:
    """Where learning stands.

    Args:
        step: steps taken.
        steps: steps in all.
        stage: the stage's kind, "Inversion" or "LowRank".
        loss: nats a patch on the pictures, of this step.
    """

    step: int
    steps: int
    stage: str
    loss: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """How a name is learnt.

    Args:
        method: "pivotal", "inversion", "lora", or stages one by one; see `stages`.
        captions: a text for each image, in which the name stands, such as "S* walking left".
        others: texts whose meaning is to stay as it is under the changed weights, beside those that say the class word
            for the name: what a woman walking up looks like tells how the name should.
        prior: weight of that (prior preservation, 2208.12242), ≥ 0; only where weights change.
        batch: rows of a step, ≥ 1.
        seed: of everything that is drawn, in [0, 2^63).
        progress: is told each step; what it raises ends the learning.

    Raises:
        InvalidArgument, ArgumentTypeError: see each.
    """

    method: str | Stage | Sequence[Stage] = "pivotal"
    captions: Sequence[str] | None = None
    others: Sequence[str] = ()
    prior: float = 1.0
    batch: int = 4
    seed: int = 0
    progress: Callable[[Learned], None] | None = None

    def __post_init__(self) -> None:
        stages_of(self.method)
        if type(self.batch) is not int or not 1 <= self.batch <= 256:
            raise InvalidArgument(f"batch must be an integer in [1, 256], got {self.batch!r}")
        if type(self.seed) is not int or not 0 <= self.seed < 2**63:
            raise InvalidArgument(f"seed must be an integer in [0, 2^63), got {self.seed!r}")
        if isinstance(self.prior, bool) or not isinstance(self.prior, (int, float)) or not 0 <= self.prior <= 1000:
            raise InvalidArgument(f"prior must be a weight in [0, 1000], got {self.prior!r}")
        if self.progress is not None and not callable(self.progress):
            raise ArgumentTypeError(f"progress must be a function of a Learned, got {self.progress!r}")
        if isinstance(self.others, (str, bytes)) or not isinstance(self.others, Sequence):
            raise ArgumentTypeError(f"others must be several texts, got {self.others!r}")
        if len(self.others) > _MOST_OTHERS:
            raise LimitExceeded(f"there are {len(self.others)} others, at most {_MOST_OTHERS} are painted: choose some")


def learn(
    module: MaskedModule,
    rows: Rows,
    name: str,
    images: Any,
    *,
    class_word: str,
    painter: str,
    settings: Settings,
) -> Adapter:
    """Learn one thing; see `Painter.learn`.

    Args:
        module: the painter's own weights, in float32, which belong to this call.
        rows: of the painter.
        name, images, class_word: as there.
        painter: checksum of the weights.
        settings: how.
    """
    refuse_taken(name, rows.prompts)
    if not isinstance(class_word, str) or not class_word.strip() or name in class_word:
        raise InvalidArgument(f"class_word must say what {name!r} is, such as 'dog', got {class_word!r}")
    if said := [text for text in settings.others if isinstance(text, str) and name in text]:
        raise InvalidArgument(f"others are texts whose meaning stays, without {name!r}; got {said[0]!r}")
    # Other names mean nothing to the painter's own weights, and an id is as good as another.
    prompts = Prompts(rows.prompts.tokenizer, positions=rows.prompts.positions)
    prompts.names[name] = known = spare_id(module, prompts)
    own = Rows(rows.codec, module.config, prompts)
    bodies = rows.codec.encode_batch(shown.pictures(images, rows.pixels))
    texts = shown.texts(len(bodies), name, class_word, settings.captions)
    subject = [own.rows(each, body) for each, body in zip(texts, bodies, strict=True)]
    others = [*shown.others(name, class_word, settings.captions), *settings.others]
    first = own.units + prompts([class_word])[0]
    row = module.embed_tokens.weight.detach()[torch.from_numpy(first[first > own.units])].mean(dim=0)
    stages = stages_of(settings.method)
    kept = None
    if settings.prior and any(not isinstance(stage, Inversion) for stage in stages):
        kept = _Prior(module, own, [*others, None], settings.seed)
    learner = Learner(module, own.units + known, row, seed=settings.seed)
    _train(learner, stages, subject, own, kept, settings)
    pairs = {weight: (rounded(down), rounded(up)) for weight, (down, up) in learner.pairs.items()}
    said = {
        "stages": [{"stage": type(stage).__name__, **dataclasses.asdict(stage)} for stage in stages],
        "prior": settings.prior, "batch": settings.batch, "seed": settings.seed, "images": len(bodies),
    }  # fmt: skip
    return Adapter(name, class_word, rounded(learner.row), pairs, painter=painter, settings=said)


class _Prior:
    """Pictures of other texts, which the painter made before it learnt, and what it said of their patches then."""

    def __init__(self, module: MaskedModule, rows: Rows, texts: Sequence[str | None], seed: int) -> None:
        told = [texts[place % len(texts)] for place in range(max(_PRIOR, len(texts)))]
        blank = np.full((len(told), rows.cells), UNKNOWN)
        model = MaskedLlama(module)
        painted = generate(model, Canvas(rows.rows(told, blank)), Masked(8), seed=list(range(seed, seed + len(told))))
        random = np.random.default_rng((seed, 1))
        self.ids = np.stack([row.units for row in painted.rows])
        for line in self.ids:
            line[rows.body :][_unknown(random, rows.cells)] = UNKNOWN
        self.logits = []
        with torch.inference_mode():
            for line in self.ids:
                states = module.hidden(torch.from_numpy(line[None]))[0, torch.from_numpy(line == UNKNOWN)]
                self.logits.append((states @ module.embed_tokens.weight[: rows.units].T).half())


def _unknown(random: np.random.Generator, cells: int) -> np.ndarray:
    """Which patches a row asks for: all of them, or as many as a cosine leaves at a random moment (2202.04200)."""
    if random.random() < 0.2:
        return np.ones(cells, dtype=bool)
    count = max(1, math.ceil(math.cos(math.pi / 2 * random.random()) * cells))
    return random.permutation(cells) < count


def _train(
    learner: Learner,
    stages: Sequence[Stage],
    subject: Sequence[np.ndarray],
    rows: Rows,
    prior: _Prior | None,
    settings: Settings,
) -> None:
    total, taken = sum(stage.steps for stage in stages), 0
    for place, stage in enumerate(stages):
        weights = learner.weights(stage)
        optimizer = torch.optim.Adam(weights, betas=(0.9, 0.99))
        kept = None if isinstance(stage, Inversion) else prior
        for step in range(stage.steps):
            random = np.random.default_rng((settings.seed, place + 2, step))
            rate = stage.rate * min(1.0, 10 * (step + 1) / stage.steps) * (1 - step / stage.steps)
            optimizer.param_groups[0]["lr"] = rate
            shown_loss, kept_loss = _losses(learner, subject, rows, kept, settings.batch, random)
            gradients = torch.autograd.grad(shown_loss + settings.prior * kept_loss, weights)
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.grad = gradient
            optimizer.step()
            taken += 1
            if settings.progress is not None:
                settings.progress(Learned(taken, total, type(stage).__name__, float(shown_loss.detach())))


def _losses(
    learner: Learner,
    subject: Sequence[np.ndarray],
    rows: Rows,
    prior: _Prior | None,
    batch: int,
    random: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """Nats a patch of the pictures, and how far what is to stay has moved, in nats a patch, too."""
    lines, truth = [], []
    for place in _drawn(random, len(subject), batch):
        variants = subject[place]
        line = variants[int(random.integers(len(variants)))].copy()
        unknown = _unknown(random, rows.cells)
        truth.append(line[rows.body :][unknown])
        line[rows.body :][unknown] = UNKNOWN
        lines.append(line)
    others = [] if prior is None else _drawn(random, len(prior.ids), batch)
    lines += [prior.ids[place] for place in others] if prior is not None else []
    ids = torch.from_numpy(np.stack(lines))
    with torch.autocast("cpu", torch.bfloat16):
        states = learner.states(ids)
        asked = ids == UNKNOWN
        table = learner.module.embed_tokens.weight[: rows.units]
        told = states[:batch][asked[:batch]] @ table.T
        loss = F.cross_entropy(told.float(), torch.from_numpy(np.concatenate(truth)))
        if prior is None:
            return loss, torch.zeros(())
        now = (states[batch:][asked[batch:]] @ table.T).float().log_softmax(dim=1)
    then = torch.cat([prior.logits[place] for place in others]).float().log_softmax(dim=1)
    return loss, F.kl_div(now, then, reduction="batchmean", log_target=True)


def _drawn(random: np.random.Generator, count: int, batch: int) -> list[int]:
    """So many places, each as often as the others, as far as that goes."""
    rounds = -(-batch // count)
    return np.concatenate([random.permutation(count) for _ in range(rounds)])[:batch].tolist()
