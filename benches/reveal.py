"""Masked steps beside the loops that people have, in torch: which positions become known, and what they become.

    python benches/reveal.py --threads 1
    python benches/reveal.py --only classic

A batch is decoded in eight steps by the cosine schedule; logits are given, and what a step costs beside the forward is
timed. As many threads for us as for torch. Contenders take turns, and the median of each step counts.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch
from torch import Tensor

from benches import _common
from foretoken import kernels
from foretoken.evaluate.report import Report, Table, joined
from foretoken.rules import EntropyBound, MaxProbability, SampledConfidence
from foretoken.sampler import Sampler
from foretoken.schedules import cosine, counts

STEPS = 8
HEAT = 4.5  # of the choice among positions, MaskGIT's
RULES = {"classic": SampledConfidence(HEAT), "entropy": EntropyBound(), "probability": MaxProbability()}
SAMPLERS = {"T=1": Sampler(), "T=0.9, p=0.95": Sampler(temperature=0.9, top_p=0.95)}
Contender = Callable[[Tensor, Tensor, int], Any]


def confidence(rule: str, probs: Tensor, tokens: Tensor) -> Tensor:
    """What positions are ordered by, the highest first."""
    if rule == "entropy":
        return (probs * probs.clamp(min=1e-20).log()).sum(dim=-1)
    if rule == "probability":
        return probs.amax(dim=-1)
    chosen = probs.gather(-1, tokens[..., None])[..., 0].clamp(min=1e-20).log()
    return chosen - HEAT * torch.empty_like(chosen).exponential_().log()


def warped(logits: Tensor, sampler: Sampler) -> Tensor:
    """Temperature and top-p as transformers has them: a sort of each row."""
    if sampler.temperature != 1:
        logits = logits / sampler.temperature
    if sampler.top_p < 1:
        ordered, order = logits.sort(dim=-1)
        out = ordered.softmax(dim=-1).cumsum(dim=-1) <= 1 - sampler.top_p
        out[..., -1] = False
        logits = logits.masked_fill(out.scatter(-1, order, out), -torch.inf)
    return logits


def whole(rule: str, sampler: Sampler, numbers: Tensor) -> Contender:
    """Every position of every row at once, as open-muse and MaskGIT do, with ranks that let each row have its count."""

    def step(logits: Tensor, canvas: Tensor, number: int) -> Tensor:
        unknown = canvas == -1
        probs = warped(logits, sampler).softmax(dim=-1)
        tokens = (probs / torch.empty_like(probs).exponential_()).argmax(dim=-1)  # faster than multinomial
        scores = confidence(rule, probs, tokens).masked_fill(~unknown, -torch.inf)
        ranks = scores.argsort(dim=1, descending=True).argsort(dim=1)
        return torch.where((ranks < numbers[:, number, None]) & unknown, tokens, canvas)

    return step


def some(rule: str, sampler: Sampler, numbers: Tensor) -> Contender:
    """The same for the unknown positions only, which are copied together first."""

    def step(logits: Tensor, canvas: Tensor, number: int) -> Tensor:
        unknown = canvas == -1
        probs = warped(logits[unknown], sampler).softmax(dim=-1)
        drawn = (probs / torch.empty_like(probs).exponential_()).argmax(dim=-1)
        scores = torch.full(canvas.shape, -torch.inf)
        scores[unknown] = confidence(rule, probs, drawn)
        ranks = scores.argsort(dim=1, descending=True).argsort(dim=1)
        tokens = canvas.masked_scatter(unknown, drawn)
        return torch.where((ranks < numbers[:, number, None]) & unknown, tokens, canvas)

    return step


def loop(rule: str, sampler: Sampler, numbers: Tensor) -> Contender:
    """As LLaDA and its ports do: Gumbel noise and a softmax everywhere, then a topk for each row; here in float32."""

    def step(logits: Tensor, canvas: Tensor, number: int) -> Tensor:
        unknown = canvas == -1
        logits = warped(logits, sampler)
        noise = (-torch.rand_like(logits).clamp(min=1e-20).log()).clamp(min=1e-20)
        tokens = torch.where(unknown, (logits.exp() / noise).argmax(dim=-1), canvas)
        probs = logits.softmax(dim=-1)
        scores = confidence(rule, probs, tokens.clamp(min=0)).masked_fill(~unknown, -torch.inf)
        chosen = torch.zeros_like(unknown)
        for row in range(len(canvas)):
            chosen[row, scores[row].topk(int(numbers[row, number].item())).indices] = True
        return torch.where(chosen, tokens, canvas)

    return step


def ours(rule: str, sampler: Sampler, numbers: Tensor) -> Contender:
    """The kernel."""
    given = numbers.numpy()

    def step(logits: Tensor, canvas: Tensor, number: int) -> Any:
        compiled = kernels.compile_sampler(sampler, vocab_size=logits.shape[-1])
        keys = {"seeds": range(len(canvas)), "step": number, "threads": torch.get_num_threads()}
        return kernels.reveal(logits, canvas, compiled, **keys, select=RULES[rule], count=given[:, number]).canvas

    return step


def decoded(
    contenders: dict[str, Contender], logits: Tensor, states: Sequence[Tensor], numbers: Tensor, repeats: int
) -> dict[str, list[float]]:
    """Median ms of each contender's steps, which begin with the same canvases; checked for what they must reveal."""
    taken: dict[str, list[list[float]]] = {name: [[] for _ in states] for name in contenders}
    for turn in range(repeats + 1):
        for number, canvas in enumerate(states):
            for name, step in contenders.items():
                started = perf_counter()
                new = step(logits, canvas, number)
                ms = 1e3 * (perf_counter() - started)
                after = torch.as_tensor(new)
                assert ((after != canvas).sum(dim=1) == numbers[:, number]).all(), name
                assert (after[canvas >= 0] == canvas[canvas >= 0]).all(), name
                if turn > 0:  # the first is to warm up
                    taken[name][number].append(ms)
    return {name: [statistics.median(each) for each in steps] for name, steps in taken.items()}


