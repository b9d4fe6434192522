"""Colours to numbers and back: 24 bits as they are, 16 bits as 5-6-5, and fewer by a palette."""

from __future__ import annotations

import torch
from torch import Tensor


def rgb24_encode(pixels: Tensor) -> Tensor:
    """Numbers (...) int64 of pixels (..., 3) uint8: red << 16 | green << 8 | blue.

    Example:
        >>> rgb24_encode(torch.tensor([255, 0, 16], dtype=torch.uint8))
        tensor(16711696)
    """
    red, green, blue = pixels.long().unbind(-1)
    return red << 16 | green << 8 | blue


def rgb24_decode(ids: Tensor) -> Tensor:
    """Pixels (..., 3) uint8 of numbers (...) in [0, 2^24).

    Example:
        >>> rgb24_decode(torch.tensor(16711696))
        tensor([255,   0,  16], dtype=torch.uint8)
    """
    return torch.stack([ids >> 16, ids >> 8 & 255, ids & 255], dim=-1).to(torch.uint8)


def rgb565_encode(pixels: Tensor) -> Tensor:
    """Numbers (...) int64 of pixels (..., 3) uint8: 5 bits of red, 6 of green, 5 of blue, rounded to the nearest.

    Example:
        >>> rgb565_encode(torch.tensor([255, 0, 16], dtype=torch.uint8))
        tensor(63490)
    """
    red, green, blue = (pixels.double() * torch.tensor([31, 63, 31]) / 255).round().long().unbind(-1)
    return red << 11 | green << 5 | blue


def rgb565_decode(ids: Tensor) -> Tensor:
    """Pixels (..., 3) uint8 of numbers (...) in [0, 2^16).

    Example:
        >>> rgb565_decode(torch.tensor(63490))
        tensor([255,   0,  16], dtype=torch.uint8)
    """
    parts = torch.stack([ids >> 11, ids >> 5 & 63, ids & 31], dim=-1)
    return (parts.double() * 255 / torch.tensor([31, 63, 31])).round().to(torch.uint8)


def palette_encode(pixels: Tensor, palette: Tensor) -> Tensor:
    """Numbers (...) int64 of the nearest colours; the lowest among equals.

    Args:
        pixels: (..., 3) uint8.
        palette: (colours, 3) uint8.

    Example:
        >>> palette_encode(torch.tensor([250, 9, 0]), uniform_palette())
        tensor(180)
    """
    distances = (pixels.long()[..., None, :] - palette.long()).square().sum(dim=-1)
    # A stable sort, because argmin may give any of several.
    return distances.sort(dim=-1, stable=True).indices[..., 0]


def palette_decode(ids: Tensor, palette: Tensor) -> Tensor:
    """Colours (..., 3) of numbers (...).

    Example:
        >>> palette_decode(torch.tensor(180), uniform_palette())
        tensor([255,   0,   0], dtype=torch.uint8)
    """
    return palette[ids]


def uniform_palette() -> Tensor:
    """(256, 3) uint8: six levels each of red, green and blue, then 40 greys between theirs.

    Example:
        >>> uniform_palette()[216]
        tensor([6, 6, 6], dtype=torch.uint8)
    """
    level = torch.arange(6) * 51
    cube = torch.cartesian_prod(level, level, level)
    grey = (torch.arange(1, 41).double() * 255 / 41).round().long()
    return torch.cat([cube, grey[:, None].expand(40, 3)]).to(torch.uint8)


def fit_palette(pixels: Tensor, colours: int = 256, *, rounds: int = 8) -> Tensor:
    """A palette (at most colours, 3) uint8 for pixels (..., 3) uint8: median cut, then rounds of k-means.

    The box with the largest product of pixels and longest side is cut across that side, behind the colour with which
    half of its pixels are reached; among equal boxes or sides the first. Means are rounded to the nearest, halves up.

    Example:
        >>> fit_palette(torch.tensor([[0, 0, 0], [2, 0, 0], [255, 0, 9]]), 2)
        tensor([[  1,   0,   0],
                [255,   0,   9]], dtype=torch.uint8)
    """
    numbers, counts = rgb24_encode(pixels.reshape(-1, 3)).unique(return_counts=True)
    all_colours = rgb24_decode(numbers).long()
    boxes = [torch.arange(len(numbers))]
    while len(boxes) < colours:
        sides = torch.stack([all_colours[box].amax(dim=0) - all_colours[box].amin(dim=0) for box in boxes])
        weights = [int(side.max() * counts[box].sum()) for side, box in zip(sides, boxes, strict=True)]
        if max(weights) == 0:
            break
        place = weights.index(max(weights))
        channel = sides[place].tolist().index(int(sides[place].max()))
        box = boxes[place]
        box = box[(all_colours[box, channel] << 24 | numbers[box]).argsort()]
        seen = counts[box].cumsum(dim=0)
        cut = min(int((seen < (seen[-1] + 1) // 2).sum()) + 1, len(box) - 1)
        boxes[place] = box[:cut]
        boxes.append(box[cut:])
    palette = _sorted(torch.stack([_mean(all_colours[box], counts[box]) for box in boxes]))
    for _ in range(rounds):
        nearest = palette_encode(all_colours, palette)
        palette = _sorted(
            torch.stack(
                [
                    _mean(all_colours[nearest == place], counts[nearest == place])
                    if (nearest == place).any()
                    else colour
                    for place, colour in enumerate(palette)
                ]
            )
        )
    return palette.to(torch.uint8)


def _mean(colours: Tensor, counts: Tensor) -> Tensor:
    total = counts.sum()
    return (2 * (colours * counts[:, None]).sum(dim=0) + total) // (2 * total)


def _sorted(palette: Tensor) -> Tensor:
    return rgb24_decode(rgb24_encode(palette).unique()).long()
