"""Thumbnails pixel by pixel, and the painter's patches made as small: how good, how many forwards, how long.

    python benches/thumbnails.py --data DATA --causal runs/thumbnails-ar/checkpoint

An autoregressive model of 16 × 16 pixels reads a caption that was never trained on and writes one pixel after another,
in the core. Beside it the painter paints the same captions by 256 patches in 8 steps, which are 64 × 64 pixels, and its
pictures are made as small. A CLIP of ours judges all of them, four times enlarged; the share of the way says how far a
score is from mismatched real thumbnails (0) to matched ones (1). Bits a pixel are those of held-out pictures.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch
from torch.nn import functional as F

import foretoken as ft
from benches import _common
from foretoken.codec.pixels import Pixels
from foretoken.codec.png import png
from foretoken.codec.prompts import Prompts
from foretoken.evaluate.clip import Clip
from foretoken.evaluate.distance import frechet
from foretoken.evaluate.report import Report, Table, joined
from foretoken.lab.real_pictures import KINDS, yardsticks
from foretoken.model.checkpoint import load_llama
from foretoken.model.llama import LlamaModule
from foretoken.recipes import captions

PIXELS, GRID, LARGER = Pixels(8), (16, 16), 4
Ways = dict[str, Callable[[str, int], tuple[np.ndarray, int]]]


def bits(module: LlamaModule, told: np.ndarray, bodies: np.ndarray) -> float:
    """Bits that the model needs for each pixel of pictures (n, 256) behind their texts (n, positions)."""
    rows = torch.from_numpy(np.concatenate((told, bodies), axis=1))
    with torch.inference_mode():
        logits = torch.cat([module(part[:, :-1])[:, told.shape[1] - 1 :] for part in rows.split(16)])
    nats = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), torch.from_numpy(bodies).reshape(-1))
    return float(nats) / float(np.log(2))


def ways(module: LlamaModule, prompts: Prompts, painter: ft.Painter, temperature: float) -> Ways:
    """Text, seed → a thumbnail, and the forwards that it took."""
    model, sampler = ft.Native(module), ft.Sampler(temperature=temperature, allowed_tokens=range(256))

    def by_pixels(text: str, seed: int) -> tuple[np.ndarray, int]:
        out = ft.generate(model, ft.Canvas(256 + prompts([text])), max_tokens=256, seed=seed, sampler=sampler)
        return PIXELS.decode(out.rows[0].units[-256:], GRID), out.stats.forwards

    def by_patches(text: str, seed: int, **options: Any) -> tuple[np.ndarray, int]:
        out = painter(text, seed=seed, **options)
        return again(captions.thumbnail(out.signal.pixels)), out.stats.forwards

    return {
        "256 pixels, one after another": by_pixels,
        "256 patches in 8 steps, guided": by_patches,
        "256 patches in 8 steps": functools.partial(by_patches, guidance=1),
    }


def again(thumbnail: np.ndarray) -> np.ndarray:
    """A thumbnail as it comes back from its 8 bits a pixel."""
    return PIXELS.decode(PIXELS.encode(thumbnail), GRID)


def enlarged(thumbnails: np.ndarray) -> np.ndarray:
    """(n, 16, 16, 3) as (n, 64, 64, 3)."""
    return thumbnails.repeat(LARGER, axis=1).repeat(LARGER, axis=2)


def compared(kind: str, options: Any, data: Path) -> Report:
    """Every way on held-out captions of one kind."""
    folder, clip = Path(options.causal), Clip(options.clip)
    module = load_llama(folder).eval()
    prompts = Prompts.from_file(folder / "tokenizer.json", positions=captions.POSITIONS)
    pictures, said = KINDS[kind](data, held_out=True)
    chosen = np.random.default_rng(0).permutation(len(said))[: options.count]
    texts = [str(said[place]) for place in chosen]
    small = [captions.thumbnail(pictures[place]) for place in chosen]
    bodies = np.stack([PIXELS.encode(each) for each in small])
    words, real = clip.texts(texts), clip.images(enlarged(np.stack([again(each) for each in small])))
    matched, shifted = yardsticks(real, words)
    results: dict[str, Any] = {"real": {"CLIP score": matched, "mismatched": shifted}}
    results["bits a pixel"] = bits(module, 256 + prompts(texts), bodies)
    for name, way in ways(module, prompts, ft.Painter.load(options.painter), options.temperature).items():
        started = perf_counter()
        made = [way(text, seed) for seed, text in enumerate(texts)]
        seconds = perf_counter() - started
        drawn = np.stack([picture for picture, _ in made])
        features = clip.images(enlarged(drawn))
        score = float((features * words).sum(axis=1).mean())
        results[name] = {
            "CLIP score": score, "share of the way": (score - shifted) / (matched - shifted),
            "Fréchet": frechet(features, real), "forwards": made[0][1], "ms": 1000 * seconds / len(texts),
        }  # fmt: skip
        if options.sheet:
            options.sheet.mkdir(parents=True, exist_ok=True)
            path = options.sheet / f"{kind}-{name.replace(' ', '-').replace(',', '')}.png"
            path.write_bytes(png(np.concatenate(list(enlarged(drawn[:16])), axis=1)))
        print(kind, name, results[name], file=sys.stderr)
    head = ("way", "CLIP score", "share of the way", "Fréchet", "forwards", "ms")
    rows = [(name, *found.values()) for name, found in results.items() if name not in ("real", "bits a pixel")]
    title = (
        f"{kind}, {results['bits a pixel']:.2f} bits a pixel; real ones score {matched:.3f}, mismatched {shifted:.3f}"
    )
    return Report(kind, {"captions": len(texts)}, [Table(title, head, rows)], results)


def main(arguments: Sequence[str] | None = None) -> Report:
    """Measure a checkpoint beside a painter."""
    parser = _common.parser(__doc__)
    parser.add_argument("--data", type=Path, help="the data folder")
    parser.add_argument("--causal", type=Path, default=Path("runs/thumbnails-ar/checkpoint"))
    parser.add_argument("--painter", default="painter", help="a shipped one or a folder (default: painter)")
    parser.add_argument("--clip", default="clip", help="the judge (default: clip)")
    parser.add_argument("--count", type=int, default=96, help="captions of each kind (default: 96)")
    parser.add_argument("--temperature", type=float, default=0.7, help="of pixels (default: 0.7, the painter's own)")
    parser.add_argument("--sheet", type=Path, help="a folder for a PNG of each way's first 16 pictures")
    options = _common.parsed(parser, arguments)
    data = _common.data_folder(options.data)
    if data is None:
        return _common.finish(Report("thumbnails", {"skipped": "no data folder; pass --data"}, [], {}), options)
    return _common.finish(joined("thumbnails", [compared(kind, options, data) for kind in KINDS]), options)


if __name__ == "__main__":
    main()
