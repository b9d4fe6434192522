"""How well does a painter paint? One model, every strategy: captions that are held out, and composed characters."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from ..evaluate.characters import CharacterJudge
from ..evaluate.clip import Clip, first_among
from ..evaluate.distance import frechet, kernel_distance
from ..evaluate.neighbours import copied, coverage, diversity
from ..painter.painter import GUIDANCE, TEMPERATURE, Painter
from ..recipes import captions
from ..recipes.captions import Caption
from ..rules import SampledConfidence
from ..sampler import Sampler
from ..strategy.cascade import Cascade, Stage, every, rest
from ..strategy.masked import Masked
from ..strategy.oneshot import OneShot
from .contenders import one_by_one
from .task import Outcome, Task

CANDIDATES = 100
"""Captions among which the right one is looked for."""

_LEARNT = 4000  # real pictures that copies are looked for among, and that the judge of attributes learns from
_SHOWN = 16
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
    found.append(Way("one patch after another", one_by_one(), common, slow=True))
    return found


@dataclasses.dataclass(frozen=True, eq=False)
class Truth:
    """Real pictures that were never trained on, through the codec as all others.

    Args:
        pictures: (n, height, width, 3) uint8.
        said: the caption of each.
        others: other such pictures, as many as are painted at most, to hold beside those.
        seen: features of pictures that were trained on.
        judge: of the attributes of characters; None if it is no character.
    """

    pictures: np.ndarray
    said: list[Caption]
    others: np.ndarray
    seen: np.ndarray
    judge: CharacterJudge | None = None

    def right(self, pictures: np.ndarray, asked: np.ndarray) -> dict[str, float | None]:
        """How often each attribute of the captions in places `asked` is on the pictures, with "right" before it."""
        if self.judge is None:
            return {}
        labels = captions.labels([self.said[place] for place in asked])
        known = {name: told for name, told in labels.items() if name in self.judge.values}
        return {f"{name} right": share for name, share in self.judge.right(pictures, known).items()}


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


def _characters(data: Path, *, held_out: bool = False) -> captions.Captioned:
    return captions.characters(data, 600 if held_out else _LEARNT, seed=11, held_out=held_out)


KINDS: dict[str, Callable[..., captions.Captioned]] = {"emoji": captions.emoji, "characters": _characters}
"""Captioned pictures of a data folder, by kind; `held_out` says of which side."""


def truth(
    make: Callable[..., captions.Captioned], data: Path, painter: Painter, clip: Clip, *, count: int, n: int
) -> Truth:
    """What pictures of `count` captions, `n` of each, are held beside; `make` is one of `KINDS`."""
    pictures, said = make(data, held_out=True)
    order = np.random.default_rng(0).permutation(len(said))  # the file goes style by style
    chosen, others = order[:count], order[count : count * (1 + n)]
    train, train_said = make(data)
    few = slice(None, None, max(1, len(train) // _LEARNT))
    own, more, seen = (_through(painter, part) for part in (pictures[chosen], pictures[others], train[few]))
    judge = CharacterJudge(seen, captions.labels(train_said[few])) if said[0].is_character else None
    return Truth(own, [said[place] for place in chosen], more, clip.images(seen), judge)


def _through(painter: Painter, pictures: np.ndarray) -> np.ndarray:
    """Pictures as they come back from the codec: its errors are not the painter's."""
    return painter.codec.decode_batch(painter.codec.encode_batch(pictures))


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
    matched = float((real * words).sum(axis=1).mean())
    shifted = float(np.mean([(real * np.roll(words, k, axis=0)).sum(axis=1).mean() for k in range(1, len(words))]))
    outcomes = []
    for way in chosen:
        note(f"{title}: {way.name}")
        few = slice(0, None, 4 if way.slow else 1)
        pictures, seconds, forwards = _painted(painter, texts[few], way, n, seed)
        features = clip.images(pictures)
        asked = np.repeat(np.arange(len(texts))[few], n)
        score = float((features * words[asked]).sum(axis=1).mean())
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
    outcomes.insert(0, Outcome("real, held out", _real(truth, clip, real, words, seed), (), samples))
    about = (
        f"{len(texts)} captions that were never trained on, {n} pictures of each; one patch after another paints a "
        "quarter of them. The score is the cosine that a CLIP of ours gives a picture and its caption, and the share "
        "says how far that is from mismatched real pairs (0) to matched ones (1). Distances are between its features "
        "and those of the real held-out pictures; copied is the share that lies nearer to a training picture than 95 % "
        "of real new ones do."
    )
    floors = {"matched real pairs": matched, "mismatched real pairs": shifted}
    return Task(title, about, outcomes, floors, _goals(outcomes, title))


def _goals(outcomes: Sequence[Outcome], title: str) -> list[tuple[str, float, str, float]]:
    by_name = {each.name: each.figures for each in outcomes}
    steps, slow = by_name.get("8 steps"), by_name.get("one patch after another")
    if steps is None:
        return []
    goals = [(f"{title}, 8 steps: share of the way", float(steps["share of the way"] or 0), ">=", 0.7)]
    goals += [(f"{title}, 8 steps: {name}", float(steps[name] or 0), ">=", 0.85) for name in _ASKED if name in steps]
    if slow is not None:
        faster = float(slow["ms each"] or 0) / float(steps["ms each"] or 1)
        goals.append((f"{title}: time of one after another beside 8 steps", faster, ">=", 8.0))
        goals.append((f"{title}: score of 8 steps beside one after another", *_beside(steps, slow)))
    return goals


def _beside(steps: dict[str, float | None], slow: dict[str, float | None]) -> tuple[float, str, float]:
    return float(steps["CLIP score"] or 0), ">=", float(slow["CLIP score"] or 0)


def _real(truth: Truth, clip: Clip, real: np.ndarray, words: np.ndarray, seed: int) -> dict[str, float | None]:
    """The row of real pictures, beside other real ones: what a perfect painter would have."""
    others, among = clip.images(truth.others), min(CANDIDATES, len(real))
    return {
        "CLIP score": float((real * words).sum(axis=1).mean()),
        "share of the way": 1.0,
        f"first of {among}": first_among(real @ words.T, np.arange(len(real)), among=among, seed=seed),
        "Fréchet": frechet(others, real),
        "kernel": kernel_distance(others, real),
        **coverage(real, others)._asdict(),
        **truth.right(truth.pictures, np.arange(len(real))),
        "copied": copied(truth.seen, real, others),
    }


def _painted(painter: Painter, texts: Sequence[str], way: Way, n: int, seed: int) -> tuple[np.ndarray, float, float]:
    """Pictures (texts · n, …), the seconds they took, and forwards of each."""
    made, forwards, started = [], 0, perf_counter()
    for text in texts:
        for other in range(n):
            out = painter(text, strategy=way.strategy, seed=seed + other, **way.options)
            forwards += out.stats.forwards
            made.append(out.signal.pixels)
    return np.stack(made), perf_counter() - started, forwards / len(made)
