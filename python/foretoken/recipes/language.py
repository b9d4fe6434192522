"""Recipe: a small language model on real text, resumable after a kill at any moment.

foretoken train tales --data DATA --out runs/tales
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from torch.nn import functional as F

from ..codec.text import Text
from ..errors import CheckpointError, ForetokenError, InvalidArgument, ShapeError
from ..files import whole
from ..model.checkpoint import TOKENIZER, load_llama, save_llama
from ..model.llama import LlamaModule
from ..model.llama_config import LlamaConfig
from . import run
from .corpus import END_OF_TEXT, split
from .optimizer import Muon
from .run import RecipeConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class LanguageConfig(RecipeConfig):
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
        steps, warmup, cooldown, rate, save_every, seed: those of every recipe; the seed orders the windows, too.
    """

    recipe = "language"
    unit = "nats a token"

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

    def __post_init__(self) -> None:
        super().__post_init__()
        if type(self.sources) is not tuple or not all(type(name) is str for name in self.sources):
            raise InvalidArgument(f"sources must be a list of names, got {self.sources!r}")
        if self.hidden_size % self.heads:
            raise InvalidArgument(f"heads {self.heads} does not divide hidden_size {self.hidden_size}")
        if self.window > self.context:
            raise InvalidArgument(f"window {self.window} is longer than the context {self.context}")
        if self.vocab_size > 2**16:
            raise InvalidArgument(f"vocab_size is {self.vocab_size}; training tokens are kept in 16 bits")

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


def train_tokenizer(
    texts: list[str], vocab_size: int, *, normalizer: normalizers.Normalizer | None = None
) -> Tokenizer:
    """A byte-level BPE (Sennrich et al. 1508.07909) whose id 0 is the end of a text; `normalizer` comes before it."""
    tokenizer = Tokenizer(models.BPE())
    if normalizer is not None:
        tokenizer.normalizer = normalizer  # type: ignore[assignment]
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
        with whole(tokens_file) as part, part.open("wb") as file:
            np.save(file, token_stream(tokenizer, train, config.seed))
    try:
        return Text.from_file(tokenizer_file).tokenizer, np.load(tokens_file)
    except (ValueError, EOFError) as error:
        if isinstance(error, ForetokenError):
            raise
        raise CheckpointError(f"{tokens_file} is damaged: {error}; delete it to make it anew") from None


class Windowed(Protocol):
    """What `windows` asks of a configuration."""

    @property
    def window(self) -> int: ...
    @property
    def batch(self) -> int: ...
    @property
    def seed(self) -> int: ...


def windows(config: Windowed, tokens: np.ndarray, step: int) -> torch.Tensor:
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


class Run(run.Run[LanguageConfig, LlamaModule]):
    """A training run of a language model; `module` is the model, `tokens` its training text."""

    def prepare(self, data: Path) -> None:
        """Make tokenizer and tokens, or read those of this run; the first weights; the teacher, if there is one."""
        config = self.config
        self.tokenizer, self.tokens = prepare(config, data, self.out)
        end = self.tokenizer.token_to_id(END_OF_TEXT)
        if end is None:
            raise CheckpointError(f"the tokenizer in {self.out} has no {END_OF_TEXT}; it was not made by this recipe")
        self.module = LlamaModule(config.model(end))
        self.module.initialise(torch.Generator().manual_seed(config.seed))
        self.teacher = load_llama(Path(config.teacher.format(out=self.out.parent))) if config.teacher else None
        if self.teacher is not None and self.teacher.config.vocab_size != config.vocab_size:
            raise ShapeError(f"the teacher has {self.teacher.config.vocab_size} ids, vocab_size is {config.vocab_size}")
        self.optimizer = Muon(self.module)

    def loss(self) -> Tensor:
        """Nats a token, against the text or the teacher's law."""
        ids = windows(self.config, self.tokens, self.step)
        logits = self.module(ids[:, :-1]).flatten(0, 1)
        if self.teacher is None:
            return F.cross_entropy(logits, ids[:, 1:].flatten())
        with torch.no_grad():
            law = self.teacher(ids[:, :-1]).flatten(0, 1).softmax(dim=-1)
        return F.cross_entropy(logits, law)

    def export(self, folder: Path) -> None:
        """Write the model as a checkpoint folder that foretoken and transformers load; weights in bfloat16."""
        save_llama(self.module, folder, dtype=torch.bfloat16)
        self.tokenizer.save(str(folder / TOKENIZER))
