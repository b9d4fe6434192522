"""How guesses are checked: what stays the same when a drafter is added."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from ..errors import InvalidArgument


@dataclasses.dataclass(frozen=True)
class Coupled:
    """Same seed, same tokens: the target draws as it would alone, and a guess is right if it equals the draw.

    The token at (seed, row, position) is the argmax of the processed logits plus Gumbel noise keyed by them, so the
    output is a function of the logits, the sampler and the seed. Every draft, of any length, leaves it as it is.

    Args:
        width: if given, the model is always run on this many guesses and one unit more, drafted or not, so that
            also the logits are computed by the same kernels; in [1, 64].

    Raises:
        InvalidArgument: `width` is out of range.
    """

    width: int | None = None

    def __post_init__(self) -> None:
        if self.width is not None and (type(self.width) is not int or not 1 <= self.width <= 64):
            raise InvalidArgument(f"width must be an integer in [1, 64] or None, got {self.width!r}")


@dataclasses.dataclass(frozen=True)
class Rejection:
    """Same law: a guess is kept with probability min(1, p/q), else replaced by a draw from max(p − q, 0).

    The output has exactly the target's distribution (Leviathan et al. 2211.17192) with the highest acceptance, but
    depends on the drafter as well as on the seed. The guesses of a tree that follow the same text face the test in
    turn, each against what the ones before it left (2305.09781).

    Args:
        block: whether a chain faces the test as a whole (Sun et al. 2403.10444): the law is the same, and on average
            no fewer guesses are kept. Not for trees.

    Raises:
        InvalidArgument: `block` is neither True nor False.
    """

    block: bool = False
    width: ClassVar[None] = None  # of the forwards: as wide as the drafts are

    def __post_init__(self) -> None:
        if type(self.block) is not bool:
            raise InvalidArgument(f"block must be True or False, got {self.block!r}")


Verifier = Coupled | Rejection