def part(rule: str, batch: int, positions: int, codes: int, repeats: int) -> Report:
    """One rule, plain and with top-p."""
    rng = np.random.default_rng(0)
    logits = torch.from_numpy((3 * rng.standard_normal((batch, positions, codes))).astype(np.float32))
    numbers = torch.from_numpy(counts(cosine, STEPS, [positions] * batch))
    orders = torch.from_numpy(rng.permuted(np.tile(np.arange(positions), (batch, 1)), axis=1))
    known = numbers.cumsum(dim=1) - numbers
    states = [torch.where(orders < known[:, number, None], 7, -1) for number in range(STEPS)]
    rows, results = [], {}
    for name, sampler in SAMPLERS.items():
        contenders = {
            "ours": ours(rule, sampler, numbers),
            "torch, unknown positions": some(rule, sampler, numbers),
            "torch, all positions": whole(rule, sampler, numbers),
            "torch, topk for each row": loop(rule, sampler, numbers),
        }
        found = decoded(contenders, logits, states, numbers, repeats if sampler.top_p == 1 else min(repeats, 2))
        base = sum(found["ours"])
        for what, steps in found.items():
            times = round(sum(steps) / base, 2)
            results[f"{name}: {what}"] = {
                "ms": round(sum(steps), 2),
                "times": times,
                "steps": [round(s, 2) for s in steps],
            }
            rows.append((f"{name}: {what}", sum(steps), times))
    table = Table(f"{rule}: eight steps, ms in all", ("what", "ms", "× ours"), rows)
    settings = {"batch": batch, "positions": positions, "codes": codes, "dtype": "float32", "rule": repr(RULES[rule])}
    return Report(rule, {**settings, "threads": torch.get_num_threads(), "repeats": repeats}, [table], results)


def asked(results: dict[str, dict[str, Any]]) -> Report:
    """What was asked beside what was measured."""
    rows = []
    for rule, found in results.items():
        for what in ("torch, all positions", "torch, topk for each row"):
            times = found[f"T=1: {what}"]["times"]
            rows.append((f"{rule}: times {what}", times, ">= 10", "yes" if times >= 10 else "NO"))
    table = Table("what was asked", ("measure", "measured", "asked", "met"), rows)
    return Report("asked", {}, [table], {"measures": len(rows), "missed": [row[0] for row in rows if row[-1] == "NO"]})


def main(arguments: Sequence[str] | None = None) -> Report:
    """Run the parts that are asked for."""
    parser = _common.parser(__doc__)
    parser.add_argument("--only", action="append", choices=tuple(RULES), help="one rule; may be repeated")
    parser.add_argument("--repeats", type=int, default=7, help="that are timed (default: 7)")
    options = _common.parsed(parser, arguments)
    if options.threads is None:
        torch.set_num_threads(1)
    sizes = (2, 16, 32, 1) if options.quick else (64, 256, 1024, options.repeats)
    reports = [part(rule, *sizes) for rule in options.only or RULES]
    reports.append(asked({report.name: report.results for report in reports}))
    return _common.finish(joined("reveal", reports), options)


if __name__ == "__main__":
    main()
