"""Does a text say what a picture shows? A judge of both: cosines, retrieval, labels that it was never taught."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from .. import kernels
from ..codec.pictures import read
from ..codec.prompts import Prompts
from ..errors import ArgumentTypeError, InvalidArgument, ShapeError
from ..model.clip import load_clip
from ..shipped import folder_of
from .clip_transformers import HuggingFaceTowers

_AT_ONCE = 128


class Towers(Protocol):
    """What a judge needs: vectors of length 1, of pictures and of texts."""

    scale: float
    """What a cosine is multiplied with to become a logit."""

    def images(self, pictures: Sequence[np.ndarray]) -> Tensor:
        """(n, width) float32 of pictures (height, width, 3) uint8."""
        ...

    def texts(self, texts: Sequence[str]) -> Tensor:
        """(n, width) float32."""
        ...


class OwnTowers:
    """Those of a folder that `save_clip` wrote, its tokenizer beside it.

    Raises:
        CheckpointError: a file is missing or broken, or holds another kind of model.
    """

    def __init__(self, folder: Path) -> None:
        self.module = load_clip(folder).eval()
        self.prompts = Prompts.from_file(folder / "tokenizer.json", positions=self.module.config.positions)
        self.scale = float(self.module.scale.detach())

    def images(self, pictures: Sequence[np.ndarray]) -> Tensor:
        """Of pictures of any size: each is resized to the square that the model sees."""
        side = self.module.config.side
        cut = kernels.patchify(pictures, patch=side, size=side, mean=0.5, std=0.5)
        return self.module.images(torch.from_numpy(cut.rows).view(-1, 3, side, side))

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Raises what `Prompts` does."""
        ids = self.prompts(texts)
        longest = int((ids > 0).sum(axis=1).max())
        return self.module.texts(torch.from_numpy(ids[:, :longest]))


