"""The kernels: from logits to tokens, and what they keep between calls; the one importer of the Rust core.

Each takes numpy arrays, tensors or arrays of other libraries that speak DLPack, and returns numpy arrays. What lies on
the CPU is borrowed by the Rust core without a copy; logits on another device go to the twin of the same name in
`foretoken.reference`, there on the device.

Logits are C-contiguous float32. Tensors of another floating dtype are converted to float32 first, which costs a copy
and, from float64, precision; numpy arrays of another dtype are refused.

They leave the interpreter to other threads, which may share the objects, and go on in a forked process. Only an object
that another thread was using at the moment of a fork is of no use to the child.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch

from .. import _rust
from .._rust import BlockRing as BlockRing
from .._rust import History as History
from .._rust import NativeBlock as NativeBlock
from .._rust import NativeModel as NativeModel
from .._rust import NativeSession as NativeSession
from .._rust import NGram as NGram
from .._rust import StopStrings as StopStrings
from .._rust import Suffix as Suffix
from .._rust import SuffixCorpus as SuffixCorpus
from ..sampler import Sampler
from .arrays import Array, Integers, borrow, to_float32
from .lattice import Bigram as Bigram
from .lattice import Chains as Chains
from .lattice import Tree as Tree
from .lattice import lattice_chains as lattice_chains
from .lattice import lattice_tree as lattice_tree
from .patch import Filter as Filter
from .patch import Patches as Patches
from .patch import Rounding as Rounding
from .patch import flat as flat
from .patch import hann as hann
from .patch import patchify as patchify
from .patch import triangle as triangle
from .patch import unpatchify as unpatchify
from .pixel import fit_palette as fit_palette
from .pixel import palette_decode as palette_decode
from .pixel import palette_encode as palette_encode
from .pixel import rgb24_decode as rgb24_decode
from .pixel import rgb24_encode as rgb24_encode
from .pixel import rgb565_decode as rgb565_decode
from .pixel import rgb565_encode as rgb565_encode
from .pixel import uniform_palette as uniform_palette
from .quantize import Nearest as Nearest
from .quantize import TokenShard as TokenShard
from .quantize import fsq_decode as fsq_decode
from .quantize import fsq_dequantize as fsq_dequantize
from .quantize import fsq_digits as fsq_digits
from .quantize import fsq_encode as fsq_encode
from .quantize import fsq_index as fsq_index
from .quantize import fsq_quantize as fsq_quantize
from .quantize import nearest as nearest
from .quantize import pack_bits as pack_bits
from .quantize import residual_decode as residual_decode
from .quantize import residual_encode as residual_encode
from .quantize import unpack_bits as unpack_bits
from .reveal import Confidences as Confidences
from .reveal import Revealed as Revealed
from .reveal import confidences as confidences
from .reveal import reveal as reveal
from .wave import Coded as Coded
from .wave import mu_law_decode as mu_law_decode
from .wave import mu_law_encode as mu_law_encode
from .wave import pcm_decode as pcm_decode
from .wave import pcm_encode as pcm_encode
from .wave import resample as resample

Compiled: TypeAlias = _rust.Sampler

_FIELDS = tuple(field.name for field in dataclasses.fields(Sampler) if field.name != "processor")


class Choices(NamedTuple):
    """What `sample` chose.

    Args:
        tokens: (rows,) int64.
        gaps: (rows,) float64, the lead of each token's score over the next best; +inf when it was the only one.
        logprobs: (rows,) float64, natural log under the raw row, or None.
        top_tokens: (rows, N) int64, the most probable tokens of the raw row, or None.
        top_logprobs: (rows, N) float64 in descending order, or None.
    """

    tokens: np.ndarray
    gaps: np.ndarray
    logprobs: np.ndarray | None
    top_tokens: np.ndarray | None
    top_logprobs: np.ndarray | None


class Verified(NamedTuple):
    """What `verify` emitted; row r holds accepted[r] + 1 tokens, then padding.

    Args:
        tokens: (rows, k+1) int64, padded with -1.
        accepted: (rows,) int64, how many drafted tokens each row accepted.
        path: (rows, k) int64, the places of the accepted tokens in the draft, each the parent of the next; padded
            with -1.
        gaps: (rows, k+1) float64, the lead of each token's score over the next best; +inf where nothing competed.
        logprobs: (rows, k+1) float64 under the raw rows, padded with -inf, or None.
        top_tokens: (rows, k+1, N) int64, the most probable tokens of the raw rows, padded with -1, or None.
        top_logprobs: (rows, k+1, N) float64 in descending order, padded with -inf, or None.
    """

    tokens: np.ndarray
    accepted: np.ndarray
    path: np.ndarray
    gaps: np.ndarray
    logprobs: np.ndarray | None
    top_tokens: np.ndarray | None
    top_logprobs: np.ndarray | None


def compile_sampler(
    sampler: Sampler, *, vocab_size: int, end_tokens: Sequence[int] = (), min_tokens: int = 0
) -> Compiled:
    """Check a sampler against a vocabulary and hand it to the core; built once a generation.

    Args:
        sampler: what is done to logits; its `processor` is left out, the caller runs it on the logits before.
        vocab_size: columns of the logits, in [1, 2^31].
        end_tokens: ids that may not be drawn while a row's output is shorter than `min_tokens`.
        min_tokens: ≥ 0.

    Raises:
        InvalidArgument: an id is outside the vocabulary, or a number out of range.

    Example:
        >>> compile_sampler(Sampler(top_k=50), vocab_size=1000).top_k
        50
    """
    fields = {name: getattr(sampler, name) for name in _FIELDS}
    return _rust.Sampler(vocab_size=vocab_size, end_tokens=end_tokens, min_tokens=min_tokens, **fields)


def sample(
    logits: Array,
    sampler: Compiled,
    *,
    seeds: Integers,
    positions: Integers,
    rows: Integers | None = None,
    history: Sequence[History] | None = None,
    logprobs: int | None = None,
    stream: int = 0,
    commit: bool = True,
    threads: int = 1,
) -> Choices:
    """Choose one token for each row of logits: the argmax of processed logits plus noise.

    Args:
        logits: (rows, vocabulary) float32, or (rows, 1, vocabulary) as models return them. -inf is never
            drawn, a +inf for certain; any other number counts as it is, subnormals and the largest ones, too.
        sampler: what `compile_sampler` returns.
        seeds: (rows,) integers in 0..2^64.
        positions: (rows,) where in its text each new token stands, in 0..2^32.
        rows: (rows,) which sample of its prompt each row is, in 0..2^32; zeros unless given.
        history: the past of each row; empty unless given.
        logprobs: how many of the most probable tokens to report besides the chosen one, or None for no report.
        stream: the noise that decides: 0 to choose; from 4 on, up to 2^31, for drafters whose guesses face the ratio
            test. Whatever is drawn for one draft, and for the next if whole blocks are judged, needs its own.
        commit: whether the tokens are added to the histories, once every row has succeeded.
        threads: over how many the rows are spread, ≥ 1; ignored for logits on another device.

    Raises:
        LogitsError: a row holds NaN, two +inf, or nothing that may be drawn.
        ShapeError, ArgumentTypeError, InvalidArgument: an argument is not as above.

    Example:
        >>> greedy = compile_sampler(Sampler(temperature=0), vocab_size=3)
        >>> sample(torch.tensor([[0.0, 2.0, 1.5]]), greedy, seeds=[0], positions=[0]).tokens
        array([1])
    """
    array = borrow(logits)
    if array is None:
        from ..reference.sample import sample as twin

        keys = _keys(seeds, positions, rows, history)
        return Choices(*_on_device(twin, logits, sampler, **keys, logprobs=logprobs, stream=stream, commit=commit))
    if array.ndim == 3 and array.shape[1] == 1:
        array = array[:, 0]
    return Choices(*_rust.sample(array, sampler, seeds, positions, rows, history, logprobs, stream, commit, threads))


def verify(
    logits: Array,
    draft: Array,
    sampler: Compiled,
    *,
    seeds: Integers,
    positions: Integers,
    lengths: Integers | None = None,
    parents: Array | None = None,
    rows: Integers | None = None,
    rejection: bool = False,
    block: bool = False,
    draft_probs: Array | tuple[Array, Array] | None = None,
    history: Sequence[History] | None = None,
    logprobs: int | None = None,
    threads: int = 1,
) -> Verified:
    """Emit the accepted part of each row's draft and one token more, and add them to the histories.

    By default a drafted token is accepted if it is the token that `sample` would choose there, so that the output does
    not depend on the draft. With `rejection` it faces the ratio test of Leviathan et al. (2211.17192), one sibling
    after another (2305.09781), and with `block` the whole chain does (2403.10444): then the output has the same law,
    and never accepts less on average.

    A draft is a chain unless `parents` says otherwise; several drafts are a tree with several chains. Tokens that are
    the same and follow the same text count as one, whichever parents lead there: what follows any of them follows all.

    Args:
        logits: (rows, k+1, vocabulary) float32; place 0 follows the text, place i+1 follows drafted token i.
        draft: (rows, k) int64 drafted tokens.
        sampler: what `compile_sampler` returns; it sees each accepted token before it judges the next.
        seeds: (rows,) integers in 0..2^64.
        positions: (rows,) of the first new token, in 0..2^32 - k.
        lengths: (rows,) how many tokens each row drafted, in 0..=k; k unless given.
        parents: (rows, k) int64, the place of the drafted token before each, less than its own, or -1 for the text.
        rows: (rows,) which sample of its prompt each row is; zeros unless given.
        rejection: the ratio test instead of equality.
        block: the ratio test of whole blocks; then every place is looked at, up to the first token that cannot be
            drawn, and so are the draws: each draft needs noise of its own.
        draft_probs: (rows, k, vocabulary) float64, what each token was drawn from, given its parents and the siblings
            before it; or a pair (ids (rows, k, m) int64, float64 of the same shape) that leaves out tokens without
            probability, with -1 as padding. Only the ratio test reads it; it takes tokens for certain unless given.
        history: the past of each row; empty unless given.
        logprobs: how many of the most probable tokens to report besides the chosen one, or None for no report.
        threads: over how many the rows are spread, ≥ 1; ignored for logits on another device.

    Raises:
        DraftError: a drafted token is outside the vocabulary, a parent does not stand before it, or draft_probs are
            no law that could have drawn it.
        LogitsError: a row that is reached holds NaN, two +inf, or nothing that may be drawn.
        InvalidArgument: `block` is given with `parents`, or without `rejection`.
        ShapeError, ArgumentTypeError, InvalidArgument: an argument is not as above.

    Example:
        >>> greedy = compile_sampler(Sampler(temperature=0), vocab_size=3)
        >>> logits = torch.tensor([[[0.0, 2.0, 1.5], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]])
        >>> out = verify(logits, np.array([[1, 2]]), greedy, seeds=[0], positions=[0])
        >>> out.tokens, out.accepted
        (array([[ 1,  0, -1]]), array([1]))
        >>> out = verify(logits, np.array([[2, 1]]), greedy, seeds=[0], positions=[0], parents=np.array([[-1, -1]]))
        >>> out.tokens, out.path
        (array([[ 1,  2, -1]]), array([[ 1, -1]]))
    """
    array = borrow(logits)
    if array is None:
        from ..reference.verify import verify as twin

        assert isinstance(logits, torch.Tensor)
        keys = _keys(seeds, positions, rows, history)
        there = functools.partial(torch.as_tensor, device=logits.device)
        laws = tuple(map(there, draft_probs)) if isinstance(draft_probs, tuple) else draft_probs
        judged = {
            "lengths": lengths, "parents": None if parents is None else there(parents), "rejection": rejection,
            "block": block, "draft_probs": there(laws) if isinstance(laws, Array) else laws, "logprobs": logprobs,
        }  # fmt: skip
        return Verified(*_on_device(twin, logits, there(draft), sampler, **keys, **judged))
    ids, probs = draft_probs if isinstance(draft_probs, tuple) else (None, draft_probs)
    accepted, path, (tokens, *others) = _rust.verify(
        array, _host(draft), sampler, seeds, positions, lengths, _host(parents), rows, rejection, block,
        _host(probs), _host(ids), history, logprobs, threads,
    )  # fmt: skip
    return Verified(tokens, accepted, path, *others)


def _host(array: Any) -> Any:
    """A tensor as an array; anything else as it is."""
    return array.cpu().numpy() if isinstance(array, torch.Tensor) else array


def process(
    logits: Array,
    sampler: Compiled,
    *,
    seeds: Integers,
    positions: Integers,
    rows: Integers | None = None,
    history: Sequence[History] | None = None,
) -> np.ndarray:
    """The law (rows, vocabulary) float64 that `sample` would draw from; arguments and errors are those of `sample`.

    Under XTC it is the law given whether XTC happens there, which noise has decided. Nothing is committed.

    Example:
        >>> sampler = compile_sampler(Sampler(top_k=1), vocab_size=3)
        >>> process(torch.tensor([[0.0, 2.0, 1.5]]), sampler, seeds=[0], positions=[0])
        array([[0., 1., 0.]])
    """
    array = borrow(logits)
    if array is None:
        from ..reference.sample import process as twin

        return _on_device(twin, logits, sampler, **_keys(seeds, positions, rows, history))[0]
    return _rust.process(array, sampler, seeds, positions, rows, history)


def process_sparse(
    logits: Array,
    sampler: Compiled,
    *,
    seeds: Integers,
    positions: Integers,
    rows: Integers | None = None,
    history: Sequence[History] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The law of `process` as the tokens that may be drawn, which after a truncation are few.

    Returns:
        ids (rows, m) int64, rising, padded with -1, and their probabilities (rows, m) float64, padded with 0: what
        `verify` takes as `draft_probs`, with an axis for the drafted tokens.

    Example:
        >>> sampler = compile_sampler(Sampler(top_k=2), vocab_size=3)
        >>> ids, law = process_sparse(torch.tensor([[0.0, 2.0, 2.0]]), sampler, seeds=[0], positions=[0])
        >>> ids.tolist(), law.tolist()
        ([[1, 2]], [[0.5, 0.5]])
    """
    array = borrow(logits)
    if array is None:
        law = process(logits, sampler, seeds=seeds, positions=positions, rows=rows, history=history)
        width = int((law > 0).sum(axis=1).max(initial=0))
        ids = np.argsort(law == 0, axis=1, kind="stable")[:, :width]
        probs = np.take_along_axis(law, ids, axis=1)
        return np.where(probs > 0, ids, -1), probs
    return _rust.process_sparse(array, sampler, seeds, positions, rows, history)


def _on_device(twin: Any, logits: Any, *others: Any, **keywords: Any) -> list[Any]:
    """What a twin returns for logits on a device, as arrays; its tokens are few, so fetching them is cheap."""
    result = twin(to_float32(logits), *others, **keywords)
    parts = [result] if isinstance(result, torch.Tensor) else result
    return [None if part is None else part.cpu().numpy() for part in parts]


def _keys(seeds: Any, positions: Any, rows: Any, history: Any) -> dict[str, Any]:
    return {"seeds": seeds, "positions": positions, "rows": rows, "history": history}
