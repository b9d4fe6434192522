"""Llama checkpoints in transformers' layout, read with distrust: copied, checked, never unpickled."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from ..errors import CheckpointError
from .llama import LlamaConfig, LlamaModule, parameter_shapes

WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"
_LARGEST_HEADER = 2**24
_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, copied into memory, so that a file replaced later cannot hurt.

    Raises:
        CheckpointError: the file is missing, cut, malformed, names a tensor twice, or holds NaN, infinity or no floats.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from None
    _check_header(data, path)
    try:
        tensors = load(data)
    except (SafetensorError, ValueError, RuntimeError, TypeError, KeyError) as error:  # the last: dtypes of 4 bits
        raise CheckpointError(f"{path} is not a whole safetensors file: {error}") from None
    for name, tensor in tensors.items():
        if tensor.dtype not in _DTYPES:
            raise CheckpointError(f"{path}: tensor {name!r} is {tensor.dtype}, weights are one of {_DTYPES}")
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{path}: tensor {name!r} holds NaN or infinity")
    return tensors


def _check_header(data: bytes, path: Path) -> None:
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
        json.loads(data[8 : 8 + size], object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} has a broken header: {error}") from None


def load_llama(folder: Path) -> LlamaModule:
    """The trainable module of a Llama folder; weights become float32.

    Raises:
        CheckpointError: a file is missing or broken, or weights and configuration do not fit.
    """
    config = LlamaConfig.from_file(folder / CONFIG)
    if not (folder / WEIGHTS).exists():
        pickled = sorted(p.name for pattern in ("*.bin", "*.pt", "*.pth", "*.pkl") for p in folder.glob(pattern))
        hint = f"; {pickled} are pickles and never loaded, convert them with safetensors" if pickled else ""
        raise CheckpointError(f"no {WEIGHTS} in {folder}{hint}")
    tensors = read_tensors(folder / WEIGHTS)
    expected = parameter_shapes(config)
    if config.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if found != expected:
        wrong = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
        raise CheckpointError(
            f"{folder / WEIGHTS} does not fit {CONFIG}: {wrong[0]!r} is {found.get(wrong[0])}, "
            f"expected {expected.get(wrong[0])} ({len(wrong)} tensors differ)"
        )
    with torch.random.fork_rng(devices=[]):  # the first weights are random; the caller's randomness is not ours
        module = LlamaModule(config)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            weight.copy_(tensors[name])
    return module


def save_llama(module: LlamaModule, folder: Path, *, dtype: torch.dtype = torch.float32) -> None:
    """Write configuration and weights so that transformers loads them as they are.

    Args:
        module: what to write.
        folder: made if missing.
        dtype: of the weights in the file; bfloat16 halves it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: weight.detach().to(dtype).contiguous() for name, weight in module.named_parameters()}
    part = folder / (WEIGHTS + ".part")
    save_file(tensors, part, metadata={"format": "pt"})
    os.replace(part, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(module.config.to_json(), indent=2) + "\n", encoding="utf-8")
