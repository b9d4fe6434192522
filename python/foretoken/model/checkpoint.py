"""Llama checkpoints in transformers' layout."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from ..errors import CheckpointError, InvalidArgument
from ..weights import CONFIG, WEIGHTS, read_tensors, refuse_misfits, write_tensors
from .llama import LlamaModule
from .llama_config import LlamaConfig, parameter_shapes

TOKENIZER = "tokenizer.json"


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
    refuse_misfits(tensors, expected, folder / WEIGHTS)
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

    Raises:
        InvalidArgument: `dtype` is int8, which transformers would not read as weights.
    """
    if dtype == torch.int8:
        raise InvalidArgument("a Llama is written in floats, for transformers; Native(…, dtype=torch.int8) rounds it")
    write_tensors(folder / WEIGHTS, dict(module.named_parameters()), dtype=dtype)
    (folder / CONFIG).write_text(json.dumps(module.config.to_json(), indent=2) + "\n", encoding="utf-8")
