"""Recipe: a transformer over rows of units under a condition, autoregressive or masked, resumable after any kill.

    foretoken train emoji-masked --data DATA --out runs/emoji-masked

Products are taken in bfloat16, as in the recipe of patches.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..canvas import UNKNOWN, pad
from ..errors import InvalidArgument
from ..files import whole
from ..model.checkpoint import save_llama
from ..model.llama import LlamaModule
from ..model.llama_config import LlamaConfig
from ..model.masked import MaskedConfig, MaskedModule, load_masked, save_masked
from ..painter.painter import PAINTER
from ..shipped import folder_of
from ..weights import write_object
from . import captions, conditions, masking, rows, run, start
from .optimizer import Muon
from .run import RecipeConfig

_IMAGINED = 6
"""Where imaginations are symbols every so manieth step teaches them, with half of its rows: each is tried."""


_FREE = 0.25
"""Nats of each number of an imagination that cost nothing."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnitsConfig(RecipeConfig):
    """What a run trains, on what, for how long; a configuration file states every field.

    Args:
        source: one of `conditions.SOURCES`.
        codec: whose units they are: a name, a folder, or "" where the source makes its own.
        causal: whether the model only looks back, and is a Llama; else it is masked.
        latents: shared imaginations of a masked model, 0 for none.
        imagination: numbers of each of them, 0 if they are symbols.
        untold: share of the rows whose first condition is not told, where the source has a sign for that.
        start: name or folder of a masked model of the same shape and units that a masked one goes on from, or "" for
            none; `{out}` is the folder in which the run's folder lies.
        hidden_size, intermediate_size, layers, heads: shape of the transformer.
        batch: rows a step.
        steps, warmup, cooldown, rate, save_every, seed: those of every recipe.
    """

    recipe = "units"
    unit = "nats a unit"
    optional_zero = (*RecipeConfig.optional_zero, "latents", "imagination")

    source: str
    codec: str
    causal: bool
    latents: int
    imagination: int
    untold: float
    start: str
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    batch: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.source not in conditions.SOURCES:
            raise InvalidArgument(f"source must be one of {sorted(conditions.SOURCES)}, got {self.source!r}")
        if type(self.causal) is not bool or (self.causal and self.latents):
            raise InvalidArgument(f"causal must be true or false, and true without latents, got {self.causal!r}")
        if self.imagination and not self.latents:
            raise InvalidArgument(f"imagination is {self.imagination} without latents: give how many of them there are")
        if self.start and self.causal:
            raise InvalidArgument(f"start is {self.start!r}, but a causal model starts from nothing")
        if type(self.untold) not in (int, float) or not 0 <= self.untold <= 1:
            raise InvalidArgument(f"untold must be a share in [0, 1], got {self.untold!r}")


