"""Pictures as patches, each a symbol or a vector, and films as tubelets: patches that span some frames."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from .. import kernels
from ..errors import ArgumentTypeError, InvalidArgument, ShapeError
from ..weights import CONFIG, WEIGHTS, load_module, write_object, write_tensors
from .autoencoder import AutoencoderConfig, PatchAutoencoder
from .checkpoint import read_config
from .films import read_film
from .pictures import read
from .protocol import Codec

_BATCH = 64
"""Pictures that go through the auto-encoder at a time: 64 × 64 ones take some 100 MB."""

Grid = tuple[int, ...]
Own = TypeVar("Own", bound="_Patchwork")


class _Patchwork(Codec[Any]):
    """What pictures and films share: patches through the auto-encoder and back.

    Args:
        module: the trained auto-encoder; it stays on its device.
    """

    kind: str

    def __init__(self, module: PatchAutoencoder) -> None:
        self.module = module.eval()
        self.width = 1 if self.vocab_size is not None else module.bottleneck.width

    @property
    def config(self) -> AutoencoderConfig:
        """The shape of the auto-encoder."""
        return self.module.config

    @property
    def vocab_size(self) -> int | None:
        """How many symbols there are; None where units are vectors."""
        return self.module.bottleneck.vocab_size

    @property
    def side(self) -> int:
        """Side of what one unit stands for, in pixels."""
        return self.config.place // math.isqrt(self.config.units)

    @classmethod
    def from_folder(cls: type[Own], folder: Path) -> Own:
        """The codec of a checkpoint folder.

        Raises:
            CheckpointError: a file is missing or broken, or is another codec's.
        """
        config = read_config(folder, cls.kind, AutoencoderConfig)
        with torch.random.fork_rng(devices=[]):  # the first weights are random; the caller's randomness is not ours
            module = PatchAutoencoder(config)
        load_module(module, folder)
        return cls(module)

    def save(self, folder: Path, *, dtype: torch.dtype = torch.bfloat16) -> None:
        """Write the codec as a checkpoint folder.

        Args:
            folder: made if missing.
            dtype: of the weights in the file, as for `write_tensors`.
        """
        write_tensors(folder / WEIGHTS, self.module.state_dict(), dtype=dtype)
        write_object(folder / CONFIG, {"codec": self.kind, **dataclasses.asdict(self.config)})

    @torch.no_grad()
    def _encode(self, films: np.ndarray) -> np.ndarray:
        """Units (films, T·H·W, …) of films (films, frames, height, width, 3)."""
        _, _, height, width, _ = films.shape
        place = self.config.place
        if height % place or width % place or not height or not width:
            raise ShapeError(f"a picture is {height} × {width}: both must be multiples of {place}, and not 0")
        units = []
        for start in range(0, len(films), _BATCH):
            patches = cut(films[start : start + _BATCH], self.config)
            numbers = self.module.squeezed(patches.flatten(0, 1).to(self._device))
            units.append(self.module.bottleneck.encode(numbers.flatten(0, 2)))
        joined = np.concatenate(units)
        return joined.reshape(len(films), -1, *joined.shape[1:])

    @torch.no_grad()
    def _decode(self, units: np.ndarray, grid: Grid) -> np.ndarray:
        """Films (films, frames, height, width, 3) of units (films, T·H·W, …)."""
        if not all(type(n) is int and n > 0 for n in grid):
            raise InvalidArgument(f"a grid has positive integers, got {grid}")
        if units.shape[1] != math.prod(grid):
            raise ShapeError(f"{units.shape[1]} units do not fill a grid of {' × '.join(map(str, grid))}")
        time, height, width = grid
        each = math.isqrt(self.config.units)
        if height % each or width % each:
            raise ShapeError(f"a grid is {height} × {width}: both must be multiples of {each}")
        films = []
        at_once = max(1, _BATCH // time)
        for start in range(0, len(units), at_once):
            some = units[start : start + at_once]
            codes = self.module.bottleneck.decode(some.reshape(-1, *some.shape[2:])).to(self._device)
            patches = self.module.widened(codes.reshape(-1, height, width, self.module.bottleneck.width))
            films.append(paste(patches.cpu().unflatten(0, (-1, time)), self.config))
        return np.concatenate(films)

    @property
    def _device(self) -> torch.device:
        return self.module.patch_in.weight.device

    def _units(self, units: Any) -> np.ndarray:
        """One row of units, checked."""
        array = np.asarray(units)
        if self.vocab_size is None:
            if array.ndim != 2 or array.shape[1] != self.width or array.dtype.kind != "f":
                raise ShapeError(f"units are {array.dtype} {array.shape}, expected floats (units, {self.width})")
            if not np.isfinite(array).all():
                raise InvalidArgument("units hold NaN or infinity: fill in all of them before decoding")
            return array.astype(np.float32)
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise ArgumentTypeError(f"units must be a row of integers, got {array.ndim}-D {array.dtype}")
        if array.size and not 0 <= array.min() <= array.max() < self.vocab_size:
            raise InvalidArgument(f"units lie in [{array.min()}, {array.max()}], the codec has {self.vocab_size}")
        return array.astype(np.int64)


class Patches(_Patchwork):
    """Pictures ↔ patches, in raster order; the units of neighbouring patches are chosen together.

    A signal is whatever `codec.pictures.read` takes, height and width multiples of `config.place` pixels; it comes back
    as (height, width, 3) uint8. `Patches(module)` takes an auto-encoder of one's own; `ft.codec.load` loads one.

    Example:
        >>> import foretoken as ft
        >>> codec = ft.codec.load("emoji-fsq-64")
        >>> picture = np.full((64, 64, 3), 255, dtype=np.uint8)
        >>> units = codec.encode(picture)
        >>> units.shape, codec.grid(picture), codec.decode(units).shape
        ((64,), (8, 8), (64, 64, 3))
    """

    kind, unit = "patches", "patch"

    def encode(self, signal: Any) -> np.ndarray:
        """Units of a picture: (units,) int64, or (units, width) float32.

        Raises:
            ShapeError: a side is not filled by places, or is 0.
            InvalidArgument, ArgumentTypeError, LimitExceeded: it is no picture; see `codec.pictures.read`.
        """
        return self._encode(read(signal)[None, None])[0]

    def encode_batch(self, pictures: np.ndarray) -> np.ndarray:
        """Units (pictures, units, …) of pictures (pictures, height, width, 3) uint8."""
        return self._encode(_pixels(pictures)[:, None])

    def decode(self, units: np.ndarray, grid: Grid | None = None) -> np.ndarray:
        """The picture (height, width, 3) uint8 of units.

        Args:
            units: as `encode` gives them.
            grid: how many down and across; a square unless given.

        Raises:
            ShapeError: the units do not fill the grid.
            InvalidArgument, ArgumentTypeError: they are not such as `encode` gives.
        """
        return self.decode_batch(self._units(units)[None], grid)[0]

    def decode_batch(self, units: np.ndarray, grid: Grid | None = None) -> np.ndarray:
        """Pictures (pictures, height, width, 3) uint8 of units (pictures, units, …)."""
        grid = (math.isqrt(units.shape[1]),) * 2 if grid is None else grid
        return self._decode(units, (1, *grid))[:, 0]

    def grid(self, signal: Any) -> Grid:
        """How many units a picture has down and across."""
        height, width, _ = read(signal).shape
        return height // self.side, width // self.side


class Film(_Patchwork):
    """Films ↔ tubelets: patches that span `config.frames` neighbouring frames, in the order of time, then raster.

    A signal is whatever `codec.films.read_film` takes; it comes back as (frames, height, width, 3) uint8. A film that
    does not fill its tubelets in time goes on with its last frame.

    Example:
        >>> import foretoken as ft
        >>> codec = ft.codec.load("motion-fsq-64")
        >>> film = np.full((8, 64, 64, 3), 255, dtype=np.uint8)
        >>> codec.grid(film), codec.decode(codec.encode(film)).shape
        ((2, 8, 8), (8, 64, 64, 3))
    """

    kind, unit = "film", "tubelet"

    def encode(self, signal: Any) -> np.ndarray:
        """Units of a film: (units,) int64, or (units, width) float32.

        Raises:
            ShapeError: a side is not filled by places, or is 0.
            InvalidArgument, ArgumentTypeError, LimitExceeded: it is no film; see `codec.films.read_film`.
        """
        return self._encode(read_film(signal)[None])[0]

    def decode(self, units: np.ndarray, grid: Grid | None = None) -> np.ndarray:
        """The film (frames, height, width, 3) uint8 of units.

        Args:
            units: as `encode` gives them.
            grid: how many in time, down and across; frames of 64 × 64 pixels unless given.

        Raises:
            ShapeError: the units do not fill the grid.
            InvalidArgument, ArgumentTypeError: they are not such as `encode` gives.
        """
        row = self._units(units)
        side = 64 // self.side
        return self._decode(row[None], (max(1, len(row) // side**2), side, side) if grid is None else grid)[0]

    def grid(self, signal: Any) -> Grid:
        """How many units a film has in time, down and across."""
        frames, height, width, _ = read_film(signal).shape
        return -(-frames // self.config.frames), height // self.side, width // self.side


def cut(films: np.ndarray, config: AutoencoderConfig) -> Tensor:
    """Patches (films, T, frames, rows, columns, numbers) float32 in [-1, 1] of films (films, frames, height, width, 3).

    A film whose frames do not fill the last T goes on with its last one.
    """
    short = -films.shape[1] % config.frames
    if short:
        films = np.concatenate([films, np.repeat(films[:, -1:], short, axis=1)], axis=1)
    rows, grid, _ = kernels.patchify(list(films), patch=config.patch, mean=0.5, std=0.5)
    _, down, across = (int(n) for n in grid[0])
    return torch.from_numpy(np.asarray(rows)).reshape(len(films), -1, config.frames, down, across, rows.shape[1])


def paste(patches: Tensor, config: AutoencoderConfig) -> np.ndarray:
    """Films (films, frames, height, width, 3) uint8, the inverse of `cut`."""
    films, time, frames, down, across, numbers = patches.shape
    pasted = kernels.unpatchify(
        patches.reshape(-1, numbers).contiguous(),
        [(time * frames, down, across)] * films,
        patch=config.patch,
        lengths=[time * frames] * films,
        mean=0.5,
        std=0.5,
    )
    return np.stack(pasted)


def _pixels(pictures: Any) -> np.ndarray:
    array = pictures.numpy(force=True) if isinstance(pictures, torch.Tensor) else np.asarray(pictures)
    if array.ndim != 4 or array.shape[3] != 3 or not array.size:
        raise ShapeError(f"pictures have shape {array.shape}, expected (pictures, height, width, 3), none of them 0")
    if array.dtype != np.uint8:
        raise ArgumentTypeError(f"pictures are {array.dtype}: convert them to uint8")
    return array
