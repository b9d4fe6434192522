"""Real pictures that a painter's are held beside, and what they themselves reach."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..errors import InvalidArgument
from ..evaluate.characters import CharacterJudge
from ..evaluate.clip import Clip, first_among
from ..evaluate.distance import frechet, kernel_distance
from ..evaluate.neighbours import NEIGHBOURS, copied, coverage
from ..painter.painter import Painter
from ..recipes import captions
from ..recipes.captions import Caption

CANDIDATES = 100
"""Captions among which the right one is looked for."""

FEWER = 4
"""A way that takes a forward for each patch paints one caption of so many."""

_LEARNT = 4000  # real pictures that the judge of attributes learns from


@dataclasses.dataclass(frozen=True, eq=False)
class Truth:
    """Real pictures that were never trained on, through the codec as all others.

    Args:
        pictures: (n, height, width, 3) uint8.
        said: the caption of each.
        others: other such pictures, as many as are painted at most, to hold beside those.
        seen: features of all pictures that were trained on.
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


def _characters(data: Path, *, held_out: bool = False) -> captions.Captioned:
    """Others than those of the painter's training if they are held out, else those themselves."""
    if held_out:
        return captions.characters(data, 600, seed=11, held_out=True)
    return captions.trained_characters(data)


KINDS: dict[str, Callable[..., captions.Captioned]] = {"emoji": captions.emoji, "characters": _characters}
"""Captioned pictures of a data folder, by kind; `held_out` says of which side."""


def truth(
    make: Callable[..., captions.Captioned], data: Path, painter: Painter, clip: Clip, *, count: int, n: int
) -> Truth:
    """What pictures of `count` captions, `n` of each, are held beside; `make` is one of `KINDS`.

    Raises:
        InvalidArgument: too few are held out, or too few would be painted.
    """
    pictures, said = make(data, held_out=True)
    if len(said) - count <= NEIGHBOURS or -(-count // FEWER) * n <= NEIGHBOURS:
        raise InvalidArgument(
            f"{count} captions, {n} pictures of each: give at most {len(said) - NEIGHBOURS - 1} of the {len(said)} "
            f"held-out captions, and so many that a quarter of them makes more than {NEIGHBOURS} pictures"
        )
    order = np.random.default_rng(0).permutation(len(said))  # the file goes style by style
    chosen, others = order[:count], order[count : count * (1 + n)]
    train, train_said = make(data)
    own, more, seen = (_through(painter, part) for part in (pictures[chosen], pictures[others], train))
    few = slice(None, None, max(1, len(train) // _LEARNT))
    judge = CharacterJudge(seen[few], captions.labels(train_said[few])) if said[0].is_character else None
    return Truth(own, [said[place] for place in chosen], more, clip.images(seen), judge)


def _through(painter: Painter, pictures: np.ndarray) -> np.ndarray:
    """Pictures as they come back from the codec: its errors are not the painter's."""
    return painter.codec.decode_batch(painter.codec.encode_batch(pictures))


def yardsticks(real: np.ndarray, words: np.ndarray) -> tuple[float, float]:
    """The mean cosine of real pictures with their own captions, and with all the others; (n, width) each."""
    cosines = real @ words.T
    matched = float(cosines.diagonal().mean())
    return matched, float((cosines.sum() - cosines.trace()) / (len(words) * (len(words) - 1)))


def real_figures(truth: Truth, clip: Clip, real: np.ndarray, words: np.ndarray, seed: int) -> dict[str, float | None]:
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
