"""Conditional acceptance by position: how far a verifier that reads from left to right would follow an answer.

Flat says that no modes are mixed, falling that they are, and rising that one was committed to at the start. It is the
headline figure of parallel drafters (DSpark 2026, figure 2) and says the same of any answer made in parallel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..canvas import pad
from ..errors import InvalidArgument, ShapeError
from ..model.protocol import CausalModel


def conditional_acceptance(
    accepts: np.ndarray, lengths: np.ndarray, *, places: int | None = None, least: float = 0.0
) -> np.ndarray:
    """The probability that each place is accepted, given that all before it were: (places,) float64, NaN if none came.

    Expectations are taken over the verifier's chance instead of drawing it: a row counts at a place with the
    probability that it was followed that far.

    Args:
        accepts: (rows, positions) how probably a unit is accepted if those before it were; see `matched` and `ratio`.
        lengths: (rows,) units of each row that count.
        places: how many places to report, all unless given.
        least: rows that must have been followed to a place, in expectation more than so many, for it to be reported.

    Raises:
        ShapeError: the two do not fit each other.

    Example:
        >>> conditional_acceptance(np.array([[1.0, 0.5], [0.5, 1.0]]), np.array([2, 2])).round(3)
        array([0.75 , 0.667])
    """
    if accepts.ndim != 2 or lengths.shape != accepts.shape[:1]:
        raise ShapeError(f"accepts {accepts.shape} and lengths {lengths.shape}: give (rows, positions) and (rows,)")
    asked = accepts.shape[1] if places is None else places
    reached, found = np.ones(len(accepts)), np.full(asked, np.nan)
    for place in range(min(asked, accepts.shape[1])):
        reached = reached * (lengths > place)
        if (weight := reached.sum()) > least:
            reached = reached * accepts[:, place]
            found[place] = reached.sum() / weight
        else:
            break
    return found


def matched(laws: np.ndarray, units: np.ndarray) -> np.ndarray:
    """How probably a verifier's own draw is the unit: sample-and-match, which asks nothing of how units were made.

    Args:
        laws: (rows, positions, vocabulary) of the verifier, each given the units before.
        units: (rows, positions) int64.

    Returns:
        (rows, positions).

    Example:
        >>> matched(np.array([[[0.25, 0.75]]]), np.array([[1]]))
        array([[0.75]])
    """
    return np.take_along_axis(laws, units[..., None], axis=2)[..., 0]


def ratio(laws: np.ndarray, drawn_from: np.ndarray, units: np.ndarray) -> np.ndarray:
    """min(1, p/q): the ratio test of speculative sampling (2211.17192), where the law of each unit is known.

    Args:
        laws, units: as for `matched`.
        drawn_from: (rows, positions, vocabulary) the laws that the units were drawn from.

    Raises:
        InvalidArgument: a unit was drawn that its own law rules out.

    Example:
        >>> ratio(np.array([[[0.25, 0.75]]]), np.array([[[0.5, 0.5]]]), np.array([[0]]))
        array([[0.5]])
    """
    p, q = matched(laws, units), matched(drawn_from, units)
    if (q <= 0).any():
        raise InvalidArgument("a unit has probability 0 under the law it was drawn from: give that law")
    return np.minimum(1.0, p / q)


def laws_before(model: CausalModel, prompts: list[np.ndarray], answers: list[np.ndarray]) -> np.ndarray:
    """The law of every unit of an answer given those before it, by one forward of a causal model.

    Args:
        model: the verifier.
        prompts: the units in front of each answer, at least one.
        answers: of any lengths, at least one unit each.

    Returns:
        (rows, longest answer, vocabulary) float64; what stands behind a row's answer is arbitrary.
    """
    read = [np.concatenate([prompt, answer[:-1]]) for prompt, answer in zip(prompts, answers, strict=True)]
    tokens, counts = pad(read)
    session: Any = model.open(len(read), int(counts.max()))
    with torch.inference_mode():
        laws = session.forward(tokens, counts).double().softmax(dim=2).cpu().numpy()
    longest = max(len(answer) for answer in answers)
    starts = np.array([len(prompt) - 1 for prompt in prompts])[:, None]
    places = np.minimum(starts + np.arange(longest), laws.shape[1] - 1)
    return np.take_along_axis(laws, places[..., None], axis=1)
