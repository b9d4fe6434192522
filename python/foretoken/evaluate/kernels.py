"""What the kernels cost beside what people use today: one row of logits to one token, and a block of guesses verified.

Both sides get the same rows, on one thread unless said, and take turns; a call's time is the median over repeats. The
floor is one pass that only finds a row's maximum.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from .. import kernels
from ..sampler import Sampler
from . import peers
from .report import Report, Table, asked
from .rows import Call, floors, out_of_cache, rows, times

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

PEERS = ("transformers", "softmax, multinomial", "llama.cpp", "llama.cpp, T last")
"""Who else takes a row to a token; llama.cpp without the copy of its candidates."""

FLOORS = ("hot floor", "cold floor")
"""One pass over the row from cache, and from memory."""

PAST = 2048
DRAFTED = 5


def sampler(chain: str, vocabulary: int) -> kernels.Compiled:
    """One of `CHAINS`, compiled."""
    return kernels.compile_sampler(Sampler(**CHAINS[chain]), vocab_size=vocabulary)


def past(vocabulary: int) -> np.ndarray:
    """Tokens that were seen before."""
    return np.random.default_rng(1).integers(0, vocabulary, PAST)


def ours(chain: str, logits: torch.Tensor, *, threads: int = 1) -> Call:
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


def choices(vocabularies: Sequence[int], *, repeats: int, peer: bool) -> tuple[list[Table], dict[str, Any]]:
    """Every chain at every vocabulary: ours from cache and from memory, the floor, and what others do."""
    ours_lines, their_lines, results = [], [], {}
    for vocabulary in vocabularies:
        for kind in ("model", "normal"):
            cold = out_of_cache(kind, vocabulary)
            hot = cold[:1]
            for chain in CHAINS:
                contenders = {"hot": ours(chain, hot), "cold": ours(chain, cold)} | floors(hot, cold)
                found = times(contenders | (others(chain, hot) if peer else {}), repeats=repeats)
                without_copies(found)
                micro = {name: 1e6 * seconds for name, seconds in found.items()}
                ratios = {name: found[name] / found["hot"] for name in PEERS if name in found}
                of_floor = {f"times {where}": found[where.split()[0]] / found[where] for where in FLOORS}
                name = f"{vocabulary:,}, {kind}: {chain}"
                ours_lines.append((name, micro["hot"], micro["cold"], *of_floor.values()))
                their_lines.append((name, *(value for peer in PEERS for value in (micro.get(peer), ratios.get(peer)))))
                results[f"{vocabulary}, {kind}, {chain}"] = {
                    **{f"{name} µs": round(value, 2) for name, value in micro.items()},
                    **{where: round(value, 2) for where, value in of_floor.items()},
                    **{f"times {name}": round(value, 1) for name, value in ratios.items()},
                }
    head = ("ours, µs", "from cache", "from memory", "× floor, cache", "× floor, memory")
    their_head = ("others from cache, µs", *(cell for peer in PEERS for cell in (peer, "×")))
    tables = [Table("one row to one token, one thread", head, ours_lines)]
    if peer:
        tables.append(
            Table("the same elsewhere, × ours: - is not there, or has no such chain", their_head, their_lines)
        )
    return tables, results


def others(chain: str, logits: torch.Tensor) -> dict[str, Call]:
    """What others have for a chain; "copy" is a part of llama.cpp's that is taken off afterwards."""
    fields = CHAINS[chain]
    made = {"transformers": peers.transformers(fields, logits, past(logits.shape[-1]))}
    if chain == "T":
        made["softmax, multinomial"] = peers.multinomial(fields["temperature"], logits)
    orders = {"T": PEERS[2:3], "everything": ()}.get(chain, PEERS[2:])
    for name in orders:
        found = peers.llama_cpp(fields, logits[0, 0].numpy(), own_order=name.endswith("last"))
        if found is not None:
            made[name], made["copy"] = found
    return made


def without_copies(found: dict[str, float]) -> None:
    """Take the copy of the candidates off what llama.cpp's chains took."""
    copy = found.pop("copy", 0.0)
    for name in PEERS[2:]:
        if name in found:
            found[name] -= copy


def dtypes(vocabulary: int, *, repeats: int, peer: bool) -> tuple[list[Table], dict[str, Any]]:
    """The same row as float32, bfloat16 and float16, from cache."""
    lines, results = [], {}
    for chain in CHAINS:
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            hot = rows("model", 1, vocabulary)[None].to(dtype)
            contenders = {"ours": ours(chain, hot)}
            if peer:
                contenders["transformers"] = peers.transformers(CHAINS[chain], hot, past(vocabulary))
            found = times(contenders, repeats=repeats)
            name = f"{chain}, {str(dtype).removeprefix('torch.')}"
            ratio = found["transformers"] / found["ours"] if peer else None
            micro = {name: 1e6 * seconds for name, seconds in found.items()}
            lines.append((name, micro["ours"], micro.get("transformers"), ratio))
            results[name] = {f"{name} µs": round(value, 2) for name, value in micro.items()}
    return [Table(f"dtypes at {vocabulary:,}", ("one row, µs", "ours", "transformers", "×"), lines)], results


