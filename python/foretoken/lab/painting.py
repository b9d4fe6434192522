"""How well does a painter paint? One model, every strategy: captions that are held out, and composed characters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from ..evaluate.clip import Clip, first_among
from ..evaluate.distance import frechet, kernel_distance
from ..evaluate.neighbours import copied, coverage, diversity
from ..painter.job import GUIDANCE, TEMPERATURE
from ..painter.painter import Painter
from ..rules import SampledConfidence
from ..sampler import Sampler
from ..strategy.cascade import Cascade, Stage, every, rest
from ..strategy.masked import Masked
from ..strategy.oneshot import OneShot
from .contenders import one_by_one
from .real_pictures import CANDIDATES, FEWER, KINDS, Truth, real_figures, truth, yardsticks
from .task import Outcome, Task

_SHOWN = 16
_SLOW = "one patch after another"
_ASKED = ("hair colour right", "garment colour right", "direction right")


class Way(NamedTuple):
    """A way to paint.

    Args:
        name: for the table.
        strategy: how.
        options: further ones of `Painter.__call__`.
        slow: whether it takes a forward for each patch; fewer pictures are made.
    """

    name: str
    strategy: Any
    options: dict[str, Any]
    slow: bool = False


def ways(painter: Painter, *, guidance: float, temperature: float) -> list[Way]:
    """One shot, steps, guidance, a cascade, and one patch after another, on one model."""
    common = {"guidance": guidance, "sampler": Sampler(temperature=temperature)}
    found = [Way("one shot", OneShot(), common)]
    found += [Way(f"{count} steps", painter.steps(count), common) for count in (2, 4, 8, 16)]
    found.append(Way("8 steps, not guided", painter.steps(8), {**common, "guidance": 1}))
    found.append(Way("8 steps, lowest entropy", Masked(8), common))
    found.append(Way("8 steps, drawn confidence", Masked(8, select=SampledConfidence(1.0)), common))
    if painter.model.latents:
        found.append(Way("one shot, shared z", OneShot(), {**common, "imagine": True}))
        found.append(Way("8 steps, shared z", painter.steps(8), {**common, "imagine": True}))
    condensed = Cascade([Stage(every(4), Masked(8)), Stage(rest, Masked(2))])
    found.append(Way("every 4th in 8 steps, rest in 2", condensed, common))
    found.append(Way(_SLOW, one_by_one(), common, slow=True))
    return found


def run(
    data: Path,
    painter: Painter,
    clip: Clip,
    *,
    of: Sequence[str] = ("emoji", "characters"),
    count: int = 100,
    n: int = 2,
    seed: int = 0,
    guidance: float = GUIDANCE,
    temperature: float = TEMPERATURE,
    note: Callable[[str], None] = lambda _: None,
) -> list[Task]:
    """An experiment for each kind of picture.

    Args:
        data: the data folder.
        painter: who paints.
        clip: who judges; it must not have been used in the painter's training.
        of: names in `KINDS`.
        count: held-out captions of each.
        n: pictures of each caption.
        seed: of the first picture; the next one has the next.
        guidance, temperature: of all ways but those that are about it.
        note: is told what is being done.

    Raises:
        InvalidArgument, CheckpointError: see `captions.emoji`.
    """
    chosen = ways(painter, guidance=guidance, temperature=temperature)
    tasks = []
    for name in of:
        title = name.capitalize()
        note(f"{title}: real pictures")
        truth_of = truth(KINDS[name], data, painter, clip, count=count, n=n)
        tasks.append(measure(title, truth_of, painter, clip, chosen, n=n, seed=seed, note=note))
    return tasks


def measure(
    title: str,
    truth: Truth,
    painter: Painter,
    clip: Clip,
    chosen: Sequence[Way],
    *,
    n: int = 2,
    seed: int = 0,
    note: Callable[[str], None] = lambda _: None,
) -> Task:
    """One experiment; arguments as for `run`."""
    texts = [str(caption) for caption in truth.said]
    words, real = clip.texts(texts), clip.images(truth.pictures)
    among = min(CANDIDATES, len(texts))
    outcomes, cosines = [], {}
    for way in chosen:
        note(f"{title}: {way.name}")
        few = slice(0, None, FEWER if way.slow else 1)
        pictures, seconds, forwards = _painted(painter, texts[few], way, n, seed)
        features = clip.images(pictures)
        asked = np.repeat(np.arange(len(texts))[few], n)
        cosines[way.name] = (features * words[asked]).sum(axis=1).reshape(-1, n).mean(axis=1)
        score = float(cosines[way.name].mean())
        matched, shifted = yardsticks(real[few], words[few])
        figures: dict[str, float | None] = {
            "CLIP score": score,
            "share of the way": (score - shifted) / (matched - shifted),
            f"first of {among}": first_among(features @ words.T, asked, among=among, seed=seed),
            "Fréchet": frechet(features, real),
            "kernel": kernel_distance(features, real),
            **coverage(real, features)._asdict(),
            **truth.right(pictures, asked),
            "copied": copied(truth.seen, real, features),
            "diversity": diversity(features, asked) if n > 1 else None,
            "forwards": forwards,
            "ms each": 1000 * seconds / len(pictures),
        }
        samples = [(texts[place], picture) for place, picture in zip(asked[::n], pictures[::n], strict=True)]
        outcomes.append(Outcome(way.name, figures, (), samples[:_SHOWN], cure=way.name == "8 steps"))
    samples = list(zip(texts, truth.pictures, strict=True))[:_SHOWN]
    outcomes.insert(0, Outcome("real, held out", real_figures(truth, clip, real, words, seed), (), samples))
    about = (
        f"{len(texts)} captions that were never trained on, {n} pictures of each; one patch after another paints a "
        "quarter of them, whose own real pictures its share is of. The score is the cosine that a CLIP of ours gives a "
        "picture and its caption, and the share says how far that is from mismatched real pairs (0) to matched ones "
        "(1). Distances are between its features and those of the real held-out pictures; copied is the share that "
        "lies nearer to a training picture than 95 % of real new ones do."
    )
    matched, shifted = yardsticks(real, words)
    floors = {"matched real pairs": matched, "mismatched real pairs": shifted}
    return Task(title, about, outcomes, floors, _goals(outcomes, cosines, title))


def _goals(
    outcomes: Sequence[Outcome], cosines: dict[str, np.ndarray], title: str
) -> list[tuple[str, float, str, float]]:
    by_name = {each.name: each.figures for each in outcomes}
    steps, slow = by_name.get("8 steps"), by_name.get(_SLOW)
    if steps is None:
        return []
    goals = [(f"{title}, 8 steps: share of the way", float(steps["share of the way"] or 0), ">=", 0.7)]
    goals += [(f"{title}, 8 steps: {name}", float(steps[name] or 0), ">=", 0.85) for name in _ASKED if name in steps]
    if slow is not None:
        faster = float(slow["ms each"] or 0) / float(steps["ms each"] or 1)
        goals.append((f"{title}: time of one after another beside 8 steps", faster, ">=", 8.0))
        few, same = cosines[_SLOW], cosines["8 steps"][::FEWER]
        goals.append(
            (f"{title}: score of 8 steps beside one after another", float(same.mean()), ">=", float(few.mean()))
        )
    return goals


def _painted(painter: Painter, texts: Sequence[str], way: Way, n: int, seed: int) -> tuple[np.ndarray, float, float]:
    """Pictures (texts · n, …), the seconds they took, and forwards of each."""
    made, forwards, started = [], 0, perf_counter()
    for text in texts:
        for other in range(n):
            out = painter(text, strategy=way.strategy, seed=seed + other, **way.options)
            forwards += out.stats.forwards
            made.append(out.signal.pixels)
    return np.stack(made), perf_counter() - started, forwards / len(made)
