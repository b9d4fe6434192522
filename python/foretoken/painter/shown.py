"""The pictures that show a painter something new: any size and kind, each with the texts that it may stand under."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from ..codec.pictures import read
from ..errors import ArgumentTypeError, ForetokenError, InvalidArgument, LimitExceeded, ShapeError
from ..kernels.patch import patchify

MOST = 32
"""Pictures of one thing: more are material for a training run."""

_TEMPLATES = ("{name}", "a {name}", "a {name} {class_word}")


def pictures(images: Any, size: tuple[int, int]) -> np.ndarray:
    """Images of any kind as (images, height, width, 3) uint8: the whole of each, on white where it is too narrow.

    Args:
        images: 1 to `MOST` of what `codec.pictures.read` takes.
        size: height and width.

    Raises:
        InvalidArgument: there is none, or one is broken; the message says which.
        LimitExceeded: there are too many, or one is too large.
        ArgumentTypeError, ShapeError: one is no picture.

    Example:
        >>> pictures([np.zeros((4, 8), dtype=np.uint8)], (4, 4))[0, :, 0, 0]
        array([255,   0,   0, 255], dtype=uint8)
    """
    if isinstance(images, (str, bytes, os.PathLike)) or hasattr(images, "getbands"):
        raise ArgumentTypeError(f"images must be several pictures, got one, {images!r}: put it in a list")
    if isinstance(images, (np.ndarray, Tensor)) and images.ndim != 4:
        raise ShapeError(f"images have shape {tuple(images.shape)}: give (images, height, width, channels), or a list")
    try:
        found = list(itertools.islice(images, MOST + 1))
    except TypeError:
        raise ArgumentTypeError(f"images must be several pictures, got {images!r}") from None
    if not found:
        raise InvalidArgument(f"there are no images: give 1 to {MOST} of the thing that is to be learnt")
    if len(found) > MOST:
        raise LimitExceeded(f"there are more than {MOST} images of one thing: choose the clearest")
    made = []
    for place, image in enumerate(found):
        try:
            made.append(_fitted(read(image), size))
        except ForetokenError as error:
            raise type(error)(f"image {place}: {error}") from None
    return np.stack(made)


def _fitted(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if pixels.shape[:2] == size:
        return pixels
    if not pixels.size:
        raise ShapeError(f"the picture is {pixels.shape[0]} × {pixels.shape[1]}: it has no pixels")
    scale = min(size[0] / pixels.shape[0], size[1] / pixels.shape[1])
    height, width = (max(1, round(scale * side)) for side in pixels.shape[:2])
    rows = np.asarray(patchify(pixels, patch=(height, width), size=(height, width), scale=1).rows)
    shrunk = rows.reshape(3, height, width).transpose(1, 2, 0).round().astype(np.uint8)
    canvas = np.full((*size, 3), 255, dtype=np.uint8)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    canvas[top : top + height, left : left + width] = shrunk
    return canvas


def texts(count: int, name: str, class_word: str, captions: Any) -> list[tuple[str, ...]]:
    """What each picture is learnt under: its caption, or else one of some that say only what it is.

    Args:
        count: pictures.
        name: what means the thing.
        class_word: what kind of thing it is.
        captions: a text for each, in which the name stands; or None.

    Raises:
        InvalidArgument: there is not one for each, or one lacks the name.
        ArgumentTypeError: they are no texts.

    Example:
        >>> texts(1, "S*", "dog", None)
        [('S*', 'a S*', 'a S* dog')]
    """
    if captions is None:
        return [tuple(each.format(name=name, class_word=class_word) for each in _TEMPLATES)] * count
    if isinstance(captions, (str, bytes)) or not isinstance(captions, Sequence):
        raise ArgumentTypeError(f"captions must be a text for each image, got {captions!r}")
    if len(captions) != count:
        raise InvalidArgument(f"{count} images have {len(captions)} captions: give one for each, or none at all")
    for place, caption in enumerate(captions):
        if not isinstance(caption, str):
            raise ArgumentTypeError(f"caption {place} must be a text, got {caption!r}")
        if name not in caption:
            raise InvalidArgument(
                f"caption {place} is {caption!r}: it must say {name!r}, such as 'a {name} {class_word}'"
            )
    return [(caption,) for caption in captions]


def others(name: str, class_word: str, captions: Any) -> list[str]:
    """Texts without the name whose meaning is to stay: the class, and captions that say it instead.

    Example:
        >>> others("S*", "woman", ["S* walking left"])
        ['woman', 'a woman', 'woman walking left', 'a woman walking left']
    """
    said = [caption.replace(name, class_word) for caption in captions or ()]
    found = [class_word, f"a {class_word}", *(each for text in said for each in (text, f"a {text}"))]
    return list(dict.fromkeys(found))
