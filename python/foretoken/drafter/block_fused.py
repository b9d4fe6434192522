"""The block drafter that drafts: fused weights, and what it remembers of each row."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .block_model import BlockModule, DraftLayer, even


class Fused:
    """A drafter and its target's embedding and head, laid out for one draft after another.

    Norm gains are folded into the matrices behind them; head, correction's state and confidence are one product; what a
    token adds to the correction is a row of a table.

    Args:
        module: the drafter.
        embedding, unembedding: the target's, as `TappedModel.vocabulary` gives them.
        capacity: the most units a row may have.
    """

    @torch.inference_mode()
    def __init__(self, module: BlockModule, embedding: Tensor, unembedding: Tensor, capacity: int) -> None:
        config = self.config = module.config
        self.vocab, self.device = config.vocab_size, embedding.device
        weights = {name: weight.to(self.device, torch.float32) for name, weight in module.named_parameters()}
        hidden = config.hidden_size
        self.embedding = even(embedding, config.rms_norm_eps)
        self.mix = weights["mix.weight"].t().contiguous()
        gain = self.gain = weights["mix_norm.weight"]
        self.layers = [_FusedLayer(layer, weights, f"layers.{i}.") for i, layer in enumerate(module.layers)]  # type: ignore[arg-type]
        if self.layers:
            keys = torch.cat([layer.context for layer in self.layers])  # of all layers at once
            self.context = (keys * gain).t().contiguous()
            masks = weights["embed_masks"]
            self.start = torch.cat((torch.zeros(1, hidden, device=self.device), masks))
            self.turn = self._turns(capacity + config.block)
        else:
            self.heads = torch.stack([weights[f"heads.{i}.weight"] for i in range(config.block)]).mT.contiguous()
            self.biases = torch.stack([weights[f"heads.{i}.bias"] for i in range(config.block)])[:, None]
        if config.latents > 1:
            self.latents = weights["embed_latents"]
            self.prior, self.prior_bias = weights["prior.weight"].t().contiguous(), weights["prior.bias"]
        confidence = weights["confidence"]
        final = torch.cat((unembedding.float(), weights["state.weight"], confidence[None, :hidden]))
        self.final = (final * weights["norm.weight"]).t().contiguous()
        self.final_bias = torch.cat((torch.zeros(self.vocab), weights["state.bias"], confidence[-1:])).to(self.device)
        bend = torch.cat((unembedding.float() @ weights["correction.weight"], confidence[None, hidden:-1]))
        self.bend = bend.t().contiguous()
        past = torch.cat([weights[f"past.{i}.weight"] for i in range(config.order)])
        self.past = (self.embedding @ past.t()).view(self.vocab, config.order, config.rank)

    def _turns(self, length: int) -> Tensor:
        """Rotations of queries and keys, and of values that stand still, (length, heads + 2 · kv_heads, D/2)."""
        config = self.config
        half = torch.arange(0, config.head_dim, 2).float() / config.head_dim
        angles = torch.outer(torch.arange(length).float(), 1.0 / config.rope_theta**half)
        turn = torch.polar(torch.ones_like(angles), angles)[:, None]
        still = torch.ones_like(turn).expand(-1, config.kv_heads, -1)
        return torch.cat((turn.expand(-1, config.heads + config.kv_heads, -1), still), dim=1).to(self.device)

    @torch.inference_mode()
    def read(self, states: Tensor) -> Tensor:
        """What the target said of units, (n, taps, hidden) → (n, hidden), its norm's gain left out."""
        config = self.config
        mixed = even(states, config.rms_norm_eps).flatten(1) @ self.mix
        return even(mixed, config.rms_norm_eps)

    def keys_values(self, context: Tensor, places: Tensor) -> Tensor:
        """Of units, (layers, 2, n, K, D), turned to where they stand."""
        config = self.config
        pairs = (context @ self.context).view(len(context), len(self.layers), 2 * config.kv_heads, -1, 2)
        turn = self.turn[places, config.heads :][:, None]
        turned = torch.view_as_real(torch.view_as_complex(pairs) * turn)
        return turned.view(len(context), len(self.layers), 2, config.kv_heads, -1).permute(1, 2, 0, 3, 4)

    @torch.inference_mode()
    def heads_of(self, context: Tensor, newest: Tensor, latent: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Parallel heads on the state of the last unit, (rows, hidden): see `places`."""
        x = context * self.gain + self.embedding[newest]
        if latent is not None:
            x = x + latent
        x = x + F.silu(torch.baddbmm(self.biases, x.expand(self.config.block, -1, -1), self.heads))  # (k, rows, hidden)
        return self._split(x.transpose(0, 1))

    @torch.inference_mode()
    def places(
        self, newest: Tensor, positions: Tensor, cache: Tensor, mask: Tensor | None, latent: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """All places of a block at once.

        Args:
            newest: (rows,) ids.
            positions: (rows,) where they stand.
            cache: keys and values (layers, 2, rows, K, reach + k, D); the block's own are written behind the units'.
            mask: what may be seen, (rows, 1, 1, reach + k), or None for all.
            latent: (rows, hidden), or None.

        Returns:
            logits (rows, k, vocab), the correction's state (rows, k, rank) and the confidence (rows, k), all as they
            are without any token before a place.
        """
        config = self.config
        rows, block, eps = len(newest), config.block, config.rms_norm_eps
        heads, kv_heads, width, group = config.heads, config.kv_heads, config.head_dim, config.heads // config.kv_heads
        x = self.start.repeat(rows, 1)
        x.view(rows, block, -1)[:, 0] = self.embedding[newest]
        if latent is not None:
            x = (x.view(rows, block, -1) + latent[:, None]).flatten(0, 1)
        turn = self.turn[(positions[:, None] + torch.arange(block, device=self.device)).flatten()]
        for index, layer in enumerate(self.layers):
            pairs = (even(x, eps) @ layer.qkv).view(rows * block, heads + 2 * kv_heads, width // 2, 2)
            turned = torch.view_as_real(torch.view_as_complex(pairs) * turn).view(rows, block, -1, width)
            q, kv = turned.split_with_sizes((heads, 2 * kv_heads), dim=2)
            own = kv.view(rows, block, 2, kv_heads, width).permute(2, 0, 3, 1, 4)
            cache[index, :, :, :, config.reach :] = own
            keys, values = cache[index].unbind(0)
            q = q.view(rows, block, kv_heads, group, width).permute(0, 2, 3, 1, 4).reshape(rows, kv_heads, -1, width)
            y = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask)
            y = y.view(rows, kv_heads, group, block, width).permute(0, 3, 1, 2, 4).reshape(rows * block, -1)
            x = torch.addmm(x, y, layer.out)
            gate, up = (even(x, eps) @ layer.gate_up).chunk(2, dim=1)
            x = torch.addmm(x, F.silu(gate) * up, layer.down)
        return self._split(x.view(rows, block, -1))

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows, block, hidden = x.shape
        all_of = torch.addmm(self.final_bias, even(x, self.config.rms_norm_eps).reshape(-1, hidden), self.final)
        logits, state, sure = all_of.view(rows, block, -1).split_with_sizes((self.vocab, self.config.rank, 1), dim=2)
        return logits, state, sure[..., 0]

    @torch.inference_mode()
    def imagine(self, context: Tensor, newest: Tensor, chains: int) -> Tensor:
        """The latents that fit best, (rows, chains, hidden), the best one first."""
        chances = torch.addmm(self.prior_bias, context * self.gain + self.embedding[newest], self.prior)
        return self.latents[chances.topk(chains, dim=1).indices]


class _FusedLayer:
    """The weights of one draft layer, fused; of each head, the rotary halves are interleaved."""

    def __init__(self, layer: DraftLayer, weights: dict[str, Tensor], name: str) -> None:
        config = layer.config

        def paired(part: str) -> Tensor:
            weight = weights[name + part]
            halves = weight.view(-1, 2, config.head_dim // 2, config.hidden_size)
            return halves.transpose(1, 2).reshape(weight.shape)

        keys, values = paired("k_proj.weight"), weights[name + "v_proj.weight"]
        self.context = torch.cat((keys, values))
        qkv = torch.cat((paired("q_proj.weight"), self.context)) * weights[name + "attention_norm.weight"]
        self.qkv = qkv.t().contiguous()
        self.out = weights[name + "o_proj.weight"].t().contiguous()
        gate_up = torch.cat((weights[name + "mlp.gate_proj.weight"], weights[name + "mlp.up_proj.weight"]))
        self.gate_up = (gate_up * weights[name + "mlp_norm.weight"]).t().contiguous()
        self.down = weights[name + "mlp.down_proj.weight"].t().contiguous()
