"""transformers on the same weights, in the same process, as contenders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import foretoken as ft


class Peer:
    """`generate` of transformers on a folder.

    Args:
        folder: a Llama checkpoint.
        assistant: folder of a smaller one, or None.
    """

    def __init__(self, folder: Path, assistant: Path | None = None) -> None:
        self.model = _opened(folder)
        self.assistant = None if assistant is None else _opened(assistant)

    def ids(self, prompt: np.ndarray, sampler: ft.Sampler, tokens: int, **options: Any) -> np.ndarray:
        """What it continues a prompt with: just so many ids, as END is no end here."""
        inputs = torch.from_numpy(prompt)[None]
        choice: dict[str, Any] = {"do_sample": False}
        if not sampler.is_greedy:
            choice = {
                "do_sample": True,
                "temperature": sampler.temperature,
                "top_k": sampler.top_k,
                "top_p": sampler.top_p,
            }
        with torch.inference_mode():
            out = self.model.generate(
                inputs, attention_mask=torch.ones_like(inputs), max_new_tokens=tokens, **choice, **options
            )
        return out[0, len(prompt) :].numpy()

    def contenders(self, tokens: int) -> dict[str, Callable[[ft.Sampler], Callable[[np.ndarray], int]]]:
        """Its prompt look-up and, with an assistant, its assisted generation."""
        found = {
            "transformers": self._contender(tokens),
            "transformers, prompt look-up": self._contender(tokens, prompt_lookup_num_tokens=10),
        }
        if self.assistant is not None:
            found["transformers, assisted"] = self._contender(tokens, assistant_model=self.assistant)
        return found

    def _contender(self, tokens: int, **options: Any) -> Callable[[ft.Sampler], Callable[[np.ndarray], int]]:
        return lambda sampler: lambda prompt: len(self.ids(prompt, sampler, tokens, **options))


def _opened(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    settings = model.generation_config
    assert settings is not None
    settings.eos_token_id, settings.pad_token_id = None, 0  # rows run to their limit, as ours do
    return model
