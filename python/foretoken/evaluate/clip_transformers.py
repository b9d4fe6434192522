"""The towers of a CLIP in the layout of transformers, for people who have its weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .. import kernels
from ..codec.text import Text
from ..errors import CheckpointError, LimitExceeded, MissingExtra
from ..weights import CONFIG, WEIGHTS, read_object

_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)
_FILTERS = {0: "NEAREST", 1: "LANCZOS", 2: "BILINEAR", 3: "BICUBIC", 4: "BOX", 5: "HAMMING"}  # Pillow's numbers


class HuggingFaceTowers:
    """Those of transformers' own `CLIPModel`; pictures are prepared as its processor with Pillow does, by our kernel.

    Args:
        folder: config.json, model.safetensors, tokenizer.json, and perhaps preprocessor_config.json, without which
            pictures are prepared as those of OpenAI's models are.

    Raises:
        MissingExtra: transformers is not installed.
        CheckpointError: a file is missing or broken, holds another kind of model, or asks for what is not done here.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from transformers import CLIPModel
        except ImportError:
            raise MissingExtra(
                "weights of transformers need it; install it with: pip install 'foretoken[hf]'"
            ) from None
        if (kind := read_object(folder / CONFIG).get("model_type")) != "clip":
            raise CheckpointError(f"{folder / CONFIG}: model_type is {kind!r}, expected 'clip'")
        if not (folder / WEIGHTS).exists():  # pickled weights are never loaded
            raise CheckpointError(f"{folder / WEIGHTS} is missing")
        self.codec = Text.from_file(folder / "tokenizer.json")
        try:
            model = CLIPModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        except Exception as error:  # what transformers and safetensors raise has no common class
            raise CheckpointError(f"{folder} cannot be loaded by transformers: {error}") from None
        self.model = model.eval().float()
        self.scale = float(model.logit_scale.detach().exp())
        config: Any = model.config
        self.positions: int = config.text_config.max_position_embeddings
        self._prepared = preparation(folder, config.vision_config.image_size)

    def images(self, pictures: Sequence[np.ndarray]) -> Tensor:
        """Of pictures of any size: the shortest side is resized to the model's, and the middle cut out."""
        return F.normalize(_pooled(self.model.get_image_features(pixel_values=self._prepared(pictures))), dim=1)

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Of texts that are no longer than what the model reads.

        Raises:
            LimitExceeded: one is.
        """
        rows = [torch.from_numpy(self.codec.encode(text)) for text in texts]
        longest = max(map(len, rows))
        if longest > self.positions:
            raise LimitExceeded(f"a text has {longest} tokens, at most {self.positions} are read; shorten it")
        there = torch.stack([torch.arange(longest) < len(row) for row in rows])
        # Its end is looked for by its id, or is the highest of a row: what stands behind it must be no higher.
        ids = torch.stack([F.pad(row, (0, longest - len(row)), value=int(row[-1])) for row in rows])
        return F.normalize(_pooled(self.model.get_text_features(input_ids=ids, attention_mask=there.long())), dim=1)


def preparation(folder: Path, side: int) -> Callable[[Sequence[np.ndarray]], Tensor]:
    """How pictures become what a CLIP of this folder sees: (n, 3, side, side) float32.

    Raises:
        CheckpointError: preprocessor_config.json asks for what is not done here.
    """
    path = folder / "preprocessor_config.json"
    asked = read_object(path) if path.exists() else {}
    size, crop = (asked.get(name, side) for name in ("size", "crop_size"))
    shortest = size.get("shortest_edge") if isinstance(size, dict) else size
    middle = crop.get("height") if isinstance(crop, dict) and crop.get("height") == crop.get("width") else crop
    known = {"do_resize": True, "do_center_crop": True, "do_rescale": True, "do_normalize": True}
    switched = sorted(name for name, value in known.items() if asked.get(name, value) is not value)
    told = asked.get("resample", 3)
    resize = _FILTERS.get(told, "") if isinstance(told, int) else ""
    if not np.isclose(asked.get("rescale_factor", 1 / 255), 1 / 255):
        raise CheckpointError(f"{path}: rescale_factor is {asked['rescale_factor']!r}, only 1/255 is done")
    if switched or middle != side or type(shortest) is not int or shortest < side or resize not in dir(kernels.Filter):
        raise CheckpointError(
            f"{path}: pictures are resized by their shortest side to {side} or more and cut to {side} × {side}, got "
            f"size {size!r}, crop_size {crop!r}, resample {told!r}, other than usual {switched}"
        )
    smallest: int = shortest
    shading: dict[str, Any] = {"mean": asked.get("image_mean", _MEAN), "std": asked.get("image_std", _STD)}

    def resized(height: int, width: int) -> tuple[int, int]:
        lower = min(height, width)
        return int(smallest * height / lower), int(smallest * width / lower)

    def prepared(pictures: Sequence[np.ndarray]) -> Tensor:
        cut = kernels.patchify(
            pictures, patch=side, size=resized, crop=side, resize=kernels.Filter[resize], **shading
        )  # fmt: skip
        return torch.from_numpy(cut.rows).view(-1, 3, side, side)

    return prepared


def _pooled(found: Any) -> Tensor:
    """The vectors: since transformers 5 they come in an object, before as they are."""
    return found if isinstance(found, Tensor) else found.pooler_output
