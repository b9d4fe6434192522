"""The model card of a codec of pictures or films: what it learnt from, how, how well, and pictures nobody picked.

    python benches/codecs.py --data DATA --save                # measures what the cards report
    python -m foretoken.recipes.codec_card benches/results/codecs.json DATA

writes the cards of the shipped codecs that were measured.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..codec.hub import load, names
from ..codec.patches import Film, Patches
from ..shipped import path
from . import pictures, sprites
from .patches import PatchesConfig

SOURCES = {
    "emoji": "Emoji in nine styles (Apache-2.0, MIT, CC BY 4.0). Held out: one pair of style and caption in twenty.",
    "tiles": "Pixel art, four tiles in a picture (CC0). Held out: one tile in twenty.",
    "walk": "Characters composed of the layers of LPC Revised (CC BY 3.0 or OGA-BY 3.0). Held out: one combination of "
    "attributes in ten, in any animation and direction.",
    "motion": "Animated emoji, twelve frames a second (CC BY 4.0). Held out: one caption in twenty.",
}
"""What each source of the recipe is, its licence, and by which rule a part of it is never trained on."""


def figures(measured: dict[str, Any], name: str) -> dict[str, str]:
    """What a card reports, by its words, of the results in `benches/codecs.py`."""
    said = {}
    for part, results in measured.items():
        if name not in results:
            continue
        found = results[name]
        codes = f", {found['codes_used']} codes used" if "codes_used" in found else ""
        said[part] = (
            f"PSNR {found['psnr']:.2f} dB, SSIM {found['ssim']:.3f}, GMSD {found['gmsd']:.3f}; "
            f"{found['units']:g} units, {found['bits']:,.0f} bits{codes}"
        )
    return said


def write_card(folder: Path, config: PatchesConfig, codec: Patches | Film, *, figures: dict[str, str]) -> None:
    """Write `README.md` of a checkpoint folder that holds `samples.png`.

    Args:
        folder: the checkpoint; its name is the codec's.
        config: the recipe's configuration.
        codec: what the folder holds.
        figures: measured on what was held out, name → value.
    """
    parameters = sum(weight.numel() for weight in codec.module.parameters())
    symbols = f"a symbol of {codec.vocab_size:,}" if codec.vocab_size else f"{codec.width} numbers"
    how = "by FSQ" if config.levels else "by vector quantisation" if config.codes else "of mean 0 and variance 1"
    units = (64 // codec.side) ** 2
    begun = f", begun with the weights of {Path(config.start).parent.name}" if config.start else ""
    of = f"{config.frames} frames of 64 × 64" if config.frames > 1 else "64 × 64"
    lines = [
        f"# {folder.name}",
        "",
        f"A codec: {units} units for {of} pixels, each {symbols}, {how}. A convolutional auto-encoder of "
        f"{parameters / 1e6:.1f} M parameters; pictures may have any size in multiples of {codec.config.place} pixels.",
        "",
        "## Data",
        "",
        *(f"- {SOURCES[source]}" for source in config.sources),
        "",
        "All on white; NOTICE names whose they are.",
        "",
        "## Recipe",
        "",
        "```",
        f"foretoken train {folder.name} --data DATA --out runs/{folder.name}",
        "```",
        "",
        f"{config.steps[-1]:,} steps of {config.batch}, Adam, peak rate {config.rate}, squared error of pixels, "
        f"products in bfloat16{begun}. Weights are stored in eight bits, with a scale for each row, "
        "and used in float32; figures are those of the same weights in bfloat16, 0.03 dB better at most.",
        "",
        "## Figures",
        "",
        "On what was held out, a picture or frame (`python benches/codecs.py --data DATA`).",
        "",
        "| | |",
        "|---|---|",
        *(f"| {part} | {value} |" for part, value in figures.items()),
        "",
        "## Held-out pictures, unpicked",
        "",
        "Above as they are, below as they come back.",
        "",
        "![held-out pictures and what the codec makes of them](samples.png)",
        "",
    ]
    (folder / "README.md").write_text("\n".join(lines), encoding="utf-8")


def samples(codec: Patches | Film, held_out: np.ndarray) -> np.ndarray:
    """Pictures (n, 64, 64, 3), or the frames of a film, above what the codec makes of them, as one picture."""
    back = codec.decode_batch(codec.encode_batch(held_out)) if isinstance(codec, Patches) else None
    if back is None:
        back = codec.decode(codec.encode(held_out), codec.grid(held_out))[: len(held_out)]
    return np.concatenate([np.concatenate(list(row), axis=1) for row in (held_out, back)])


def main(arguments: Sequence[str]) -> None:
    """Write the card of each shipped codec in a file of `benches/codecs.py`."""
    from PIL import Image

    measured = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))["results"]
    data = Path(arguments[1])
    emoji = pictures.emoji(data)[1]
    stills = emoji[np.random.default_rng(0).choice(len(emoji), 12, replace=False)]
    film = np.concatenate([pictures.motion(data)[1][0][:8], sprites.walk(data, 1, seed=0, held_out=True)[0].frames[:8]])
    for file in sorted(Path(__file__).parent.glob("configs/*.json")):
        if file.stem not in names() or not isinstance(codec := load(file.stem), (Patches, Film)):
            continue
        folder = path(file.stem)
        shown = samples(codec, stills if isinstance(codec, Patches) else film)
        Image.fromarray(shown).save(folder / "samples.png", optimize=True)
        write_card(folder, PatchesConfig.from_file(file), codec, figures=figures(measured, file.stem))


if __name__ == "__main__":
    main(sys.argv[1:])
