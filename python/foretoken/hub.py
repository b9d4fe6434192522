"""Shipped checkpoints and folders of one's own: names and paths in, pipelines out."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal, overload

from .codec.hub import kind_of
from .codec.text import Text
from .drafter.block_model import KIND as BLOCK
from .drafter.small_model import SmallModel
from .errors import ArgumentTypeError, CheckpointError, ShapeError
from .model.checkpoint import TOKENIZER, load_llama
from .model.clip import KIND as CLIP
from .model.llama import LlamaModule
from .model.masked import KIND as MASKED
from .model.native import Native
from .model.protocol import CausalModel
from .painter.painter import Painter, is_painter
from .pipeline import Pipeline
from .shipped import checked, folder_of
from .shipped import names as shipped_names
from .shipped import path as path
from .weights import CONFIG, read_object


def names() -> list[str]:
    """The language models that come with the package."""
    return [name for name in shipped_names() if (path(name) / TOKENIZER).exists() and _kind(path(name)) is None]


def _kind(folder: Path) -> str | None:
    """What a folder holds if not a language model, and what reads it."""
    if kind_of(folder) is not None:
        return "a codec, which writes nothing by itself: ft.codec.load reads it"
    kind = read_object(folder / CONFIG).get("model")
    readers = {
        MASKED: "a model that fills in any position: ft.MaskedLlama reads it",
        BLOCK: "a drafter: ft.BlockDrafter reads it",
        CLIP: "a judge of pictures and texts: ft.evaluate.Clip reads it",
    }
    return readers.get(kind) if isinstance(kind, str) else None


@overload
def load(name_or_folder: Literal["painter"]) -> Painter: ...  # pyright: ignore[reportOverlappingOverload] - one name of all


@overload
def load(
    name_or_folder: str | os.PathLike[str], *, model: Callable[[LlamaModule], CausalModel] = Native
) -> Pipeline: ...


def load(
    name_or_folder: str | os.PathLike[str], *, model: Callable[[LlamaModule], CausalModel] = Native
) -> Pipeline | Painter:
    """A model ready to write or to paint: a shipped one by name, or a folder.

    Args:
        name_or_folder: "tales", "manual", …, or a folder in the layout of transformers' Llama with config.json,
            model.safetensors and tokenizer.json; "painter", or the folder of another one (`Painter.load` says so to
            type checkers).
        model: what runs the weights of a Llama: `Native` in the core, on the CPU; `Llama` in PyTorch, wherever its
            tensors lie.

    Raises:
        UnknownModel: there is neither such a name nor such a folder.
        CheckpointError: a file is missing, broken or does not fit.

    Example:
        >>> load("tales")("Once upon a time", max_tokens=3, seed=7).stats.tokens
        3
    """
    folder = folder_of(name_or_folder)
    if is_painter(folder):
        return Painter.load(folder)
    if (kind := _kind(folder)) is not None:
        raise CheckpointError(f"{folder.name} is {kind}")
    if not callable(model):
        raise ArgumentTypeError(f"model must be Llama, Native or a function of a LlamaModule, got {model!r}")
    made = model(load_llama(folder))
    codec = Text.from_file(folder / TOKENIZER)
    if codec.vocab_size > made.vocab_size:
        raise ShapeError(f"{folder}: the tokenizer has {codec.vocab_size} ids, the model only {made.vocab_size}")
    return Pipeline(codec, made, name=folder.name)


def small_model(
    name_or_folder: str | os.PathLike[str], *, model: Callable[[LlamaModule], CausalModel] = Native
) -> SmallModel:
    """The drafter that was trained for a checkpoint: the folder of the same name with `-draft` behind it.

    Args:
        name_or_folder, model: as for `load`; the drafter may run in another way than its target.

    Raises:
        UnknownModel: there is none.
    """
    name = checked(name_or_folder).rstrip("/" + os.sep)
    return SmallModel(load(f"{name}-draft" if not name.endswith("-draft") else name, model=model).model)
