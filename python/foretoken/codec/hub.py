"""Trained codecs by name or folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from ..shipped import folder_of, path
from ..shipped import names as shipped_names
from ..weights import CONFIG, read_object
from .patches import Film, Patches
from .protocol import Codec
from .sound_codes import SoundCodes

_KINDS: dict[str, type[Patches] | type[Film] | type[SoundCodes]] = {
    "patches": Patches,
    "film": Film,
    "sound": SoundCodes,
}


def load(name_or_folder: str | os.PathLike[str]) -> Codec[Any]:
    """A trained codec: a shipped one by name, or any folder that a codec was saved to.

    Args:
        name_or_folder: "emoji-fsq-64", …, or a folder with config.json and model.safetensors.

    Raises:
        UnknownModel: there is neither such a name nor such a folder.
        CheckpointError: a file is missing or broken, or is no codec's.

    Example:
        >>> load("emoji-fsq-64").vocab_size
        1000
    """
    folder = folder_of(name_or_folder)
    kind = kind_of(folder)
    if kind not in _KINDS:
        raise CheckpointError(f"{folder} holds no codec of {sorted(_KINDS)}; a language model is loaded by ft.load")
    return _KINDS[kind].from_folder(folder)


def names() -> list[str]:
    """The codecs that come with the package."""
    return [name for name in shipped_names() if kind_of(path(name)) is not None]


def kind_of(folder: Path) -> str | None:
    """Which codec a checkpoint folder holds; None if it is another model's."""
    kind = read_object(folder / CONFIG).get("codec")
    return kind if isinstance(kind, str) else None
