"""What the kernels cost beside what people use today: one row of logits to one token, and a block of guesses verified.

Both sides get the same rows, on one thread unless said, and take turns; a call's time is the median over repeats. The
floor is one pass that only finds a row's maximum.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import numpy as np
import torch

from .. import kernels
from ..errors import InvalidArgument
from ..sampler import Sampler
from .report import Report, Table

CHAINS: dict[str, dict[str, Any]] = {
    "T, k, p": {"temperature": 0.8, "top_k": 50, "top_p": 0.95},
    "T, p": {"temperature": 0.8, "top_p": 0.95},
    "T": {"temperature": 0.8},
    "everything": {
        "repetition_penalty": 1.1, "presence_penalty": 0.1, "frequency_penalty": 0.1, "dry_multiplier": 0.8,
        "logit_bias": {7: 1.0}, "temperature": 0.8, "top_k": 50, "top_p": 0.95, "min_p": 0.02,
    },
}  # fmt: skip
"""What is done to a row."""

PAST = 2048
DRAFTED = 5
BLOCK_SECONDS = 0.002  # of calls that are timed together


def rows(kind: str, count: int, vocabulary: int, *, seed: int = 0) -> torch.Tensor:
    """Rows of logits (count, vocabulary) float32.

    Args:
        kind: "model", whose probabilities fall as (rank + 2)^-1.5, in random order, much as a language model's do, or
            "normal" for the standard normal law, which no model has: its nuclei are a large part of the vocabulary.
        count, vocabulary: ≥ 1.
        seed: of numpy's generator.

    Example:
        >>> rows("model", 2, 1000).shape
        torch.Size([2, 1000])
    """
    generator = np.random.default_rng(seed)
    if kind == "normal":
        made = generator.standard_normal((count, vocabulary), dtype=np.float32)
    elif kind == "model":
        ranked = -1.5 * np.log(np.arange(vocabulary) + 2.0)
        made = generator.permuted(np.tile(ranked.astype(np.float32), (count, 1)), axis=1)
        made += generator.normal(0, 0.1, made.shape).astype(np.float32)  # no two rows hold the same numbers
    else:
        raise InvalidArgument(f"kind is {kind!r}: give 'model' or 'normal'")
    return torch.from_numpy(made)


def times(contenders: dict[str, Callable[[int], object]], *, repeats: int) -> dict[str, float]:
    """Median seconds of a call of each, called with 0, 1, 2, …; blocks of calls take turns."""
    blocks: dict[str, int] = {}
    for name, call in contenders.items():
        call(0)
        started = perf_counter()
        call(1)
        blocks[name] = max(1, int(BLOCK_SECONDS / (perf_counter() - started)))
    seen: dict[str, list[float]] = {name: [] for name in contenders}
    for repeat in range(repeats):
        for name, call in contenders.items():
            started = perf_counter()
            for index in range(blocks[name]):
                call(repeat * blocks[name] + index)
            seen[name].append((perf_counter() - started) / blocks[name])
    return {name: statistics.median(seconds) for name, seconds in seen.items()}


def sampler(chain: str, vocabulary: int) -> kernels.Compiled:
    """One of `CHAINS`, compiled."""
    return kernels.compile_sampler(Sampler(**CHAINS[chain]), vocab_size=vocabulary)


def past(vocabulary: int) -> np.ndarray:
    """Tokens that were seen before."""
    return np.random.default_rng(1).integers(0, vocabulary, PAST)


def ours(chain: str, logits: torch.Tensor, *, threads: int = 1) -> Callable[[int], object]:
    """One call of `kernels.sample` on each row of (calls, rows, vocabulary) in turn."""
    calls, count, vocabulary = logits.shape
    compiled = sampler(chain, vocabulary)
    history = None
    if chain == "everything":
        history = [kernels.History() for _ in range(count)]
        for row in history:
            row.extend(past(vocabulary))
    seeds = list(range(count))

    def call(index: int) -> object:
        where = [index] * count
        return kernels.sample(
            logits[index % calls],
            compiled,
            seeds=seeds,
            positions=where,
            history=history,
            commit=False,
            threads=threads,
        )

    return call


def theirs(chain: str, logits: torch.Tensor) -> Callable[[int], object]:
    """The same with transformers' processors, `softmax` and `multinomial`; the chain "everything" as far as it goes."""
    from transformers.generation import logits_process as hf

    fields, (calls, count, vocabulary) = CHAINS[chain], logits.shape
    seen = torch.from_numpy(past(vocabulary)).expand(count, -1).contiguous()
    chosen: list[Any] = []
    if chain == "everything":
        chosen += [hf.SequenceBiasLogitsProcessor([[[7], 1.0]]), hf.RepetitionPenaltyLogitsProcessor(1.1)]
    chosen.append(hf.TemperatureLogitsWarper(fields["temperature"]))
    if "top_k" in fields:
        chosen.append(hf.TopKLogitsWarper(fields["top_k"]))
    if "top_p" in fields:
        chosen.append(hf.TopPLogitsWarper(fields["top_p"]))
    if "min_p" in fields:
        chosen.append(hf.MinPLogitsWarper(fields["min_p"]))

    def call(index: int) -> object:
        scores = logits[index % calls]
        for processor in chosen:
            scores = processor(seen, scores)
        return torch.multinomial(scores.softmax(dim=-1), 1)

    return call


