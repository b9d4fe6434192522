"""The model card of the codec of sound: what it learnt from, how, and how well.

    python benches/sound.py --data DATA --save               # measures what the card reports
    python -m foretoken.recipes.sound_card benches/results/sound.json

writes the card of the shipped codec.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..codec.sound_codes import SoundCodes
from ..hub import path
from .sound import SoundRecipe

NAME = "digits-sound"


def card(config: SoundRecipe, codec: SoundCodes, measured: dict[str, Any]) -> str:
    """The text of a card.

    Args:
        config: the recipe's configuration.
        codec: what was trained.
        measured: the results of `benches/sound.py`.
    """
    found, taken = measured["results"]["codecs"], measured["settings"]["codecs"]
    parameters = sum(weight.numel() for weight in codec.module.parameters()) + codec.codebooks.size
    shape, steps = codec.config, config.steps[-1]
    heard = config.batch * config.window * steps / shape.rate / 60
    rows = []
    for name, figures in found.items():
        if "bits_a_second" in figures:
            used = "-" if figures["codes_used"] is None else ", ".join(f"{n:,}" for n in figures["codes_used"])
            rows.append(
                f"| {name} | {figures['bits_a_second']:,} | {figures['mel_distance_db']:.2f} | "
                f"{figures['si_snr_db']:.2f} | {100 * figures['accuracy']:.1f} | {used} |"
            )
    per_second = shape.rate // shape.hop
    lines = [
        f"# {NAME}",
        "",
        f"A codec of sound, `foretoken.SoundCodes`, of {parameters / 1e6:.1f} M parameters: {shape.rate:,} samples a "
        f"second to {per_second} frames of {shape.books} codes out of {shape.codes:,}, "
        f"{per_second * shape.books * (shape.codes.bit_length() - 1):,} bits a second, in the delay pattern. It has "
        "heard six people say ten digits, and nothing else: do not expect much of other sound.",
        "",
        "## Licence",
        "",
        "CC BY-SA 4.0, unlike the rest of foretoken: it learnt from share-alike recordings, and keeps their licence.",
        "",
        "## Data",
        "",
        "Free Spoken Digit Dataset (CC BY-SA 4.0; NOTICE names it): "
        f"{taken['trained_on'] + taken['takes']:,} takes at 8 kHz by six speakers. A take is held out where "
        "`zlib.crc32(file name) % 10 == 0`; all speakers are heard in training. Takes were joined with pauses of "
        "silence, made louder by up to 3 dB or quieter by up to 6, and some turned over.",
        "",
        "## Recipe",
        "",
        "```",
        f"foretoken train {NAME} --data DATA --out runs/{NAME}",
        "```",
        "",
        f"{steps:,} steps of {config.batch} windows of {config.window / shape.rate:g} s ({heard:,.0f} minutes of "
        f"sound), Adam, peak rate {config.rate}, products in bfloat16. The loss is of spectra of five resolutions on "
        "the mel scale and of the ratio of noise to signal; there is no discriminator. Weights are stored in eight "
        "bits, with a scale for each row, and run in float32.",
        "",
        "## Figures",
        "",
        f"On the {taken['takes']} takes held out ({taken['seconds']:g} s). Mel distance: 40 bands, dB, the mean "
        "absolute difference; SI-SNR: dB, the mean over takes; heard: how many of the digits a small network hears "
        "that learnt from the original training takes; of the originals it hears "
        f"{100 * found['original']['accuracy']:.1f} %.",
        "",
        "| | bits a second | mel distance | SI-SNR | heard, % | codes used of each book |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> None:
    """Write the card of the shipped codec from a file of `benches/sound.py`."""
    measured = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    config = SoundRecipe.from_file(Path(__file__).parent / "configs" / f"{NAME}.json")
    (path(NAME) / "README.md").write_text(card(config, SoundCodes.from_folder(path(NAME)), measured), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
