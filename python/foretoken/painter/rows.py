"""How a picture and its text stand in a row: [shared imagination][text][patches]."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..canvas import UNKNOWN
from ..codec.patches import Patches
from ..codec.pictures import read
from ..codec.prompts import Prompts
from ..errors import ArgumentTypeError, InvalidArgument, ShapeError
from ..halton import ranks
from ..model.masked import MaskedConfig
from ..rules import Order


class Rows:
    """Makes rows of texts and pictures, and pictures of rows.

    Args:
        codec: picture ↔ patches.
        config: of the model.
        prompts: text ↔ ids.

    Attributes:
        body: the position of the first patch.
        grid: patches down, and across.
        side: pixels of a patch's side.

    Raises:
        ShapeError: they do not belong together.
    """

    def __init__(self, codec: Patches, config: MaskedConfig, prompts: Prompts) -> None:
        self.codec, self.prompts, self.units = codec, prompts, config.units
        self.body = (config.latents > 0) + prompts.positions
        cells = config.context - self.body
        side = math.isqrt(max(0, cells))
        self.side = codec.side
        if side * side != cells or codec.vocab_size != self.units or cells == 0:
            raise ShapeError(
                f"a model of {self.units} units with {cells} places behind {self.body} paints no square of the "
                f"{codec.vocab_size} symbols of this codec"
            )
        if self.units + prompts.vocab_size > config.first_latent:
            raise ShapeError(f"the tokenizer has {prompts.vocab_size} ids, the model has no room for them")
        self.grid = (side, side)
        self._head = [config.untold] if config.latents else []

    @property
    def cells(self) -> int:
        """Patches of a picture."""
        return self.grid[0] * self.grid[1]

    @property
    def scattered(self) -> Order:
        """Patches far from each other first (Halton, 2503.17076): those of one step depend little on each other."""
        return Order(np.concatenate((np.zeros(self.body), 1 + ranks(*self.grid))))

    @property
    def pixels(self) -> tuple[int, int]:
        """Height and width of a picture."""
        return self.grid[0] * self.side, self.grid[1] * self.side

    def rows(self, texts: Sequence[str | None], bodies: np.ndarray, *, imagine: bool = False) -> np.ndarray:
        """Rows (texts, positions) int64.

        Args:
            texts: what is wanted.
            bodies: (texts, patches) or (patches,) int64, `UNKNOWN` where a patch is to be painted.
            imagine: whether the shared imagination is to be found, too.
        """
        told = self.units + self.prompts(texts)
        head = np.full((len(told), len(self._head)), UNKNOWN if imagine else sum(self._head))
        return np.concatenate((head, told, np.broadcast_to(bodies, (len(told), self.cells))), axis=1)

    def without(self, text: str | None) -> Telling:
        """The function that tells another text in each row; None tells nothing."""
        return Telling(self._text_places, self.units + self.prompts([text])[0])

    @property
    def _text_places(self) -> slice:
        return slice(self.body - self.prompts.positions, self.body)

    def read(self, picture: object) -> np.ndarray:
        """A picture as pixels of the right size; raises what `codec.pictures.read` does, and `ShapeError`."""
        pixels = read(picture)
        if pixels.shape[:2] != self.pixels:
            height, width = self.pixels
            raise ShapeError(f"the picture is {pixels.shape[0]} × {pixels.shape[1]}, make it {height} × {width}")
        return pixels

    def patches_of(self, mask: object) -> np.ndarray:
        """The patches (patches,) bool of which any pixel is in a mask (height, width) bool."""
        array = np.asarray(mask)
        if array.dtype != bool:
            raise ArgumentTypeError(f"mask holds {array.dtype}: give booleans, true where to paint anew")
        if array.shape != self.pixels:
            raise ShapeError(f"mask has shape {array.shape}, the picture has {self.pixels}")
        cut = array.reshape(self.grid[0], self.side, self.grid[1], self.side)
        chosen = cut.any(axis=(1, 3)).reshape(-1)
        if not chosen.any():
            raise InvalidArgument("mask is false everywhere: there is nothing to paint")
        return chosen

    def around(self, picture: object, at: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """A smaller picture on white, and the mask of what is to be painted around it."""
        pixels = read(picture)
        if not isinstance(at, Sequence) or len(at) != 2 or not all(isinstance(n, (int, np.integer)) for n in at):
            raise ArgumentTypeError(f"at must be (top, left) in pixels, got {at!r}")
        top, left = at
        height, width = self.pixels
        if not pixels.size:
            raise ShapeError(f"the picture is {pixels.shape[0]} × {pixels.shape[1]}: it has no pixels")
        bottom, right = top + pixels.shape[0], left + pixels.shape[1]
        if top < 0 or left < 0 or bottom > height or right > width:
            raise ShapeError(f"a picture of {pixels.shape[0]} × {pixels.shape[1]} at {at} leaves {height} × {width}")
        whole, mask = np.full((height, width, 3), 255, dtype=np.uint8), np.ones((height, width), dtype=bool)
        whole[top:bottom, left:right] = pixels
        mask[top:bottom, left:right] = False
        return whole, mask

    def encode(self, pixels: np.ndarray, anew: np.ndarray) -> np.ndarray:
        """The patches (patches,) int64 of a picture, `UNKNOWN` where it is to be painted anew.

        What lies there now counts for nothing: an encoder looks at neighbours, and sees the nearest pixels that stay.
        """
        return np.where(anew, UNKNOWN, self.codec.encode(filled(pixels, self.spread(anew))))

    def spread(self, patches: np.ndarray) -> np.ndarray:
        """Values of patches (patches,) as values of pixels (height, width)."""
        return patches.reshape(self.grid).repeat(self.side, axis=0).repeat(self.side, axis=1)

    def paint(self, body: np.ndarray) -> np.ndarray:
        """The pixels of patches, some perhaps `UNKNOWN` and then grey."""
        known = body != UNKNOWN
        # A decoder looks at neighbours: what is unknown takes the most common patch for their sake.
        filler = np.bincount(body[known]).argmax() if known.any() else 0
        pixels = self.codec.decode(np.where(known, body, filler))
        return np.where(self.spread(known)[..., None], pixels, np.uint8(200))


def filled(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Pixels (height, width, 3) whose masked ones are those nearest to them that are not; white if all are masked.

    Example:
        >>> filled(np.array([[[1] * 3, [2] * 3, [3] * 3]]), np.array([[False, True, True]]))[0, :, 0].tolist()
        [1, 1, 1]
    """
    pixels, known = pixels.copy(), ~mask
    if not known.any():
        return np.full_like(pixels, 255)
    while not known.all():
        for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):
            near = np.roll(known, step, axis)
            near.swapaxes(0, axis)[0 if step > 0 else -1] = False  # what was rolled around the edge
            new = near & ~known
            pixels[new] = np.roll(pixels, step, axis)[new]
            known = known | new
    return pixels


class Telling:
    """Rows (n, positions) → the same with another text; no closure, which could not be pickled."""

    def __init__(self, places: slice, ids: np.ndarray) -> None:
        self.places, self.ids = places, ids

    def __call__(self, canvas: np.ndarray) -> np.ndarray:
        changed = canvas.copy()
        changed[:, self.places] = self.ids
        return changed