def choices(vocabularies: Sequence[int], *, repeats: int, peer: bool) -> tuple[Table, dict[str, Any]]:
    """Every chain at every vocabulary: ours from cache and from memory, the floor, and transformers."""
    lines, results = [], {}
    for vocabulary in vocabularies:
        for kind in ("model", "normal"):
            cold = rows(kind, max(2, 2**24 // vocabulary), vocabulary)[:, None]  # 64 MB: no cache holds them
            hot = cold[:1]
            floor = times(_floors(hot, cold), repeats=repeats)
            for chain in CHAINS:
                contenders = {"hot": ours(chain, hot), "cold": ours(chain, cold)}
                if peer:
                    contenders["transformers"] = theirs(chain, hot)
                found = times(contenders, repeats=repeats)
                ratio = found["transformers"] / found["hot"] if peer else None
                of_floor = [found[where] / floor[where] for where in ("hot", "cold")]
                micro = {name: 1e6 * seconds for name, seconds in found.items()}
                lines.append(
                    (f"{vocabulary:,}, {kind}: {chain}", micro["hot"], micro["cold"], *of_floor,
                     micro.get("transformers"), ratio)
                )  # fmt: skip
                results[f"{vocabulary}, {kind}, {chain}"] = {
                    **{f"{name} µs": round(value, 2) for name, value in micro.items()},
                    "hot floor µs": round(1e6 * floor["hot"], 2),
                    "cold floor µs": round(1e6 * floor["cold"], 2),
                    "times transformers": None if ratio is None else round(ratio, 1),
                }
    head = ("one row to one token, µs", "from cache", "memory", "× floor", "× floor", "transformers", "times")
    return Table("sample, one thread", head, lines), results


def _floors(hot: torch.Tensor, cold: torch.Tensor) -> dict[str, Callable[[int], object]]:
    arrays = {"hot": hot.numpy(), "cold": cold.numpy()}
    return {name: lambda index, array=array: array[index % len(array)].max() for name, array in arrays.items()}


def verification(vocabulary: int, *, repeats: int, peer: bool) -> tuple[Table, dict[str, Any]]:
    """`DRAFTED` tokens: the target's and the drafter's rows are warped and the guesses judged."""
    chain, compiled = "T, k, p", sampler("T, k, p", vocabulary)
    target = rows("model", DRAFTED + 1, vocabulary)
    drafter = target[:-1] + 0.3 * torch.randn(DRAFTED, vocabulary, generator=torch.Generator().manual_seed(2))
    keys: dict[str, Any] = {"seeds": [5] * DRAFTED, "positions": list(range(DRAFTED))}
    guesses = kernels.sample(drafter, compiled, **keys).tokens[None]

    def coupled(index: int) -> object:
        return kernels.verify(target[None], guesses, compiled, seeds=[index], positions=[0])

    def rejection(index: int) -> object:
        ids, law = kernels.process_sparse(drafter, compiled, **keys)
        laws = ids[None], law[None]
        return kernels.verify(
            target[None], guesses, compiled, seeds=[index], positions=[0], rejection=True, draft_probs=laws
        )

    contenders: dict[str, Callable[[int], object]] = {"Coupled": coupled, "Rejection": rejection}
    if peer:
        contenders["transformers"] = _speculative(chain, target, drafter, guesses)
    found = times(contenders, repeats=repeats)
    base = found.get("transformers")
    lines = [(name, 1e6 * s, None if base is None else base / s) for name, s in found.items()]
    results = {name: {"µs": round(1e6 * s, 1), "times": None if base is None else round(base / s, 1)}
               for name, s in found.items()}  # fmt: skip
    return Table(f"{DRAFTED} drafted tokens at {vocabulary:,}", ("verify", "µs", "times transformers"), lines), results


def _speculative(
    chain: str, target: torch.Tensor, drafter: torch.Tensor, guesses: np.ndarray
) -> Callable[[int], object]:
    from transformers.generation import logits_process as hf
    from transformers.generation.utils import _speculative_sampling

    fields = CHAINS[chain]
    chosen = [
        hf.TemperatureLogitsWarper(fields["temperature"]),
        hf.TopKLogitsWarper(fields["top_k"]),
        hf.TopPLogitsWarper(fields["top_p"]),
    ]
    ids = torch.from_numpy(guesses)

    def warped(rows: torch.Tensor) -> torch.Tensor:
        scores: Any = rows
        for processor in chosen:
            scores = processor(ids, scores)
        return scores

    def call(index: int) -> object:
        return _speculative_sampling(ids, warped(drafter)[None], DRAFTED, warped(target)[None], False)

    return call


def threads(vocabulary: int, *, repeats: int) -> tuple[Table, dict[str, Any]]:
    """Eight rows on one thread and on two."""
    logits = rows("model", 8, vocabulary)[None]
    contenders = {f"{n}": ours("T, k, p", logits, threads=n) for n in (1, 2)}
    found = times(contenders, repeats=repeats)
    ratio = found["1"] / found["2"]
    lines = [(f"{name} threads", 1e6 * seconds, found["1"] / seconds) for name, seconds in found.items()]
    results = {"one µs": round(1e6 * found["1"], 1), "two µs": round(1e6 * found["2"], 1), "times": round(ratio, 3)}
    return Table(f"8 rows at {vocabulary:,}", ("sample", "µs", "times one"), lines), results


def report(vocabularies: Sequence[int], *, repeats: int = 15, peer: bool = True) -> Report:
    """All of the above; torch works on one thread meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        parts = {
            "sample": choices(vocabularies, repeats=repeats, peer=peer),
            "verify": verification(vocabularies[-1], repeats=repeats, peer=peer),
            "threads": threads(vocabularies[-1], repeats=repeats),
        }
    finally:
        torch.set_num_threads(before)
    settings = {"vocabularies": list(vocabularies), "repeats": repeats, "dtype": "float32", "past": PAST}
    results = {name: found for name, (_, found) in parts.items()}
    return Report("kernels", settings, [table for table, _ in parts.values()], results)


def main(arguments: Sequence[str] | None = None) -> Report:
    """Print the tables, and a line of JSON as the last one."""
    parser = argparse.ArgumentParser(prog="foretoken bench kernels", description="What the kernels cost.")
    parser.add_argument("--vocabulary", type=int, action="append", help="may be repeated (default: 32000, 128256)")
    parser.add_argument("--repeats", type=int, default=15, help="whose median counts (default: 15)")
    parser.add_argument("--no-peer", action="store_true", help="leave transformers out")
    chosen = parser.parse_args(arguments)
    made = report(chosen.vocabulary or [32_000, 128_256], repeats=chosen.repeats, peer=not chosen.no_peer)
    made.show()
    return made
