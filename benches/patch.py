"""Pictures to patches, as Qwen2-VL takes them: beside transformers, fused PyTorch, and one write of the result.

    python benches/patch.py                        # a minute
    python benches/patch.py --only threads

Contenders take turns, and the median counts; all but the last part keep to one thread. As a control,
threads there only write as many bytes: where they gain less than what was asked, memory is the limit and not a lock.
transformers is measured through Pillow, and through torchvision where that is installed; arrays go in and tensors come
out. The fused code of PyTorch folds scale, mean and deviation into one multiplication and one addition and writes each
number to its place.
"""

from __future__ import annotations

import functools
import statistics
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import Any, TypeAlias

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch

from benches import _common
from foretoken import kernels
from foretoken.codec import presets
from foretoken.evaluate.report import Report, Table, joined

Calls: TypeAlias = dict[str, Callable[[], Any]]
OURS, INTO, WRITE, FUSED = (
    "foretoken",
    "foretoken, into memory that is there",
    "one write of the result",
    "fused PyTorch",
)
FRESH = f"{WRITE}, in fresh memory"


class Kept(threading.local):
    """Memory for one result, of each thread its own."""

    def __init__(self, shape: Sequence[int]) -> None:
        self.shape = tuple(shape)
        self.rows = np.zeros(self.shape, np.float32)


def picture(side: int) -> np.ndarray:
    """Coarse squares and noise: neither smooth nor only noise."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (side // 16 + 1, side // 16 + 1, 3)).repeat(16, 0).repeat(16, 1)[:side, :side]
    return np.clip(coarse + rng.integers(-40, 40, coarse.shape), 0, 255).astype(np.uint8)


def processors(**options: Any) -> dict[str, Callable[..., Any]]:
    """transformers' processors for Qwen2-VL, by the library that they go through."""
    try:
        import transformers
    except ImportError:
        return {}
    found = {}
    for library, name in (("torchvision", "Qwen2VLImageProcessor"), ("Pillow", "Qwen2VLImageProcessorPil")):
        try:
            found[f"transformers, {library}"] = getattr(transformers, name)(**options)
        except (ImportError, AttributeError):
            continue
    return found


