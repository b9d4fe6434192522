"""The checkpoints that come with the package, by name."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import ArgumentTypeError, CheckpointError, UnknownModel

_FOLDER = Path(__file__).parent / "checkpoints"


def names() -> list[str]:
    """The checkpoints that come with the package: models and codecs."""
    return sorted(p.name for p in _FOLDER.iterdir() if (p / "config.json").exists()) if _FOLDER.exists() else []


def path(name: str) -> Path:
    """The folder of a shipped checkpoint.

    Raises:
        UnknownModel: there is none of this name.

    Example:
        >>> path("tales").name
        'tales'
    """
    if name not in names():
        raise UnknownModel(f"no shipped model is called {name!r}; there are {names()}, or pass a folder")
    return _FOLDER / name


def folder_of(name_or_folder: str | os.PathLike[str]) -> Path:
    """A folder of one's own, or that of a shipped checkpoint.

    Raises:
        UnknownModel: there is neither.
        CheckpointError: it is a file.
        ArgumentTypeError: it is no name.
    """
    name = checked(name_or_folder)
    folder = Path(name)
    if os.path.isdir(folder):
        return folder
    if os.path.exists(folder):
        raise CheckpointError(f"{name} is a file; pass the folder that holds config.json and model.safetensors")
    return path(name)


def checked(name_or_folder: object) -> str:
    """A name or a folder as a string, neither empty nor of another kind."""
    if not isinstance(name_or_folder, (str, os.PathLike)):
        raise ArgumentTypeError(f"a model is a name or a folder, got {type(name_or_folder).__name__}")
    if not (name := os.fspath(name_or_folder)):
        raise UnknownModel(f"the name of the model is empty; there are {names()}, or pass a folder")
    return os.fsdecode(name)
