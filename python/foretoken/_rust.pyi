# The binary's surface, written by hand; stubtest compares it with what was built. `kernels` is the one importer.

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias, final

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

__all__ = [
    "BlockRing",
    "History",
    "NGram",
    "NativeBlock",
    "NativeModel",
    "NativeSession",
    "Sampler",
    "StopStrings",
    "Suffix",
    "SuffixCorpus",
    "TokenShard",
    "_panic",
    "choose",
    "confidences",
    "fit_palette",
    "fsq_decode",
    "fsq_dequantize",
    "fsq_digits",
    "fsq_encode",
    "fsq_index",
    "fsq_quantize",
    "gumbel",
    "lattice_chains",
    "lattice_tree",
    "mu_law_decode",
    "mu_law_encode",
    "nearest",
    "pack_bits",
    "palette_decode",
    "palette_encode",
    "patch_grid",
    "patch_shapes",
    "patchify",
    "pcm_decode",
    "pcm_encode",
    "philox",
    "process",
    "process_sparse",
    "resample",
    "residual_decode",
    "residual_encode",
    "reveal",
    "rgb24_decode",
    "rgb24_encode",
    "rgb565_decode",
    "rgb565_encode",
    "sample",
    "uniform",
    "unpack_bits",
    "unpatchify",
    "verify",
]

_Ids: TypeAlias = NDArray[np.int64]
_Reals: TypeAlias = NDArray[np.float64]
_Bytes: TypeAlias = NDArray[np.uint8]
_Integers: TypeAlias = Any  # a sequence of int, or whatever can be read as an array of them
_Tokens: TypeAlias = Sequence[int] | _Ids
# tokens, gaps, logprobs, top_tokens, top_logprobs
_Chosen: TypeAlias = tuple[_Ids, _Reals, _Reals | None, _Ids | None, _Reals | None]

