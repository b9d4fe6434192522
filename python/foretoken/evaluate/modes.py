"""What several right answers do to a decoder: how many of its answers are right, which of them it gives, what it mixes.

Where every position is chosen on its own, parts of different right answers are put together (the multi-modality
problem, Gu et al. 1711.02281): the measures here say how often, and where in an answer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import ShapeError


def modes(answers: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Which right answer each answer is, -1 if none: (answers,) int64.

    Args:
        answers: (answers, positions) int64, all of one input.
        right: (modes, positions) int64, no two alike.

    Raises:
        ShapeError: the two have other lengths.

    Example:
        >>> modes(np.array([[1, 2], [3, 4], [1, 4]]), np.array([[3, 4], [1, 2]]))
        array([ 1,  0, -1])
    """
    if answers.ndim != 2 or right.ndim != 2 or answers.shape[1] != right.shape[1]:
        raise ShapeError(f"answers of shape {answers.shape} and {right.shape}: give two of (answers, positions)")
    same = (answers[:, None] == right[None]).all(axis=2)
    return np.where(same.any(axis=1), same.argmax(axis=1), -1)


def valid_rate(found: Sequence[np.ndarray]) -> float:
    """The share of answers that are right, of several inputs together; what `modes` found for each.

    Example:
        >>> valid_rate([np.array([0, -1]), np.array([2, 2])])
        0.75
    """
    return float(np.mean(np.concatenate(found) >= 0))


def modes_covered(found: Sequence[np.ndarray]) -> float:
    """How many of an input's right answers were given at least once, the mean over inputs.

    Beside it belongs what the true law would cover: with m modes and n answers m·(1 − (1 − 1/m)^n).

    Example:
        >>> modes_covered([np.array([0, -1]), np.array([2, 1])])
        1.5
    """
    return float(np.mean([len(np.unique(each[each >= 0])) for each in found]))


def mode_distance(found: Sequence[np.ndarray], count: int) -> float:
    """Total variation between how often each right answer is given and the uniform law, wrong ones as one more.

    The mean over inputs. Draws from the uniform law itself are at some distance, too: that is the floor of a table.

    Args:
        found: for each input what `modes` found.
        count: right answers of an input.

    Example:
        >>> mode_distance([np.array([0, 0, 1, -1])], 2)
        0.25
    """
    shares = [np.bincount(each[each >= 0], minlength=count) / len(each) for each in found]
    # What is missing from one law is too much in another, so the positive differences alone add up to it.
    return float(np.mean([np.maximum(1 / count - share, 0).sum() for share in shares]))


def adjacent_repetition(answers: Sequence[np.ndarray]) -> float:
    """The share of neighbouring units that are equal, of answers of any lengths together: "of of", "the the".

    Example:
        >>> round(adjacent_repetition([np.array([1, 1, 2]), np.array([3, 4])]), 3)
        0.333
    """
    pairs = sum(max(0, len(answer) - 1) for answer in answers)
    return sum(int((answer[1:] == answer[:-1]).sum()) for answer in answers) / pairs if pairs else 0.0


def total_correlation(answers: np.ndarray) -> float:
    """How far from independent the positions of equally probable answers are, in nats: Σ H(position) − H(answer).

    It is the divergence of the law from the product of its marginals: what one shot cannot but lose (Watanabe 1960).

    Args:
        answers: (answers, positions) int64; one that stands twice is twice as probable.

    Example:
        >>> import math
        >>> round(total_correlation(np.array([[0, 0], [1, 1]])) / math.log(2), 6)
        1.0
        >>> total_correlation(np.array([[0, 0], [0, 1], [1, 0], [1, 1]]))
        0.0
    """
    _, whole = np.unique(answers, axis=0, return_counts=True)
    parts = sum(_entropy(np.unique(column, return_counts=True)[1]) for column in answers.T)
    return max(0.0, round(parts - _entropy(whole), 12))


def _entropy(counts: np.ndarray) -> float:
    law = counts / counts.sum()
    return float(-(law * np.log(law)).sum())


def language_entropy(counts: Sequence[int]) -> float:
    """Of how often each kind of answer is given, in nats; ln(kinds) if all are given equally often.

    Example:
        >>> import math
        >>> round(language_entropy([5, 5, 0]) / math.log(2), 6)
        1.0
    """
    present = np.array([count for count in counts if count > 0], dtype=np.float64)
    return _entropy(present) if len(present) else 0.0
