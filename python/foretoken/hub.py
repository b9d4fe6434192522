"""Shipped checkpoints and folders of one's own: names and paths in, pipelines out."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from .codec.text import Text
from .drafter.small_model import SmallModel
from .errors import ArgumentTypeError, CheckpointError, ShapeError, UnknownModel
from .model.checkpoint import TOKENIZER, load_llama
from .model.llama import LlamaModule
from .model.native import Native
from .model.protocol import CausalModel
from .pipeline import Pipeline

_SHIPPED = Path(__file__).parent / "checkpoints"


def names() -> list[str]:
    """The checkpoints that come with the package."""
    return sorted(p.name for p in _SHIPPED.iterdir() if (p / "config.json").exists()) if _SHIPPED.exists() else []


def path(name: str) -> Path:
    """The folder of a shipped checkpoint.

    Raises:
        UnknownModel: there is none of this name.

    Example:
        >>> path("tales").name
        'tales'
    """
    if name not in names():
        raise UnknownModel(f"no shipped model is called {name!r}; there are {names()}, or pass a folder")
    return _SHIPPED / name


def load(name_or_folder: str | os.PathLike[str], *, model: Callable[[LlamaModule], CausalModel] = Native) -> Pipeline:
    """A model ready to write: a shipped one by name, or any folder in the layout of transformers' Llama.

    Args:
        name_or_folder: "tales", "manual", …, or a folder with config.json, model.safetensors and tokenizer.json.
        model: what runs the weights: `Native` in the core, on the CPU; `Llama` in PyTorch, wherever its tensors lie.

    Raises:
        UnknownModel: there is neither such a name nor such a folder.
        CheckpointError: a file is missing, broken or does not fit.

    Example:
        >>> load("tales")("Once upon a time", max_tokens=3, seed=7).stats.tokens
        3
    """
    name = _name(name_or_folder)
    folder = Path(name)
    if not os.path.isdir(folder):
        if os.path.exists(folder):
            raise CheckpointError(f"{name} is a file; pass the folder that holds config.json and model.safetensors")
        folder = path(name)
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
    name = _name(name_or_folder).rstrip("/" + os.sep)
    return SmallModel(load(f"{name}-draft" if not name.endswith("-draft") else name, model=model).model)


def _name(name_or_folder: object) -> str:
    if not isinstance(name_or_folder, (str, os.PathLike)):
        raise ArgumentTypeError(f"a model is a name or a folder, got {type(name_or_folder).__name__}")
    if not (name := os.fspath(name_or_folder)):
        raise UnknownModel(f"the name of the model is empty; there are {names()}, or pass a folder")
    return os.fsdecode(name)