def fused(pixels: np.ndarray, patch: int, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """The patches of one picture by PyTorch with as few passes as it takes."""
    numbers = torch.from_numpy(pixels)
    deviation = 255 * torch.tensor(std)[:, None, None]
    factor, shift = 1 / deviation, -255 * torch.tensor(mean)[:, None, None] / deviation
    high, wide = pixels.shape[0] // patch // 2, pixels.shape[1] // patch // 2
    view = numbers.view(high, 2, patch, wide, 2, patch, 3).permute(0, 3, 1, 4, 6, 2, 5)
    out = torch.empty(high, wide, 2, 2, 3, 2, patch, patch)
    torch.mul(view, factor, out=out[..., 0, :, :]).add_(shift)
    out[..., 1, :, :] = out[..., 0, :, :]  # a picture stands for both frames
    return out.view(high * wide * 4, -1)


def alternate(calls: Calls, repeats: int) -> dict[str, list[float]]:
    """Milliseconds of each call, in turn. Each is made twice, and the second counts: its memory is where it left it."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            call()
            started = perf_counter()
            call()
            times[name].append(1e3 * (perf_counter() - started))
    return times


def compared(name: str, calls: Calls, *, repeats: int, settings: dict[str, Any]) -> Report:
    """A table of times, and how often ours fits into each."""
    times = alternate(calls, repeats)
    medians = {who: statistics.median(all_of_it) for who, all_of_it in times.items()}
    rows = [(who, medians[who], min(times[who]), medians[who] / medians[OURS]) for who in calls]
    results = {
        who: {"ms": round(medians[who], 4), "best_ms": round(min(times[who]), 4), "times": round(ratio, 3)}
        for who, *_, ratio in rows
    }
    table = Table(f"{name}, ms", ("who", "median", "best", "× ours"), rows)
    return Report(name, {**settings, "repeats": repeats}, [table], results)


def difference(found: torch.Tensor, expected: torch.Tensor, std: Sequence[float]) -> dict[str, float]:
    """How far two results are apart, and how many of their pixels are the same."""
    apart = (found.double() - expected.double()).abs()
    return {
        "largest": apart.max().item(),
        # In steps of a byte, of the channel with the least deviation at most.
        "pixels_off_by": round((apart.max() * max(std) * 255).item(), 3),
        "same_pixels": (apart <= 1e-5).double().mean().item(),
    }


def whole(side: int, patch: int, *, repeats: int) -> Report:
    """A picture that needs no other size."""
    pixels = picture(side)
    mean, std = presets.CLIP_MEAN, presets.CLIP_STD
    ours = functools.partial(presets.qwen2_vl, pixels, resize=False, patch=patch, mean=mean, std=std)
    expected = ours()["pixel_values"]
    out = np.empty(tuple(expected.shape), np.float32)
    scratch = torch.empty_like(expected)
    options: dict[str, Any] = {"patch": patch, "merge": 2, "frames": 2, "mean": mean, "std": std}
    calls: Calls = {
        OURS: ours,
        INTO: lambda: kernels.patchify(pixels, out=out, **options),
        "foretoken, bfloat16": functools.partial(ours, dtype=torch.bfloat16),
        WRITE: scratch.zero_,
        FUSED: lambda: fused(pixels, patch, mean, std),
    }
    apart = {}
    for name, processor in processors(patch_size=patch).items():
        calls[name] = functools.partial(processor, pixels, do_resize=False, return_tensors="pt")
        apart[name] = difference(expected, calls[name]()["pixel_values"], std)
    apart[FUSED] = difference(expected, calls[FUSED](), std)
    found = compared(
        f"{side} × {side}, patch {patch}", calls, repeats=repeats, settings={"megabytes": expected.nbytes / 1e6}
    )
    return _with_differences(found, apart)


def smaller(side: int, target: int, *, repeats: int) -> Report:
    """A picture that is resized first."""
    pixels, limits = picture(side), {"shortest_edge": target * target, "longest_edge": target * target}
    calls: Calls = {}
    apart = {}
    for rounding in (kernels.Rounding.TORCH, kernels.Rounding.PILLOW):
        options: dict[str, Any] = {"min_pixels": target**2, "max_pixels": target**2, "rounding": rounding}
        name = OURS if rounding is kernels.Rounding.TORCH else f"{OURS}, as Pillow rounds"
        calls[name] = functools.partial(presets.qwen2_vl, pixels, **options)
    for name, processor in processors().items():
        calls[name] = functools.partial(processor, pixels, size=limits, return_tensors="pt")
        same = OURS if name.endswith("torchvision") else f"{OURS}, as Pillow rounds"
        apart[name] = difference(calls[same]()["pixel_values"], calls[name]()["pixel_values"], presets.CLIP_STD)
    return _with_differences(compared(f"{side} → {target}", calls, repeats=repeats, settings={}), apart)


def _with_differences(report: Report, apart: dict[str, dict[str, float]]) -> Report:
    rows = [(name, *figures.values()) for name, figures in apart.items()]
    table = Table("ours apart from it", ("whose", "largest difference", "pixels off by", "same pixels"), rows)
    return Report(report.name, report.settings, [*report.tables, table], {**report.results, "apart": apart})


def threads(side: int, target: int, *, pictures: int, workers: int, repeats: int) -> Report:
    """Many pictures at once: the same calls by one Python thread, and by several; and what memory lets them gain."""
    pixels, limits = picture(side), {"shortest_edge": target * target, "longest_edge": target * target}
    small: dict[str, Any] = {"min_pixels": target**2, "max_pixels": target**2}
    cut: dict[str, Any] = {"patch": 14, "merge": 2, "frames": 2, "mean": presets.CLIP_MEAN, "std": presets.CLIP_STD}
    resized = {**cut, "size": target, "rounding": kernels.Rounding.TORCH}
    whole = Kept(presets.qwen2_vl(pixels, resize=False)["pixel_values"].shape)
    less = Kept(presets.qwen2_vl(pixels, **small)["pixel_values"].shape)
    calls: Calls = {
        OURS: lambda: presets.qwen2_vl(pixels, resize=False),
        INTO: lambda: kernels.patchify(pixels, out=whole.rows, **cut),
        f"{OURS}, → {target}": lambda: presets.qwen2_vl(pixels, **small),
        f"{INTO}, → {target}": lambda: kernels.patchify(pixels, out=less.rows, **resized),
        FRESH: lambda: np.empty(whole.shape, np.float32).fill(1),
        f"{WRITE}, where it was": lambda: whole.rows.fill(1),
    }
    for name, processor in processors().items():
        calls[name] = functools.partial(processor, pixels, do_resize=False, return_tensors="pt")
        calls[f"{name}, → {target}"] = functools.partial(processor, pixels, size=limits, return_tensors="pt")
    results, rows = {}, []
    for name, call in calls.items():

        def work(_: int, call: Callable[[], Any] = call) -> None:
            call()  # the result is let go of

        with ThreadPoolExecutor(1) as single, ThreadPoolExecutor(workers) as several:
            pools = {"alone": single, "together": several}
            times = alternate(
                {how: lambda p=p, w=work: list(p.map(w, range(pictures))) for how, p in pools.items()}, repeats
            )
        one, many = (statistics.median(times[how]) / pictures for how in ("alone", "together"))
        gain = statistics.median([a / b for a, b in zip(times["alone"], times["together"], strict=True)])
        rate = (less if "→" in name else whole).rows.nbytes / one / 1e6
        results[name] = {"ms": round(one, 4), "ms_together": round(many, 4), "times": round(gain, 3)}
        rows.append((name, one, many, gain, rate, rate * one / many))
    head = ("who", "one thread", f"{workers} threads", "times", "GB/s written by one", "together")
    table = Table(f"ms a picture, {pictures} of {side} × {side}", head, rows)
    return Report("threads", {"workers": workers, "pictures": pictures, "repeats": repeats}, [table], results)


def asked(results: dict[str, Any]) -> Report:
    """What was asked beside what was measured."""
    rows = []
    for name, found in results.items():
        peers = [peer for peer in found if peer.startswith("transformers")]
        goals: list[tuple[str, float, str, float]] = []
        if "→" in name:
            goals = [(peer, found[peer]["times"], ">=", 5.0) for peer in peers]
        elif name == "threads":
            ours = [who for who in found if who.startswith(OURS)]
            goals = [(f"{who}, as fast as one thread", found[who]["times"], ">=", 1.8) for who in ours]
        elif FUSED in found:
            goals = [(peer, found[peer]["times"], ">=", 6.0) for peer in peers]
            goals.append((FUSED, found[FUSED]["times"], ">=", 2.0))
            goals.append((WRITE, found[INTO]["ms"] / found[WRITE]["ms"], "<=", 3.0))
        goals += [
            (f"{peer}, off by", figures["largest"], "<=", 1e-5) for peer, figures in found.get("apart", {}).items()
        ]
        for what, measured, sign, goal in goals:
            met = measured >= goal if sign == ">=" else measured <= goal
            rows.append((f"{name}: {what}", float(f"{measured:.3g}"), f"{sign} {goal:g}", "yes" if met else "NO"))
    table = Table("what was asked, in times but for differences", ("measure", "measured", "asked", "met"), rows)
    return Report("asked", {}, [table], {"measures": len(rows), "missed": [row[0] for row in rows if row[-1] == "NO"]})


def main(arguments: Sequence[str] | None = None) -> Report:
    """Run the parts that are asked for."""
    parts = ("whole", "smaller", "threads")
    parser = _common.parser(__doc__)
    parser.add_argument("--only", action="append", choices=parts, help="one part; may be repeated")
    parser.add_argument("--repeats", type=int, default=31, help="of each call (default: 31)")
    options = _common.parsed(parser, arguments)
    wanted, sides, pictures = options.only or parts, ((1008, 14), (1024, 16), (1024, 448)), 16
    if options.quick:
        options.repeats, sides, pictures = 2, ((56, 14), (64, 16), (100, 56)), 4
    torch.set_num_threads(options.threads or 1)
    reports = []
    if "whole" in wanted:
        reports += [whole(side, patch, repeats=options.repeats) for side, patch in sides[:2]]
    if "smaller" in wanted:
        reports.append(smaller(*sides[2], repeats=options.repeats))
    if "threads" in wanted:
        reports.append(
            threads(sides[0][0], sides[2][1], pictures=pictures, workers=8, repeats=max(2, options.repeats // 4))
        )
    summary = asked(joined("patch", reports).results)
    return _common.finish(joined("patch", [*reports, summary]), options)


if __name__ == "__main__":
    main()
