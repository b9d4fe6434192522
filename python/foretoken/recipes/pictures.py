"""Real pictures and clips → training and validation splits, each by the rule that its README states."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from ..codec.pictures import read
from ..errors import CheckpointError, ForetokenError, InvalidArgument, MissingExtra
from . import corpus

Split = tuple[np.ndarray, np.ndarray]
"""Pictures (n, height, width, 3) uint8 for training, and for validation."""

SIDE = 64


def emoji(data: Path) -> Split:
    """Emoji 64 × 64 on white; held out are the pairs of style and caption whose checksum is divisible by 20."""
    return _split((picture, f"{row['style']}/{row['caption']}") for row, picture in rows(data / "emoji64.zip"))


def tiles(data: Path) -> Split:
    """Pixel art 64 × 64, four tiles of 32 × 32 on white in each; held out by the checksum of a tile's file, as above.

    The four of a picture are neighbours in the file, so mostly of one folder.
    """
    train, held_out = _split((picture, row["file"]) for row, picture in rows(data / "tiles32.zip"))
    return _in_fours(train), _in_fours(held_out)


def _in_fours(tiles: np.ndarray) -> np.ndarray:
    fours = tiles[: len(tiles) // 4 * 4].reshape(-1, 2, 2, SIDE // 2, SIDE // 2, 3)
    return fours.swapaxes(2, 3).reshape(-1, SIDE, SIDE, 3)


def motion(data: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Animated emoji, (frames, 64, 64, 3) at 12 a second; held out by the checksum of the caption."""
    parts: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for row, film in rows(data / "motion64.zip"):
        parts[is_held_out(row["caption"])].append(film.reshape(-1, SIDE, SIDE, 3))
    return parts


def opened(path: Path) -> zipfile.ZipFile:
    """An archive.

    Raises:
        InvalidArgument: there is no such file.
        CheckpointError: it is damaged.
    """
    try:
        return zipfile.ZipFile(path)
    except FileNotFoundError:
        raise InvalidArgument(f"no such data file: {path}; pass the folder that holds it as --data") from None
    except (zipfile.BadZipFile, OSError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from None


def rows(path: Path, only: Callable[[dict], bool] = lambda row: True) -> Iterator[tuple[dict, np.ndarray]]:
    """Each row of the `.jsonl` in an archive that is wanted, and its picture on white; raises what `opened` does."""
    with opened(path) as archive:
        try:
            name = next(name for name in archive.namelist() if name.endswith(".jsonl"))
            described = [row for line in archive.read(name).decode().splitlines() if only(row := json.loads(line))]
            pixels = (_picture(archive.read(row["file"])) for row in described)
            yield from zip(described, pixels, strict=True)
        except (zipfile.BadZipFile, zlib.error, StopIteration, RuntimeError, LookupError, TypeError, OSError) as error:
            raise CheckpointError(f"{path} is damaged: {error!r}") from None
        except ValueError as error:
            if isinstance(error, ForetokenError):
                raise
            raise CheckpointError(f"{path} is damaged: {error!r}") from None


def is_held_out(key: str) -> bool:
    """Whether a picture is never trained on: one in twenty, by its key."""
    return corpus.is_held_out(key, one_in=20)


def _picture(file: bytes) -> np.ndarray:
    try:
        from PIL import Image
    except ImportError:
        raise MissingExtra("pictures need Pillow; install it with: pip install 'foretoken[image]'") from None
    with Image.open(io.BytesIO(file)) as picture:
        return read(picture)


def _split(pictures: Iterator[tuple[np.ndarray, str]]) -> Split:
    parts: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for picture, key in pictures:
        parts[is_held_out(key)].append(picture)
    if not all(parts):
        raise InvalidArgument("too few pictures to hold some out")
    return np.stack(parts[0]), np.stack(parts[1])
