"""Weights as files: safetensors, read with distrust: copied, checked, never unpickled."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor, nn

from .errors import CheckpointError, InvalidArgument
from .files import whole

Config = TypeVar("Config")
Module = TypeVar("Module", bound=nn.Module)

WEIGHTS, CONFIG = "model.safetensors", "config.json"
_LARGEST_HEADER = 2**24
_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_SCALE = ".scale"  # behind the name of a matrix of int8: what each of its rows is multiplied with


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, copied into memory, so that a file replaced later cannot hurt.

    Matrices that `write_tensors` rounded to int8 come back as float32.

    Raises:
        CheckpointError: the file is missing, cut, malformed, names a tensor twice, or holds NaN, infinity or no floats;
            or an int8 tensor has not one scale for each row.
    """
    return read_described(path)[0]


def read_described(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a safetensors file, and what it says of itself; see `read_tensors`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from None
    header = _checked_header(data, path)
    try:
        tensors = load(data)
    except (SafetensorError, ValueError, RuntimeError, TypeError, KeyError) as error:  # the last: dtypes of 4 bits
        raise CheckpointError(f"{path} is not a whole safetensors file: {error}") from None
    for name, tensor in tensors.items():
        if tensor.dtype == torch.int8:
            continue
        if tensor.dtype not in _DTYPES:
            raise CheckpointError(f"{path}: tensor {name!r} is {tensor.dtype}, weights are one of {_DTYPES}")
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{path}: tensor {name!r} holds NaN or infinity")
    # The library has checked that it holds only strings.
    return _unrounded(tensors, path), header.get("__metadata__") or {}


def _rounded(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Matrices as int8, each row with a scale beside them; what has fewer than two dimensions as float32."""
    kept: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        exact = tensor.detach().float()
        if not bool(torch.isfinite(exact).all()):
            raise InvalidArgument(f"tensor {name!r} holds NaN or infinity, which int8 cannot say")
        if exact.ndim < 2:
            kept[name] = exact
            continue
        if name + _SCALE in tensors:
            raise InvalidArgument(f"tensor {name + _SCALE!r} stands where the scales of {name!r} would; rename it")
        rows = exact.flatten(1)
        # A scale that is too small to divide by becomes 0: then so do its weights, which are as small.
        scale = rows.abs().amax(dim=1) / 127 if rows.shape[1] else torch.zeros(len(rows))
        scale[scale < torch.finfo(torch.float32).tiny] = 0.0
        units = torch.where(scale > 0, scale, 1.0)
        kept[name] = (
            torch.where(scale[:, None] > 0, rows / units[:, None], 0.0).round().to(torch.int8).view(exact.shape)
        )
        kept[name + _SCALE] = scale
    return kept


def _unrounded(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The inverse of `_rounded`, of a file that is not trusted."""
    found = dict(tensors)
    for name, tensor in tensors.items():
        if tensor.dtype != torch.int8:
            continue
        scale = found.pop(name + _SCALE, None)
        if scale is None or tensor.ndim < 2 or scale.dtype != torch.float32 or scale.shape != tensor.shape[:1]:
            given = "none" if scale is None else f"{scale.dtype} of shape {tuple(scale.shape)}"
            raise CheckpointError(
                f"{path}: tensor {name!r} is int8 of shape {tuple(tensor.shape)}, which needs a float32 scale for each "
                f"row as {name + _SCALE!r}, got {given}"
            )
        found[name] = tensor.float() * scale.view(-1, *[1] * (tensor.ndim - 1))
        if not bool(torch.isfinite(found[name]).all()):
            raise CheckpointError(f"{path}: the scales of {name!r} make it infinite")
    return found


def _checked_header(data: bytes, path: Path) -> dict[str, Any]:
    # The safetensors library keeps the last of two equal keys in silence; that could reinterpret a tensor.
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > min(len(data) - 8, _LARGEST_HEADER):
        raise CheckpointError(f"{path} is not a whole safetensors file: {len(data)} bytes, header of {size}")

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        keys = [key for key, _ in pairs]
        if len(set(keys)) != len(keys):
            raise CheckpointError(f"{path} names {sorted({k for k in keys if keys.count(k) > 1})} twice")
        return dict(pairs)

    try:
        header = json.loads(data[8 : 8 + size], object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} has a broken header: {error}") from None
    return header


def refuse_misfits(tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], path: Path) -> None:
    """Refuse tensors of a file that are not of these names and shapes.

    Args:
        tensors: what was read.
        shapes: what the configuration beside the file asks for.
        path: of the file, for the error.

    Raises:
        CheckpointError: a tensor is missing, too many, or of another shape.

    Example:
        >>> refuse_misfits({"a": torch.ones(2)}, {"a": (2,)}, Path("model.safetensors"))
    """
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if found != dict(shapes):
        wrong = sorted(name for name in found.keys() | shapes.keys() if found.get(name) != shapes.get(name))
        raise CheckpointError(
            f"{path} does not fit {CONFIG}: {wrong[0]!r} is {found.get(wrong[0])}, "
            f"expected {shapes.get(wrong[0])} ({len(wrong)} tensors differ)"
        )


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    *,
    dtype: torch.dtype = torch.float32,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write tensors as one file, which takes the place of an old one only when it is whole.

    Args:
        path: of the file; its folder is made if missing.
        tensors: by name.
        dtype: in the file; bfloat16 halves it, and int8 quarters it: then matrices are rounded, with a float32 scale
            for each row (of outputs), and what has fewer than two dimensions is float32. Only for layouts of our own.
        metadata: what the file says of itself.

    Raises:
        InvalidArgument: with int8, a tensor holds NaN or infinity, or has the name of another's scales.
    """
    if dtype == torch.int8:
        kept = _rounded(tensors)
    else:
        kept = {name: tensor.detach().to(dtype).contiguous() for name, tensor in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as part:
        save_file(kept, part, metadata={"format": "pt", **(metadata or {})})


def load_module(module: nn.Module, folder: Path) -> None:
    """Put the tensors of a checkpoint folder into a module's parameters and the buffers that it keeps.

    Raises:
        CheckpointError: the file is broken, or does not fit the module.
    """
    wanted = module.state_dict()
    tensors = read_tensors(folder / WEIGHTS)
    refuse_misfits(tensors, {name: tuple(tensor.shape) for name, tensor in wanted.items()}, folder / WEIGHTS)
    module.load_state_dict(tensors)


def load_model(folder: Path, kind: str, config: type[Config], module: Callable[[Config], Module]) -> Module:
    """The module of a folder with a model of a shape of our own; weights become float32.

    Args:
        folder: with config.json and model.safetensors.
        kind: what its configuration must say under "model".
        config: the dataclass of all other keys.
        module: what makes a module of that.

    Raises:
        CheckpointError: a file is missing or broken, or holds another kind of model.
    """
    raw = read_object(folder / CONFIG)
    if (found := raw.pop("model", None)) != kind:
        raise CheckpointError(f"{folder / CONFIG}: model is {found!r}, expected {kind!r}")
    shape = configured(config, raw, folder / CONFIG)
    with torch.random.fork_rng(devices=[]):  # the first weights are random; the caller's randomness is not ours
        made = module(shape)
    load_module(made, folder)
    return made


def save_model(folder: Path, kind: str, config: Any, tensors: Mapping[str, Tensor], *, dtype: torch.dtype) -> None:
    """Write a folder that `load_model` reads; see `write_tensors` for what `dtype` may be."""
    write_tensors(folder / WEIGHTS, tensors, dtype=dtype)
    write_object(folder / CONFIG, {"model": kind, **dataclasses.asdict(config)})


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        CheckpointError: the file is missing, is not JSON, or holds something else.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from None
    if not isinstance(raw, dict):
        raise CheckpointError(f"{path} must hold a JSON object, got {type(raw).__name__}")
    return raw


def configured(kind: type[Config], raw: Mapping[str, Any], path: Path) -> Config:
    """The dataclass that a JSON object says, with lists as tuples; unknown or missing keys are refused.

    Args:
        kind: the dataclass.
        raw: name → value, of every field.
        path: of the file, for the errors.

    Raises:
        CheckpointError: a key is missing or unknown, or a value out of range.
    """
    names = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if raw.keys() != names:
        unknown, missing = sorted(raw.keys() - names), sorted(names - raw.keys())
        raise CheckpointError(f"{path}: unknown keys {unknown}, missing keys {missing}")
    try:
        return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in raw.items()})
    except (InvalidArgument, TypeError) as error:
        raise CheckpointError(f"{path}: {error}") from None


def write_object(path: Path, fields: Mapping[str, Any]) -> None:
    """Write an object as a JSON file, in place of an old one only when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as part:
        part.write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
