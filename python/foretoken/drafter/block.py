"""A block drafter at work: one pass for all places, then a cheap chain that shares the target's noise."""

from __future__ import annotations

import os
from collections.abc import Sequence
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from .. import kernels
from ..errors import ArgumentTypeError, InvalidArgument, UnsupportedModel
from ..model.protocol import TappedModel
from ..shipped import folder_of
from .block_fused import Fused
from .block_model import BlockModule, check_target, load_block
from .block_native import NativeBlockDrafting, native_block
from .protocol import NOTHING, Draft, DraftRequest
from .taps import Taps
from .tree import merged


class BlockDrafter:
    """Guesses a whole block from what the target's own layers made of the text (DFlash, DSpark; Medusa, 2401.10774).

    All places are predicted at once, then drawn one after another: a low-rank correction says what the tokens before a
    place change. Draws share the target's noise under `Coupled`; under `Rejection` they have noise of their own. A
    draft ends where the drafter itself believes that one more guess costs more than it brings, unless its length is
    fixed.

    Args:
        source: a shipped drafter's name ("tales-block"), the folder of one, or a `BlockModule`.
        chains: shared imaginations that are drafted with at once, in [1, those it has]; several make a tree.
        native: whether the core drafts, its weights rounded to bfloat16; None for where it can: for a target on the
            CPU, with a layer at least and without imaginations. Else PyTorch does.

    Raises:
        UnknownModel: there is neither such a name nor such a folder.
        CheckpointError: the folder holds no block drafter, or a broken one.
        InvalidArgument: `chains` is out of range, or the core is asked for what it cannot do.
        ShapeError: on opening, if the target is of another shape than the one it was trained for.
        UnsupportedModel: on opening, if the target does not show its states.

    Example:
        >>> import foretoken as ft
        >>> fast = ft.Autoregressive(drafter=ft.BlockDrafter("tales-block"))
        >>> ft.load("tales")("Once upon a time", max_tokens=8, seed=7, strategy=fast).stats.tokens
        8
    """

    def __init__(
        self, source: BlockModule | str | os.PathLike[str], *, chains: int = 1, native: bool | None = None
    ) -> None:
        if not isinstance(source, (BlockModule, str, os.PathLike)):
            raise ArgumentTypeError(f"source is a name, a folder or a BlockModule, got {type(source).__name__}")
        self.module = source if isinstance(source, BlockModule) else load_block(folder_of(source))
        self.config = self.module.config
        if type(chains) is not int or not 1 <= chains <= self.config.latents:
            raise InvalidArgument(f"chains must be an integer in [1, {self.config.latents}], got {chains!r}")
        able = self.config.layers > 0 and self.config.latents == 1
        if native and not able:
            raise InvalidArgument(
                "the core drafts with a layer at least and without imaginations; leave native=True out"
            )
        self.chains, self.native = chains, able if native is None else bool(native)
        self.taps = self.config.taps
        self.nodes = 0 if chains == 1 else min(64, chains * self.config.block)
        self._ready: tuple[TappedModel, Fused | kernels.NativeBlock, int] | None = None  # for the last target

    @property
    def name(self) -> str:
        """What statistics and traces call it."""
        return "block" if self.config.layers else "heads"

    def open(self, request: DraftRequest) -> BlockDrafting | NativeBlockDrafting:
        """A session for one generation."""
        model = request.model
        if request.taps is None or not isinstance(model, TappedModel):
            raise UnsupportedModel(
                f"a block drafter looks at layers {self.taps} of the target, and {type(model).__name__} shows none; "
                "Llama and Native do"
            )
        if self._ready is None or self._ready[0] is not model or self._ready[2] < request.capacity:
            embedding, unembedding = model.vocabulary()
            check_target(self.config, vocab_size=model.vocab_size, hidden_size=embedding.shape[1])
            length = min(model.context, 2 * request.capacity)
            make = native_block if self.native and embedding.is_cpu else Fused
            self._ready = model, make(self.module, embedding, unembedding, length), length
        ready = self._ready[1]
        if isinstance(ready, Fused):
            return BlockDrafting(ready, request, request.taps, self.chains, self.name)
        return NativeBlockDrafting(ready, self.config, request, request.taps)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_ready": None}


