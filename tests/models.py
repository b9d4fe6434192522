"""Models and drafters for tests: a law that is a table, real Llamas of toy size, and drafters that misbehave."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Sequence

import numpy as np
import torch

from foretoken.drafter.protocol import Draft, DraftRequest
from foretoken.model.llama import LlamaModule
from foretoken.model.llama_config import LlamaConfig
from foretoken.model.llama_session import Llama


class TableModel:
    """Logits that are a function of the last `order` units: no rounding, whatever the batch or the block."""

    def __init__(
        self,
        vocab_size: int = 48,
        *,
        order: int = 2,
        context: int = 512,
        ends: tuple[int, ...] = (),
        scale: float = 2.5,
    ) -> None:
        self.vocab_size, self.order, self.context, self.end_tokens, self.scale = vocab_size, order, context, ends, scale
        self._rows: dict[bytes, np.ndarray] = {}

    def logits(self, past: Sequence[int]) -> np.ndarray:
        """The row that follows these units."""
        key = np.array(past[-self.order :], dtype=np.int64).tobytes()
        if key not in self._rows:
            rng = np.random.default_rng(zlib.crc32(key))
            self._rows[key] = (self.scale * rng.normal(size=self.vocab_size)).astype(np.float32)
        return self._rows[key]

    def first(self, layers: int) -> TableModel:
        """A worse model of the same kind: it remembers less."""
        return TableModel(self.vocab_size, order=layers, context=self.context, scale=self.scale)

    def open(self, rows: int, capacity: int) -> TableSession:
        return TableSession(self, rows)

    def open_tree(self, rows: int, capacity: int, nodes: int) -> TableSession:
        return TableSession(self, rows)


class TableSession:
    def __init__(self, model: TableModel, rows: int) -> None:
        self.model, self.past = model, [[] for _ in range(rows)]
        self.calls: list[tuple[int, ...]] = []

    @property
    def lengths(self) -> np.ndarray:
        return np.array([len(past) for past in self.past], dtype=np.int64)

    def forward(self, tokens: np.ndarray, counts: np.ndarray | None = None, *, last: bool = False) -> torch.Tensor:
        rows, width = tokens.shape
        self.calls.append((rows, width))
        out = np.zeros((rows, 1 if last else width, self.model.vocab_size), dtype=np.float32)
        for row, past in enumerate(self.past):
            count = width if counts is None else int(counts[row])
            for place in range(count):
                past.append(int(tokens[row, place]))
                if not last:
                    out[row, place] = self.model.logits(past)
            if last:
                out[row, 0] = self.model.logits(past)
        return torch.from_numpy(out)

    def forward_tree(self, tokens: np.ndarray, parents: np.ndarray, counts: np.ndarray | None = None) -> torch.Tensor:
        rows, width = tokens.shape
        self.calls.append((rows, width))
        self.tree = tokens
        out = np.zeros((rows, width, self.model.vocab_size), dtype=np.float32)
        for row, past in enumerate(self.past):
            texts: list[list[int]] = []
            for place in range(width if counts is None else int(counts[row])):
                parent = int(parents[row, place])
                texts.append([*(past if parent < 0 else texts[parent]), int(tokens[row, place])])
                out[row, place] = self.model.logits(texts[-1])
        return torch.from_numpy(out)

    def keep(self, path: np.ndarray, counts: np.ndarray) -> None:
        for row, past in enumerate(self.past):
            past.extend(self.tree[row, path[row, : counts[row]]].tolist())

    def truncate(self, lengths: np.ndarray) -> None:
        self.past = [past[: int(length)] for past, length in zip(self.past, lengths, strict=True)]

    def select(self, rows: np.ndarray) -> None:
        self.past = [list(self.past[int(row)]) for row in rows]


def tiny_llama(seed: int = 0, *, vocab_size: int = 48, layers: int = 2, scale: float = 0.25) -> LlamaModule:
    """A real Llama with random weights that are large enough for its choices to differ."""
    config = LlamaConfig(
        vocab_size=vocab_size, hidden_size=32, intermediate_size=48, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=256, rms_norm_eps=1e-5, rope_theta=10000.0,
        tie_word_embeddings=False, eos_token_id=(0,),
    )  # fmt: skip
    module = LlamaModule(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in module.parameters():
            if weight.ndim == 2:
                weight.normal_(std=scale, generator=generator)
    return module


def tiny_model(seed: int = 0, **shape: int) -> Llama:
    """The same, ready to decode."""
    return Llama(tiny_llama(seed, **shape))


class TappedTable(TableModel):
    """The same, with states: of each layer and unit, a vector that is a function of the last two units."""

    hidden = 8

    @functools.cache  # noqa: B019 - tests are short
    def vectors(self, kind: int) -> torch.Tensor:
        """Random rows, (vocab, hidden), of one kind or another."""
        generator = torch.Generator().manual_seed(kind)
        return torch.randn(self.vocab_size, self.hidden, generator=generator)

    def vocabulary(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.vectors(1), self.vectors(2)

    def open_tapped(self, rows: int, capacity: int, nodes: int, taps: tuple[int, ...]) -> TappedTableSession:
        return TappedTableSession(self, rows, taps)


class TappedTableSession(TableSession):
    def __init__(self, model: TappedTable, rows: int, taps: tuple[int, ...]) -> None:
        super().__init__(model, rows)
        self.taps, self.states = taps, torch.zeros(rows, 0, len(taps), model.hidden)

    def forward(self, tokens: np.ndarray, counts: np.ndarray | None = None, *, last: bool = False) -> torch.Tensor:
        before = [list(past) for past in self.past]
        logits = super().forward(tokens, counts, last=last)
        parents = np.arange(-1, tokens.shape[1] - 1)[None].repeat(len(tokens), axis=0)
        self._see(before, tokens, parents)
        return logits

    def forward_tree(self, tokens: np.ndarray, parents: np.ndarray, counts: np.ndarray | None = None) -> torch.Tensor:
        self._see(self.past, tokens, parents)
        return super().forward_tree(tokens, parents, counts)

    def _see(self, pasts: Sequence[list[int]], tokens: np.ndarray, parents: np.ndarray) -> None:
        rows, width = tokens.shape
        self.states = torch.zeros(rows, width, len(self.taps), self.model.hidden)  # type: ignore[attr-defined]
        for row, past in enumerate(pasts):
            for place, parent in enumerate(parents[row].tolist()):
                before = int(tokens[row, parent]) if parent >= 0 else past[-1] if past else 0
                for i, layer in enumerate(self.taps):
                    mine, theirs = (self.model.vectors(3 + 2 * layer + j) for j in range(2))  # type: ignore[attr-defined]
                    self.states[row, place, i] = mine[int(tokens[row, place])] + theirs[before]

    def select(self, rows: np.ndarray) -> None:
        super().select(rows)
        self.states = self.states[torch.from_numpy(rows)]


class ParallelTable:
    """A masked model: what stands at an unknown place is a function of the two known units before it and how far."""

    def __init__(self, vocab_size: int, *, context: int = 64) -> None:
        self.vocab_size, self.context, self.end_tokens = vocab_size, context, ()
        self.seen: list[list[list[int]]] = []

    def predict(self, canvas: np.ndarray, lengths: np.ndarray) -> torch.Tensor:
        self.seen.append([row[:length].tolist() for row, length in zip(canvas, lengths.tolist(), strict=True)])
        out = np.zeros((*canvas.shape, self.vocab_size), dtype=np.float32)
        for row, units in enumerate(canvas):
            known = [int(unit) for unit in units if unit >= 0]
            for place in range(len(known), int(lengths[row])):
                rng = np.random.default_rng([*known[-2:], place - len(known)])
                out[row, place] = 2 * rng.normal(size=self.vocab_size)
        return torch.from_numpy(out)


class FunctionDrafter:
    """A drafter whose guesses are a function of (row, past, k); the past includes the prompt."""

    def __init__(self, guess: Callable[[int, list[int], int], Draft], name: str = "test") -> None:
        self.guess, self.name = guess, name

    def open(self, request: DraftRequest) -> FunctionSession:
        return FunctionSession(self.guess)


class FunctionSession:
    def __init__(self, guess: Callable[[int, list[int], int], Draft]) -> None:
        self.guess = guess
        self.past: dict[int, list[int]] = {}

    def start(self, row: int, prompt: np.ndarray) -> None:
        self.past[row] = prompt.tolist()

    def extend(self, row: int, tokens: Sequence[int]) -> None:
        self.past[row].extend(tokens)

    def propose(self, rows: Sequence[int], k: int) -> list[Draft]:
        return [self.guess(row, self.past[row], k) for row in rows]

    def judge(self, row: int, draft: Draft, accepted: int) -> None: ...

    def stop(self, row: int) -> None:
        del self.past[row]


def random_drafter(vocab_size: int, seed: int = 0) -> FunctionDrafter:
    """Guesses of random ids and random lengths."""
    rng = np.random.default_rng(seed)

    def guess(row: int, past: list[int], k: int) -> Draft:
        return Draft(rng.integers(vocab_size, size=int(rng.integers(0, k + 1))))

    return FunctionDrafter(guess, "random")


def wrong_drafter(model: TableModel) -> FunctionDrafter:
    """Always guesses the least probable id, as certain: never right."""

    def guess(row: int, past: list[int], k: int) -> Draft:
        return Draft(np.full(k, int(model.logits(past).argmin()), dtype=np.int64))

    return FunctionDrafter(guess, "wrong")
