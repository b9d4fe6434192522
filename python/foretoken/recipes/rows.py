"""Conditions and what was made under them: the training rows of a model of units, and the file that keeps them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from ..codec.hub import load
from ..codec.patches import Patches
from ..errors import InvalidArgument
from ..files import whole

_NUMBERS = ("units", "vocab_size", "end", "untold", "variants")


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """Conditions and what was made under them.

    Args:
        conditions, bodies: ids of each row, int64; those of bodies come first in the vocabulary.
        units: how many ids bodies have.
        vocab_size: how many ids there are, those of conditions among them.
        end: the id behind a body, or -1 if all are of one length.
        untold: the id that stands for the first of a condition where it is not told, or -1.
        variants: how many conditions of one length stand behind each other in a row, any of which says the same.
    """

    conditions: list[np.ndarray]
    bodies: list[np.ndarray]
    units: int
    vocab_size: int
    end: int = -1
    untold: int = -1
    variants: int = 1


def save(rows: Rows, path: Path) -> None:
    """Write rows as one file; an older one stays until it is whole."""
    fields = {name: getattr(rows, name) for name in _NUMBERS}
    flat = {
        name: np.concatenate(getattr(rows, name)) if getattr(rows, name) else np.empty(0, np.int64)
        for name in ("conditions", "bodies")
    }
    lengths = {f"{name}_lengths": np.array([len(row) for row in getattr(rows, name)]) for name in flat}
    with whole(path) as part, part.open("wb") as file:
        np.savez(file, **fields, **flat, **lengths)  # type: ignore[arg-type]


def read(path: Path) -> Rows:
    """Read what `save` wrote."""
    with np.load(path) as kept:
        told, bodies = (
            np.split(kept[name], np.cumsum(kept[f"{name}_lengths"])[:-1]) for name in ("conditions", "bodies")
        )
        return Rows(told, bodies, *(int(kept[name]) for name in _NUMBERS))


def symbols(codec: str) -> tuple[Patches, int]:
    """A codec of pictures by symbols, by name or folder, and how many symbols it has."""
    patches = load(codec)
    if not isinstance(patches, Patches) or patches.vocab_size is None:
        raise InvalidArgument(f"{codec} is no codec of pictures by symbols")
    return patches, patches.vocab_size
