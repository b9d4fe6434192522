"""What a codec of pictures must beat: k-means and PCA of patches, their mean colours, and WebP files.

They take and give stacks of pictures, (pictures, height, width, 3) uint8, whose sides are multiples of a patch's.
"""

from __future__ import annotations

import io

import numpy as np
import torch

from .. import kernels
from ..errors import InvalidArgument, MissingExtra

WEBP_CONTAINER, WEBP_FRAME = 12 + 8, 3 + 7
"""Bytes of every lossy WebP before the first pixel: headers of RIFF and chunk (RFC 9649); the frame's tag, start
code and size (RFC 6386)."""


class PatchCodes:
    """Each patch as the nearest of some codes (k-means).

    Args:
        codebook: (codes, side × side × 3) float32, patches as `kernels.patchify` lays them out, 0 to 255.
        side: of a patch.
    """

    def __init__(self, codebook: np.ndarray, side: int) -> None:
        self.codebook, self.side = codebook, side

    @staticmethod
    def fitted(
        pictures: np.ndarray, *, side: int, codes: int, rounds: int = 20, most: int = 2**18, seed: int = 0
    ) -> PatchCodes:
        """Lloyd's algorithm from different patches, chosen at random; a code that nothing is near goes where most is.

        Args:
            pictures: to fit to.
            side: of a patch.
            codes: how many.
            rounds: of assigning and averaging.
            most: patches to look at, chosen at random if there are more.
            seed: of what is chosen.

        Raises:
            InvalidArgument: there are fewer different patches than codes.
        """
        patches = _patches(pictures, side)
        rng = np.random.default_rng(seed)
        if len(patches) > most:
            patches = patches[np.sort(rng.choice(len(patches), most, replace=False))]
        different = np.unique(patches, axis=0)
        if len(different) < codes:
            raise InvalidArgument(f"{len(different)} different patches are fewer than {codes} codes: give more")
        codebook = different[rng.choice(len(different), codes, replace=False)]
        for _ in range(rounds):
            ids, distances = kernels.nearest(patches, codebook, threads=torch.get_num_threads())
            sums = torch.zeros(codes, patches.shape[1], dtype=torch.float64)
            sums.index_add_(0, torch.from_numpy(ids), torch.from_numpy(patches).double())
            counts = np.bincount(ids, minlength=codes)
            codebook = (sums.numpy() / np.maximum(counts, 1)[:, None]).astype(np.float32)
            empty = np.flatnonzero(counts == 0)
            worst = np.argsort(-distances, kind="stable")[: len(empty)]
            codebook[empty] = patches[worst]
        return PatchCodes(codebook, side)

    def encode(self, pictures: np.ndarray) -> np.ndarray:
        """(pictures, patches) int64."""
        ids = kernels.nearest(_patches(pictures, self.side), self.codebook, threads=torch.get_num_threads()).ids
        return ids.reshape(len(pictures), -1)

    def decoded(self, pictures: np.ndarray) -> np.ndarray:
        """The pictures as they come back."""
        return _pictures(self.codebook[self.encode(pictures).reshape(-1)], pictures, self.side)


class PatchPlane:
    """Each patch as a few numbers: its place in the plane of the directions that patches vary in most (PCA).

    Args:
        mean: (side × side × 3,) float64.
        directions: (width, side × side × 3) float64, orthonormal, those of the largest variance first.
        side: of a patch.
    """

    def __init__(self, mean: np.ndarray, directions: np.ndarray, side: int) -> None:
        self.mean, self.directions, self.side = mean, directions, side

    @staticmethod
    def fitted(pictures: np.ndarray, *, side: int, width: int) -> PatchPlane:
        """Exactly, by the covariance of all patches.

        Raises:
            InvalidArgument: a patch has fewer numbers than `width`.
        """
        if not 1 <= width <= side * side * 3:
            raise InvalidArgument(f"width is {width}: a patch has 1 to {side * side * 3} numbers")
        patches = _patches(pictures, side)
        mean = patches.mean(axis=0, dtype=np.float64)
        covariance = np.zeros((patches.shape[1], patches.shape[1]))
        for start in range(0, len(patches), 2**16):  # in float64, a part at a time
            part = patches[start : start + 2**16] - mean
            covariance += part.T @ part
        _, directions = np.linalg.eigh(covariance)
        return PatchPlane(mean, directions.T[::-1][:width], side)

    def encode(self, pictures: np.ndarray) -> np.ndarray:
        """(pictures, patches, width) float32."""
        found = (_patches(pictures, self.side) - self.mean) @ self.directions.T
        return found.astype(np.float32).reshape(len(pictures), -1, len(self.directions))

    def decoded(self, pictures: np.ndarray) -> np.ndarray:
        """The pictures as they come back; the numbers are kept as float32."""
        numbers = self.encode(pictures).reshape(-1, len(self.directions))
        return _pictures((numbers @ self.directions + self.mean).astype(np.float32), pictures, self.side)


def mean_colours(pictures: np.ndarray, *, side: int) -> np.ndarray:
    """The pictures with each patch as its mean colour."""
    patches = _patches(pictures, side)
    means = patches.reshape(len(patches), 3, side * side).mean(axis=2)
    return _pictures(np.repeat(means, side * side, axis=1), pictures, side)


class WebP:
    """Lossy WebP files of one picture, of every quality there is; sizes are of whole files.

    Args:
        picture: (height, width, 3) uint8.

    Raises:
        MissingExtra: Pillow is not installed.

    Example:
        >>> files = WebP(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))
        >>> files.smallest < files.nearest(300) < max(map(len, files.files))
        True
    """

    def __init__(self, picture: np.ndarray) -> None:
        try:
            from PIL import Image
        except ImportError:
            raise MissingExtra("WebP needs Pillow; install it with: pip install 'foretoken[image]'") from None
        image = Image.fromarray(picture)
        self.files = []
        for quality in range(101):
            memory = io.BytesIO()
            image.save(memory, "webp", quality=quality, method=6)
            self.files.append(memory.getvalue())

    @property
    def smallest(self) -> int:
        """Bytes of the smallest file."""
        return min(map(len, self.files))

    def nearest(self, size: float) -> int:
        """Bytes of the file that is nearest to a size; the larger one of two that are equally near."""
        return len(self.file(size))

    def file(self, size: float) -> bytes:
        """That file; of equally large ones that of the highest quality."""
        return min(reversed(self.files), key=lambda file: (abs(len(file) - size), -len(file)))

    def decoded(self, size: float) -> np.ndarray:
        """The picture as it comes back from that file."""
        from PIL import Image

        with Image.open(io.BytesIO(self.file(size))) as picture:
            return np.array(picture.convert("RGB"))


def _patches(pictures: np.ndarray, side: int) -> np.ndarray:
    """(pictures × patches, 3 × side × side) float32, 0 to 255."""
    whole = np.ascontiguousarray(pictures)
    return np.asarray(kernels.patchify(whole, patch=side, scale=1.0, threads=torch.get_num_threads()).rows)


def _pictures(patches: np.ndarray, like: np.ndarray, side: int) -> np.ndarray:
    """A stack of the shape of another one."""
    count, high, wide = like.shape[:3]
    grid = np.array([[count, high // side, wide // side]])
    return kernels.unpatchify(patches, grid, patch=side, lengths=[count], scale=1.0)[0]
