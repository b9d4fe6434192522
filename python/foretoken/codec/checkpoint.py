"""What a codec's checkpoint folder says of it: which codec it is, and its shape."""

from __future__ import annotations

from pathlib import Path

from ..errors import CheckpointError
from ..weights import CONFIG, Config, configured, read_object


def read_config(folder: Path, codec: str, kind: type[Config]) -> Config:
    """The configuration of a codec's folder.

    Args:
        folder: the checkpoint.
        codec: what its key "codec" must say.
        kind: the dataclass of all other keys.

    Raises:
        CheckpointError: the file is missing or broken, is another codec's, or does not state every field.
    """
    path = folder / CONFIG
    raw = read_object(path)
    if (found := raw.pop("codec", None)) != codec:
        raise CheckpointError(f'{path} is no configuration of a {codec} codec: its "codec" is {found!r}')
    return configured(kind, raw, path)