class Run(run.Run[UnitsConfig, LlamaModule | MaskedModule]):
    """A training run over rows of units; `rows` is its training split."""

    def prepare(self, data: Path) -> None:
        """Make the rows, once; the first weights."""
        config, kept = self.config, self.out / "train.npz"
        if not kept.exists():
            rows.save(conditions.SOURCES[config.source](data, config.codec, self.out), kept)
        self.rows = made = rows.read(kept)
        longest = [max(len(row) for row in part) for part in (made.conditions, made.bodies)]
        longest[0] //= made.variants
        self.ended = made.end >= 0
        shape = {name: getattr(config, name) for name in ("hidden_size", "intermediate_size")}
        context = sum(longest) + self.ended + (config.latents > 0)
        if config.causal:
            self.module = LlamaModule(
                LlamaConfig(
                    vocab_size=made.vocab_size, num_hidden_layers=config.layers, num_attention_heads=config.heads,
                    num_key_value_heads=config.heads, head_dim=config.hidden_size // config.heads,
                    max_position_embeddings=context, rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=True,
                    eos_token_id=(made.end,) if self.ended else (), **shape,
                )
            )  # fmt: skip
        else:
            self.module = MaskedModule(
                MaskedConfig(
                    vocab_size=made.vocab_size + (config.latents + 1 if config.latents else 0), units=made.units,
                    latents=config.latents, imagination=config.imagination, lengths=longest[1] if self.ended else 0,
                    end=made.end, layers=config.layers, heads=config.heads, context=context, **shape,
                )
            )  # fmt: skip
        self.module.initialise(torch.Generator().manual_seed(config.seed))
        if config.start:
            assert isinstance(self.module, MaskedModule)
            start.take(self.module, load_masked(folder_of(start.named(config.start, self.out))), longest[1])
        self.optimizer = Muon(self.module, dtype=torch.bfloat16)

    def loss(self) -> Tensor:
        """Nats a unit that is asked for, and a tenth of the nats of a length."""
        random = np.random.default_rng((self.config.seed, self.step))
        chosen = random.permutation(len(self.rows.bodies))[: self.config.batch]
        told = [self._told(self.rows.conditions[index], random) for index in chosen]
        bodies = [self.rows.bodies[index] for index in chosen]
        with torch.autocast("cpu", torch.bfloat16):
            if isinstance(self.module, LlamaModule):
                return self._causal(self.module, told, bodies)
            loss = torch.zeros(())
            if self.module.lengths_head is not None:
                ids, counts = _padded([self._headed(condition) for condition in told])
                lengths = torch.tensor([len(body) for body in bodies])
                loss = 0.1 * F.cross_entropy(self.module.length_logits(ids, counts).float(), lengths)
            half = (len(bodies) + 1) // 2
            if self.config.imagination:
                loss = loss + self._vectors(self.module, *self._all_asked(told[:half], bodies[:half]))
                told, bodies = told[half:], bodies[half:]
            elif self.config.latents and self.step % _IMAGINED == 0:
                return loss + self._symbols(self.module, *self._all_asked(told[:half], bodies[:half]))
            return loss + self._masked(self.module, told, bodies, random)

    def _told(self, condition: np.ndarray, random: np.random.Generator) -> np.ndarray:
        if self.rows.variants > 1:
            condition = condition.reshape(self.rows.variants, -1)[random.integers(self.rows.variants)]
        if self.rows.untold < 0 or random.random() >= self.config.untold:
            return condition
        return np.concatenate(([self.rows.untold], condition[1:]))

    def _headed(self, condition: np.ndarray) -> np.ndarray:
        """A condition behind the place of the shared imagination, of which there is none, if the model has one."""
        if not self.config.latents:
            return condition
        return np.concatenate(([self.module.config.vocab_size - 1], condition))

    def _causal(self, module: LlamaModule, told: list[np.ndarray], bodies: list[np.ndarray]) -> Tensor:
        end = [self.rows.end] if self.ended else []
        rows = [np.concatenate((*row, end)).astype(np.int64) for row in zip(told, bodies, strict=True)]
        ids, counts = _padded(rows)
        places = torch.arange(1, ids.shape[1])
        asked = (places >= torch.tensor([len(row) for row in told])[:, None]) & (places < counts[:, None])
        return F.cross_entropy(module(ids[:, :-1])[asked].float(), ids[:, 1:][asked])

    def _masked(
        self, module: MaskedModule, told: list[np.ndarray], bodies: list[np.ndarray], random: np.random.Generator
    ) -> Tensor:
        rows, asked = [], []
        longest = max(len(body) for body in bodies)
        for condition, body in zip(told, bodies, strict=True):
            # Half of the bodies that end show their length, the others END in all that follows (`UntilEnd`).
            padded = body
            if self.ended and random.random() < 0.5:
                padded = np.pad(body, (0, longest + 1 - len(body)), constant_values=self.rows.end)
            unknown = masking.unknown(random, len(padded))
            headed = self._headed(condition)
            rows.append((np.concatenate((headed, padded)), np.concatenate((np.zeros(len(headed), bool), unknown))))
            # END upon END teaches nothing but END: only the first ones count.
            asked.append(rows[-1][1] & (np.arange(len(rows[-1][1])) < len(headed) + len(body) + 8))
        truth, counts = _padded([row for row, _ in rows])
        ids = truth.clone()
        wanted = torch.zeros_like(ids, dtype=torch.bool)
        for line, ((row, unknown), ask) in enumerate(zip(rows, asked, strict=True)):
            ids[line, : len(row)][torch.from_numpy(unknown)] = UNKNOWN
            wanted[line, : len(row)] = torch.from_numpy(ask)
        return self._nats(module, ids, counts, truth, wanted).mean()

    def _nats(
        self, module: MaskedModule, ids: Tensor, counts: Tensor, truth: Tensor, wanted: Tensor,
        imagined: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Of each unit that is asked for, those of a row behind those of the one before."""
        level = bool((counts == ids.shape[1]).all())
        states = module.hidden(ids, None if level else counts, imagined)[wanted]
        logits = states @ module.embed_tokens.weight[: self.rows.units].T
        return F.cross_entropy(logits.float(), truth[wanted], reduction="none")

    def _all_asked(self, told: list[np.ndarray], bodies: list[np.ndarray]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Rows of which the whole body is asked for: ids, lengths, the truth, and where it is wanted."""
        truth, counts = _padded([np.concatenate(row) for row in zip(map(self._headed, told), bodies, strict=True)])
        heads = torch.tensor([len(condition) + 1 for condition in told])
        places = torch.arange(truth.shape[1])
        wanted = (places >= heads[:, None]) & (places < counts[:, None])
        return truth.masked_fill(wanted, UNKNOWN), counts, truth, wanted

    def _symbols(self, module: MaskedModule, asked: Tensor, counts: Tensor, truth: Tensor, wanted: Tensor) -> Tensor:
        """Everything at once, under the imagination that each row likes best (hard EM), which is to be foreseen."""
        latents, first = self.config.latents, module.config.first_latent
        costs = torch.zeros(len(asked), latents)
        with torch.no_grad():
            for latent in range(latents):
                asked[:, 0] = first + latent
                nats = self._nats(module, asked, counts, truth, wanted)
                lines = torch.arange(len(asked))[:, None].expand_as(wanted)[wanted]
                costs[:, latent].index_add_(0, lines, nats)
            # Compared with what it costs the others, or the first to be better would take all rows for ever.
            best = (costs - costs.mean(dim=0)).argmin(dim=1)
        asked[:, 0] = first + best
        loss = self._nats(module, asked, counts, truth, wanted).mean()
        asked[:, 0] = UNKNOWN
        state = module.hidden(asked, counts)[:, 0]
        chances = state @ module.embed_tokens.weight[first : first + latents].T
        return loss + F.cross_entropy(chances.float(), best) / 10

    def _vectors(self, module: MaskedModule, asked: Tensor, counts: Tensor, truth: Tensor, wanted: Tensor) -> Tensor:
        """Everything at once, under a vector that was read from all of it (a VAE, 1312.6114)."""
        mean, spread = module.posterior(module.hidden(truth, counts)[:, 0]).float().chunk(2, dim=1)
        generator = torch.Generator().manual_seed(self.config.seed * 2**32 + self.step)
        imagined = mean + (spread / 2).exp() * torch.randn(mean.shape, generator=generator)
        nats = self._nats(module, asked, counts, truth, wanted, imagined).mean()
        told = (mean.square() + spread.exp() - 1 - spread).mean(dim=0) / 2  # nats of each number
        # What is less than free is not saved on (1606.04934), nor anything at first (1511.06349), or nothing is told.
        weight = min(1.0, self.step / (self.config.steps[0] / 3))
        return nats + weight * told.clamp(min=_FREE).sum() * len(asked) / wanted.sum()

    def export(self, folder: Path) -> None:
        """Write the model as a checkpoint folder: a Llama in bfloat16, or a masked model in eight bits."""
        if isinstance(self.module, LlamaModule):
            save_llama(self.module, folder, dtype=torch.bfloat16)
        else:
            save_masked(self.module, folder, dtype=torch.int8)
        if self.config.source == "captions":
            write_object(folder / PAINTER, {"codec": self.config.codec, "positions": captions.POSITIONS})
        for file in self.out.glob("tokenizer.json"):
            with whole(folder / file.name) as part:
                part.write_bytes(file.read_bytes())


def _padded(rows: list[np.ndarray]) -> tuple[Tensor, Tensor]:
    ids, counts = pad(rows)
    return torch.from_numpy(ids), torch.from_numpy(counts)
