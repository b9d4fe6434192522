"""Sound as codes: a few for each hop of samples, by residual vector quantisation of an auto-encoder's vectors."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import kernels
from ..errors import InvalidArgument, ShapeError
from ..layouts import delay
from ..weights import CONFIG, WEIGHTS, read_tensors, refuse_misfits, write_object, write_tensors
from . import sounds
from .checkpoint import read_config
from .protocol import Codec
from .sound_autoencoder import SoundAutoencoder, SoundConfig

_BOOKS = "books"
_PIECE = 3000
"""Frames that go through the auto-encoder at once: a minute at 50 a second, so that an hour takes no more memory."""


class SoundCodes(Codec[np.ndarray]):
    """Sound ↔ code numbers, `books` for each frame of `hop` samples, in the order of `layouts.delay`.

    A signal is (n,) float32 at `rate`; `signal` makes one of a file, of stereo, of another rate. What lies beyond
    [-1, 1] is clipped, and so is what is decoded. The last frame is filled up with silence: what comes back is as
    long as all frames together. The first books say the most; `first` makes a codec of fewer bits of them.

    Args:
        module: the auto-encoder.
        codebooks: (books, codes, latent) float32.

    Raises:
        ShapeError: the books are not those of the module's configuration.

    Example:
        >>> import foretoken as ft
        >>> codec = SoundCodes.from_folder(ft.path("digits-sound"))
        >>> tone = 0.3 * np.sin(np.arange(1600) * 2 * np.pi * 300 / 8000).astype(np.float32)
        >>> codec.grid(tone), codec.bits(tone)
        ((10, 4), 400.0)
        >>> codec.decode(codec.encode(tone)).shape
        (1600,)
    """

    unit, width = "code", 1

    def __init__(self, module: SoundAutoencoder, codebooks: np.ndarray) -> None:
        self.module = module
        self.config = module.config
        self.codebooks = np.ascontiguousarray(codebooks, dtype=np.float32)
        wanted = (self.config.books, self.config.codes, self.config.latent)
        if self.codebooks.shape != wanted:
            raise ShapeError(f"the books are {self.codebooks.shape}, the configuration says {wanted}")

    @staticmethod
    def from_folder(folder: str | os.PathLike[str]) -> SoundCodes:
        """Read a checkpoint: config.json, which states every field, and model.safetensors.

        Raises:
            CheckpointError: a file is missing or broken, or they do not fit each other.
        """
        folder = Path(folder)
        config = read_config(folder, "sound", SoundConfig)
        with torch.device("meta"):  # takes no memory, whatever the configuration says
            module = SoundAutoencoder(config)
        shapes = {name: tuple(weight.shape) for name, weight in module.named_parameters()}
        shapes[_BOOKS] = (config.books, config.codes, config.latent)
        tensors = read_tensors(folder / WEIGHTS)
        refuse_misfits(tensors, shapes, folder / WEIGHTS)
        tensors = {name: tensor.float() for name, tensor in tensors.items()}
        books = tensors.pop(_BOOKS)
        module.load_state_dict(tensors, assign=True)
        return SoundCodes(module, books.numpy())

    def save(self, folder: str | os.PathLike[str], *, dtype: torch.dtype = torch.float32) -> None:
        """Write configuration and weights so that `from_folder` reads them.

        Args:
            folder: made if missing.
            dtype: of the weights in the file; float16 halves it.
        """
        folder = Path(folder)
        tensors: dict[str, Tensor] = dict(self.module.named_parameters())
        write_tensors(folder / WEIGHTS, tensors | {_BOOKS: torch.from_numpy(self.codebooks)}, dtype=dtype)
        fields = {"codec": "sound", **dataclasses.asdict(self.config)}
        write_object(folder / CONFIG, fields)

    def __repr__(self) -> str:
        return f"SoundCodes({self.rate} Hz, {self.config.books} books of {self.vocab_size}, hop {self.config.hop})"

    @property
    def vocab_size(self) -> int:
        """The codes of one book; all books have as many."""
        return self.config.codes

    @property
    def rate(self) -> int:
        """Samples a second."""
        return self.config.rate

    def first(self, books: int) -> SoundCodes:
        """The codec that keeps only the first books of each frame.

        Raises:
            InvalidArgument: there are not so many.
        """
        if type(books) is not int or not 1 <= books <= self.config.books:
            raise InvalidArgument(f"books is {books!r}: there are {self.config.books}")
        with torch.device("meta"):  # the weights are shared, not drawn anew
            fewer = SoundAutoencoder(dataclasses.replace(self.config, books=books))
        fewer.load_state_dict(self.module.state_dict(), assign=True)
        return SoundCodes(fewer, self.codebooks[:books])

    def signal(self, sound: Any, *, source_rate: int | None = None) -> np.ndarray:
        """A file, or an array of another rate or of several channels, as a signal of this codec.

        Args:
            sound, source_rate: as for `sounds.at_rate`.
        """
        return sounds.at_rate(sound, self.rate, source_rate=source_rate)

    def grid(self, signal: np.ndarray) -> tuple[int, ...]:
        """Frames and books."""
        return -(-len(sounds.checked(signal)) // self.config.hop), self.config.books

    def encode(self, signal: np.ndarray) -> np.ndarray:
        """The code numbers of a signal in the order of the delay pattern, (frames · books,) int64.

        Raises:
            InvalidArgument: a sample is NaN or infinite.
            ShapeError, ArgumentTypeError: the signal is not (n,) float32.
        """
        ids = kernels.residual_encode(self.vectors(signal), self.codebooks)
        return delay(*ids.shape).row(ids)

    def vectors(self, signal: np.ndarray) -> np.ndarray:
        """What is quantised: a vector for each frame, (frames, latent) float32."""
        signal = sounds.checked(signal)
        frames, hop = -(-len(signal) // self.config.hop), self.config.hop
        whole = np.zeros((frames, hop), dtype=np.float32)
        whole.reshape(-1)[: len(signal)] = signal.clip(-1, 1)
        return self._pieces(whole, lambda piece: self.module.encode(piece.reshape(1, -1))[0], self.config.latent)

    def decode(self, units: np.ndarray, grid: tuple[int, ...] | None = None) -> np.ndarray:
        """The sound of code numbers, (frames · hop,) float32 in [-1, 1].

        Raises:
            InvalidArgument: a book has no such code.
            ShapeError: the numbers are no row of whole frames, or not as many as the grid says.
            ArgumentTypeError: they are no integers.
        """
        ids = np.asarray(units)
        books = self.config.books
        if ids.ndim != 1 or len(ids) % books:
            raise ShapeError(f"units have shape {ids.shape}: give a row of {books} for each frame")
        frames = len(ids) // books
        if grid is not None and tuple(grid) != (frames, books):
            raise ShapeError(f"there are {len(ids)} units, the grid is {grid}: {books} books make {frames} frames")
        vectors = kernels.residual_decode(delay(frames, books).grid(ids).reshape(frames, books), self.codebooks)
        hop = self.config.hop
        made = self._pieces(vectors, lambda piece: self.module.decode(piece[None]).view(-1, hop), hop)
        return made.clip(-1, 1, out=made).reshape(-1)

    def _pieces(self, rows: np.ndarray, function: Callable[[Tensor], Tensor], width: int) -> np.ndarray:
        """A function of rows, one for each frame, that sees no further than `reach` frames, piece by piece."""
        reach = self.config.reach
        made = np.empty((len(rows), width), dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, len(rows), _PIECE):
                before = min(start, reach)
                piece = torch.from_numpy(rows[start - before : start + _PIECE + reach])
                found = function(piece)[before : before + _PIECE]
                made[start : start + _PIECE] = found.numpy()
        return made
