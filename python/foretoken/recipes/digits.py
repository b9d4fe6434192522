"""Spoken digits: takes of six speakers, those that are trained on and those that are not."""

from __future__ import annotations

import dataclasses
import io
import json
import wave
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..errors import CheckpointError, InvalidArgument
from .corpus import is_held_out

FILE, RATE = "digits8k.zip", 8000


@dataclasses.dataclass(frozen=True, eq=False)
class Take:
    """One digit, spoken once.

    Args:
        file: its name, such as "7_jackson_12.wav".
        digit: 0 to 9.
        speaker: their first name.
        samples: (n,) float32 at 8 kHz.
    """

    file: str
    digit: int
    speaker: str
    samples: np.ndarray


def held_out(file: str) -> bool:
    """Whether a take is never trained on: one in ten, by its name.

    Example:
        >>> held_out("0_george_10.wav"), held_out("0_george_18.wav")
        (False, True)
    """
    return is_held_out(file, one_in=10)


def split(data: Path) -> tuple[list[Take], list[Take]]:
    """The takes to train on and those to judge by, in the order of `labels.jsonl`.

    Raises:
        InvalidArgument: the folder has no digits8k.zip.
        CheckpointError: that file is damaged.
    """
    path = data / FILE
    try:
        with zipfile.ZipFile(path) as archive:
            takes = list(_takes(archive))
    except FileNotFoundError:
        raise InvalidArgument(f"no {FILE} in {data}") from None
    except (OSError, zipfile.BadZipFile, wave.Error, EOFError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from None
    return [take for take in takes if not held_out(take.file)], [take for take in takes if held_out(take.file)]


def _takes(archive: zipfile.ZipFile) -> Iterator[Take]:
    for line in archive.read("labels.jsonl").decode("utf-8").splitlines():
        label = json.loads(line)
        with wave.open(io.BytesIO(archive.read(label["file"]))) as file:
            if (shape := (file.getnchannels(), file.getsampwidth(), file.getframerate())) != (1, 2, RATE):
                raise ValueError(f"{label['file']} has (channels, bytes, rate) {shape}")
            samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
        yield Take(label["file"], int(label["digit"]), str(label["speaker"]), samples.astype(np.float32) / 2**15)
