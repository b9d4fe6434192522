"""Recipe: a block drafter for one of our language models, by distillation of the model's law.

foretoken train tales-block --data DATA --out runs/tales-block

The text is what the target was trained on, and beside it what the target writes itself: that is what a drafter meets.
Many blocks start at random units of each window. Each is a row of its own, with the units before it as its context, so
no block can see another, however much they overlap.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import cast

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from ..canvas import Canvas
from ..codec.text import Text
from ..drafter.block_model import BlockConfig, BlockModule, even, save_block
from ..errors import CheckpointError, ForetokenError, InvalidArgument
from ..files import whole
from ..generate import generate
from ..model.checkpoint import TOKENIZER, load_llama
from ..model.llama import LlamaModule
from ..model.native import Native
from ..sampler import Sampler
from ..shipped import folder_of
from . import run
from .corpus import split
from .language import token_stream, windows
from .optimizer import Muon
from .run import RecipeConfig

_TEMPERATURES = (1.0, 0.8, 0.0)
_ROWS, _OPENING, _LENGTH = 64, 24, 320
"""Of what the target writes: rows at once, tokens of each beginning, tokens that are added."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DrafterConfig(RecipeConfig):
    """What a run trains, for which model, on what, for how long; a configuration file states every field.

    Args:
        target: the model that is drafted for: a shipped one, or a folder.
        sources: names of text sources (`corpus.SOURCES`), those the target was trained on.
        read: tokens of that text, at most.
        written: tokens that the target writes itself, beside them.
        taps, layers, heads, kv_heads, intermediate_size, block, reach, rank, order, latents: those of `BlockConfig`.
        window: tokens of one training window.
        batch: windows a step.
        anchors: blocks of a window, each from a random unit.
        steps, warmup, cooldown, rate, save_every, seed: those of every recipe; the seed orders the windows, too.
    """

    recipe = "drafter"
    unit = "0.1 nats + 0.9 total variation, a place"
    optional_zero = ("warmup", "seed", "layers", "written")

    target: str
    sources: tuple[str, ...]
    read: int
    written: int
    taps: tuple[int, ...]
    layers: int
    heads: int
    kv_heads: int
    intermediate_size: int
    block: int
    reach: int
    rank: int
    order: int
    latents: int
    window: int
    batch: int
    anchors: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if type(self.sources) is not tuple or not all(type(name) is str for name in self.sources):
            raise InvalidArgument(f"sources must be a list of names, got {self.sources!r}")
        if self.anchors > self.window - self.block - 1:
            raise InvalidArgument(f"{self.anchors} blocks of {self.block} do not start in a window of {self.window}")

    def model(self, target: LlamaModule) -> BlockConfig:
        """The shape of the drafter that this run trains."""
        config = target.config
        names = ("layers", "heads", "kv_heads", "intermediate_size", "block", "reach", "rank", "order", "latents")
        return BlockConfig(
            target=Path(self.target).name, vocab_size=config.vocab_size, hidden_size=config.hidden_size,
            taps=self.taps, rms_norm_eps=config.rms_norm_eps, rope_theta=config.rope_theta,
            **{name: getattr(self, name) for name in names},
        )  # fmt: skip