class BlockDrafting:
    """A block drafter on the rows of one generation; what the units before a block said lies in a ring of `reach`."""

    def __init__(self, fused: Fused, request: DraftRequest, taps: Taps, chains: int, name: str) -> None:
        self._fused, self._request, self._taps, self._chains, self._name = fused, request, taps, chains, name
        self._columns = [taps.layers.index(layer) for layer in fused.config.taps]
        self._all = self._columns == list(range(len(taps.layers)))
        self._order: list[int] = []  # row of each line
        self._newest: dict[int, int] = {}
        self._known: dict[int, int] = {}  # units of a row that the ring has
        self._cache: Tensor | None = None  # keys and values, (layers, 2, lines, K, reach + k, D)
        self._last: Tensor | None = None  # what the last unit said, (lines, hidden)
        self._step = 0.0  # seconds of one more guess

    def start(self, row: int, prompt: np.ndarray) -> None:
        """Begin a row that starts with these ids."""
        if self._cache is not None:
            raise UnsupportedModel("rows of a block drafter start together, before its first guess")
        self._order.append(row)
        self._newest[row] = int(prompt[-1])
        self._known[row] = 0

    def extend(self, row: int, tokens: Sequence[int]) -> None:
        """Tell what the row was continued with."""
        self._newest[row] = tokens[-1]

    def judge(self, row: int, draft: Draft, accepted: int) -> None:
        """A model has nothing to learn from it but what the taps tell."""

    def stop(self, row: int) -> None:
        """Forget a row."""
        line = self._order.index(row)
        del self._order[line], self._newest[row], self._known[row]
        if self._cache is not None and self._last is not None and self._order:
            keep = torch.tensor([i for i in range(len(self._order) + 1) if i != line], device=self._cache.device)
            self._cache, self._last = self._cache.index_select(2, keep), self._last.index_select(0, keep)

    def propose(self, rows: Sequence[int], k: int) -> list[Draft]:
        """Guess up to `k` ids for each of these rows."""
        k = min(k, self._fused.config.block)
        if k <= 0:
            return [NOTHING] * len(rows)
        started = perf_counter()
        self._read()
        drafts = dict(zip(self._order, self._draft(k, started), strict=True))
        return [drafts[row] for row in rows]

    @torch.inference_mode()
    def _read(self) -> None:
        """Put what the target said since the last draft into the ring."""
        fused, config = self._fused, self._fused.config
        if self._cache is None:
            shape = (config.layers, 2, len(self._order), config.kv_heads, config.reach + config.block, config.head_dim)
            self._cache = torch.zeros(shape, device=fused.device)
            self._last = torch.zeros((len(self._order), config.hidden_size), device=fused.device)
        pieces: list[Tensor] = []
        lines: list[int] = []
        places: list[int] = []
        ends: list[int] = []
        for line, row in enumerate(self._order):
            end = self._taps.end(row)
            if end > self._known[row]:
                first, found = self._taps.since(row, max(self._known[row], end - config.reach))
                pieces += found
                lines += [line] * (end - first)
                places += range(first, end)
                ends.append(len(lines) - 1)
                self._known[row] = end
        if not pieces:
            return
        states = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
        context = fused.read(states.to(fused.device) if self._all else states[:, self._columns].to(fused.device))
        assert self._last is not None
        self._last[[lines[i] for i in ends]] = context[ends]
        if config.layers:
            where, index = torch.tensor(places, device=fused.device), torch.tensor(lines, device=fused.device)
            kv = fused.keys_values(context, where)
            # Advanced indices around a slice put the indexed axis first: (n, layers, 2, K, D).
            self._cache[:, :, index, :, where % config.reach] = kv.permute(2, 0, 1, 3, 4)

    @torch.inference_mode()
    def _draft(self, k: int, started: float) -> list[Draft]:
        """One draft a line: a chain, or those of several imaginations as a tree."""
        fused, config, request, chains = self._fused, self._fused.config, self._request, self._chains
        assert self._cache is not None
        assert self._last is not None
        newest = torch.tensor([self._newest[row] for row in self._order], device=fused.device)
        known = [self._known[row] for row in self._order]
        context, cache, latent = self._last, self._cache, None
        if config.latents > 1:
            latent = fused.imagine(context, newest, chains).flatten(0, 1)
        mask = None
        if config.layers and min(known) < config.reach:
            slots = torch.arange(config.reach + config.block)
            seen = (slots < torch.tensor(known)[:, None]) | (slots >= config.reach)
            mask = seen[:, None, None].to(fused.device)
        positions = torch.tensor(known, device=fused.device)
        if chains > 1:
            newest, positions, context = (
                part.repeat_interleave(chains, dim=0) for part in (newest, positions, context)
            )
            cache = cache.repeat_interleave(chains, dim=2)
            mask = None if mask is None else mask.repeat_interleave(chains, dim=0)
        if config.layers:
            laws = fused.places(newest, positions, cache, mask, latent)
        else:
            laws = fused.heads_of(context, newest, latent)
        drafts = self._draw(*laws, newest, np.repeat(np.array(known) + 1, chains), k, started)
        if chains == 1:
            return drafts
        grouped = [drafts[i : i + chains] for i in range(0, len(drafts), chains)]
        named = [[(draft, self._name) for draft in group] for group in grouped]
        nodes = min(64, chains * config.block)
        return [merged(group, nodes=nodes, rejection=request.rejection, vocab=fused.vocab) for group in named]

    def _draw(
        self, logits: Tensor, state: Tensor, sure: Tensor, newest: Tensor, positions: np.ndarray, k: int, started: float
    ) -> list[Draft]:
        """Draw each line's places in turn, as far as that pays."""
        fused, request, chains = self._fused, self._request, self._chains
        order, lines, vocab = fused.config.order, len(newest), fused.vocab
        rows = np.repeat(np.array(self._order), chains)
        seeds, samples = request.seeds[rows], request.samples[rows]
        streams = [next(request.streams) for _ in range(chains)] if request.rejection else [0]
        # Guesses enter copies of the histories: the target's own must only hold what was accepted.
        histories = None if request.histories is None else [request.histories[row].copy() for row in rows]
        tokens = np.empty((lines, k), dtype=np.int64)
        probs = np.empty((lines, k, vocab)) if request.rejection else None
        chances = np.empty((lines, k))
        survives, expected = np.ones(lines), np.ones(lines)
        lengths = np.zeros(lines, dtype=np.int64)
        latest = newest
        for place in range(k):
            begun = perf_counter()
            span = min(order, k - place)
            state[:, place : place + span] += fused.past[latest, :span]
            bent = torch.nn.functional.silu(state[:, place])
            if lines == 1:
                change = torch.mm(bent, fused.bend)
                law = logits[:, place].add_(change[:, :vocab])
            else:
                change = bent @ fused.bend
                law = logits[:, place] + change[:, :vocab]
            chance = torch.sigmoid(sure[:, place] + change[:, vocab]).tolist()
            chances[:, place] = chance
            survives *= chances[:, place]
            go_on = lengths == place
            if request.adaptive is not None and place:
                go_on &= self._pays(place, survives, expected, begun - started)
                if not go_on.any():
                    break
            expected += survives
            lengths[go_on] = place + 1
            law = law.cpu()
            for chain, stream in enumerate(streams):
                own = slice(chain, None, len(streams))
                past = None if histories is None else histories[own]
                keys = {"positions": positions[own] + place, "seeds": seeds[own], "rows": samples[own], "history": past}
                flat = law[own].contiguous()
                if probs is not None:
                    probs[own, place] = kernels.process(flat, request.sampler, **keys)
                tokens[own, place] = kernels.sample(flat, request.sampler, stream=stream, **keys).tokens
            if place + 1 < k:
                latest = torch.from_numpy(tokens[:, place]).to(fused.device)
            self._step += 0.1 * (perf_counter() - begun - self._step)
        return [
            Draft(line[:n], None if probs is None else probs[i, :n], chances=chances[i, :n])
            for i, (line, n) in enumerate(zip(tokens, lengths, strict=True))
        ]

    def _pays(self, place: int, survives: np.ndarray, expected: np.ndarray, spent: float) -> np.ndarray:
        """Whether one more guess is worth its cost: it must bring more tokens a second than the draft without it.

        The decision looks at nothing that is drawn after it, so that it does not change what a draft's law is.
        """
        costs = self._request.costs
        plain = costs.of(place + 1)
        more = max(0.0, costs.of(place + 2) - plain) + self._step
        return survives * (plain + spent) > expected * more
