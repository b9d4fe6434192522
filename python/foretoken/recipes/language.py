"""Recipe: a small language model on real text, resumable after a kill at any moment.

    foretoken train tales --data DATA --out runs/tales

Everything a step does is a function of (configuration, step): which windows it reads, its learning rate. A
checkpoint is one file, renamed into place, so whatever moment the run is cut it goes on from the last one and draws
the same loss curve.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn import functional as F

from ..codec.text import Text
from ..errors import CheckpointError, ForetokenError, InvalidArgument, ShapeError
from ..model.checkpoint import TOKENIZER, load_llama, save_llama
from ..model.llama import LlamaConfig, LlamaModule
from .corpus import END_OF_TEXT, split
from .optimizer import Muon

Progress = Callable[[int, int, float], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LanguageConfig:
    """What a run trains, on what, for how long; a configuration file states every field.

    Args:
        sources: names of text sources (`corpus.SOURCES`).
        tokenizer: folder of a run whose tokenizer is taken, or "" to train one on the training split.
        teacher: folder of a checkpoint whose law is learnt in place of the text's next token (distillation, Hinton
            et al. 1503.02531), or "" for none. `{out}` in both is the folder in which the run's folder lies.
        vocab_size: tokens of the byte-level BPE.
        hidden_size, intermediate_size, layers, heads, kv_heads: shape of the Llama.
        context: longest context of the finished model, in tokens.
        window: tokens of one training window.
        batch: windows a step.
        steps: rising counts of optimiser steps at which the learning rate has fallen to 0; the last is the end. From
            the others the run goes on at the full rate (WSD-S, 2410.05192): a finished run can be made longer.
        warmup: steps in which the learning rate rises from 0.
        cooldown: share of each stretch of steps, at its end, in which it falls to 0.
        rate: peak learning rate.
        save_every: steps between checkpoints.
        seed: of the weights and of the order of the windows.
    """

    sources: tuple[str, ...]
    tokenizer: str
    teacher: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    context: int
    window: int
    batch: int
    steps: tuple[int, ...]
    warmup: int
    cooldown: float
    rate: float
    save_every: int
    seed: int

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, lowest = getattr(self, field.name), 0 if field.name in ("warmup", "seed") else 1
            if field.type == "int" and (type(value) is not int or not lowest <= value < 2**31):
                raise InvalidArgument(f"{field.name} must be an integer of at least {lowest}, got {value!r}")
        if (
            not self.steps
            or any(type(n) is not int or n < 1 for n in self.steps)
            or sorted({*self.steps}) != [*self.steps]
        ):
            raise InvalidArgument(f"steps must be rising integers of at least 1, got {self.steps!r}")
        for name, low, high in (("rate", 0, math.inf), ("cooldown", -1, 1 + 1e-9)):
            value = getattr(self, name)
            if type(value) not in (int, float) or not low < value < high:
                raise InvalidArgument(f"{name} is out of range: {value!r}")
        if self.hidden_size % self.heads:
            raise InvalidArgument(f"heads {self.heads} does not divide hidden_size {self.hidden_size}")
        if self.window > self.context:
            raise InvalidArgument(f"window {self.window} is longer than the context {self.context}")
        if self.vocab_size > 2**16:
            raise InvalidArgument(f"vocab_size is {self.vocab_size}; training tokens are kept in 16 bits")

    @staticmethod
    def from_file(path: Path) -> LanguageConfig:
        """Read a JSON configuration; unknown or missing keys are refused."""
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InvalidArgument(f"no such configuration: {path}") from None
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"{path} is not JSON: {error}") from None
        if not isinstance(raw, dict):
            raise CheckpointError(f"{path} must hold a JSON object, got {type(raw).__name__}")
        names = {field.name for field in dataclasses.fields(LanguageConfig)}
        if raw.keys() != names:
            raise CheckpointError(
                f"{path}: unknown keys {sorted(raw.keys() - names)}, missing keys {sorted(names - raw.keys())}"
            )
        try:
            raw |= {name: tuple(raw[name]) for name in ("sources", "steps")}
            return LanguageConfig(**raw)
        except (InvalidArgument, TypeError) as error:
            raise CheckpointError(f"{path}: {error}") from None

    def model(self, end: int) -> LlamaConfig:
        """The shape of the model that this run trains."""
        return LlamaConfig(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            head_dim=self.hidden_size // self.heads,
            max_position_embeddings=self.context,
            rms_norm_eps=1e-5,
            rope_theta=10000.0,
            tie_word_embeddings=True,
            eos_token_id=(end,),
        )

    def rate_at(self, step: int) -> float:
        """Learning rate of a step: linear rise, plateau, linear fall to 0 (WSD, 2404.06395)."""
        ends = (0, *self.steps)
        begun = max(n for n in ends[:-1] if n <= step)
        last = ends[ends.index(begun) + 1]
        falling = max(1.0, (last - begun) * self.cooldown)
        return self.rate * min(1.0, (step + 1) / max(1, self.warmup), (last - step) / falling)

    def continues(self, earlier: str) -> bool:
        """Whether a run of the configuration `earlier`, as JSON, is the beginning of a run of this one."""
        mine = json.loads(self.as_json())
        beginnings = [{**mine, "steps": mine["steps"][:count]} for count in range(1, len(self.steps) + 1)]
        try:
            return json.loads(earlier) in beginnings
        except ValueError:  # cut short, or no note of a run at all
            return False

    def as_json(self) -> str:
        """All fields as one line of JSON."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)


