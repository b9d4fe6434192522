"""Signals beside what a codec made of them, as sheets: plain arrays in, whatever the codec is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import ShapeError
from .plots import FLOOR, errors, spectrogram, strip, symbol_colours, vector_colours, waveform
from .sheet import Coding, Panel, Sheet
from .wav import wav

MOST_LABELS = 256
"""Units of a picture that get their number written into them; more would be too small to read."""

_FRAMES = 12  # of a contact sheet


def picture(
    name: str,
    original: np.ndarray,
    decoded: np.ndarray,
    units: np.ndarray,
    grid: tuple[int, ...],
    coding: Coding,
    measures: dict[str, str],
) -> Sheet:
    """A picture: original, units, reconstruction, errors.

    Args:
        name: of the file.
        original: (height, width, 3) uint8.
        decoded: the same.
        units: (rows × columns,) symbols, or (rows × columns, width) vectors.
        grid: rows and columns of units.
        coding: what the codec made of it.
        measures: name → value, shown first.

    Raises:
        ShapeError: the arrays do not fit each other.
    """
    if original.shape != decoded.shape or original.ndim != 3 or len(units) != grid[0] * grid[1]:
        shapes = f"{original.shape}, {decoded.shape}, {len(units)} units on {grid}"
        raise ShapeError(f"a picture, what came back and its units do not fit each other: {shapes}")
    height, width = original.shape[:2]
    cells = grid if grid != (height, width) else None
    off, largest = errors(original, decoded)
    panels = (
        Panel("original", original, f"{height} × {width} pixels", cells),
        _units(units, grid, coding),
        Panel("decoded", decoded, f"from {coding.units:,} {coding.plural} alone", smooth=False),
        Panel("error", off, _scale(largest)),
    )
    return Sheet(
        name, f"a picture as {coding.plural} by {coding.codec}", measures | coding.figures(original.size * 8), panels
    )


def film(
    name: str,
    original: np.ndarray,
    decoded: np.ndarray,
    units: np.ndarray,
    grid: tuple[int, ...],
    coding: Coding,
    measures: dict[str, str],
) -> Sheet:
    """A film as a contact sheet: up to twelve of its frames, evenly chosen, decoded, their errors, and its units.

    Args:
        name: of the file.
        original: (frames, height, width, 3) uint8.
        decoded: the same, or with frames behind the last one, which are left out.
        units: symbols or vectors, (time × rows × columns, …).
        grid: time, rows, columns.
        coding: what the codec made of it.
        measures: name → value, shown first.

    Raises:
        ShapeError: the arrays do not fit each other.
    """
    decoded = decoded[: len(original)]
    if original.shape != decoded.shape or original.ndim != 4 or len(units) != np.prod(grid):
        shapes = f"{original.shape}, {decoded.shape}, {len(units)} units on {grid}"
        raise ShapeError(f"a film, what came back and its units do not fit each other: {shapes}")
    shown = np.linspace(0, len(original) - 1, min(_FRAMES, len(original))).round().astype(int)
    off, largest = errors(original, decoded)
    times = np.unique(shown * grid[0] // len(original))
    colours = _colours(units, coding).reshape(*grid, 3)
    span = f"{len(original)} frames" if len(shown) == len(original) else f"{len(shown)} of {len(original)} frames"
    panels = (
        Panel("original", strip(list(original[shown])), span, wide=True),
        Panel("decoded", strip(list(decoded[shown])), f"from {coding.units:,} {coding.plural} alone", wide=True),
        Panel("error", strip(list(off[shown])), _scale(largest), wide=True),
        Panel(
            coding.plural, strip(list(colours[times]), gap=1),
            f"{grid[1]} × {grid[2]} at each of {grid[0]} times; {_legend(coding)}", wide=True,
        ),
    )  # fmt: skip
    return Sheet(
        name, f"a film as {coding.plural} by {coding.codec}", measures | coding.figures(original.size * 8), panels
    )


def sound(
    name: str,
    original: np.ndarray,
    decoded: np.ndarray,
    units: np.ndarray,
    rate: int,
    coding: Coding,
    measures: dict[str, str],
) -> Sheet:
    """A sound: waves, spectrograms of the same scale, and its codes.

    Args:
        name: of the file.
        original: (n,) float32.
        decoded: the same, or with samples behind the last one, which are left out.
        units: (frames, books) symbols as they lie in time, or (n,) where each sample is one, which are not shown.
        rate: samples a second.
        coding: what the codec made of it.
        measures: name → value, shown first.

    Raises:
        ShapeError: there are no samples, or fewer come back.
    """
    decoded = decoded[: len(original)]
    if original.shape != decoded.shape or original.ndim != 1 or not len(original):
        raise ShapeError(f"a sound of shape {original.shape} came back as {decoded.shape}: give samples, and as many")
    peak = max(float(np.abs(original).max()), 1e-4)
    seconds = f"{len(original) / rate:.2f} s of {rate:,} samples a second; {peak:.2g} of full scale fills the height"
    before, loudest = spectrogram(original, rate)
    after, _ = spectrogram(decoded, rate, loudest=loudest)
    alone = f"from {coding.units:,} {coding.plural} alone"
    scale = f"0 to {rate // 2:,} Hz upwards; black is {-FLOOR:.0f} dB below the brightest"
    panels = [
        Panel("original", waveform(original, peak=peak), seconds, wide=True, smooth=True, sound=wav(original, rate)),
        Panel(
            "decoded", waveform(decoded, peak=peak), alone, wide=True, smooth=True, sound=wav(decoded, rate)
        ),
        Panel("original, by frequency", before, scale, wide=True, smooth=True),
        Panel("decoded, by frequency", after, "on the same scale", wide=True, smooth=True),
    ]  # fmt: skip
    if units.ndim == 2:
        books = _colours(units, coding).reshape(*units.shape, 3).swapaxes(0, 1)
        note = (
            f"{units.shape[0]} frames from left to right, {units.shape[1]} books from top to bottom; {_legend(coding)}"
        )
        panels.append(Panel("codes", books.repeat(6, axis=0), note, wide=True))
    return Sheet(
        name, f"a sound as {coding.plural} by {coding.codec}", measures | coding.figures(len(original) * 16), panels
    )


def text(name: str, pieces: Sequence[tuple[str, int]], coding: Coding, measures: dict[str, str]) -> Sheet:
    """A text as its tokens.

    Args:
        name: of the file.
        pieces: what each token looks like, and its id.
        coding: what the codec made of it.
        measures: name → value, shown first.
    """
    return Sheet(name, f"a text as {coding.plural} by {coding.codec}", measures | coding.figures(), (), pieces)


def _units(units: np.ndarray, grid: tuple[int, ...], coding: Coding) -> Panel:
    colours = _colours(units, coding).reshape(*grid, 3)
    labels = units.reshape(grid) if units.ndim == 1 and len(units) <= MOST_LABELS else None
    note = f"{grid[0]} × {grid[1]}; {_legend(coding)}"
    return Panel(coding.plural, colours, note, None, labels)


def _colours(units: np.ndarray, coding: Coding) -> np.ndarray:
    return symbol_colours(units) if coding.vocab_size is not None else vector_colours(units)


def _legend(coding: Coding) -> str:
    if coding.vocab_size is not None:
        return "a colour for each symbol"
    return "the three directions in which the vectors differ most as red, green and blue"


def _scale(largest: float) -> str:
    if largest == 0:
        return "none: every pixel is as it was"
    return f"mean of channels; black is 0, the brightest {largest:.0f} of 255"
