"""What one call of a painter asks for, checked before anything is painted."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..canvas import UNKNOWN, Canvas
from ..errors import ArgumentTypeError, InvalidArgument, LimitExceeded, UnsupportedModel
from ..generate import check_integer
from ..model.guided import Guided
from ..model.protocol import ParallelModel
from ..model.rowwise import RowByRow
from ..sampler import Sampler
from ..strategy.cascade import Cascade, Stage, first, rest
from ..strategy.masked import Masked
from ..strategy.protocol import Strategy
from .adapters import Named
from .rows import Rows

MOST = 256
"""Pictures of one call: the laws of a guided one take 16 MB while it is painted."""

GUIDANCE, TEMPERATURE = 3.0, 0.7
"""About as good as any of 2, 3 and 5, and of 0.5, 0.7 and 1, on training captions (`benches/guidance.py`): only emoji
that are guided by 2, and characters by 5, come out worse."""

Prompt = str | None | Sequence[str | None]


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """What one call asks for.

    Args:
        model: what predicts.
        canvas: rows of texts, and of the patches that are known.
        strategy: how the others are found.
        keys: options of `generate`.
        kept: pixels of the picture that is repaired, or None.
        anew: (prompts, patches) bool, those that are to be found.
    """

    model: ParallelModel
    canvas: Canvas
    strategy: Strategy
    keys: dict[str, Any]
    kept: np.ndarray | None
    anew: np.ndarray

    def rows(self) -> list[np.ndarray]:
        """The row of each picture, as it is given."""
        return [row for row in self.canvas.rows for _ in range(self.keys["n"])]


def made(
    prompt: Prompt,
    rows: Rows,
    reading: Named,
    name: str,
    *,
    strategy: Strategy | None = None,
    seed: int | Sequence[int] | None = 0,
    n: int = 1,
    sampler: Sampler | None = None,
    guidance: float = GUIDANCE,
    negative: str | None = None,
    picture: Any = None,
    mask: Any = None,
    imagine: bool = False,
    logprobs: int | None = None,
    threads: int = 1,
) -> Job:
    """What a call asks for, checked; `reading` reads the rows, `name` is the painter's, the rest are its options."""
    if prompt is not None and not isinstance(prompt, (str, Sequence)):
        raise ArgumentTypeError(f"a prompt must be a text, several, or None, got {prompt!r}")
    texts = [prompt] if prompt is None or isinstance(prompt, str) else list(prompt)
    if not texts:
        raise InvalidArgument("there is no prompt: give one or more")
    check_count(n, len(texts))
    strategy = Masked(8, select=rows.scattered) if strategy is None else strategy
    if isinstance(strategy, type) or not getattr(strategy, "fills", False):
        raise UnsupportedModel(
            f"a painter looks at all patches: give OneShot, Masked or Cascade, not {strategy!r}; one patch after "
            "another is Masked(None, count=1, select=rules.Order(range))"
        )
    if imagine:
        if not reading.model.latents:
            raise UnsupportedModel(f"{name} has no shared imaginations")
        strategy = Cascade([Stage(first(1)), Stage(rest, strategy)])  # type: ignore[arg-type]
    kept, bodies, anew = _bodies(rows, picture, mask, len(texts))
    model: ParallelModel = RowByRow(reading)
    if guidance != 1:
        model = Guided(model, guidance, without=rows.without(negative))
    elif negative is not None:
        raise InvalidArgument("guidance is 1, which leaves no room for a negative prompt: give more")
    canvas = Canvas(rows.rows(texts, bodies, imagine=imagine))
    sampler = Sampler(temperature=TEMPERATURE) if sampler is None else sampler
    keys = {"seed": seed, "n": n, "sampler": sampler, "logprobs": logprobs, "threads": threads}
    return Job(model, canvas, strategy, keys, kept, anew)


def check_count(n: int, prompts: int) -> None:
    """Refuse what is no number of pictures that one call paints."""
    check_integer("n", n, 1, sys.maxsize)
    if n * prompts > MOST:
        raise LimitExceeded(
            f"{n} pictures of {prompts} prompts are more than {MOST} of one call: give them to several, a picture "
            "does not depend on what else is painted with it"
        )


def _bodies(rows: Rows, picture: Any, mask: Any, count: int) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """The pixels to keep, and of each prompt the patches that are known and those that are not."""
    if (picture is None) != (mask is None):
        raise InvalidArgument("picture and mask go together: give both, or none")
    if picture is None:
        return None, np.full((count, rows.cells), UNKNOWN), np.ones((count, rows.cells), dtype=bool)
    pixels = rows.read(picture)
    masks = mask if isinstance(mask, list) else [mask] * count
    if len(masks) != count:
        raise InvalidArgument(f"there are {len(masks)} masks for {count} prompts")
    anew = np.stack([rows.patches_of(each) for each in masks])
    return pixels, np.stack([rows.encode(pixels, each) for each in anew]), anew