def train_tokenizer(texts: list[str], vocab_size: int) -> Tokenizer:
    """A byte-level BPE (Sennrich et al. 1508.07909) whose id 0 is the end of a text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def token_stream(tokenizer: Tokenizer, texts: list[str], seed: int) -> np.ndarray:
    """All documents in one shuffled row of uint16 ids, each behind the end-of-text token."""
    order = np.random.default_rng(seed).permutation(len(texts))
    end = tokenizer.token_to_id(END_OF_TEXT)
    encoded = tokenizer.encode_batch_fast([texts[i] for i in order], add_special_tokens=False)
    return np.concatenate([np.array([end, *e.ids], dtype=np.uint16) for e in encoded] + [np.array([end], np.uint16)])


def prepare(config: LanguageConfig, data: Path, out: Path) -> tuple[Tokenizer, np.ndarray]:
    """Tokenizer and training tokens of a run, made once and kept in its folder."""
    tokens_file, tokenizer_file = out / "train.npy", out / "tokenizer.json"
    if not tokens_file.exists():
        train, _ = split(data, config.sources)
        if config.tokenizer:
            tokenizer = Text.from_file(Path(config.tokenizer.format(out=out.parent)) / TOKENIZER).tokenizer
            if (ids := tokenizer.get_vocab_size()) > config.vocab_size:
                raise ShapeError(f"the tokenizer has {ids} ids, vocab_size is {config.vocab_size}")
        else:
            tokenizer = train_tokenizer(train, config.vocab_size)
        tokenizer.save(str(tokenizer_file))
        part = tokens_file.with_suffix(".part.npy")
        np.save(part, token_stream(tokenizer, train, config.seed))
        os.replace(part, tokens_file)
    try:
        return Text.from_file(tokenizer_file).tokenizer, np.load(tokens_file)
    except (ValueError, EOFError) as error:
        if isinstance(error, ForetokenError):
            raise
        raise CheckpointError(f"{tokens_file} is damaged: {error}; delete it to make it anew") from None


def windows(config: LanguageConfig, tokens: np.ndarray, step: int) -> torch.Tensor:
    """The (batch, window + 1) ids of a step; every epoch is a new permutation of all windows."""
    count = (len(tokens) - 1) // config.window
    if count < config.batch:
        raise InvalidArgument(f"{len(tokens)} training tokens are fewer than one batch of {config.batch} windows")
    per_epoch = count // config.batch
    epoch, place = divmod(step, per_epoch)
    rng = np.random.default_rng((config.seed, epoch))
    offset = int(rng.integers(0, len(tokens) - 1 - count * config.window + 1))
    chosen = rng.permutation(count)[place * config.batch : (place + 1) * config.batch] * config.window + offset
    return torch.from_numpy(np.stack([tokens[i : i + config.window + 1] for i in chosen]).astype(np.int64))


def keep_pages() -> None:
    """Ask glibc to keep freed memory: mapping 64 MB of logits anew each step held 2,100 tokens/s down to 1,500."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        for option, size in ((-1, 2**31 - 1), (-3, 2**30), (-2, 2**28)):  # trim threshold, mmap threshold, top pad
            libc.mallopt(option, size)


