"""Who decides: noise, or a script that takes every branch in turn and so computes a law exactly.

Every decision of the kernels goes through a `Chance`. `NoiseChance` draws as the Rust core does. `Enumerate` follows
a script of branches; running a function under it until no branch is left yields every result with its probability.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from .noise import Place, gumbel, uniform

Result = TypeVar("Result")


class Chance(Protocol):
    """Two kinds of decision, each for all rows of a batch at once."""

    def bernoulli(self, where: Place, stream: int, p: Tensor, q: Tensor | float = 1.0, rank: int = 0) -> Tensor:
        """True with probability min(1, p/q), for p (rows,) ≥ 0 and q ≥ 0, false for p = 0; (rows,) bool.

        `rank` tells decisions of one place and stream apart.
        """
        ...

    def choice(self, where: Place, stream: int, scores: Tensor) -> tuple[Tensor, Tensor]:
        """A token with probability softmax(scores (rows, vocabulary)), and its gap to the runner-up; (rows,) both."""
        ...


class NoiseChance:
    """Decides by counter-based noise, so the same place always decides the same way."""

    def bernoulli(self, where: Place, stream: int, p: Tensor, q: Tensor | float = 1.0, rank: int = 0) -> Tensor:
        """Whether a uniform is below p/q."""
        return uniform(where, stream, rank + 1)[:, rank] * q < p

    def choice(self, where: Place, stream: int, scores: Tensor) -> tuple[Tensor, Tensor]:
        """The argmax of scores plus Gumbel noise."""
        # Counted from the largest score: next to 1e30 noise would be rounded away, and a tie would be no coin toss.
        return best(scores - scores.max(dim=-1, keepdim=True).values + gumbel(where, stream, scores.shape[-1]))


def best(scores: Tensor) -> tuple[Tensor, Tensor]:
    """The token of the highest score (ties: lowest id) and its lead over the next, +inf where there is none."""
    # A second column for a vocabulary of one.
    two = torch.nn.functional.pad(scores, (0, 1), value=-torch.inf).topk(2, dim=-1).values
    return scores.argmax(dim=-1), two[:, 0] - two[:, 1]


class Enumerate:
    """Takes one branch at every decision, by a script, and multiplies the probabilities of the branches taken.

    The same uniform asked twice answers twice the same; a choice that would reuse noise for another decision is
    refused, because the product of probabilities would then not be the law.

    Args:
        script: which branch to take at each decision in turn; the first branch where the script is silent.
    """

    def __init__(self, script: list[int]) -> None:
        self.script = script
        self.taken: list[tuple[int, int]] = []  # (branch, how many there were)
        self.weight = 1.0
        self._decided: dict[tuple[int, ...], tuple[list[float], int]] = {}

    def bernoulli(self, where: Place, stream: int, p: Tensor, q: Tensor | float = 1.0, rank: int = 0) -> Tensor:
        """Branches into true and false."""
        yes = torch.where(p > 0, p / q, 0.0).clamp(max=1.0).tolist()
        answers = [self._branch((*_key(where, stream, row), rank), [1 - y, y]) for row, y in enumerate(yes)]
        return torch.tensor(answers, device=p.device).bool()

    def choice(self, where: Place, stream: int, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Branches into every token of positive probability."""
        laws = torch.softmax(scores, dim=-1).tolist()
        tokens = [self._branch(_key(where, stream, row), law) for row, law in enumerate(laws)]
        return torch.tensor(tokens, device=scores.device), torch.full_like(scores[:, 0], torch.inf)

    def _branch(self, key: tuple[int, ...], law: list[float]) -> int:
        possible = [outcome for outcome, weight in enumerate(law) if weight > 0]
        if len(possible) == 1:  # no noise decides here
            return possible[0]
        before, outcome = self._decided.get(key, (None, 0))
        if before == law:
            return outcome
        if before is not None:
            raise AssertionError(f"noise at (seed, position, row, stream) {key} decides twice, under two laws")
        step = len(self.taken)
        branch = self.script[step] if step < len(self.script) else 0
        self.taken.append((branch, len(possible)))
        outcome = possible[branch]
        self.weight *= law[outcome]
        self._decided[key] = (law, outcome)
        return outcome


def _key(where: Place, stream: int, row: int) -> tuple[int, ...]:
    seed = int(where.low[row]) | int(where.high[row]) << 32
    return seed, int(where.positions[row]), int(where.rows[row]), stream


def enumerate_branches(function: Callable[[Enumerate], Result]) -> Iterator[tuple[float, Result]]:
    """Runs a function once for every way its decisions can fall; yields (probability, result).

    Args:
        function: called with an `Enumerate`; must take all its decisions from it and depend on nothing else random.

    Example:
        >>> from foretoken.reference.noise import place
        >>> where = place([0], [0], None, count=1, device=torch.device("cpu"))
        >>> law = torch.tensor([[0.25, 0.75]], dtype=torch.float64)
        >>> branches = enumerate_branches(lambda chance: chance.choice(where, 0, law.log())[0])
        >>> [(round(weight, 12), int(token)) for weight, token in branches]
        [(0.25, 0), (0.75, 1)]
    """
    script: list[int] = []
    while True:
        chance = Enumerate(script)
        result = function(chance)
        yield chance.weight, result
        taken = chance.taken
        while taken and taken[-1][0] + 1 == taken[-1][1]:
            taken.pop()
        if not taken:
            return
        script = [branch for branch, _ in taken[:-1]] + [taken[-1][0] + 1]


@dataclasses.dataclass(frozen=True)
class Atoms:
    """Decides by noise that is given: a table instead of a generator, to try every noise of a finite set.

    Args:
        table: stream → Gumbel noise (positions, vocabulary) float64; a uniform is drawn from the token's of its rank.
    """

    table: dict[int, Tensor]

    def bernoulli(self, where: Place, stream: int, p: Tensor, q: Tensor | float = 1.0, rank: int = 0) -> Tensor:
        """Whether the uniform whose Gumbel is given is below p/q."""
        noise = self.table[stream][where.positions, rank]
        return (-(-noise).exp()).exp() * q < p

    def choice(self, where: Place, stream: int, scores: Tensor) -> tuple[Tensor, Tensor]:
        """The argmax of scores plus the given noise."""
        return best(scores + self.table[stream][where.positions])
