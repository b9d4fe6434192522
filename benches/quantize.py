"""Codes: nearest codes beside torch's two ways, books in a row, FSQ, packed ids, colours, sound at other rates.

    python benches/quantize.py --threads 1
    python benches/quantize.py --only nearest

One thread each. Contenders take turns, and the median counts. Ids of `nearest` are compared with those of float64, for
vectors without any order and for ones that lie near the codes, as those of a trained encoder do.
"""

from __future__ import annotations

import math
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch

from benches import _common
from foretoken import kernels
from foretoken.evaluate.report import Report, Table, joined
from foretoken.reference import quantize as twin

SIZES = ((4096, 8192, 64), (4096, 1024, 64), (4096, 8192, 16), (4096, 1024, 8), (1024, 8192, 512), (4096, 512, 4))
LEVELS = (8, 5, 5, 5)
Calls = dict[str, Callable[[], object]]


def alternate(calls: Calls, repeats: int) -> dict[str, float]:
    """Median ms of each call; they take turns, and each has been called once before."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(repeats):
        for name, call in calls.items():
            started = perf_counter()
            call()
            times[name].append(1e3 * (perf_counter() - started))
    return {name: statistics.median(taken) for name, taken in times.items()}


def compared(name: str, groups: dict[str, Calls], repeats: int, settings: dict[str, Any]) -> Report:
    """Each group's first call beside the others."""
    results: dict[str, Any] = {}
    rows = []
    for group, calls in groups.items():
        found = alternate(calls, repeats)
        base = next(iter(found.values()))
        results[group] = {what: {"ms": round(ms, 4), "times": round(ms / base, 2)} for what, ms in found.items()}
        rows += [(f"{group}: {what}", ms, ms / base) for what, ms in found.items()]
    return Report(name, settings, [Table(name, ("what", "ms", "× the first"), rows)], results)