class Run:
    """A training run in a folder: weights, optimiser, step and loss curve."""

    def __init__(self, config: LanguageConfig, data: Path, out: Path) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.config, self.out, self.step = config, out, 0
        self._claim(out / "run.json")
        self.tokenizer, self.tokens = prepare(config, data, out)
        end = self.tokenizer.token_to_id(END_OF_TEXT)
        if end is None:
            raise CheckpointError(f"the tokenizer in {out} has no {END_OF_TEXT}; it was not made by this recipe")
        self.module = LlamaModule(config.model(end))
        self.module.initialise(torch.Generator().manual_seed(config.seed))
        self.teacher = load_llama(Path(config.teacher.format(out=out.parent))) if config.teacher else None
        if self.teacher is not None and self.teacher.config.vocab_size != config.vocab_size:
            raise ShapeError(f"the teacher has {self.teacher.config.vocab_size} ids, vocab_size is {config.vocab_size}")
        self.optimizer = Muon(self.module)
        self.losses = out / "loss.jsonl"
        self.state_file = out / "state.safetensors"
        if self.state_file.exists():
            self._restore()
        else:
            self.losses.write_text("")

    def _claim(self, note: Path) -> None:
        """Write down whose folder this is before anything is put there: tokens of another run must not be taken."""
        if note.exists() and not self.config.continues(note.read_text(encoding="utf-8")):
            raise InvalidArgument(f"{self.out} belongs to another configuration; choose another --out")
        part = note.with_suffix(".part")
        part.write_text(self.config.as_json(), encoding="utf-8")
        os.replace(part, note)

    def _restore(self) -> None:
        try:
            self._read_state()
        except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
            if isinstance(error, ForetokenError):
                raise
            raise CheckpointError(f"{self.state_file} is damaged: {error}; delete it to start anew") from None
        # What was logged after the checkpoint is about to be computed again, bit for bit.
        kept = self.losses.read_text().splitlines(keepends=True)[: self.step]
        part = self.losses.with_suffix(".part")
        part.write_text("".join(kept))
        os.replace(part, self.losses)

    def _read_state(self) -> None:
        with safe_open(self.state_file, "pt") as file:
            metadata = file.metadata() or {}
            if not self.config.continues(metadata["config"]):
                raise InvalidArgument(f"{self.out} was trained with another configuration; choose another --out")
            self.step = self.optimizer.step_count = int(metadata["step"])
            with torch.no_grad():
                for name, weight in self.module.named_parameters():
                    weight.copy_(file.get_tensor(f"model/{name}"))
                for name, value in self.optimizer.state.items():
                    value.copy_(file.get_tensor(f"optimizer/{name}"))

    def save(self) -> None:
        """Write weights, optimiser and step as one file; the old one stays until the new one is whole."""
        tensors = {f"model/{name}": w.detach() for name, w in self.module.named_parameters()}
        tensors |= {f"optimizer/{name}": value for name, value in self.optimizer.state.items()}
        part = self.state_file.with_suffix(".part")
        save_file(tensors, part, metadata={"step": str(self.step), "config": self.config.as_json()})
        with open(part, "rb") as written:
            os.fsync(written.fileno())
        os.replace(part, self.state_file)

    def export(self, folder: Path) -> None:
        """Write the model as a checkpoint folder that foretoken and transformers load; weights in bfloat16."""
        save_llama(self.module, folder, dtype=torch.bfloat16)
        self.tokenizer.save(str(folder / TOKENIZER))

    def advance(self) -> float:
        """One optimiser step; returns its loss in nats a token."""
        ids = windows(self.config, self.tokens, self.step)
        logits = self.module(ids[:, :-1]).flatten(0, 1)
        if self.teacher is None:
            goal = ids[:, 1:].flatten()
        else:
            with torch.no_grad():
                goal = self.teacher(ids[:, :-1]).flatten(0, 1).softmax(dim=-1)
        loss = F.cross_entropy(logits, goal)
        self.module.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        self.optimizer.step(self.config.rate_at(self.step))
        self.step += 1
        return loss.item()

    def train(self, progress: Progress) -> None:
        """Go on from where the run stands until its last step."""
        keep_pages()
        last = self.config.steps[-1]
        with self.losses.open("a", encoding="utf-8") as log:
            while self.step < last:
                loss = self.advance()
                if not np.isfinite(loss):
                    raise InvalidArgument(f"loss is {loss} at step {self.step}; lower the learning rate")
                log.write(json.dumps({"step": self.step, "loss": loss}) + "\n")
                log.flush()
                progress(self.step, last, loss)
                if self.step % self.config.save_every == 0 or self.step == last:
                    os.fsync(log.fileno())
                    self.save()
