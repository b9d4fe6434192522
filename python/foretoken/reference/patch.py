"""Pictures and films to patches, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from .resize import resize


def patchify(
    films: Sequence[torch.Tensor],
    *,
    patch: tuple[int, int],
    sizes: Sequence[tuple[int, int]] | None = None,
    crop: tuple[int, int] | None = None,
    filter: str = "BICUBIC",
    rounding: str = "PILLOW",
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
    scale: float = 1 / 255,
    stride: tuple[int, int] | None = None,
    merge: int = 1,
    frames: int = 1,
) -> torch.Tensor:
    """Resize films, crop them, normalise and cut them into patches.

    Args:
        films: (frames, height, width, channels) each, uint8 or float32.
        patch: height and width of a patch.
        sizes: height and width to which each film is resized; None to leave them as they are.
        crop: height and width that are then cut out of the middle.
        filter: BOX, BILINEAR, HAMMING, BICUBIC or LANCZOS.
        rounding: PILLOW, PILLOW_12 or TORCH.
        mean: one number, or one for each channel.
        std: likewise.
        scale: what a pixel is multiplied with first.
        stride: how far apart patches begin; as far as they are large unless given.
        merge: patches come in blocks of merge × merge, row by row.
        frames: how many neighbouring frames a patch spans; the last one stands for those that a film lacks.

    Returns:
        rows: (patches, channels × frames × height × width of a patch) float32, film after film.

    Example:
        >>> patchify([torch.arange(16.0).reshape(1, 4, 4, 1)], patch=(2, 2), scale=1)
        tensor([[ 0.,  1.,  4.,  5.],
                [ 2.,  3.,  6.,  7.],
                [ 8.,  9., 12., 13.],
                [10., 11., 14., 15.]])
    """
    rows = []
    for place, film in enumerate(films):
        if sizes is not None:
            film = resize(film, sizes[place], filter, rounding=rounding)
        if crop is not None:
            top, left = ((side - wanted) // 2 for side, wanted in zip(film.shape[1:3], crop, strict=True))
            film = film[:, top : top + crop[0], left : left + crop[1]]
        # (x * scale - mean) / std, but folded, in the precision in which transformers folds it.
        numbers = [torch.tensor(values, device=film.device) * (1 / scale) for values in (list(mean), list(std))]
        film = (film.float() - numbers[0]) / numbers[1]
        lacking = -film.shape[0] % frames
        film = torch.cat([film, film[-1:].expand(lacking, -1, -1, -1)])
        (down, across), channels = stride or patch, film.shape[3]
        parts = film.unfold(1, patch[0], down).unfold(2, patch[1], across)  # time, row, column, channel, height, width
        high, wide = parts.shape[1] // merge, parts.shape[2] // merge
        parts = parts.reshape(-1, frames, high, merge, wide, merge, channels, *patch)
        rows.append(parts.permute(0, 2, 4, 3, 5, 6, 1, 7, 8).reshape(-1, channels * frames * math.prod(patch)))
    return torch.cat(rows)


def unpatchify(
    rows: torch.Tensor,
    grids: Sequence[tuple[int, int, int]],
    *,
    patch: tuple[int, int],
    lengths: Sequence[int],
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
    scale: float = 1 / 255,
    stride: tuple[int, int] | None = None,
    merge: int = 1,
    frames: int = 1,
    windows: tuple[Sequence[float], Sequence[float]] | None = None,
    round: bool = True,
) -> list[torch.Tensor]:
    """Put patches together again; where they overlap, a pixel is the mean of theirs, weighted by `windows`.

    Args:
        rows: (patches, channels × frames × height × width of a patch), floating.
        grids: how many patches each film has in time, down and across.
        patch, mean, std, scale, stride, merge, frames: as for `patchify`.
        lengths: how many frames each film has.
        windows: how much each row and each column of a patch counts; alike unless given.
        round: to uint8, instead of float32.

    Returns:
        films: (frames, height, width, channels) each.
    """
    films, first = [], 0
    high, wide = patch
    (down, across), channels = stride or patch, rows.shape[1] // (frames * high * wide)
    for (times, height, width), length in zip(grids, lengths, strict=True):
        parts = rows[first : first + times * height * width].float()
        first += len(parts)
        parts = parts.reshape(times, height // merge, width // merge, merge, merge, channels, frames, *patch)
        # To time, row, column, height, width, channel.
        parts = parts.permute(0, 6, 1, 3, 2, 4, 7, 8, 5).reshape(-1, height, width, *patch, channels)[:length]
        if (down, across) == tuple(patch):
            film = parts.transpose(2, 3).reshape(length, height * high, width * wide, channels)
        else:
            film = _blend(parts, (down, across), windows or ([1.0] * high, [1.0] * wide))
        numbers = [torch.tensor(values, device=film.device) * (1 / scale) for values in (list(mean), list(std))]
        film = film * numbers[1] + numbers[0]
        films.append((film + 0.5).floor().clamp(0, 255).to(torch.uint8) if round else film)
    return films


def _blend(
    parts: torch.Tensor, stride: tuple[int, int], windows: tuple[Sequence[float], Sequence[float]]
) -> torch.Tensor:
    """The weighted mean of overlapping patches, in float64, patch by patch in raster order."""
    length, rows, columns, high, wide, channels = parts.shape
    options = {"dtype": torch.float64, "device": parts.device}
    tall, broad = (torch.tensor(window, **options) for window in windows)
    sides = ((rows - 1) * stride[0] + high, (columns - 1) * stride[1] + wide)
    sums = torch.zeros(length, *sides, channels, **options)
    totals = [torch.zeros(side, **options) for side in sides]
    for row in range(rows):
        totals[0][row * stride[0] :][:high] += tall
    for column in range(columns):
        totals[1][column * stride[1] :][:wide] += broad
    weights = (tall[:, None] * broad)[..., None]
    for row in range(rows):
        for column in range(columns):
            top, left = row * stride[0], column * stride[1]
            sums[:, top : top + high, left : left + wide] += weights * parts[:, row, column]
    return (sums / (totals[0][:, None] * totals[1])[..., None]).float()