def vectors_of(kind: str, rows: int, codes: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors and a codebook: without any order, or each vector near a code."""
    rng = np.random.default_rng(0)
    codebook = rng.normal(size=(codes, width)).astype(np.float32)
    vectors = rng.normal(size=(rows, width)).astype(np.float32)
    if kind == "near codes":
        vectors = codebook[rng.integers(0, codes, rows)] + vectors / 4
    return vectors, codebook


def nearest(sizes: Sequence[tuple[int, int, int]], repeats: int) -> Report:
    """Beside the whole matrix of distances, and the whole matrix of scores."""
    rows, results = [], {}
    for size in sizes:
        for kind in ("no order", "near codes"):
            vectors, codebook = vectors_of(kind, *size)
            v, c = torch.from_numpy(vectors), torch.from_numpy(codebook)

            def scores(v: torch.Tensor = v, c: torch.Tensor = c) -> torch.Tensor:
                return torch.addmm(c.square().sum(dim=1)[None] / 2, v, c.T, alpha=-1).argmin(1)

            calls: Calls = {
                "ours": lambda v=vectors, c=codebook: kernels.nearest(v, c),
                "torch.cdist": lambda v=v, c=c: torch.cdist(v, c).argmin(1),
                "torch.addmm": scores,
            }
            found = alternate(calls, repeats)
            exact = twin.nearest(v, c)[0][:, 0].numpy()
            ids = {"ours": kernels.nearest(vectors, codebook).ids, "torch.cdist": torch.cdist(v, c).argmin(1).numpy()}
            differ = {name: int((exact != some).sum()) for name, some in ids.items()}
            name = f"{size[0]:,} × {size[1]:,} × {size[2]}, {kind}"
            results[name] = {
                "ms": {what: round(ms, 3) for what, ms in found.items()},
                "times_cdist": round(found["torch.cdist"] / found["ours"], 2),
                "times_addmm": round(found["torch.addmm"] / found["ours"], 2),
                "ids_that_differ_from_float64": differ,
            }
            others = found["torch.cdist"] / found["ours"], found["torch.addmm"] / found["ours"]
            rows.append((name, *found.values(), *others, *differ.values()))
    head = ("ms", "ours", "cdist", "addmm", "cdist ×", "addmm ×", "ids off: ours", "cdist")
    return Report("nearest", {"dtype": "float32", "repeats": repeats}, [Table("nearest codes", head, rows)], results)


def residual(rows: int, codes: int, repeats: int) -> Report:
    """Four books in a row."""
    vectors, _ = vectors_of("no order", rows, codes, 64)
    rng = np.random.default_rng(1)
    books = (rng.normal(size=(4, codes, 64)) * 0.8 ** np.arange(4)[:, None, None]).astype(np.float32)
    v, b = torch.from_numpy(vectors), torch.from_numpy(books)
    ids = kernels.residual_encode(vectors, books)

    def encode() -> torch.Tensor:
        rest, found = v, []
        for book in b:
            found.append(torch.cdist(rest, book).argmin(1))
            rest = rest - book[found[-1]]
        return torch.stack(found, dim=1)

    given = torch.from_numpy(ids)
    groups: dict[str, Calls] = {
        "encode": {"ours": lambda: kernels.residual_encode(vectors, books), "torch.cdist, book by book": encode},
        "decode": {
            "ours": lambda: kernels.residual_decode(ids, books),
            "torch, indexed and added": lambda: twin.residual_decode(given, b),
        },
    }
    return compared("residual", groups, repeats, {"vectors": rows, "books": 4, "codes": codes, "width": 64})


def fsq(count: int, repeats: int) -> Report:
    """Values to ids and back."""
    values = np.random.default_rng(0).normal(size=(count, len(LEVELS))).astype(np.float32)
    v = torch.from_numpy(values)
    ids = kernels.fsq_encode(values, LEVELS)
    given = torch.from_numpy(ids)
    groups: dict[str, Calls] = {
        "encode": {
            "ours": lambda: kernels.fsq_encode(values, LEVELS),
            "torch": lambda: twin.fsq_encode(v, LEVELS),
        },
        "decode": {
            "ours": lambda: kernels.fsq_decode(ids, LEVELS),
            "torch": lambda: twin.fsq_decode(given, LEVELS),
        },
    }
    return compared("fsq", groups, repeats, {"vectors": count, "levels": list(LEVELS)})


def packing(count: int, repeats: int) -> Report:
    """Ids to bits and back, and files of them; beside numpy, and a copy of the ids as the floor."""
    rng = np.random.default_rng(0)
    groups: dict[str, Calls] = {}
    for bits in (10, 13, 16):
        ids = rng.integers(0, 2**bits, count)
        packed = kernels.pack_bits(ids, bits=bits)

        def unpacked(packed: np.ndarray = packed, bits: int = bits) -> np.ndarray:
            each = np.unpackbits(packed, bitorder="little", count=count * bits).reshape(count, bits)
            return np.packbits(each, axis=1, bitorder="little")

        groups[f"pack {bits} bits"] = {
            "ours": lambda ids=ids, bits=bits: kernels.pack_bits(ids, bits=bits),
            "numpy": lambda ids=ids, bits=bits: np.packbits(
                ((ids[:, None] >> np.arange(bits)) & 1).astype(np.uint8), bitorder="little"
            ),
            "a copy of the ids": ids.copy,
        }
        groups[f"unpack {bits} bits"] = {
            "ours": lambda packed=packed, bits=bits: kernels.unpack_bits(packed, bits=bits, count=count),
            "numpy": unpacked,
            "a copy of the ids": ids.copy,
        }
    with tempfile.TemporaryDirectory(prefix="foretoken-bench-") as folder:
        ids = rng.integers(0, 1000, (count // 64, 64))
        shard = kernels.TokenShard.save(Path(folder) / "shard", ids, bits=10)
        np.save(Path(folder) / "array.npy", ids.astype(np.uint16))
        place = len(shard) // 2
        groups["64 ids out of a file"] = {
            "TokenShard": lambda: shard[place],
            "numpy.load, mapped": lambda: np.array(np.load(Path(folder) / "array.npy", mmap_mode="r")[place]),
        }
        report = compared("packing", groups, repeats, {"ids": count})
    for group, found in report.results.items():
        if group.startswith(("pack", "unpack")):
            found["ours"]["ids_per_second"] = round(count / found["ours"]["ms"] * 1e3)
    return report


def colours(side: int, repeats: int) -> Report:
    """An image to numbers; a palette beside all distances, in strips that fit memory."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
    palette = kernels.uniform_palette()
    pixels, table = torch.from_numpy(image).reshape(-1, 3).float(), torch.from_numpy(palette).float()

    def strips() -> list[torch.Tensor]:
        return [torch.cdist(some, table).argmin(1) for some in pixels.split(65536)]

    def words() -> torch.Tensor:
        red, green, blue = torch.from_numpy(image).long().unbind(-1)
        return red << 16 | green << 8 | blue

    ids = kernels.palette_encode(image, palette)
    groups: dict[str, Calls] = {
        "palette of 256": {"ours": lambda: kernels.palette_encode(image, palette), "torch.cdist, in strips": strips},
        "back": {"ours": lambda: kernels.palette_decode(ids, palette), "numpy": lambda: palette[ids]},
        "24 bits": {"ours": lambda: kernels.rgb24_encode(image), "torch": words},
        "5-6-5": {"ours": lambda: kernels.rgb565_encode(image)},
        "a palette made for it": {"ours": lambda: kernels.fit_palette(image, 256, rounds=4)},
    }
    return compared("colours", groups, repeats, {"image": f"{side}×{side}, noise"})


def convolved(samples: torch.Tensor, source: int, target: int) -> torch.Tensor:
    """Resampling as torchaudio does it: a strided convolution with a kernel for each phase; the same filter as ours."""
    divisor = math.gcd(source, target)
    up, down = target // divisor, source // divisor
    cutoff = 0.94 * min(1, up / down)
    reach = math.ceil(48 / cutoff)
    offsets = torch.arange(-reach, reach + down)
    times = cutoff * (torch.arange(up)[:, None].double() * down / up - offsets)
    inside = 1 - (times / 48).square()
    weights = torch.sinc(times) * torch.special.i0(9.0 * inside.clamp(min=0).sqrt()) * (inside >= 0)
    weights = (weights / weights.sum(dim=1, keepdim=True)).float()
    padded = torch.nn.functional.pad(samples, (reach, reach + down))
    made = torch.nn.functional.conv1d(padded[None, None], weights[:, None], stride=down)
    return made[0].T.reshape(-1)[: -(-len(samples) * up // down)]


def sound(seconds: int, repeats: int) -> Report:
    """Ten seconds at other rates, and as codes."""
    rng = np.random.default_rng(0)
    groups: dict[str, Calls] = {}
    for source, target in ((44_100, 16_000), (16_000, 8_000), (8_000, 16_000)):
        samples = (rng.normal(size=source * seconds) / 10).astype(np.float32)
        given = torch.from_numpy(samples)
        ours = kernels.resample(samples, source=source, target=target)
        assert np.abs(ours - convolved(given, source, target).numpy()).max() < 1e-5
        groups[f"{source} to {target} Hz"] = {
            "ours": lambda s=samples, a=source, b=target: kernels.resample(s, source=a, target=b),
            "torch, as torchaudio": lambda s=given, a=source, b=target: convolved(s, a, b),
        }
    samples = (rng.normal(size=16_000 * seconds) / 4).astype(np.float32)
    given = torch.from_numpy(samples)

    def law() -> torch.Tensor:
        inside = given.clamp(-1, 1)
        return ((inside.sign() * torch.log1p(255 * inside.abs()) / math.log(256) + 1) / 2 * 255 + 0.5).long()

    ids = kernels.mu_law_encode(samples).ids
    groups["mu-law codes"] = {"ours": lambda: kernels.mu_law_encode(samples), "torch, the formula": law}
    groups["mu-law back"] = {"ours": lambda: kernels.mu_law_decode(ids)}
    groups["16-bit codes"] = {"ours": lambda: kernels.pcm_encode(samples)}
    return compared("sound", groups, repeats, {"seconds": seconds})


def round_trips(count: int) -> Report:
    """Random shapes there and back: how many do not come back exactly."""
    rng = np.random.default_rng(0)

    def bits() -> bool:
        number, shape = int(rng.integers(1, 33)), rng.integers(0, 9, rng.integers(1, 4))
        ids = rng.integers(0, 2**number, shape)
        back = kernels.unpack_bits(kernels.pack_bits(ids, bits=number), bits=number, count=ids.size)
        return np.array_equal(back, ids.ravel())

    def pixels() -> bool:
        image = rng.integers(0, 256, (*rng.integers(0, 9, rng.integers(0, 4)), 3), dtype=np.uint8)
        return np.array_equal(kernels.rgb24_decode(kernels.rgb24_encode(image)), image)

    def samples() -> bool:
        number = int(rng.choice([8, 16]))
        ids = rng.integers(0, 2**number, rng.integers(0, 9, rng.integers(1, 4)))
        back = kernels.pcm_encode(kernels.pcm_decode(ids, bits=number), bits=number)
        return back.clipped == 0 and np.array_equal(back.ids, ids)

    kinds = {"tokens packed in bits": bits, "24-bit pixels": pixels, "linear codes": samples}
    results = {name: sum(not kind() for _ in range(count)) for name, kind in kinds.items()}
    table = Table(f"round trips of {count:,} random shapes", ("what", "not exact"), list(results.items()))
    return Report("round trips", {"shapes": count}, [table], results)


def goals(results: dict[str, dict[str, Any]]) -> Iterator[tuple[str, float, str, float]]:
    """(what, measured, how to compare, asked) for each part that was run."""
    for name, found in results.get("nearest", {}).items():
        if name.startswith("4,096 × 8,192 × 64"):
            yield f"nearest, {name}: times torch.cdist().argmin(1)", found["times_cdist"], ">=", 3.0
        yield f"nearest, {name}: ids that differ from float64", found["ids_that_differ_from_float64"]["ours"], "<=", 0
    for name, wrong in results.get("round trips", {}).items():
        yield f"round trips, {name}: not exact", wrong, "<=", 0


def asked(results: dict[str, dict[str, Any]]) -> Report:
    """What was asked beside what was measured."""
    rows = []
    for what, measured, sign, wanted in goals(results):
        met = measured >= wanted if sign == ">=" else measured <= wanted
        rows.append((what, round(measured, 2), f"{sign} {wanted:g}", "yes" if met else "NO"))
    table = Table("what was asked", ("measure", "measured", "asked", "met"), rows)
    return Report("asked", {}, [table], {"measures": len(rows), "missed": [row[0] for row in rows if row[-1] == "NO"]})


def main(arguments: Sequence[str] | None = None) -> Report:
    """Run the parts that are asked for."""
    parts = ("nearest", "residual", "fsq", "packing", "colours", "sound", "round trips")
    parser = _common.parser(__doc__)
    parser.add_argument("--only", action="append", choices=parts, help="one part; may be repeated")
    parser.add_argument("--repeats", type=int, default=15, help="that are timed (default: 15)")
    options = _common.parsed(parser, arguments)
    if options.threads is None:
        torch.set_num_threads(1)  # what is measured has one, too
    quick, repeats = options.quick, 1 if options.quick else options.repeats
    sizes = ((64, 128, 16),) if quick else SIZES
    count, trips = (4096, 200) if quick else (1 << 20, 10_000)
    runs: dict[str, Callable[[], Report]] = {
        "nearest": lambda: nearest(sizes, repeats),
        "residual": lambda: residual(64 if quick else 4096, 128 if quick else 1024, repeats),
        "fsq": lambda: fsq(count // 4, repeats),
        "packing": lambda: packing(count, repeats),
        "colours": lambda: colours(32 if quick else 1024, repeats),
        "sound": lambda: sound(1 if quick else 10, repeats),
        "round trips": lambda: round_trips(trips),
    }
    reports = [runs[name]() for name in options.only or parts]
    reports.append(asked({report.name: report.results for report in reports}))
    return _common.finish(joined("quantize", reports), options)


if __name__ == "__main__":
    main()