def philox(counter: Sequence[int], key: Sequence[int]) -> list[int]: ...
def uniform(seed: int, row: int, position: int, tokens: _Ids, stream: int) -> _Reals: ...
def gumbel(seed: int, row: int, position: int, tokens: _Ids, stream: int) -> _Reals: ...
def sample(
    logits: NDArray[np.float32],
    sampler: Sampler,
    seeds: _Integers,
    positions: _Integers,
    rows: _Integers | None,
    history: Sequence[History] | None,
    logprobs: int | None,
    stream: int,
    commit: bool,
    threads: int,
) -> _Chosen: ...
def process(
    logits: NDArray[np.float32],
    sampler: Sampler,
    seeds: _Integers,
    positions: _Integers,
    rows: _Integers | None,
    history: Sequence[History] | None,
) -> _Reals: ...
def process_sparse(
    logits: NDArray[np.float32],
    sampler: Sampler,
    seeds: _Integers,
    positions: _Integers,
    rows: _Integers | None,
    history: Sequence[History] | None,
) -> tuple[_Ids, _Reals]: ...
def verify(
    logits: NDArray[np.float32],
    draft: Any,
    sampler: Sampler,
    seeds: _Integers,
    positions: _Integers,
    lengths: _Integers | None,
    parents: Any,
    rows: _Integers | None,
    rejection: bool,
    block: bool,
    draft_probs: Any,
    draft_ids: Any,
    history: Sequence[History] | None,
    logprobs: int | None,
    threads: int,
) -> tuple[_Ids, _Ids, tuple[Any, Any, Any, Any, Any]]: ...  # accepted, path, and what _Chosen says, for a star
def reveal(
    logits: NDArray[np.float32],
    canvas: _Ids,
    sampler: Sampler,
    seeds: _Integers,
    positions: _Integers,
    rows: _Integers | None,
    lengths: _Integers | None,
    step: int,
    rule: int,
    bound: float | None,
    temperature: float,
    scores: _Reals | None,
    least: _Integers,
    most: _Integers,
    threads: int,
) -> tuple[_Ids, NDArray[np.bool_], _Reals, _Reals]: ...
def confidences(
    logits: NDArray[np.float32],
    canvas: _Ids,
    sampler: Sampler,
    seeds: _Integers,
    positions: _Integers,
    rows: _Integers | None,
    lengths: _Integers | None,
    step: int,
    threads: int,
) -> tuple[_Ids, _Reals, _Reals, _Reals, _Reals, _Reals]: ...
def choose(
    canvas: _Ids, lengths: _Integers | None, scores: _Reals, least: _Integers, most: _Integers
) -> NDArray[np.bool_]: ...
def lattice_chains(
    ids: _Ids,
    logprobs: NDArray[np.float32],
    dense: NDArray[np.float32] | None,
    bigram: tuple[NDArray[np.float32], NDArray[np.float32]] | None,
    lengths: _Integers | None,
    n: int,
) -> tuple[_Ids, _Reals]: ...
def lattice_tree(
    ids: _Ids,
    logprobs: NDArray[np.float32],
    dense: NDArray[np.float32] | None,
    bigram: tuple[NDArray[np.float32], NDArray[np.float32]] | None,
    lengths: _Integers | None,
    nodes: int,
) -> tuple[_Ids, _Ids, _Reals, _Ids]: ...
def nearest(
    vectors: NDArray[np.float32], codebook: NDArray[np.float32], k: int, threads: int
) -> tuple[_Ids, _Reals]: ...
def residual_encode(vectors: NDArray[np.float32], codebooks: NDArray[np.float32], threads: int) -> _Ids: ...
def residual_decode(ids: _Ids, codebooks: NDArray[np.float32], threads: int) -> NDArray[np.float32]: ...
def fsq_quantize(values: NDArray[np.float32], levels: _Integers) -> _Ids: ...
def fsq_dequantize(digits: _Ids, levels: _Integers) -> NDArray[np.float32]: ...
def fsq_index(digits: _Ids, levels: _Integers) -> _Ids: ...
def fsq_digits(ids: _Ids, levels: _Integers) -> _Ids: ...
def fsq_encode(values: NDArray[np.float32], levels: _Integers) -> _Ids: ...
def fsq_decode(ids: _Ids, levels: _Integers) -> NDArray[np.float32]: ...
def pack_bits(ids: _Ids, bits: int) -> _Bytes: ...
def unpack_bits(packed: _Bytes, bits: int, skip: int, count: int) -> _Ids: ...
def rgb24_encode(pixels: _Bytes) -> _Ids: ...
def rgb24_decode(ids: _Ids) -> _Bytes: ...
def rgb565_encode(pixels: _Bytes) -> _Ids: ...
def rgb565_decode(ids: _Ids) -> _Bytes: ...
def palette_encode(pixels: _Bytes, palette: _Bytes, threads: int) -> _Ids: ...
def palette_decode(ids: _Ids, palette: _Bytes) -> _Bytes: ...
def fit_palette(pixels: _Bytes, colours: int, rounds: int, threads: int) -> _Bytes: ...
def pcm_encode(samples: NDArray[np.float32], bits: int) -> tuple[_Ids, int]: ...
def pcm_decode(ids: _Ids, bits: int) -> NDArray[np.float32]: ...
def mu_law_encode(samples: NDArray[np.float32]) -> tuple[_Ids, int]: ...
def mu_law_decode(ids: _Ids) -> NDArray[np.float32]: ...
def resample(
    samples: NDArray[np.float32],
    source: int,
    target: int,
    width: int,
    rolloff: float,
    beta: float,
    threads: int,
) -> NDArray[np.float32]: ...
def _panic() -> None: ...

@final
class Sampler:
    def __new__(
        cls,
        *,
        vocab_size: int,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        typical_p: float = 1.0,
        top_n_sigma: float = 0.0,
        xtc_probability: float = 0.0,
        xtc_threshold: float = 0.1,
        dry_multiplier: float = 0.0,
        dry_base: float = 1.75,
        dry_allowed_length: int = 2,
        dry_range: int = 0,
        dry_breakers: Sequence[int] = (),
        mirostat_tau: float = 0.0,
        mirostat_eta: float = 0.1,
        repetition_penalty: float = 1.0,
        presence_penalty: float = 0.0,
        frequency_penalty: float = 0.0,
        logit_bias: Mapping[int, float] = {},
        bad_words: Sequence[Sequence[int]] = (),
        allowed_tokens: Sequence[int] | None = None,
        end_tokens: Sequence[int] = (),
        min_tokens: int = 0,
    ) -> Self: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def temperature(self) -> float: ...
    @property
    def top_k(self) -> int: ...
    @property
    def top_p(self) -> float: ...
    @property
    def min_p(self) -> float: ...
    @property
    def typical_p(self) -> float: ...
    @property
    def top_n_sigma(self) -> float: ...
    @property
    def xtc_probability(self) -> float: ...
    @property
    def xtc_threshold(self) -> float: ...
    @property
    def dry_multiplier(self) -> float: ...
    @property
    def dry_base(self) -> float: ...
    @property
    def dry_allowed_length(self) -> int: ...
    @property
    def dry_range(self) -> int: ...
    @property
    def dry_breakers(self) -> list[int]: ...
    @property
    def mirostat_tau(self) -> float: ...
    @property
    def mirostat_eta(self) -> float: ...
    @property
    def repetition_penalty(self) -> float: ...
    @property
    def presence_penalty(self) -> float: ...
    @property
    def frequency_penalty(self) -> float: ...
    @property
    def logit_bias(self) -> dict[int, float]: ...
    @property
    def bad_words(self) -> list[list[int]]: ...
    @property
    def allowed_tokens(self) -> list[int] | None: ...
    @property
    def end_tokens(self) -> list[int]: ...
    @property
    def min_tokens(self) -> int: ...
    def __reduce__(self) -> tuple[Any, ...]: ...

