"""Sounds of people's files as samples: float32, one channel, with their rate."""

from __future__ import annotations

import os
import struct
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch

from .. import kernels
from ..errors import ArgumentTypeError, InvalidArgument, LimitExceeded, MissingExtra, ShapeError

MOST_SAMPLES = 2**28
"""How many samples, of all channels together, a file may say it has: as float32 they take 1 GiB."""
_MOST_CHANNELS = 64
_HIGHEST_RATE = 2**31
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE


class Sound(NamedTuple):
    """A sound in memory.

    Args:
        samples: (n,) float32, finite; 1 is full scale, and files of floats may go beyond it.
        rate: samples a second.
    """

    samples: np.ndarray
    rate: int


def read(sound: Any, *, rate: int | None = None, max_samples: int = MOST_SAMPLES) -> Sound:
    """A sound as samples of one channel: the mean of all that it has.

    WAV files of 8 to 32 bits and of floats are read here; FLAC, Ogg and others take the package soundfile.

    Args:
        sound: a path; or an array or tensor (n,) or (n, channels) of float32, float64, int16 or uint8 samples, whose
            integers are scaled as those of a WAV file are.
        rate: of an array; a file says its own.
        max_samples: how many a file may have; read off its header before anything else is.

    Raises:
        LimitExceeded: the file has more samples.
        InvalidArgument: the file is missing, cut short, says what cannot be, or is no sound; a sample is NaN or
            infinite; the rate is missing, given for a file, or out of range.
        ShapeError, ArgumentTypeError: the array has another shape or dtype, or it is something else.
        MissingExtra: the file is no WAV file, and soundfile is not installed.

    Example:
        >>> read(np.array([[0, 16384], [-32768, -32768]], dtype=np.int16), rate=8000)
        Sound(samples=array([ 0.25, -1.  ], dtype=float32), rate=8000)
    """
    if isinstance(sound, (str, os.PathLike)):
        if rate is not None:
            raise InvalidArgument(f"rate is {rate!r}, but a file says its own: leave it out")
        return _opened(Path(sound), max_samples)
    if isinstance(sound, torch.Tensor):
        sound = sound.detach().cpu().numpy()
    if not isinstance(sound, np.ndarray):
        raise ArgumentTypeError(f"a sound is a {type(sound).__name__}: give a path or an array of samples")
    if type(rate) is not int or not 0 < rate < _HIGHEST_RATE:
        raise InvalidArgument(f"rate is {rate!r}: an array has none of its own, give its samples a second")
    if sound.ndim == 2 and not 0 < sound.shape[1] <= _MOST_CHANNELS:
        raise ShapeError(f"a sound has shape {sound.shape}: give (n, channels) with 1 to {_MOST_CHANNELS} channels")
    if sound.ndim not in (1, 2):
        raise ShapeError(f"a sound has shape {sound.shape}: give (n,) or (n, channels)")
    return Sound(_mixed(_scaled(sound), "the sound"), rate)


def at_rate(sound: Any, rate: int, *, source_rate: int | None = None) -> np.ndarray:
    """A sound of a file or an array as samples (n,) at a rate, resampled if it has another one.

    Args:
        sound: as for `read`.
        rate: that is wanted.
        source_rate: of an array; None if it has that rate already.

    Raises:
        InvalidArgument, LimitExceeded, ShapeError, ArgumentTypeError, MissingExtra: as for `read` and
            `kernels.resample`.

    Example:
        >>> at_rate(np.zeros(1600, dtype=np.float32), 8000, source_rate=16000).shape
        (800,)
    """
    if source_rate is None and not isinstance(sound, (str, os.PathLike)):
        source_rate = rate
    samples, source = read(sound, rate=source_rate)
    return samples if source == rate else kernels.resample(samples, source=source, target=rate)


def checked(signal: Any) -> np.ndarray:
    """The signal of a codec of sound as it must be: (n,) float32, finite, contiguous.

    Raises:
        ArgumentTypeError, ShapeError, InvalidArgument: it is something else; `read` and `at_rate` make it right.
    """
    if isinstance(signal, torch.Tensor):
        signal = signal.detach().cpu().numpy()
    if not isinstance(signal, np.ndarray) or signal.dtype != np.float32:
        kind = getattr(signal, "dtype", type(signal).__name__)
        raise ArgumentTypeError(f"a signal is of {kind}: give an array (n,) of float32, as sounds.read makes it")
    if signal.ndim != 1:
        raise ShapeError(f"a signal has shape {signal.shape}: give (n,), one channel, as sounds.read makes it")
    return _finite(np.ascontiguousarray(signal), "the signal")


