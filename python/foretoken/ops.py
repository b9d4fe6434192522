"""`sample` and `verify` as operators of PyTorch: they may stand in code that `torch.compile` or `torch.export` reads.

They are the kernels of the same name for what needs no past: no penalties, DRY, Mirostat or `min_tokens`. A sampler is
handed over as its key, a string, because a graph holds no objects of ours:

    key = ft.ops.key(ft.Sampler(temperature=0.8, top_p=0.95))
    tokens = ft.ops.sample(logits, seeds, positions, key)

They also answer to `torch.ops.foretoken.sample` and `torch.ops.foretoken.verify` once this package is imported.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from typing import Any

import torch
from torch import Tensor

from . import kernels
from .errors import InvalidArgument
from .sampler import Sampler

_FIELDS = {field.name: field for field in dataclasses.fields(Sampler) if field.name != "processor"}
_OF_THE_PAST = ("repetition_penalty", "presence_penalty", "frequency_penalty", "dry_multiplier", "mirostat_tau")


def key(sampler: Sampler) -> str:
    """A sampler as a string, equal for equal samplers: JSON of the fields that are not at their defaults.

    Raises:
        InvalidArgument: it has a processor, or something in it depends on the tokens before.

    Example:
        >>> key(Sampler(temperature=0.8, top_k=50))
        '{"temperature": 0.8, "top_k": 50}'
    """
    if sampler.processor is not None:
        raise InvalidArgument("a processor is Python, which no operator calls: run it on the logits before")
    fields = dataclasses.asdict(dataclasses.replace(sampler, logit_bias={}))
    fields["logit_bias"] = sorted(dict(sampler.logit_bias).items())
    changed = {name: fields[name] for name, field in _FIELDS.items() if fields[name] != _default(field)}
    past = [name for name in _OF_THE_PAST if name in changed]
    if any(len(word) > 1 for word in sampler.bad_words):
        past.append("bad_words")
    if past:
        raise InvalidArgument(f"{past[0]} depends on the tokens before, which operators do not see: use ft.kernels")
    return json.dumps(changed)


def _default(field: dataclasses.Field) -> Any:
    made = field.default_factory() if field.default is dataclasses.MISSING else field.default  # pyright: ignore
    return [] if field.name == "logit_bias" else made


@functools.lru_cache(maxsize=64)
def _compiled(key: str, vocab_size: int) -> kernels.Compiled:
    fields: dict[str, Any] = json.loads(key)
    if "logit_bias" in fields:
        fields["logit_bias"] = dict(fields["logit_bias"])
    return kernels.compile_sampler(Sampler(**fields), vocab_size=vocab_size)


@torch.library.custom_op("foretoken::sample", mutates_args=())
def sample(logits: Tensor, seeds: Tensor, positions: Tensor, key: str) -> Tensor:
    """Choose one token for each row of logits, as `kernels.sample` does.

    Args:
        logits: (rows, vocabulary) float32, bfloat16 or float16.
        seeds: (rows,) int64, ≥ 0.
        positions: (rows,) int64, where in its text each new token stands, in 0..2^32.
        key: what `key` returns.

    Returns:
        (rows,) int64.

    Raises:
        LogitsError: a row holds NaN, two +inf, or nothing that may be drawn.
        ShapeError, InvalidArgument: an argument is not as above.

    Example:
        >>> logits = torch.tensor([[0.0, 2.0, 1.5]])
        >>> sample(logits, torch.tensor([7]), torch.tensor([0]), key(Sampler(temperature=0)))
        tensor([1])
    """
    out = kernels.sample(
        logits.contiguous(), _compiled(key, logits.shape[-1]), seeds=seeds.tolist(), positions=positions.tolist()
    )
    return torch.from_numpy(out.tokens).to(logits.device)


@sample.register_fake
def _(logits: Tensor, seeds: Tensor, positions: Tensor, key: str) -> Tensor:
    return positions.new_empty(logits.shape[:1], dtype=torch.int64, device=logits.device)


@torch.library.custom_op("foretoken::verify", mutates_args=())
def verify(logits: Tensor, draft: Tensor, seeds: Tensor, positions: Tensor, key: str) -> tuple[Tensor, Tensor]:
    """Emit the accepted part of each row's draft and one token more, as `kernels.verify` does under `Coupled`.

    Args:
        logits: (rows, k+1, vocabulary) float32, bfloat16 or float16; place i follows the first i drafted tokens.
        draft: (rows, k) int64.
        seeds, positions, key: as for `sample`; positions are those of the first new tokens.

    Returns:
        tokens (rows, k+1) int64, padded with -1, and how many drafted tokens each row accepted, (rows,) int64.

    Raises:
        DraftError: a drafted token is outside the vocabulary.
        LogitsError, ShapeError, InvalidArgument: as for `sample`.

    Example:
        >>> logits = torch.tensor([[[0.0, 2.0, 1.5], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]])
        >>> verify(logits, torch.tensor([[1, 2]]), torch.tensor([7]), torch.tensor([0]), key(Sampler(temperature=0)))
        (tensor([[ 1,  0, -1]]), tensor([1]))
    """
    compiled = _compiled(key, logits.shape[-1])
    out = kernels.verify(logits.contiguous(), draft.cpu(), compiled, seeds=seeds.tolist(), positions=positions.tolist())
    return torch.from_numpy(out.tokens).to(logits.device), torch.from_numpy(out.accepted).to(logits.device)


@verify.register_fake
def _(logits: Tensor, draft: Tensor, seeds: Tensor, positions: Tensor, key: str) -> tuple[Tensor, Tensor]:
    tokens = draft.new_empty(logits.shape[:2], dtype=torch.int64, device=logits.device)
    return tokens, tokens.new_empty(logits.shape[:1])
