"""Which style? Pictures of one caption, or of one group of emoji, in nine styles, and nothing tells in which."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..codec.hub import load
from ..codec.patches import Patches
from ..errors import InvalidArgument
from ..evaluate.modes import language_entropy
from ..evaluate.styles import StyleJudge
from ..halton import ranks
from ..painter.painter import Painter, is_painter
from ..recipes import pictures
from ..recipes.conditions import emoji_condition
from ..rules import Order, SampledConfidence
from ..strategy.cascade import Cascade, Stage, every, first, rest
from ..strategy.masked import Masked
from .answering import Trained, acceptance, answer
from .contenders import CONDENSED, Contender, contenders, one_by_one, warmed
from .task import Outcome, Task

TITLE = "Which style? A picture whose style is not told"
ALIKE = {"blob2017": "blob", "fluent-color": "fluent-3d"}
"""Styles that no part of a picture tells apart: of blob2017 four parts in ten look like blob, as its own do."""

_LEARNT, _JUDGED = 600, 200  # real pictures that the judge learns from, and that the floor is measured on
_SHOWN = 10


class Real(NamedTuple):
    """Real pictures, as they come back from the codec.

    Args:
        units: (n, patches) int64.
        decoded: (n, height, width, 3) uint8.
        styles: of each.
        asked: what a model is asked for: its caption, or its group.
    """

    units: np.ndarray
    decoded: np.ndarray
    styles: list[str]
    asked: list[str]


class Asking(NamedTuple):
    """How a model is asked for a picture.

    Args:
        field: of the rows of `emoji64`, that says what for: "caption" of a painter, "group" of others.
        ids: from that to the ids of a condition.
        length: of them.
    """

    field: str
    ids: Callable[[str], np.ndarray]
    length: int


def asking(models: Trained) -> Asking:
    """What the masked model takes."""
    units = models.masked.config.units
    if not is_painter(models.folder):
        return Asking("group", lambda group: emoji_condition(units, None, group), 2)
    prompts = Painter.load(models.folder).prompts
    return Asking("caption", lambda caption: units + prompts([caption])[0], prompts.positions)


def run(
    data: Path,
    models: Trained,
    *,
    inputs: int,
    seed: int = 0,
    temperature: float = 1.0,
    note: Callable[[str], None] = lambda _: None,
) -> Task:
    """The experiment, asking for held-out pictures.

    Args:
        data: the data folder.
        models: those of the emoji recipe, or a painter.
        inputs: pictures to make.
        seed: of all draws.
        temperature: of all draws.
        note: is told what is being done.

    Raises:
        InvalidArgument: the models are of no shipped codec of pictures.
        CheckpointError: see `pictures.rows`.
    """
    how = asking(models)
    patches = models.masked.context - how.length - (models.masked.latents > 0)
    if patches not in (64, 256):
        raise InvalidArgument(f"the models' pictures have {patches} patches, the shipped codecs' 64 or 256")
    codec = load(f"emoji-fsq-{patches}")
    assert isinstance(codec, Patches)
    note("real pictures")
    train, held_out = real(data, codec, how.field)
    shared, causal = models.masked.latents > 0, models.causal is not None
    ways = picture_ways(round(patches**0.5), how.length, shared=shared, causal=causal)
    ways = warmed(ways, temperature)
    return measure(train, held_out, models, codec, ways, how, inputs=inputs, seed=seed, note=note)


def picture_ways(side: int, head: int, *, shared: bool, causal: bool) -> list[Contender]:
    """The ways to answer that suit a square of patches.

    Args:
        side: of the square.
        head: ids of a condition.
        shared: whether there is a shared imagination.
        causal: whether there is a model that looks back; else the masked one writes one patch after another.
    """
    common = contenders(bound=0.0, shared=False)[:3]
    if not causal:
        common[0] = Contender("autoregressive", one_by_one())
    classic = SampledConfidence(temperature=1.0)
    scattered = Order(np.concatenate((np.zeros(head + shared), 1 + ranks(side, side))))
    ordered = Cascade([Stage(every(CONDENSED), one_by_one()), Stage(rest, Masked(8))])
    found = [
        *common,
        Contender("8 steps, sampled confidence", Masked(8, select=classic)),
        Contender("8 steps, Halton", Masked(8, select=scattered), cure=True),
        Contender("16 steps, Halton", Masked(16, select=scattered), cure=True),
        Contender("8 steps, lowest entropy", Masked(8), cure=True),
        Contender(f"every {CONDENSED}th AR, rest NAR in 8 steps", ordered, cure=True),
    ]
    if shared:
        imagined = Cascade([Stage(first(1)), Stage(rest)])
        both = Cascade([Stage(first(1)), Stage(rest, Masked(8, select=scattered))])
        found += [
            Contender("shared z, one shot", imagined, shared=True, cure=True),
            Contender("shared z, 8 steps, Halton", both, shared=True, cure=True),
        ]
    return found


def real(data: Path, codec: Patches, field: str) -> tuple[Real, Real]:
    """Real pictures to learn from and to judge by, by their checksums; `field` says what is asked for."""
    sides: tuple[list[tuple[int, dict, np.ndarray]], ...] = ([], [])
    for row, picture in pictures.rows(data / "emoji64.zip"):
        key = f"{row['style']}/{row['caption']}"
        sides[pictures.is_held_out(key)].append((zlib.crc32(key.encode()[::-1]), row, picture))
    train, held_out = (sorted(side, key=lambda each: each[0]) for side in sides)
    return _through(train[:_LEARNT], codec, field), _through(held_out[:_JUDGED], codec, field)


def _through(chosen: Sequence[tuple[int, dict, np.ndarray]], codec: Patches, field: str) -> Real:
    if not chosen:
        raise InvalidArgument("too few pictures to hold some out")
    units, decoded = [], []
    for start in range(0, len(chosen), 64):
        some = codec.encode_batch(np.stack([picture for _, _, picture in chosen[start : start + 64]]))
        units.append(some)
        decoded.append(codec.decode_batch(some))
    styles = [ALIKE.get(str(row["style"]), str(row["style"])) for _, row, _ in chosen]
    return Real(np.concatenate(units), np.concatenate(decoded), styles, [row[field] for _, row, _ in chosen])


def measure(
    train: Real,
    held_out: Real,
    models: Trained,
    codec: Patches,
    ways: Sequence[Contender],
    how: Asking,
    *,
    inputs: int,
    seed: int = 0,
    note: Callable[[str], None] = lambda _: None,
) -> Task:
    """The experiment; arguments as for `run`, and real pictures, the codec, ways to answer and to ask."""
    note("the judge of styles")
    judge = StyleJudge(train.decoded, train.styles, seed=seed)
    of_all, of_sure = judge.error(held_out.decoded, held_out.styles)
    floor = judge.mixture(held_out.decoded)
    # Every patch from another real picture: what a picture without any style looks like to the judge.
    random = np.random.default_rng(seed)
    lines = random.integers(len(held_out.units), size=held_out.units.shape)
    jumbled = judge.mixture(codec.decode_batch(np.take_along_axis(held_out.units, lines, axis=0)))
    asked = [held_out.asked[place % len(held_out.asked)] for place in range(inputs)]
    conditions = [how.ids(each) for each in asked]
    outcomes = []
    for way in (way for way in ways if models.causal is not None or not way.causal):
        note(way.name)
        outcomes.append(_outcome(way, models, codec, judge, conditions, asked, seed))
    floors = {
        "foreign parts in real pictures": floor.foreign,
        "in patches of many pictures": jumbled.foreign,
        "judge's error, all parts": of_all,
        "judge's error, sure parts": of_sure,
        "sure parts of real pictures": floor.sure,
        "style entropy of real pictures (nats)": _entropy(floor.styles),
    }
    about = (
        f"{inputs} pictures by {how.field} (emoji of open licences), the style left open. A small classifier says of "
        f"each {judge.side} × {judge.side} pixels which of {len(judge.names)} styles they are in (those that look the "
        "same part by part count as one). Foreign is the share of a picture's sure parts that are of another style "
        "than most."
    )
    return Task(TITLE, about, outcomes, floors, _goals(outcomes, floor.foreign))


def _goals(outcomes: Sequence[Outcome], floor: float) -> list[tuple[str, float, str, float]]:
    return [
        (f"which style, {each.name}: foreign parts", float(each.figures["foreign"] or 0), sign, 2 * floor)
        for each in outcomes
        for sign in ("<=" if each.cure else ">=",)
        if each.cure or each.name == "one shot, sampled"
    ]


def _entropy(styles: np.ndarray) -> float:
    return language_entropy(np.bincount(styles[styles >= 0]).tolist())


def _outcome(
    way: Contender,
    models: Trained,
    codec: Patches,
    judge: StyleJudge,
    conditions: Sequence[np.ndarray],
    asked: Sequence[str],
    seed: int,
) -> Outcome:
    patches = models.masked.context - len(conditions[0]) - (models.masked.latents > 0)
    made = answer(way, models, conditions, body=patches, seed=seed)
    units = np.stack(made.bodies)
    decoded = np.concatenate([codec.decode_batch(units[start : start + 64]) for start in range(0, len(units), 64)])
    found = judge.mixture(decoded)
    figures: dict[str, float | None] = {
        "foreign": found.foreign,
        "sure": found.sure,
        "judged": float(found.judged),
        "style entropy": _entropy(found.styles),
        "forwards": made.forwards,
        "ms each": made.milliseconds,
    }
    curve = acceptance(models, conditions, made.bodies, places=min(64, patches))
    samples = [(each, picture) for each, picture in zip(asked, decoded[:_SHOWN], strict=False)]
    return Outcome(way.name, figures, curve, samples, way.cure)
