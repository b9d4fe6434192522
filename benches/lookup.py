"""Looking up drafts: appending and proposing beside other libraries; corpora of millions of tokens; lattices.

    python benches/lookup.py --data DATA           # or FORETOKEN_DATA, or ../shared/data; minutes
    python benches/lookup.py --only corpus

A row of 32,768 tokens grows by 4 at a time and is asked for 8 after each; contenders take turns at every step, and the
median of the steps counts. Times are those of Python; what the core takes by itself says `cargo run --example lookup`,
which is run too where cargo is. ArcticInference's suffix tree is measured where it can be imported: its module
`arctic_inference.suffix_decoding` needs no vLLM, only to be built.
"""

from __future__ import annotations

import importlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, TypeAlias

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch

import foretoken as ft
from benches import _common
from foretoken import kernels
from foretoken.evaluate.report import Report, Table, joined
from foretoken.recipes.corpus import rows as documents_of
from foretoken.reference import ngram as ngram_twin

ADDED, K, CONTEXT = 4, 8, 32_768
Contender: TypeAlias = tuple[Callable[[np.ndarray], object], Callable[[np.ndarray], object]]
"""How a row is told of new tokens, and how it is asked for a draft; both are handed arrays."""


def text(data: Path | None, count: int) -> tuple[np.ndarray, str]:
    """So many ids, and what they are of: documentation and novels by the tokenizer of `manual`, or a made-up text."""
    if data is None:
        rng = np.random.default_rng(0)
        phrases = [rng.zipf(1.3, rng.integers(2, 30)) % 4096 for _ in range(2000)]
        order = rng.zipf(1.2, count) % 2000
        return np.concatenate([phrases[i] for i in order[: count // 8 + 1]])[:count].astype(np.int64), "made up"
    codec, found, size = ft.load("manual").codec, [], 0
    for source in ("docs", "novels"):
        for document in documents_of(data / f"{source}.jsonl.xz"):
            if size >= count:
                break
            found.append(codec.encode(document["text"]))
            size += len(found[-1])
    # Documentation last: the row is cut from the end.
    return np.concatenate(found[::-1])[-count:], "novels and documentation, tokenizer of manual"


def ours(index: kernels.NGram | kernels.Suffix, row: np.ndarray) -> Contender:
    """One of our look-ups with a row begun."""
    index.start(0, row)
    return lambda added: index.extend(0, added), lambda _: index.propose(0, K)


def prompt_lookup() -> Contender:
    """transformers' prompt look-up, which keeps no index."""
    from transformers.generation.candidate_generator import PromptLookupCandidateGenerator

    generator: Any = PromptLookupCandidateGenerator(num_output_tokens=K, max_matching_ngram_size=4, max_length=2**30)
    return lambda added: None, lambda row: generator.get_candidates(torch.from_numpy(row)[None])


def arctic(row: np.ndarray, corpus: Sequence[np.ndarray]) -> Contender | None:
    """ArcticInference's suffix trees, allowed to draft as much as ours: one of the row, one of the corpus."""
    try:
        module = importlib.import_module("arctic_inference.suffix_decoding")
    except ImportError:
        return None
    cache = module.SuffixDecodingCache(64, -1 if corpus else 0)
    for number, document in enumerate(corpus, 1):
        cache.start_request(number, np.empty(0, dtype=np.int32))
        cache.add_active_response(number, document.astype(np.int32))
        cache.stop_request(number)
    cache.start_request(0, row.astype(np.int32))
    options = {"max_spec_tokens": K, "max_spec_offset": float(K), "min_token_prob": 0.0}
    return (
        lambda added: cache.add_active_response(0, added.astype(np.int32)),
        lambda row: cache.speculate(0, row[-64:].astype(np.int32), **options),
    )


def steps(contenders: dict[str, Contender], row: np.ndarray, count: int) -> dict[str, dict[str, float]]:
    """Median µs of appending and of proposing, by contender; who goes first changes with each step."""
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in contenders}
    names = list(contenders)
    for step in range(count):
        end = CONTEXT + step * ADDED
        for name in names[step % len(names) :] + names[: step % len(names)]:
            append, propose = contenders[name]
            started = perf_counter()
            append(row[end : end + ADDED])
            appended = perf_counter()
            propose(row[: end + ADDED])
            times[name][1].append(perf_counter() - appended)
            times[name][0].append(appended - started)
    median = {name: [1e6 * statistics.median(part) for part in parts] for name, parts in times.items()}
    return {
        name: {"append, a token": append / ADDED, "propose": propose, "step": append + propose}
        for name, (append, propose) in median.items()
    }


def drafters(tokens: np.ndarray, *, shared: int, count: int) -> Report:
    """Ours beside what others do for the same draft: the row alone, then with a corpus that rows share."""
    row, before = tokens[-100_000:], tokens[: max(0, len(tokens) - 100_000)][-shared:]
    head = row[:CONTEXT]
    parts = np.array_split(before, max(1, len(before) // 5000))
    corpus = kernels.SuffixCorpus(2**40)
    for part in parts:
        corpus.add(part)

    def twin() -> Contender:
        slow = ngram_twin.NGram(4, 2)
        slow.start(0, head.tolist())
        return lambda added: slow.extend(0, added.tolist()), lambda _: slow.propose(0, K)

    def suffix(shared: kernels.SuffixCorpus | None = None) -> Contender:
        return ours(kernels.Suffix(64, shared, 2), head)

    groups: dict[str, dict[str, Contender | None]] = {
        "row alone, without an index": {
            "NGram": ours(kernels.NGram(4, 2), head),
            "transformers, prompt look-up": prompt_lookup(),
            "our twin, a rescan in Python": twin(),
        },
        "row alone": {"NGram": ours(kernels.NGram(4, 2), head), "Suffix": suffix(), "arctic": arctic(head, [])},
        f"and a corpus of {len(before):,}": {"Suffix": suffix(corpus), "arctic": arctic(head, parts)},
    }
    results, lines = {}, []
    for group, contenders in groups.items():
        there = {name: contender for name, contender in contenders.items() if contender is not None}
        found = steps(there, row, max(8, count // 20) if "without" in group else count)
        results[group] = found
        base = next(iter(found.values()))["step"]
        lines += [
            (f"{name}; {group}", *(round(t, 3) for t in times.values()), times["step"] / base)
            for name, times in found.items()
        ]
    head_line = ("µs", "append a token", f"propose {K}", f"append {ADDED}, propose {K}", "× the first")
    table = Table(f"look-ups at {CONTEXT:,} tokens of context", head_line, lines)
    return Report("drafters", {"steps": count}, [table], results)


def many_rows(tokens: np.ndarray, *, count: int) -> Report:
    """What a row costs when several are asked in one call."""
    suffix = kernels.Suffix(64, None, 2)
    rows = list(range(16))
    for row in rows:
        suffix.start(row, tokens[-100_000 + 2000 * row :][:2000])
    calls: dict[str, Callable[[], object]] = {
        "one call each": lambda: [suffix.propose(row, K) for row in rows],
        "one call for all": lambda: suffix.propose_rows(rows, K),
    }
    results = {name: taken / len(rows) for name, taken in alternate(calls, count).items()}
    lines = [(name, round(taken, 3)) for name, taken in results.items()]
    return Report(
        "rows", {"rows": len(rows)}, [Table(f"propose {K} for each of 16 rows", ("µs a row", "median"), lines)], results
    )


def alternate(calls: dict[str, Callable[[], object]], count: int) -> dict[str, float]:
    """Median µs of each call; they take turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(count):
        for name, call in calls.items():
            started = perf_counter()
            call()
            times[name].append(1e6 * (perf_counter() - started))
    return {name: statistics.median(all_of_it) for name, all_of_it in times.items()}


def corpus(tokens: np.ndarray) -> Report:
    """Building, saving and loading a corpus of all the tokens there are."""
    made = kernels.SuffixCorpus(2**40)
    parts = np.array_split(tokens, max(1, len(tokens) // 5000))
    started = perf_counter()
    for part in parts:
        made.add(part)
    lines = [("build", perf_counter() - started, made.memory / 1e6)]
    with tempfile.TemporaryDirectory(prefix="foretoken-bench-") as folder:
        for index, name in ((False, "documents"), (True, "documents and automaton")):
            path = Path(folder) / name
            started = perf_counter()
            made.save(path, index=index)
            saved = perf_counter()
            again = kernels.SuffixCorpus.load(path)
            loaded = perf_counter()
            assert (again.tokens, len(again)) == (made.tokens, len(made))
            size = path.stat().st_size / 1e6
            lines += [(f"save {name}", saved - started, size), (f"load {name}", loaded - saved, again.memory / 1e6)]
            del again
    results = {name: {"seconds": round(seconds, 4), "megabytes": round(size, 2)} for name, seconds, size in lines}
    table = Table(f"a corpus of {len(tokens):,} tokens", ("what", "seconds", "MB"), lines)
    return Report("corpus", {"tokens": len(tokens)}, [table], results)


def lattice(*, count: int) -> Report:
    """64 positions of 16 candidates, beside the textbook recursion in NumPy."""
    rng = np.random.default_rng(0)
    positions, k, rank = 64, 16, 32
    ids = rng.integers(0, 4096, (1, positions, k))
    logprobs = np.log(rng.dirichlet(np.ones(k), (1, positions))).astype(np.float32)
    dense = rng.normal(size=(1, positions - 1, k, k)).astype(np.float32)
    bigram = kernels.Bigram(*(rng.normal(size=(4096, rank)).astype(np.float32) / 6 for _ in range(2)))

    def viterbi() -> list[int]:
        best, back = logprobs[0, 0].astype(np.float64), []
        for position in range(1, positions):
            ways = best[:, None] + dense[0, position - 1]
            back.append(ways.argmax(axis=0))
            best = ways.max(axis=0) + logprobs[0, position]
        chain = [int(best.argmax())]
        for pointers in reversed(back):
            chain.append(int(pointers[chain[-1]]))
        return chain[::-1]

    calls: dict[str, Callable[[], object]] = {
        "best chain": lambda: kernels.lattice_chains(ids, logprobs, dense),
        "best chain, NumPy": viterbi,
        "8 best chains": lambda: kernels.lattice_chains(ids, logprobs, dense, n=8),
        f"best chain, bigram of rank {rank}": lambda: kernels.lattice_chains(ids, logprobs, bigram),
        "tree of 64 nodes": lambda: kernels.lattice_tree(ids, logprobs, dense, nodes=64),
    }
    assert (
        kernels.lattice_chains(ids, logprobs, dense).tokens[0, 0].tolist()
        == ids[0, range(positions), viterbi()].tolist()
    )
    results = alternate(calls, count)
    lines = [(name, round(taken, 1)) for name, taken in results.items()]
    return Report(
        "lattice", {"positions": positions, "candidates": k}, [Table("lattice", ("µs", "median"), lines)], results
    )


def core(tokens: np.ndarray) -> Report:
    """The same without Python, with vLLM's n-gram algorithm in Rust beside it, and readers that share a corpus."""
    if shutil.which("cargo") is None:
        return Report("core", {"skipped": "no cargo"}, [], {})
    with tempfile.TemporaryDirectory(prefix="foretoken-bench-") as folder:
        path = Path(folder) / "tokens"
        tokens.astype("<u4").tofile(path)
        command = [
            "cargo",
            "run",
            "--release",
            "--quiet",
            "-p",
            "foretoken-core",
            "--example",
            "lookup",
            "--",
            str(path),
        ]
        run = subprocess.run(command, cwd=_common.ROOT, capture_output=True, text=True, check=True)
    results: dict[str, Any] = json.loads(run.stdout)
    lines = [(name, found["append"], found["propose"]) for name, found in results.items()]
    lines.append(("n-gram by KMP over the row, as vLLM does", None, results["n-gram"]["kmp"]))
    reads = [
        (f"{name}, {who}", *figures.values())
        for name, found in results.items()
        for who, figures in found.get("reads", {}).items()
    ]
    tables = [
        Table("the core alone, µs", ("what", "append a token", f"propose {K}"), lines),
        Table(
            f"readers that share a corpus: append {ADDED}, propose {K}",
            ("who", "steps a second", "µs of CPU a step"),
            reads,
        ),
    ]
    return Report("core", {"context": CONTEXT}, tables, results)


def main(arguments: Sequence[str] | None = None) -> Report:
    """Run the parts that are asked for."""
    parts = ("drafters", "rows", "corpus", "lattice", "core")
    parser = _common.parser(__doc__)
    parser.add_argument("--only", action="append", choices=parts, help="one part; may be repeated")
    parser.add_argument("--data", type=Path, help="data folder; a made-up text without it")
    parser.add_argument("--tokens", type=int, default=10_100_000, help="of the text (default: 10.1 million)")
    parser.add_argument("--steps", type=int, default=2000, help="that are timed (default: 2000)")
    options = _common.parsed(parser, arguments)
    wanted = options.only or parts
    data = _common.data_folder(options.data)
    if options.quick:
        data, options.tokens, options.steps, wanted = None, 150_000, 20, parts[:4]
    tokens, source = text(data, options.tokens)
    runs: dict[str, Callable[[], Report]] = {
        "drafters": lambda: drafters(tokens, shared=min(10**6, len(tokens) // 2), count=options.steps),
        "rows": lambda: many_rows(tokens, count=options.steps),
        "corpus": lambda: corpus(tokens[:-100_000]),
        "lattice": lambda: lattice(count=options.steps),
        "core": lambda: core(tokens),
    }
    text_of = Report("text", {"tokens": len(tokens), "source": source}, [], {})
    return _common.finish(joined("lookup", [text_of, *(runs[name]() for name in wanted)]), options)


if __name__ == "__main__":
    main()