class Distance(torch.autograd.Function):
    """0.1 cross-entropy + 0.9 total variation between laws (rows, vocab); the gradient is made on the way.

    Left to autograd the same takes some twenty passes over arrays of 30 MB.
    """

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, logits: Tensor, law: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Losses and total variations, (rows,) each."""
        log = logits.float().log_softmax(dim=-1)
        entropy = -torch.linalg.vecdot(law, log)
        draft = log.exp_()
        gap = draft - law
        variation = gap.abs().sum(dim=-1) / 2
        sign = gap.sign()
        mean = torch.linalg.vecdot(draft, sign)[:, None]
        gradient = gap.mul_(0.1).add_(sign.sub_(mean).mul_(draft), alpha=0.45)
        ctx.save_for_backward(gradient.to(logits.dtype))
        ctx.mark_non_differentiable(variation)
        return 0.1 * entropy + 0.9 * variation, variation

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, loss: Tensor, _: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        """Of the logits alone."""
        (gradient,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return gradient * loss[:, None].to(gradient.dtype), None


@torch.no_grad()
def tapped(target: LlamaModule, ids: Tensor, taps: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """States behind some layers, (batch, length, taps, hidden), and the logits that follow, (batch, length, vocab)."""
    x = target.model.embed_tokens(ids)
    cos, sin = target.cos[: ids.shape[1]], target.sin[: ids.shape[1]]
    states = []
    for index, layer in enumerate(target.model.layers):
        x = layer(x, cos, sin)
        if index in taps:
            states.append(x)
    return torch.stack(states, dim=2), target.lm_head(target.model.norm(x))


class Blocks:
    """Blocks that start somewhere in some windows, each a row: what it is given, and what it is to predict.

    Args:
        module: the drafter.
        table: the target's embeddings, made even.
        ids: (batch, window) tokens.
        taps: the target's states, (batch, window, taps, hidden).
        anchors: (batch, n) units; the last that a block knows the state of. Its newest unit is the next one.
    """

    def __init__(self, module: BlockModule, table: Tensor, ids: Tensor, taps: Tensor, anchors: Tensor) -> None:
        config = module.config
        batch, window = ids.shape
        line = torch.arange(batch)[:, None].expand_as(anchors).flatten()
        units = anchors.flatten()
        places = units[:, None] - torch.arange(config.reach - 1, -1, -1)
        self.seen, self.places = places >= 0, places.clamp(min=0)
        self.context = module.context(taps).flatten(0, 1)[line[:, None] * window + self.places]
        self.newest, self.positions = F.embedding(ids[line, units + 1], table), units + 1
        # Place j follows the unit at anchor + 1 + j; before it stand tokens back to the newest one, not further.
        index = torch.arange(config.block)
        before = index[:, None] - torch.arange(config.order)
        tokens = ids[line[:, None, None], units[:, None, None] + 1 + before.clamp(min=0)]
        self.past = F.embedding(tokens, table) * (before >= 0)[..., None]
        self.law = line[:, None] * window + units[:, None] + 1 + index  # rows of the target's logits, (blocks, k)


class Run(run.Run[DrafterConfig, BlockModule]):
    """A training run of a block drafter; `target` is the model that it learns from."""

    def prepare(self, data: Path) -> None:
        """Read the target and its tokenizer; make the tokens, the target's own among them; draw the first weights."""
        config = self.config
        folder = folder_of(config.target)
        self.target = load_llama(folder).requires_grad_(requires_grad=False)
        if max(config.taps) >= self.target.config.num_hidden_layers:
            raise InvalidArgument(f"taps {config.taps}: the target has {self.target.config.num_hidden_layers} layers")
        self.tokens = self._tokens(Text.from_file(folder / TOKENIZER).tokenizer, data)
        self.table = even(self.target.model.embed_tokens.weight, self.target.config.rms_norm_eps)
        self.unembedding = self.target.lm_head.weight * self.target.model.norm.weight
        self.module = BlockModule(config.model(self.target))
        self.module.initialise(torch.Generator().manual_seed(config.seed))
        self.optimizer = Muon(self.module)
        self.weights = torch.exp(-torch.arange(config.block) / 4)
        self.weights /= self.weights.sum()

    def _tokens(self, tokenizer: Tokenizer, data: Path) -> np.ndarray:
        file = self.out / "train.npy"
        if not file.exists():
            tokens = token_stream(tokenizer, split(data, self.config.sources)[0], self.config.seed)
            tokens = tokens[: self.config.read]
            if self.config.written:
                tokens = np.concatenate((tokens, self._written(tokens)))
            with whole(file) as part, part.open("wb") as opened:
                np.save(opened, tokens)
        try:
            return np.load(file)
        except (ValueError, EOFError) as error:
            if isinstance(error, ForetokenError):
                raise
            raise CheckpointError(f"{file} is damaged: {error}; delete it to make it anew") from None

    def _written(self, tokens: np.ndarray) -> np.ndarray:
        """What the target writes behind beginnings of its own training text, at several temperatures."""
        model, rng = Native(self.target), np.random.default_rng(self.config.seed)
        end = tokens[:1]  # before the first document, as before every other one
        length = min(_LENGTH, model.context - _OPENING - 1)
        texts: list[np.ndarray] = []
        for draw in range(-(-self.config.written // (_ROWS * (length + _OPENING)))):
            starts = rng.integers(len(tokens) - _OPENING, size=_ROWS)
            rows = [np.concatenate((end, tokens[start : start + _OPENING])).astype(np.int64) for start in starts]
            sampler = Sampler(temperature=_TEMPERATURES[draw % len(_TEMPERATURES)])
            out = generate(model, Canvas(rows), sampler=sampler, seed=draw, max_tokens=length)
            texts += [np.concatenate((row, done.tokens)) for row, done in zip(rows, out.rows, strict=True)]
        return np.concatenate(texts)[: self.config.written].astype(np.uint16)

    def loss(self) -> Tensor:
        """Weighted distance of the places' laws to the target's, and of the confidence to what it should be."""
        config = self.config
        ids = windows(config, self.tokens, self.step)[:, :-1]
        generator = torch.Generator().manual_seed(config.seed * 2**32 + self.step)
        last = config.window - config.block - 1
        anchors = torch.rand(len(ids), last, generator=generator).topk(config.anchors).indices
        with torch.autocast("cpu", torch.bfloat16):
            taps, logits = tapped(self.target, ids, config.taps)
            law = logits.flatten(0, 1).float().softmax(dim=-1)
            return self.distance(Blocks(self.module, self.table, ids, taps, anchors), law)

    def distance(self, blocks: Blocks, law: Tensor) -> Tensor:
        """The loss of some blocks; of several latents the one that fits best learns, and the prior learns which."""
        law = law[blocks.law.flatten()]
        if self.config.latents == 1:
            return self._places(blocks, law, None)[0].mean()
        module, count = self.module, len(blocks.newest)
        with torch.no_grad():
            each = torch.stack([self._places(blocks, law, z.expand(count, -1))[0] for z in module.embed_latents])
        best = each.argmin(dim=0)
        fitted, _ = self._places(blocks, law, module.embed_latents[best])
        guess = module.prior(blocks.context[:, -1] + blocks.newest)
        return fitted.mean() + 0.1 * F.cross_entropy(guess.float(), best)

    def _places(self, blocks: Blocks, law: Tensor, latent: Tensor | None) -> tuple[Tensor, Tensor]:
        """Losses of blocks, (blocks,), and total variations of their places, (blocks, k)."""
        module = self.module
        states = module.states(blocks.newest, blocks.positions, blocks.context, blocks.seen, blocks.places, latent)
        bent = module.bend(states, blocks.past)
        logits = F.linear(states + module.correction(bent), self.unembedding)
        losses, variation = cast(tuple[Tensor, Tensor], Distance.apply(logits.flatten(0, 1), law))
        shape = blocks.law.shape
        right = (1 - variation).view(shape)
        sure = module.confident(states.detach(), bent.detach()).float()
        doubt = F.binary_cross_entropy_with_logits(sure, right, reduction="none")
        return (losses.view(shape) + 0.1 * doubt) @ self.weights, variation.view(shape)

    def export(self, folder: Path) -> None:
        """Write the drafter as a checkpoint folder that `BlockDrafter` loads; weights in bfloat16."""
        save_block(self.module, folder)