@final
class History:
    def __new__(cls, prompt: _Tokens = (), *, mu: float | None = None) -> Self: ...
    def extend(self, tokens: _Tokens) -> None: ...
    def copy(self) -> History: ...
    @property
    def tokens(self) -> _Ids: ...
    @property
    def output(self) -> _Ids: ...
    @property
    def prompt_length(self) -> int: ...
    @property
    def mu(self) -> float | None: ...
    @mu.setter
    def mu(self, value: float | None) -> None: ...
    def __len__(self) -> int: ...
    def __reduce__(self) -> tuple[Any, ...]: ...
    def __setstate__(self, state: tuple[_Ids, float | None]) -> None: ...

# Of patches: patch and stride (height, width), merge, frames, whether the last frame is repeated.
_Cut: TypeAlias = tuple[tuple[int, int], tuple[int, int], int, int, bool]
_Shading: TypeAlias = tuple[Sequence[float], Sequence[float], float]  # mean, std, scale

def patch_grid(
    shapes: Sequence[tuple[int, int, int, int]],
    sizes: Sequence[tuple[int, int]] | None,
    crop: tuple[int, int] | None,
    cut: _Cut,
) -> tuple[_Ids, _Ids]: ...
def patchify(
    films: Sequence[NDArray[Any]],
    sizes: Sequence[tuple[int, int]] | None,
    crop: tuple[int, int] | None,
    filter: int,
    rounding: int,
    cut: _Cut,
    shading: _Shading,
    numbers: str,
    out: NDArray[Any],
    threads: int,
) -> None: ...
def patch_shapes(
    grids: Sequence[tuple[int, int, int]],
    lengths: Sequence[int],
    cut: _Cut,
    shading: _Shading,
    channels: int,
    windows: tuple[Sequence[float], Sequence[float]],
) -> list[list[int]]: ...
def unpatchify(
    rows: NDArray[Any],
    numbers: str,
    grids: Sequence[tuple[int, int, int]],
    lengths: Sequence[int],
    cut: _Cut,
    shading: _Shading,
    channels: int,
    windows: tuple[Sequence[float], Sequence[float]],
    out: Sequence[NDArray[Any]],
    threads: int,
) -> None: ...

@final
class NGram:
    def __new__(cls, max_n: int = 4, min_n: int = 1) -> Self: ...
    @property
    def max_n(self) -> int: ...
    @property
    def min_n(self) -> int: ...
    def start(self, row: int, prompt: _Tokens) -> None: ...
    def extend(self, row: int, tokens: _Tokens) -> None: ...
    def propose(self, row: int, k: int) -> tuple[_Ids, int]: ...
    def stop(self, row: int) -> None: ...
    def __reduce__(self) -> tuple[Any, ...]: ...
    def __setstate__(self, state: list[tuple[int, _Ids]]) -> None: ...

@final
class NativeModel:
    def __new__(
        cls,
        shape: tuple[Sequence[int], float, float],
        weights: Mapping[str, NDArray[np.float32]],
        dtype: str | None = None,
    ) -> Self: ...
    @property
    def dtype(self) -> str: ...
    @property
    def memory(self) -> int: ...
    def first(self, layers: int) -> NativeModel: ...
    def embedding(self) -> NDArray[np.float32]: ...
    def unembedding(self) -> NDArray[np.float32]: ...
    def open(
        self, rows: int, capacity: int, nodes: int, threads: int, taps: Sequence[int] | None = None
    ) -> NativeSession: ...
    def __reduce__(self) -> tuple[Any, ...]: ...
    @classmethod
    def _from_parts(
        cls,
        shape: tuple[Sequence[int], float, float],
        dtype: str,
        matrices: Sequence[tuple[int, int, NDArray[np.uint32], NDArray[np.float32]]],
        gains: Sequence[NDArray[np.float32]],
    ) -> NativeModel: ...

