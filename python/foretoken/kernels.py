"""The kernels: from logits to tokens, and what they keep between calls; the one importer of the Rust core.

Each takes numpy arrays or tensors and returns numpy arrays. What lies on the CPU is borrowed by the Rust core without a
copy; logits on another device go to the twin of the same name in `foretoken.reference`, there on the device.

Logits are C-contiguous float32. Tensors of another floating dtype are converted to float32 first, which costs a copy
and, from float64, precision; numpy arrays of another dtype are refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch

from . import _rust
from ._rust import History as History
from ._rust import NGram as NGram
from ._rust import StopStrings as StopStrings
from ._rust import Suffix as Suffix
from ._rust import SuffixCorpus as SuffixCorpus
from .errors import ArgumentTypeError
from .sampler import Sampler

Array: TypeAlias = np.ndarray | torch.Tensor
Integers: TypeAlias = Sequence[int] | np.ndarray | torch.Tensor
Compiled: TypeAlias = _rust.Sampler

_FIELDS = tuple(field.name for field in dataclasses.fields(Sampler) if field.name != "processor")
_FLOAT32 = np.dtype(np.float32)
_FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


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
        gaps: (rows, k+1) float64, the lead of each token's score over the next best; +inf where nothing competed.
        logprobs: (rows, k+1) float64 under the raw rows, padded with -inf, or None.
        top_tokens: (rows, k+1, N) int64, the most probable tokens of the raw rows, padded with -1, or None.
        top_logprobs: (rows, k+1, N) float64 in descending order, padded with -inf, or None.
    """

    tokens: np.ndarray
    accepted: np.ndarray
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
        logits: (rows, vocabulary) float32, or (rows, 1, vocabulary) as models return them.
        sampler: what `compile_sampler` returns.
        seeds: (rows,) integers in 0..2^64.
        positions: (rows,) where in its text each new token stands, in 0..2^32.
        rows: (rows,) which sample of its prompt each row is, in 0..2^32; zeros unless given.
        history: the past of each row; empty unless given.
        logprobs: how many of the most probable tokens to report besides the chosen one, or None for no report.
        stream: the noise that decides: 0 to choose, 4 for a drafter whose guesses face the ratio test.
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
    array = _borrow(logits)
    if array is None:
        from .reference.sample import sample as twin

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
    rows: Integers | None = None,
    rejection: bool = False,
    draft_probs: Array | None = None,
    history: Sequence[History] | None = None,
    logprobs: int | None = None,
    threads: int = 1,
) -> Verified:
    """Emit the accepted part of each row's draft and one token more, and add them to the histories.

    By default a drafted token is accepted if it is the token that `sample` would choose there, so that the output does
    not depend on the draft. With `rejection` it faces the ratio test of Leviathan et al. (2211.17192).

    Args:
        logits: (rows, k+1, vocabulary) float32; place i follows the text and the first i drafted tokens.
        draft: (rows, k) int64 drafted tokens.
        sampler: what `compile_sampler` returns; it sees each accepted token before it judges the next.
        seeds: (rows,) integers in 0..2^64.
        positions: (rows,) of the first new token, in 0..2^32 - k.
        lengths: (rows,) how many tokens each row drafted, in 0..=k; k unless given.
        rows: (rows,) which sample of its prompt each row is; zeros unless given.
        rejection: the ratio test instead of equality.
        draft_probs: (rows, k, vocabulary) float64, what the tokens were drawn from; only the ratio test reads it, and
            takes the tokens for certain unless given.
        history: the past of each row; empty unless given.
        logprobs: how many of the most probable tokens to report besides the chosen one, or None for no report.
        threads: over how many the rows are spread, ≥ 1; ignored for logits on another device.

    Raises:
        DraftError: a drafted token is outside the vocabulary, or draft_probs are no law that could have drawn it.
        LogitsError: a row that is reached holds NaN, two +inf, or nothing that may be drawn.
        ShapeError, ArgumentTypeError, InvalidArgument: an argument is not as above.

    Example:
        >>> greedy = compile_sampler(Sampler(temperature=0), vocab_size=3)
        >>> logits = torch.tensor([[[0.0, 2.0, 1.5], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]])
        >>> out = verify(logits, np.array([[1, 2]]), greedy, seeds=[0], positions=[0])
        >>> out.tokens, out.accepted
        (array([[ 1,  0, -1]]), array([1]))
    """
    array = _borrow(logits)
    if array is None:
        from .reference.verify import verify as twin

        assert isinstance(logits, torch.Tensor)
        keys = _keys(seeds, positions, rows, history)
        guesses = torch.as_tensor(draft, device=logits.device)
        laws = None if draft_probs is None else torch.as_tensor(draft_probs, device=logits.device)
        judged = {"lengths": lengths, "rejection": rejection, "draft_probs": laws, "logprobs": logprobs}
        return Verified(*_on_device(twin, logits, guesses, sampler, **keys, **judged))
    if isinstance(draft, torch.Tensor):
        draft = draft.cpu().numpy()
    if isinstance(draft_probs, torch.Tensor):
        draft_probs = draft_probs.cpu().numpy()
    accepted, (tokens, *others) = _rust.verify(
        array, draft, sampler, seeds, positions, lengths, rows, rejection, draft_probs, history, logprobs, threads
    )
    return Verified(tokens, accepted, *others)


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
    array = _borrow(logits)
    if array is None:
        from .reference.sample import process as twin

        return _on_device(twin, logits, sampler, **_keys(seeds, positions, rows, history))[0]
    return _rust.process(array, sampler, seeds, positions, rows, history)


def _borrow(logits: Any) -> np.ndarray | None:
    """The memory of logits on the CPU as an array, without a copy but for a conversion; None if on another device."""
    if type(logits) is np.ndarray:
        return logits
    try:
        # Asked first, because each look at a tensor's device, dtype or gradient takes a tenth of a microsecond.
        array = logits.numpy()
        if array.dtype is _FLOAT32:
            return array
    except (AttributeError, RuntimeError, TypeError):
        pass  # another device, a dtype that numpy lacks, a gradient, or no tensor: looked at one by one below
    if not isinstance(logits, torch.Tensor):
        raise ArgumentTypeError(f"logits is a {type(logits).__name__}: give a numpy array or a tensor of float32")
    return _to_float32(logits).numpy() if logits.is_cpu else None


def _to_float32(logits: torch.Tensor) -> torch.Tensor:
    if logits.dtype not in _FLOATS:
        raise ArgumentTypeError(f"logits is {logits.dtype}: give one of {', '.join(map(str, _FLOATS))}")
    if logits.is_meta or logits.layout is not torch.strided:
        raise ArgumentTypeError("logits is a meta or sparse tensor, without numbers to borrow: give a dense one")
    return logits.detach().float()


def _on_device(twin: Any, logits: Any, *others: Any, **keywords: Any) -> list[Any]:
    """What a twin returns for logits on a device, as arrays; its tokens are few, so fetching them is cheap."""
    result = twin(_to_float32(logits), *others, **keywords)
    parts = [result] if isinstance(result, torch.Tensor) else result
    return [None if part is None else part.cpu().numpy() for part in parts]


def _keys(seeds: Any, positions: Any, rows: Any, history: Any) -> dict[str, Any]:
    return {"seeds": seeds, "positions": positions, "rows": rows, "history": history}
