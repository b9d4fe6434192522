"""llama.cpp on the same weights, in the same process, as a contender: through llama-cpp-python, where it is there."""

from __future__ import annotations

import ctypes
import importlib
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

import foretoken as ft
from foretoken.model.llama import LlamaModule

_LAYER = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip
"""Its names of a layer's weights, and ours."""


def write_gguf(module: LlamaModule, path: Path) -> None:
    """The weights of a Llama as float32, without a tokenizer: ids go in and logits come out."""
    gguf: Any = importlib.import_module("gguf")
    config, weights = module.config, {name: weight.detach().numpy() for name, weight in module.named_parameters()}
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_tokenizer_model("no_vocab")
    writer.add_tensor("token_embd.weight", weights["model.embed_tokens.weight"])
    writer.add_tensor("output_norm.weight", weights["model.norm.weight"])
    if not config.tie_word_embeddings:
        writer.add_tensor("output.weight", weights["lm_head.weight"])
    for layer in range(config.num_hidden_layers):
        for theirs, own in _LAYER.items():
            weight = weights[f"model.layers.{layer}.{own}.weight"]
            if theirs in ("attn_q", "attn_k"):
                weight = _interleaved(weight, config.head_dim)
            writer.add_tensor(f"blk.{layer}.{theirs}.weight", weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _interleaved(weight: np.ndarray, width: int) -> np.ndarray:
    """A head's rows in pairs: it turns the dimensions 2i and 2i+1 by one angle, transformers i and i + width/2."""
    heads = weight.reshape(-1, 2, width // 2, weight.shape[1])
    return np.ascontiguousarray(heads.swapaxes(1, 2).reshape(weight.shape))


class LlamaCpp:
    """A model of llama.cpp's with float32 weights, keys and values; `close` frees it.

    Args:
        module: whose weights it copies.
        threads: how many work on a forward.
        flash: whether attention is its flash attention, which takes less time for a prompt and more for a token. It
            rounds to float16 whatever the cache holds: logits are off by 3e-3, else by 1e-5.
    """

    def __init__(self, module: LlamaModule, threads: int, *, flash: bool = False) -> None:
        self.lib: Any = importlib.import_module("llama_cpp.llama_cpp")
        # Its warning that the vocabulary has no tokenizer is printed at the level of errors.
        logging.getLogger("llama-cpp-python").setLevel(logging.CRITICAL + 1)
        self.vocab_size = module.config.vocab_size
        lib, settings = self.lib, self.lib.llama_model_default_params()
        with tempfile.TemporaryDirectory(prefix="foretoken-bench-") as folder:
            path = Path(folder) / "model.gguf"
            write_gguf(module, path)
            settings.n_gpu_layers = 0
            settings.load_mode = lib.LLAMA_LOAD_MODE_NONE  # the file goes away
            self.model = lib.llama_model_load_from_file(str(path).encode(), settings)
        if self.model is None:
            raise RuntimeError("llama.cpp refuses the weights")
        options = lib.llama_context_default_params()
        options.n_ctx = options.n_batch = options.n_ubatch = module.config.max_position_embeddings
        options.n_threads = options.n_threads_batch = threads
        options.type_k = options.type_v = lib.GGML_TYPE_F32
        options.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_ENABLED if flash else lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.context = lib.llama_init_from_model(self.model, options)
        self.memory = lib.llama_get_memory(self.context)

    def read(self, ids: np.ndarray) -> np.ndarray:
        """The logits (vocabulary,) that follow ids, read at once into an empty cache."""
        self.lib.llama_memory_clear(self.memory, False)
        self._decode((self.lib.llama_token * len(ids))(*ids.tolist()))
        row = self.lib.llama_get_logits_ith(self.context, -1)
        return np.ctypeslib.as_array(ctypes.cast(row, ctypes.POINTER(ctypes.c_float)), (self.vocab_size,))

    def write(self, prompt: np.ndarray, sampler: ft.Sampler, tokens: int) -> int:
        """Continue a prompt by so many tokens, chosen by its own chain in its own order."""
        lib, chain = self.lib, self._chain(sampler)
        self.read(prompt)
        token = (lib.llama_token * 1)()
        for made in range(tokens):
            if made > 0:
                self._decode(token)
            token[0] = lib.llama_sampler_sample(chain, self.context, -1)
        lib.llama_sampler_free(chain)
        return tokens

    def close(self) -> None:
        """Free the memory."""
        self.lib.llama_free(self.context)
        self.lib.llama_model_free(self.model)

    def _decode(self, tokens: Any) -> None:
        if self.lib.llama_decode(self.context, self.lib.llama_batch_get_one(tokens, len(tokens))) != 0:
            raise RuntimeError(f"llama.cpp could not read {len(tokens)} tokens")

    def _chain(self, sampler: ft.Sampler) -> Any:
        lib = self.lib
        steps = [lib.llama_sampler_init_greedy()]
        if not sampler.is_greedy:
            steps = [
                lib.llama_sampler_init_top_k(sampler.top_k),
                lib.llama_sampler_init_top_p(sampler.top_p, 1),
                lib.llama_sampler_init_temp(sampler.temperature),
                lib.llama_sampler_init_dist(7),
            ]
        chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        for step in steps:
            lib.llama_sampler_chain_add(chain, step)
        return chain


@contextmanager
def opened(module: LlamaModule, threads: int, *, flash: bool = False) -> Iterator[LlamaCpp | None]:
    """A contender, or None where llama-cpp-python or gguf cannot be imported."""
    try:
        importlib.import_module("gguf")
        peer = LlamaCpp(module, threads, flash=flash)
    except (ImportError, OSError):
        yield None
        return
    try:
        yield peer
    finally:
        peer.close()


def difference(peer: LlamaCpp, module: LlamaModule, ids: np.ndarray) -> float:
    """The largest difference of its logits behind ids from those of the module in PyTorch."""
    with torch.inference_mode():
        own = module(torch.from_numpy(ids)[None])[0, -1].numpy()
    return float(np.abs(own - peer.read(ids)).max())
