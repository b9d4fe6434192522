"""Files that are whole or not there: what is written takes the place of an old one only when all of it is."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """The path to write to; behind the block its file takes the place of `path`, or is removed if anything failed.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with whole(f"{folder}/note") as part:
        ...         written = part.write_text("all of it")
        ...     [file.name for file in Path(folder).iterdir()]
        ['note']
    """
    target = Path(path)
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