@final
class NativeSession:
    @property
    def lengths(self) -> _Ids: ...
    def states(self) -> NDArray[np.float32]: ...
    def forward(self, tokens: _Ids, counts: _Integers | None, last: bool) -> NDArray[np.float32]: ...
    def draft(
        self,
        tokens: _Ids,
        counts: _Integers | None,
        k: int,
        sampler: Sampler,
        seeds: _Integers,
        rows: _Integers | None,
        history: Sequence[History] | None,
        stream: int,
    ) -> tuple[_Ids, _Reals | None]: ...
    def forward_tree(self, tokens: _Ids, parents: _Ids, counts: _Integers | None) -> NDArray[np.float32]: ...
    def keep(self, path: _Ids, counts: _Integers) -> None: ...
    def truncate(self, lengths: _Integers) -> None: ...
    def select(self, rows: _Integers) -> None: ...

@final
class NativeBlock:
    def __new__(
        cls,
        shape: tuple[Sequence[int], float, float],
        sizes: Sequence[int],
        weights: Mapping[str, NDArray[np.float32]],
        dtype: str,
    ) -> Self: ...
    def open(self) -> BlockRing: ...

@final
class BlockRing:
    def read(self, states: NDArray[np.float32], first: int) -> None: ...
    def draft(
        self,
        newest: int,
        k: int,
        sampler: Sampler,
        seeds: _Integers,
        row: int,
        history: Sequence[History] | None,
        stream: int,
        costs: Sequence[float] | None,
    ) -> tuple[_Ids, _Reals, _Reals | None]: ...

@final
class Suffix:
    def __new__(cls, max_match: int = 64, corpus: SuffixCorpus | None = None, min_match: int = 1) -> Self: ...
    @property
    def max_match(self) -> int: ...
    @property
    def min_match(self) -> int: ...
    @property
    def corpus(self) -> SuffixCorpus | None: ...
    def start(self, row: int, prompt: _Tokens) -> None: ...
    def extend(self, row: int, tokens: _Tokens) -> None: ...
    def propose(self, row: int, k: int) -> tuple[_Ids, _Reals, int]: ...
    def propose_rows(self, rows: _Tokens, k: int) -> tuple[_Ids, _Reals, _Ids, _Ids]: ...
    def stop(self, row: int) -> None: ...
    def __reduce__(self) -> tuple[Any, ...]: ...
    def __setstate__(self, state: list[tuple[int, _Ids]]) -> None: ...

@final
class SuffixCorpus:
    def __new__(cls, memory_limit_bytes: int, *, max_match: int = 64) -> Self: ...
    def add(self, tokens: _Tokens) -> None: ...
    @property
    def tokens(self) -> int: ...
    @property
    def memory(self) -> int: ...
    @property
    def memory_limit_bytes(self) -> int: ...
    @property
    def max_match(self) -> int: ...
    def save(self, path: str | PathLike[str], *, index: bool = False) -> None: ...
    @staticmethod
    def load(path: str | PathLike[str]) -> SuffixCorpus: ...
    def __len__(self) -> int: ...
    def __reduce__(self) -> tuple[Any, ...]: ...
    @classmethod
    def _from_bytes(cls, bytes: bytes) -> SuffixCorpus: ...

@final
class StopStrings:
    def __new__(cls, strings: Sequence[bytes]) -> Self: ...
    @property
    def strings(self) -> list[bytes]: ...
    def feed(self, state: int, data: bytes) -> tuple[int, int, int | None]: ...
    def __reduce__(self) -> tuple[Any, ...]: ...

@final
class TokenShard:
    def __new__(cls, path: str | PathLike[str]) -> Self: ...
    @staticmethod
    def save(path: str | PathLike[str], ids: _Ids, *, bits: int) -> TokenShard: ...
    @property
    def path(self) -> Path: ...
    @property
    def bits(self) -> int: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    def read(self, start: int, stop: int) -> _Ids: ...
    def verify(self) -> None: ...
    def __len__(self) -> int: ...
    def __getitem__(self, place: int, /) -> _Ids: ...
    def __reduce__(self) -> tuple[Any, ...]: ...