def verification(vocabulary: int, *, repeats: int, peer: bool) -> tuple[list[Table], dict[str, Any]]:
    """`DRAFTED` tokens: the target's and the drafter's rows are warped and the guesses judged."""
    chain, compiled = "T, k, p", sampler("T, k, p", vocabulary)
    target = rows("model", DRAFTED + 1, vocabulary)
    drafter = target[:-1] + 0.3 * torch.randn(DRAFTED, vocabulary, generator=torch.Generator().manual_seed(2))
    keys: dict[str, Any] = {"seeds": [5] * DRAFTED, "positions": list(range(DRAFTED))}
    guesses = kernels.sample(drafter, compiled, **keys).tokens[None]

    def coupled(index: int) -> object:
        return kernels.verify(target[None], guesses, compiled, seeds=[index], positions=[0])

    def judged(index: int, laws: Any) -> object:
        return kernels.verify(
            target[None], guesses, compiled, seeds=[index], positions=[0], rejection=True, draft_probs=laws
        )

    def rejection(index: int) -> object:
        ids, law = kernels.process_sparse(drafter, compiled, **keys)
        return judged(index, (ids[None], law[None]))

    contenders: dict[str, Call] = {
        "Coupled": coupled,
        "Rejection": rejection,
        "Rejection, dense laws": lambda index: judged(index, kernels.process(drafter, compiled, **keys)[None]),
    }
    if peer:
        contenders["transformers"] = peers.speculative(CHAINS[chain], target, drafter, guesses)
    found = times(contenders, repeats=repeats)
    base = found.get("transformers")
    lines = [(name, 1e6 * s, None if base is None else base / s) for name, s in found.items()]
    results = {name: {"µs": round(1e6 * s, 1), "times": None if base is None else round(base / s, 1)}
               for name, s in found.items()}  # fmt: skip
    return [
        Table(f"{DRAFTED} drafted tokens at {vocabulary:,}", ("verify", "µs", "times transformers"), lines)
    ], results


def threads(vocabulary: int, *, repeats: int) -> tuple[list[Table], dict[str, Any]]:
    """Eight rows on one thread and on two, which takes a thread to start in each call."""
    logits = rows("model", 8, vocabulary)[None]
    lines, results = [], {}
    for chain in CHAINS:
        found = times({f"{n}": ours(chain, logits, threads=n) for n in (1, 2)}, repeats=repeats)
        one, two = (1e6 * found[n] for n in ("1", "2"))
        lines.append((chain, one, two, one / two))
        results[chain] = {"one µs": round(one, 1), "two µs": round(two, 1), "times": round(one / two, 3)}
    return [Table(f"8 rows at {vocabulary:,}", ("sample", "µs, 1 thread", "µs, 2 threads", "×"), lines)], results


def goals(vocabulary: int, results: Mapping[str, Any]) -> Iterator[tuple[str, float, str, float]]:
    """(what, measured, how to compare, asked) of rows as a model's, as far as there are peers."""
    wanted = {
        "T, k, p": {"times transformers": 150, "times hot floor": 8, "times cold floor": 3},
        "T, p": {"times transformers": 150, "times llama.cpp": 20, "times llama.cpp, T last": 20},
        "T": {"times softmax, multinomial": 40},
        "everything": {"times transformers": 80},
    }
    for chain, measures in wanted.items():
        found = results["sample"][f"{vocabulary}, model, {chain}"]
        for measure, number in measures.items():
            if measure in found:
                yield f"{chain}: {measure}", found[measure], "<=" if "floor" in measure else ">=", number
    for chain, found in results["threads"].items():
        yield f"8 rows, {chain}: two threads, times one", found["times"], ">=", 1.8
    for verifier, number in (("Coupled", 100), ("Rejection", 50)):
        if (ratio := results["verify"][verifier]["times"]) is not None:
            yield f"{DRAFTED} drafted tokens: {verifier}, times transformers", ratio, ">=", number


def report(vocabularies: Sequence[int], *, repeats: int = 15, peer: bool = True) -> Report:
    """All of the above; torch works on one thread meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    largest = max(vocabularies)
    try:
        parts = {
            "sample": choices(vocabularies, repeats=repeats, peer=peer),
            "dtypes": dtypes(largest, repeats=repeats, peer=peer),
            "verify": verification(largest, repeats=repeats, peer=peer),
            "threads": threads(largest, repeats=repeats),
        }
    finally:
        torch.set_num_threads(before)
    results = {name: found for name, (_, found) in parts.items()}
    summary = asked(goals(largest, results))
    settings = {
        "vocabularies": list(vocabularies), "repeats": repeats, "dtype": "float32", "past": PAST,
        "llama.cpp": "less the copy of its candidates" if peer and peers.has_llama_cpp() else "not there",
    }  # fmt: skip
    tables = [table for made, _ in parts.values() for table in made] + summary.tables
    return Report("kernels", settings, tables, results | {"asked": summary.results})


def main(arguments: Sequence[str] | None = None) -> Report:
    """Print the tables, and a line of JSON as the last one."""
    parser = argparse.ArgumentParser(prog="foretoken bench kernels", description="What the kernels cost.")
    parser.add_argument("--vocabulary", type=int, action="append", help="may be repeated (default: 32000, 128256)")
    parser.add_argument("--repeats", type=int, default=15, help="whose median counts (default: 15)")
    parser.add_argument("--no-peer", action="store_true", help="leave transformers and llama.cpp out")
    chosen = parser.parse_args(arguments)
    made = report(chosen.vocabulary or [32_000, 128_256], repeats=chosen.repeats, peer=not chosen.no_peer)
    made.show()
    return made
