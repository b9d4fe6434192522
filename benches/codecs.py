"""Codecs of pictures and films on what they have never seen, beside k-means, PCA and WebP at the same cost.

    python benches/codecs.py --data DATA
    python benches/codecs.py --data DATA --codec emoji-fsq-64 --codec runs/mine/checkpoint --pictures 100

Pictures: held-out emoji, tiles (four in a picture) and frames of composed walks. Films: held-out animated emoji and
walks. Yardsticks are fitted to training pictures of the very set they are measured on, up to `--training` of them,
which is kinder to them than to codecs, who learn all sets at once. A figure is the mean over pictures (frames, for
films) of each one's own; perplexity is that of the codes' frequencies. WebP files are counted whole, and chosen as near
as they get.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch

from benches import _common
from foretoken import codec
from foretoken.codec import Codec
from foretoken.codec.autoencoder import AutoencoderConfig, PatchAutoencoder
from foretoken.codec.patches import Film, Patches
from foretoken.codec.pixels import Pixels
from foretoken.evaluate.pictures import CAP, gmsd, psnr, ssim
from foretoken.evaluate.report import Report, Table, asked, joined
from foretoken.evaluate.yardsticks import WEBP_CONTAINER, WEBP_FRAME, PatchCodes, PatchPlane, WebP, mean_colours
from foretoken.recipes import pictures, sprites

SIDE = 64
Codecs = dict[str, Codec[Any]]
Sets = dict[str, tuple[np.ndarray, np.ndarray]]
"""(training, held out), each (pictures, 64, 64, 3) uint8."""

HEAD = ("units", "bits", "PSNR, dB", "SSIM", "GMSD", "codes used", "of all", "perplexity")


def usage(ids: np.ndarray, codes: int) -> dict[str, Any]:
    """How many of the codes were used, and how many equally frequent ones would be as varied."""
    counts = np.bincount(ids.reshape(-1), minlength=codes)
    shares = counts[counts > 0] / counts.sum()
    used = int((counts > 0).sum())
    perplexity = float(np.exp(-(shares * np.log(shares)).sum()))
    return {"codes": codes, "codes_used": used, "share_used": used / codes, "perplexity": perplexity}


def nearness(originals: np.ndarray, decoded: np.ndarray) -> dict[str, Any]:
    """The measures, and how many pictures came back exactly."""
    ratio = psnr(originals, decoded)
    return {
        "psnr": float(ratio.mean()),
        "ssim": float(ssim(originals, decoded).mean()),
        "gmsd": float(gmsd(originals, decoded).mean()),
        "exact": int((ratio == CAP).sum()),
    }


def line(name: str, found: dict[str, Any]) -> tuple[Any, ...]:
    """A row of the table."""
    share = found.get("share_used")
    return (
        name, found.get("units"), f"{found['bits']:,.0f}", *(f"{found[key]:.{n}f}" for key, n in _DIGITS.items()),
        found.get("codes_used"), None if share is None else f"{share:.1%}", found.get("perplexity"),
    )  # fmt: skip


_DIGITS = {"psnr": 2, "ssim": 3, "gmsd": 3}


def coded(one: Codec[Any], originals: np.ndarray) -> dict[str, Any]:
    """Pictures through a codec and back."""
    grid = one.grid(originals[0])
    rows = [one.encode(picture) for picture in originals]
    decoded = np.stack([one.decode(row, grid) for row in rows])
    found = {"units": math.prod(grid), "bits": one.bits(originals[0]), **nearness(originals, decoded)}
    if one.vocab_size is not None and one.vocab_size <= 2**16:
        found |= usage(np.stack(rows), one.vocab_size)
    return found


def still(name: str, codecs: Codecs, sets: Sets, options: Any) -> Report:
    """One set of pictures: the codecs, then yardsticks of the same costs."""
    train, held = sets[name]
    results: dict[str, Any] = {title: coded(one, held) for title, one in codecs.items()}
    sides = {title: math.sqrt(held[0, ..., 0].size / found["units"]) for title, found in results.items()}
    patches = {title: int(side) for title, side in sides.items() if side > 1 and side == int(side)}
    symbols = {(patches[title], codecs[title].vocab_size) for title in patches if codecs[title].vocab_size}
    vectors = {(patches[title], codecs[title].width) for title in patches if codecs[title].vocab_size is None}
    for side, codes in sorted((side, min(int(codes or 0), 8192)) for side, codes in symbols):
        fitted = PatchCodes.fitted(train, side=side, codes=codes, rounds=options.rounds)
        found = nearness(held, fitted.decoded(held)) | usage(fitted.encode(held), codes)
        units = SIDE * SIDE // side**2
        results[f"k-means, {codes} codes, {side} × {side}"] = {
            "units": units,
            "bits": units * math.log2(codes),
            **found,
        }
    for side, width in sorted(vectors):
        shown = PatchPlane.fitted(train, side=side, width=width).decoded(held)
        units = SIDE * SIDE // side**2
        cost = {"units": units, "bits": 32 * width * units}
        results[f"PCA, {width} numbers, {side} × {side}"] = cost | nearness(held, shown)
    for side in sorted(set(patches.values())):
        units = SIDE * SIDE // side**2
        found = nearness(held, mean_colours(held, side=side))
        results[f"mean colours, {side} × {side}"] = {"units": units, "bits": 24 * units, **found}
    few = held[np.linspace(0, len(held) - 1, min(options.webp, len(held))).astype(int)]
    files = [WebP(picture) for picture in few]
    for size in sorted({round(results[title]["bits"] / 8) for title in patches}):
        shown = np.stack([file.decoded(size) for file in files])
        found = {"bits": 8 * float(np.mean([file.nearest(size) for file in files])), **nearness(few, shown)}
        results[f"WebP, wanted {size:,} bytes"] = found
    table = Table(f"{name}: {len(held)} held-out pictures", (name, *HEAD), [line(*item) for item in results.items()])
    settings: dict[str, Any] = {
        "held out": len(held), "fitted to": len(train), "rounds of k-means": options.rounds, "WebP": len(few),
        "WebP's header, bytes": WEBP_CONTAINER + WEBP_FRAME,
        "smallest WebP, bytes": round(float(np.mean([file.smallest for file in files])), 1) if files else None,
    }  # fmt: skip
    return Report(name, settings, [table], results)


def moving(name: str, codecs: Codecs, clips: Sequence[np.ndarray]) -> Report:
    """One set of films: codecs of films, and codecs of pictures that take each frame alone."""
    results: dict[str, Any] = {}
    for title, one in codecs.items():
        units, bits, ids, pairs = 0, 0.0, [], []
        for clip in clips:
            for signal in [clip] if one.unit == "tubelet" else clip:
                row, grid = one.encode(signal), one.grid(signal)
                units, bits = units + len(row), bits + one.bits(signal)
                ids.append(row)
                shown = one.decode(row, grid).reshape(-1, *clip.shape[1:])
                pairs.append((np.asarray(signal).reshape(-1, *clip.shape[1:]), shown))
        originals = np.concatenate([original for original, _ in pairs])
        decoded = np.concatenate([shown[: len(original)] for original, shown in pairs])
        results[title] = {
            "units": units / len(originals),
            "bits": bits / len(originals),
            **nearness(originals, decoded),
        }
        if one.vocab_size is not None and one.vocab_size <= 2**16:
            results[title] |= usage(np.concatenate(ids), one.vocab_size)
    frames = sum(map(len, clips))
    title = f"{name}: {len(clips)} held-out clips of {frames} frames, each figure that of a frame"
    table = Table(title, (name, *HEAD), [line(*item) for item in results.items()])
    return Report(f"{name} films", {"clips": len(clips), "frames": frames}, [table], results)


def goals(codecs: Codecs, results: dict[str, dict[str, Any]]) -> Iterator[tuple[str, float, str, float]]:
    """(what, measured, how to compare, asked): what issue 5 wants of shipped codecs."""
    emoji = results.get("emoji", {})
    for name, found in emoji.items():
        if name not in codecs or isinstance(codecs[name], Pixels):
            continue
        side = math.isqrt(SIDE * SIDE // found["units"])
        if "share_used" in found:
            yield f"{name}: codes used, %", round(100 * found["share_used"], 1), ">=", 90
            beside = f"k-means, {found['codes']} codes, {side} × {side}"
        else:
            beside = f"PCA, {codecs[name].width} numbers, {side} × {side}"
        if beside in emoji:
            yield f"{name}: dB above {beside}", round(found["psnr"] - emoji[beside]["psnr"], 2), ">=", 2
    for part, found in results.items():
        alone = [title for title in found if title in codecs and codecs[title].unit == "patch"]
        for title in [title for title in found if part.endswith("films") and codecs[title].unit == "tubelet"]:
            same = [one for one in alone if math.isclose(found[one]["units"], found[title]["units"], rel_tol=0.2)]
            best = max(same, key=lambda one: found[one]["psnr"], default=None)
            if best is not None:
                gain = found[title]["psnr"] - found[best]["psnr"]
                yield f"{part}, {title}: dB above {best}, frame by frame", round(gain, 2), ">=", 1.5


def toys() -> tuple[Codecs, Sets, dict[str, list[np.ndarray]]]:
    """Codecs without training, and blocks of colour: does it run?"""
    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "stem": 8,
        "stem_depth": 1,
        "trunk": 8,
        "trunk_depth": 1,
        "patch": 4,
        "units": 1,
        "mixing": 0,
    }
    fsq = AutoencoderConfig(frames=1, levels=(5, 4), codes=0, width=2, **shape)
    free = AutoencoderConfig(frames=1, levels=(), codes=0, width=3, **shape)
    film = AutoencoderConfig(frames=4, levels=(5, 4), codes=0, width=2, **{**shape, "units": 4, "mixing": 1})
    made: Codecs = {
        "toy-fsq": Patches(PatchAutoencoder(fsq)),
        "toy-vectors": Patches(PatchAutoencoder(free)),
        "toy-film": Film(PatchAutoencoder(film)),
    }
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
    blocks = coarse.repeat(8, axis=1).repeat(8, axis=2)
    return made, {"emoji": (blocks[:8], blocks[8:])}, {"motion": [blocks[:8], blocks[8:]]}


def real(data: Path, names: Iterable[str], options: Any) -> tuple[Codecs, Sets, dict[str, list[np.ndarray]]]:
    """The codecs that are asked for and the data by its rules, some of it, chosen by a fixed seed."""
    rng = np.random.default_rng(0)

    def some(given: Sequence[np.ndarray] | np.ndarray, count: int) -> Any:
        if len(given) <= count:
            return given
        chosen = np.sort(rng.choice(len(given), count, replace=False))
        return given[chosen] if isinstance(given, np.ndarray) else [given[i] for i in chosen]

    splits: dict[str, Callable[[], tuple[np.ndarray, np.ndarray]]] = {
        "emoji": lambda: pictures.emoji(data),
        "tiles": lambda: pictures.tiles(data),
        "walk": lambda: (
            frames(sprites.walk(data, 400, seed=1)),
            frames(sprites.walk(data, 100, seed=2, held_out=True)),
        ),
    }
    sets = {}
    for name in options.only or splits:
        if name in splits:
            train, held = splits[name]()
            sets[name] = (some(train, options.training), some(held, options.pictures))
    films = {}
    if not options.only or "films" in options.only:
        films["motion"] = some(pictures.motion(data)[1], options.clips)
        films["walk"] = [clip.frames for clip in sprites.walk(data, options.clips, seed=3, held_out=True)]
    return {name: codec.load(name) for name in names}, sets, films


def frames(clips: Sequence[sprites.Clip]) -> np.ndarray:
    """All frames of clips."""
    return np.concatenate([clip.frames for clip in clips])


def main(arguments: Sequence[str] | None = None) -> Report:
    """Measure every codec that is asked for."""
    parser = _common.parser(__doc__)
    parser.add_argument("--data", type=Path, help="the data folder")
    parser.add_argument("--codec", action="append", help="a shipped codec or a folder; may be repeated (default: all)")
    parser.add_argument("--only", action="append", choices=("emoji", "tiles", "walk", "films"), help="may be repeated")
    parser.add_argument("--pictures", type=int, default=1000, help="the most held-out ones of a set (default: 1000)")
    parser.add_argument("--training", type=int, default=4000, help="that yardsticks are fitted to (default: 4000)")
    parser.add_argument("--clips", type=int, default=40, help="the most held-out ones of a set (default: 40)")
    parser.add_argument("--rounds", type=int, default=20, help="of k-means (default: 20)")
    parser.add_argument(
        "--webp", type=int, default=100, help="pictures of a set saved as WebP, 101 times (default: 100)"
    )
    options = _common.parsed(parser, arguments)
    data = _common.data_folder(options.data)
    if options.quick:
        options.webp, options.rounds = 2, 2
        codecs, sets, films = toys()
    elif data is None:
        return _common.finish(Report("codecs", {"skipped": "no data folder; pass --data"}, [], {}), options)
    else:
        codecs, sets, films = real(data, options.codec or codec.names(), options)
    stills = {"pixels, 8 bits": Pixels(8), "pixels, 16 bits": Pixels(16)}
    stills |= {name: one for name, one in codecs.items() if one.unit == "patch"}
    moves = {name: one for name, one in codecs.items() if one.unit in ("patch", "tubelet")}
    reports = [still(name, stills, sets, options) for name in sets]
    if any(one.unit == "tubelet" for one in moves.values()):
        reports += [moving(name, moves, clips) for name, clips in films.items()]
    reports.append(asked(goals(codecs, {report.name: report.results for report in reports})))
    return _common.finish(joined("codecs", reports), options)


if __name__ == "__main__":
    main()
