"""What a painter learnt of one thing: a word of its own, and small changes of the weights, in a small file."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CheckpointError, InvalidArgument
from ..weights import read_described, write_tensors

_KIND, _VERSION = "foretoken adapter", "1"
_ROW, _DOWN, _UP = "row", ".down", ".up"
_LONGEST_NAME = 64


@dataclasses.dataclass(frozen=True, eq=False)
class Adapter:
    """One learnt thing; `Painter.learn` makes it and `Painter.add` puts it on.

    Args:
        name: the word that means it, such as "S*".
        class_word: what kind of thing it is.
        row: (hidden,) float32, the embedding of the name.
        pairs: weight → down (rank, inputs) and up (outputs, rank) float32, whose product is added to it (LoRA,
            2106.09685); none if only the word was learnt.
        painter: checksum of the weights that it belongs to.
        settings: how it was learnt.

    Raises:
        InvalidArgument: the name is no single word, a pair does not fit together, or a number is none.

    Example:
        >>> pairs = {"layers.0.mlp.up_proj.weight": (torch.ones(1, 2), torch.ones(3, 1))}
        >>> adapter = Adapter("S*", "dog", torch.zeros(2), pairs, painter="", settings={})
        >>> adapter, adapter.change("layers.0.mlp.up_proj.weight").shape
        (Adapter('S*', a 'dog', 7 numbers), torch.Size([3, 2]))
    """

    name: str
    class_word: str
    row: Tensor
    pairs: Mapping[str, tuple[Tensor, Tensor]]
    painter: str
    settings: Mapping[str, Any]

    def __post_init__(self) -> None:
        checked_name(self.name)
        if not isinstance(self.class_word, str) or not self.class_word.strip():
            raise InvalidArgument(f"class_word must say what {self.name!r} is, such as 'dog', got {self.class_word!r}")
        if self.row.ndim != 1:
            raise InvalidArgument(f"the row of {self.name!r} has shape {tuple(self.row.shape)}, expected one dimension")
        for name, (down, up) in self.pairs.items():
            if down.ndim != 2 or up.ndim != 2 or down.shape[0] != up.shape[1]:
                raise InvalidArgument(
                    f"the pair of {name!r} is {tuple(down.shape)} and {tuple(up.shape)}, which do not go together"
                )
        for tensor in (self.row, *(part for pair in self.pairs.values() for part in pair)):
            if tensor.dtype != torch.float32 or not bool(tensor.isfinite().all()):
                raise InvalidArgument(f"what {self.name!r} is must be finite float32, got {tensor.dtype} or infinity")

    def __repr__(self) -> str:
        count = self.row.numel() + sum(down.numel() + up.numel() for down, up in self.pairs.values())
        return f"Adapter({self.name!r}, a {self.class_word!r}, {count} numbers)"

    def change(self, weight: str) -> Tensor:
        """What is added to a weight, (outputs, inputs) float32."""
        down, up = self.pairs[weight]
        return up @ down

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one safetensors file of 16-bit floats; an older one stays until it is whole."""
        tensors = {_ROW: self.row}
        for name, (down, up) in self.pairs.items():
            tensors |= {name + _DOWN: down, name + _UP: up}
        said = {
            "kind": _KIND, "version": _VERSION, "name": self.name, "class_word": self.class_word,
            "painter": self.painter, "settings": json.dumps(dict(self.settings)),
        }  # fmt: skip
        write_tensors(Path(path), tensors, dtype=torch.float16, metadata=said)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Adapter:
        """Read what `save` wrote.

        Raises:
            CheckpointError: the file is missing, damaged, or something else.
        """
        file = Path(path)
        tensors, said = read_described(file)
        if said.get("kind") != _KIND or said.get("version") != _VERSION:
            kind, version = said.get("kind"), said.get("version")
            raise CheckpointError(f"{file} is no adapter of version {_VERSION}: it says {kind!r}, version {version!r}")
        try:
            settings = json.loads(said["settings"])
            row = tensors.pop(_ROW).float()
            weights = sorted({name.rsplit(".", 1)[0] for name in tensors})
            pairs = {name: (tensors.pop(name + _DOWN).float(), tensors.pop(name + _UP).float()) for name in weights}
            if tensors or not isinstance(settings, dict):
                raise CheckpointError(f"{file} holds {sorted(tensors)} and settings {settings!r}")
            return cls(said["name"], said["class_word"], row, pairs, painter=said["painter"], settings=settings)
        except CheckpointError:
            raise
        except (KeyError, ValueError, RecursionError) as error:
            raise CheckpointError(f"{file} is a damaged adapter: {error}") from None


def rounded(tensor: Tensor) -> Tensor:
    """A tensor of numbers that `Adapter.save` keeps to the bit."""
    return tensor.detach().to(torch.float16).float()


def checked_name(name: object) -> str:
    """A name as a prompt can hold it: one printable word.

    Raises:
        InvalidArgument: it is something else.
    """
    if not isinstance(name, str) or not name or len(name) > _LONGEST_NAME:
        raise InvalidArgument(f"a name is a word of 1 to {_LONGEST_NAME} characters such as 'S*', got {name!r}")
    if not name.isprintable() or any(sign.isspace() for sign in name):
        raise InvalidArgument(f"a name is one word without white space such as 'S*', got {name!r}")
    return name


def checksum(module: nn.Module) -> str:
    """Tells the weights of a module from others, whether they are in float32 or rounded to bfloat16."""
    found = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        found.update(f"{name} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.detach().cpu().to(torch.bfloat16).contiguous().view(torch.int16).numpy().tobytes())
    return found.hexdigest()