def write(path: str | os.PathLike[str], samples: np.ndarray, *, rate: int) -> None:
    """Write samples (n,) float32 as a WAV file of 16 bits; what lies beyond [-1, 1] is clipped.

    Raises:
        ArgumentTypeError, ShapeError, InvalidArgument: the samples are no signal, or the rate is out of range.
    """
    if type(rate) is not int or not 0 < rate < _HIGHEST_RATE:
        raise InvalidArgument(f"rate is {rate!r}: give samples a second")
    ids = kernels.pcm_encode(checked(samples), bits=16).ids
    with wave.open(os.fspath(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((ids - 2**15).astype("<i2").tobytes())


def _opened(path: Path, max_samples: int) -> Sound:
    try:
        with path.open("rb") as file:
            head = file.read(12)
            if head[:4] == b"RIFF" and head[8:] == b"WAVE":
                return _wav(file, path, max_samples)
    except (OSError, ValueError) as error:  # the latter: a name with a zero byte
        if isinstance(error, (InvalidArgument, LimitExceeded)):
            raise
        raise InvalidArgument(f"cannot read the sound {path}: {error}") from None
    if not head:
        raise InvalidArgument(f"cannot read the sound {path}: it is empty")
    return _foreign(path, max_samples)


class _Format(NamedTuple):
    kind: int
    channels: int
    rate: int
    bits: int


def _wav(file: BinaryIO, path: Path, max_samples: int) -> Sound:
    """A WAV file behind its first twelve bytes."""
    found = None
    for name, size in _chunks(file, path):
        if name == b"fmt ":
            found = _format(file.read(min(size, 40)), path)
        elif name == b"data":
            if found is None:
                raise InvalidArgument(f"{path} has samples, but does not say before what they are")
            width = found.bits // 8
            if size // width > max_samples:
                raise LimitExceeded(f"{path} has {size // width} samples, more than {max_samples}: cut it")
            if size % (width * found.channels):
                raise InvalidArgument(f"{path} is cut short: {size} bytes are no whole samples of all channels")
            numbers = _numbers(file.read(size), found).reshape(-1, found.channels)
            return Sound(_mixed(_scaled(numbers), path), found.rate)
    raise InvalidArgument(f"{path} is cut short: it has no samples")


def _chunks(file: BinaryIO, path: Path) -> Iterator[tuple[bytes, int]]:
    """Name and size of each chunk, the file standing at its beginning; all of them are really there."""
    end = os.fstat(file.fileno()).st_size
    place = file.tell()
    while place + 8 <= end:
        file.seek(place)
        name, size = struct.unpack("<4sI", file.read(8))
        if size > end - place - 8:
            raise InvalidArgument(
                f"{path} is cut short: {size} bytes of {name!r} are announced, {end - place - 8} are there"
            )
        yield name, size
        place += 8 + size + size % 2


def _format(head: bytes, path: Path) -> _Format:
    if len(head) < 16:
        raise InvalidArgument(f"{path} is cut short: its format takes {len(head)} bytes, 16 are the least")
    kind, channels, rate, _, frame, bits = struct.unpack("<HHIIHH", head[:16])
    if kind == _EXTENSIBLE and len(head) >= 40:
        kind = int.from_bytes(head[24:26], "little")
    if bits not in {_PCM: (8, 16, 24, 32), _FLOAT: (32, 64)}.get(kind, ()):
        raise InvalidArgument(
            f"{path} is of format {kind} with {bits} bits: give linear PCM of 8, 16, 24 or 32 bits, or floats"
        )
    if not 0 < channels <= _MOST_CHANNELS or frame != channels * bits // 8:
        raise InvalidArgument(f"{path} says {channels} channels in {frame} bytes: give 1 to {_MOST_CHANNELS} channels")
    if not 0 < rate < _HIGHEST_RATE:
        raise InvalidArgument(f"{path} says {rate} samples a second")
    return _Format(kind, channels, rate, bits)


def _numbers(data: bytes, found: _Format) -> np.ndarray:
    if found.bits == 24:
        wide = np.zeros((len(data) // 3, 4), dtype=np.uint8)
        wide[:, 1:] = np.frombuffer(data, dtype=np.uint8).reshape(-1, 3)
        return wide.reshape(-1).view("<i4")
    kind = "f" if found.kind == _FLOAT else "u" if found.bits == 8 else "i"
    return np.frombuffer(data, dtype=f"<{kind}{found.bits // 8}")


def _scaled(samples: np.ndarray) -> np.ndarray:
    """Samples of a file's dtype as float32, full scale 1."""
    if samples.dtype in (np.float32, np.float64):
        with np.errstate(over="ignore"):  # what becomes infinite is refused
            return samples.astype(np.float32, copy=False)
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if samples.dtype in (np.int16, np.int32):
        return (samples / float(2 ** (8 * samples.itemsize - 1))).astype(np.float32)
    raise ArgumentTypeError(f"a sound is an array of {samples.dtype}: give float32, int16 or uint8")


def _mixed(samples: np.ndarray, what: object) -> np.ndarray:
    _finite(samples, what)
    if samples.ndim == 2:
        samples = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float64)
    return np.ascontiguousarray(samples, dtype=np.float32)


def _finite(samples: np.ndarray, what: object) -> np.ndarray:
    wrong = np.flatnonzero(~np.isfinite(samples))
    if wrong.size:
        place = wrong[0]
        raise InvalidArgument(f"{what} holds {samples.flat[place]} at sample {place}: samples must be finite")
    return samples


def _foreign(path: Path, max_samples: int) -> Sound:
    """A file of another kind, by libsndfile."""
    try:
        import soundfile  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise MissingExtra(
            f"{path} is no WAV file; others need soundfile, install it with: pip install 'foretoken[audio]'"
        ) from None
    try:
        with soundfile.SoundFile(path) as file:
            channels, rate, count = file.channels, file.samplerate, file.frames
            if not 0 < channels <= _MOST_CHANNELS or not 0 < rate < _HIGHEST_RATE:
                raise InvalidArgument(f"{path} says {channels} channels and {rate} samples a second")
            if not 0 <= count * channels <= max_samples:
                raise LimitExceeded(f"{path} has {count * channels} samples, more than {max_samples}: cut it")
            return Sound(_mixed(file.read(dtype="float32", always_2d=True), path), rate)
    except (RuntimeError, TypeError, OSError) as error:  # LibsndfileError is the first; a raw file the second
        raise InvalidArgument(f"cannot read the sound {path}: {error}") from None