class Clip:
    """A judge of pictures and texts (CLIP, 2103.00020).

    The shipped one, "clip", was trained here on emoji and characters, and knows nothing else. It took no part in what
    it judges: no painter was trained with it.

    Args:
        source: name or folder of a CLIP of foretoken, or towers of one's own.

    Raises:
        UnknownModel: there is neither such a name nor such a folder.
        CheckpointError: a file is missing or broken, or holds another kind of model.
    """

    def __init__(self, source: str | os.PathLike[str] | Towers = "clip") -> None:
        self.towers: Towers = OwnTowers(folder_of(source)) if isinstance(source, (str, os.PathLike)) else source

    @classmethod
    def from_transformers(cls, folder: str | os.PathLike[str]) -> Clip:
        """A judge with the weights of a folder in the layout of transformers' `CLIPModel`.

        Raises:
            MissingExtra: transformers is not installed.
            CheckpointError: a file is missing or broken, or holds another kind of model.
        """
        return cls(HuggingFaceTowers(Path(folder)))

    def images(self, pictures: Iterable[Any]) -> np.ndarray:
        """Vectors (n, width) float32 of length 1.

        Args:
            pictures: (n, height, width, 3) uint8, or several of whatever `codec.pictures.read` takes, of any size and
                mode: paths, pictures of Pillow, arrays.

        Raises:
            InvalidArgument, ShapeError, ArgumentTypeError: there is none, or one is no picture.
        """
        if isinstance(pictures, (str, bytes, os.PathLike)) or not isinstance(pictures, Iterable):
            raise ArgumentTypeError(f"pictures must be several, got {type(pictures).__name__}")
        if isinstance(pictures, (np.ndarray, Tensor)) and pictures.ndim != 4:
            raise ShapeError(f"pictures have shape {tuple(pictures.shape)}: give (n, height, width, 3)")
        found = [read(picture) for picture in pictures]
        if empty := [place for place, picture in enumerate(found) if not picture.size]:
            raise ShapeError(f"picture {empty[0]} has no pixels")
        return self._in_turns(self.towers.images, found, "picture")

    def texts(self, texts: Iterable[str]) -> np.ndarray:
        """Vectors (n, width) float32 of length 1.

        Raises:
            ArgumentTypeError: they are no texts.
            InvalidArgument: there is none, or one is empty.
            LimitExceeded: one is longer than the judge reads.
        """
        if isinstance(texts, (str, bytes)) or not isinstance(texts, Iterable):
            raise ArgumentTypeError(f"texts must be several, got {texts!r}")
        given = list(texts)
        for text in given:
            if not isinstance(text, str):
                raise ArgumentTypeError(f"a text must be a string, got {text!r}")
            if not text.strip():
                raise InvalidArgument("a text is empty: say what a picture shows")
        return self._in_turns(self.towers.texts, given, "text")

    @torch.inference_mode()
    def _in_turns(self, of: Any, items: list[Any], noun: str) -> np.ndarray:
        if not items:
            raise InvalidArgument(f"there is no {noun} to judge: give one or more")
        return torch.cat([of(items[i : i + _AT_ONCE]) for i in range(0, len(items), _AT_ONCE)]).float().numpy()

    def score(self, pictures: Iterable[Any], texts: Iterable[str]) -> np.ndarray:
        """The cosine (n,) float32 of each picture and its text, from -1 to 1; what is called CLIP score, over 100.

        Raises:
            ShapeError: there are not as many texts as pictures; and what `images` and `texts` raise.
        """
        seen, said = self.images(pictures), self.texts(texts)
        _same_number(seen, said)
        return (seen * said).sum(axis=1)

    def retrieval(self, pictures: Iterable[Any], texts: Sequence[str], *, among: int = 100, seed: int = 0) -> float:
        """The share of pictures whose own text comes first among so many.

        Args:
            pictures: as for `images`.
            texts: the own text of each; the others are drawn from these.
            among: candidates, the own one with them, none like another; at least 2.
            seed: of the draw.

        Raises:
            InvalidArgument: there are fewer different texts than that.
        """
        different = list(dict.fromkeys(texts))
        if not 2 <= among <= len(different):
            raise InvalidArgument(f"among is {among}, of {len(different)} different texts: give from 2 to as many")
        own = np.array([different.index(text) for text in texts])
        seen, said = self.images(pictures), self.texts(different)
        _same_number(seen, own)
        return first_among(seen @ said.T, own, among=among, seed=seed)

    def labels(self, pictures: Iterable[Any], names: Sequence[str]) -> np.ndarray:
        """How probable each of some texts is for each picture, if one of them is right: (n, names) float64.

        Raises:
            InvalidArgument: there are fewer than two; and what `images` and `texts` raise.
        """
        if len(names) < 2:
            raise InvalidArgument(f"there are {len(names)} names to choose from: give two or more")
        logits = self.towers.scale * (self.images(pictures) @ self.texts(names).T).astype(np.float64)
        chances = np.exp(logits - logits.max(axis=1, keepdims=True))
        return chances / chances.sum(axis=1, keepdims=True)


def first_among(cosines: np.ndarray, own: np.ndarray, *, among: int, seed: int = 0) -> float:
    """The share of pictures whose own text comes first among so many, the others drawn at random.

    Args:
        cosines: (n, m) of pictures with texts that differ.
        own: (n,) which text is that of each.
        among: candidates, in [2, m].
        seed: of the draw.

    Example:
        >>> first_among(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1]), among=2)
        0.5
    """
    random, first = np.random.default_rng(seed), []
    for line, mine in enumerate(own):
        others = random.choice(cosines.shape[1] - 1, among - 1, replace=False)
        first.append(cosines[line, mine] > cosines[line, others + (others >= mine)].max())
    return float(np.mean(first))


def area_under_curve(matched: np.ndarray, mismatched: np.ndarray) -> float:
    """How probable it is that a matched pair has a higher score than a mismatched one; equal ones count half.

    Raises:
        InvalidArgument: there are none of a kind.

    Example:
        >>> area_under_curve(np.array([0.9, 0.4]), np.array([0.1, 0.4]))
        0.875
    """
    if not len(matched) or not len(mismatched):
        raise InvalidArgument(f"there are {len(matched)} matched and {len(mismatched)} mismatched scores: give both")
    order = np.sort(mismatched)
    below, up_to = (np.searchsorted(order, matched, side=side) for side in ("left", "right"))
    return float((below + up_to).mean() / (2 * len(order)))


def _same_number(pictures: np.ndarray, texts: np.ndarray) -> None:
    if len(pictures) != len(texts):
        raise ShapeError(f"there are {len(pictures)} pictures and {len(texts)} texts: give one text for each")
