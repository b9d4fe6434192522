"""A Llama-shaped decoder to train: RMSNorm, rotary positions, grouped-query attention, SwiGLU.

Parameter names are those of transformers' `LlamaForCausalLM`, so a checkpoint loads in both.
For decoding use `foretoken.Llama`, which fuses these weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .llama_config import LlamaConfig


def rotary_tables(config: LlamaConfig, length: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary angles, each (length, head_dim) float32, halves repeated."""
    half = torch.arange(0, config.head_dim, 2, dtype=torch.int64).float() / config.head_dim
    angles = torch.outer(torch.arange(length).float(), 1.0 / config.rope_theta**half)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn (..., head_dim) by the angles whose cosines and sines are given (RoFormer, 2104.09864)."""
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-right, left), dim=-1) * sin


def _in_halves(q: Tensor, k: Tensor, v: Tensor, sees: Tensor | None) -> Tensor:
    """Attention in bfloat16, row by row: what training on a CPU takes.

    Forward and backward of 16 rows of 289 units and 6 heads take 37 ms on an avx512_bf16 core; torch's own kernel takes
    86 ms in bfloat16 and 59 ms in float32, and all rows at once, whose scores leave the cache, 56 ms. Of 16 causal rows
    of 512 and 8 heads torch's takes 1.4 times as long.
    """
    length = q.shape[2]
    if sees is None:
        hidden = [torch.ones(length, length, dtype=torch.bool, device=q.device).triu(1)] * len(q)
    else:
        hidden = [] if sees.all() else [~part for part in sees.expand(len(q), -1, -1, -1)]
    with torch.autocast("cpu", enabled=False):
        q, k, v = (part.bfloat16() for part in (q * q.shape[-1] ** -0.5, k, v))
        rows = []
        for row in range(len(q)):
            scores = q[row] @ k[row].mT
            if hidden:
                scores = scores.masked_fill(hidden[row], -torch.inf)
            rows.append(scores.softmax(dim=-1) @ v[row])
        return torch.stack(rows)


class Attention(nn.Module):
    """Grouped-query attention with rotary positions, causal unless a mask says who may look at whom."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.width = (
            config.num_attention_heads,
            config.num_key_value_heads,
            config.head_dim,
        )
        self.q_proj = nn.Linear(config.hidden_size, self.heads * self.width, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, self.kv_heads * self.width, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, self.kv_heads * self.width, bias=False)
        self.o_proj = nn.Linear(self.heads * self.width, config.hidden_size, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, sees: Tensor | None = None) -> Tensor:
        batch, length, _ = x.shape
        q = self.q_proj(x).view(batch, length, self.heads, self.width).transpose(1, 2)  # (B, H, T, D)
        k = self.k_proj(x).view(batch, length, self.kv_heads, self.width).transpose(1, 2)  # (B, K, T, D)
        v = self.v_proj(x).view(batch, length, self.kv_heads, self.width).transpose(1, 2)
        group = self.heads // self.kv_heads
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if group > 1:
            k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            y = _in_halves(q, k, v, sees)
        else:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=sees, is_causal=sees is None)
        return self.o_proj(y.transpose(1, 2).reshape(batch, length, -1))


class SwiGLU(nn.Module):
    """Gated feed-forward block (Shazeer, 2002.05202)."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    """Attention and feed-forward, each behind a norm and a residual."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.mlp = SwiGLU(config)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, sees: Tensor | None = None) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, sees)
        return x + self.mlp(self.post_attention_layernorm(x))


class Trunk(nn.Module):
    """Embedding, blocks and the last norm (transformers calls this part `model`)."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)


class LlamaModule(nn.Module):
    """The trainable Llama: ids (batch, length) int64 → logits (batch, length, vocab) float32.

    Example:
        >>> config = LlamaConfig(vocab_size=16, hidden_size=8, intermediate_size=16, num_hidden_layers=1,
        ...     num_attention_heads=2, num_key_value_heads=1, head_dim=4, max_position_embeddings=32,
        ...     rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=True, eos_token_id=(0,))
        >>> LlamaModule(config)(torch.zeros(2, 5, dtype=torch.int64)).shape
        torch.Size([2, 5, 16])
    """

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Trunk(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
        self.cos: Tensor
        self.sin: Tensor
        cos, sin = rotary_tables(config, config.max_position_embeddings)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def initialise(self, generator: torch.Generator) -> None:
        """Draw every weight from N(0, 0.02²), residual outputs scaled by 1/√(2·layers) (GPT-2)."""
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                scale = 0.02
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    scale /= (2 * self.config.num_hidden_layers) ** 0.5
                nn.init.normal_(weight, std=scale, generator=generator)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.model.embed_tokens(ids)
        cos, sin = self.cos[: ids.shape[1]], self.sin[: ids.shape[1]]
        for layer in self.model.layers:
            x = layer(x, cos, sin)
        return self.lm_head(self.model.norm(x))
