"""Codecs of sound on takes that were never trained on: spectra, samples, and which digit is heard, beside the bits.

    python benches/sound.py --data DATA --save          # or FORETOKEN_DATA, or ../shared/data

A listener learns from the original training takes, and hears the held-out ones as they were and as they were decoded.
Beside the shipped codec, whole and with its first books only, stand the samples themselves, as μ-law and linear codes,
and residual k-means over the samples of a frame: as many bits without an auto-encoder.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np

import foretoken as ft
from benches import _common
from foretoken import kernels
from foretoken.codec.samples import Samples
from foretoken.codec.sound_autoencoder import SoundAutoencoder, SoundConfig
from foretoken.codec.sound_codes import SoundCodes
from foretoken.evaluate import sound
from foretoken.evaluate.report import Report, Table, asked, joined
from foretoken.recipes.digits import RATE, Take, split

Codec = tuple[Callable[[np.ndarray], np.ndarray], float, list[int] | None]
"""Sound to sound, bits a second, and how many codes each book used so far."""


def coded(codec: SoundCodes) -> Codec:
    """A codec of codes, which keeps count of those it used."""
    books = codec.config.books
    seen = np.zeros((books, codec.vocab_size), dtype=bool)
    used = [0] * books

    def through(samples: np.ndarray) -> np.ndarray:
        row = codec.encode(samples)
        grid = ft.layouts.delay(len(row) // books, books).grid(row).reshape(-1, books)
        for book, ids in enumerate(grid.T):
            seen[book, ids] = True
            used[book] = int(seen[book].sum())
        return codec.decode(row)[: len(samples)]

    second = np.zeros(codec.rate, dtype=np.float32)
    return through, codec.bits(second), used


def sampled(codec: Samples) -> Codec:
    """The samples themselves."""
    second = np.zeros(codec.rate, dtype=np.float32)
    return lambda samples: codec.decode(codec.encode(samples)), codec.bits(second), None


def frames_of(samples: np.ndarray, hop: int) -> np.ndarray:
    """(frames, hop), the last one filled up with silence."""
    return np.pad(samples, (0, -len(samples) % hop)).reshape(-1, hop)


def k_means(takes: Sequence[Take], books: int, codes: int, hop: int, *, most: int = 20_000, rounds: int = 4) -> Codec:
    """Residual k-means over frames of samples, fitted on the training takes (Lloyd's rounds from chosen frames)."""
    rng = np.random.default_rng(0)
    rest = np.concatenate([frames_of(take.samples, hop) for take in takes])
    rest = rest[rng.permutation(len(rest))[:most]]
    found = []
    for _ in range(books):
        book = rest[rng.choice(len(rest), codes, replace=len(rest) < codes)]
        for _ in range(rounds):
            ids = kernels.nearest(rest, book).ids
            counts = np.bincount(ids, minlength=codes)
            sums = np.zeros_like(book)
            np.add.at(sums, ids, rest)
            book = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], book).astype(np.float32)
        rest = rest - book[kernels.nearest(rest, book).ids]
        found.append(book)
    stacked = np.stack(found)

    def through(samples: np.ndarray) -> np.ndarray:
        ids = kernels.residual_encode(frames_of(samples, hop), stacked)
        return kernels.residual_decode(ids, stacked).reshape(-1)[: len(samples)].clip(-1, 1)

    return through, RATE / hop * books * float(np.log2(codes)), None


def measured(codec: Codec, takes: Sequence[Take], listener: sound.Listener) -> dict[str, Any]:
    """One codec's figures on takes."""
    through, bits, used = codec
    decoded = [through(take.samples) for take in takes]
    pairs = [(take.samples, made) for take, made in zip(takes, decoded, strict=True)]
    ratios = [sound.si_snr(*pair) for pair in pairs]
    return {
        "bits_a_second": round(bits),
        "mel_distance_db": round(float(np.mean([sound.mel_distance(*pair, rate=RATE) for pair in pairs])), 2),
        "si_snr_db": round(float(np.mean(ratios)), 2),
        "si_snr_db_median": round(float(np.median(ratios)), 2),
        "accuracy": round(sound.heard_right(listener, decoded, [take.digit for take in takes]), 4),
        "codes_used": used,
    }


def compared(codec: SoundCodes, train: Sequence[Take], held_out: Sequence[Take], *, steps: int) -> Report:
    """The codec, its first books, and the yardsticks."""
    config = codec.config
    listener = sound.taught([take.samples for take in train], [take.digit for take in train], steps=steps)
    contenders = {f"SoundCodes, {n} of {config.books} books": coded(codec.first(n)) for n in range(config.books, 0, -1)}
    contenders |= {
        f"k-means of samples, {config.books} × {config.codes}": k_means(
            train, config.books, config.codes, config.hop, most=20 * config.codes
        ),
        "μ-law, 8 bits": sampled(Samples(rate=RATE, bits=8)),
        "linear, 16 bits": sampled(Samples(rate=RATE, bits=16)),
    }
    results = {name: measured(contender, held_out, listener) for name, contender in contenders.items()}
    original = sound.heard_right(listener, [take.samples for take in held_out], [take.digit for take in held_out])
    rows: list[tuple[Any, ...]] = [
        (
            name, found["bits_a_second"], found["mel_distance_db"], found["si_snr_db"], found["si_snr_db_median"],
            f"{100 * found['accuracy']:.1f}", f"{100 * (original - found['accuracy']):+.1f}",
            None if found["codes_used"] is None else " ".join(map(str, found["codes_used"])),
        )
        for name, found in results.items()
    ]  # fmt: skip
    rows.append(("as they were", None, 0, None, None, f"{100 * original:.1f}", None, None))
    head = ("codec", "bits/s", "mel dB", "SI-SNR dB", "median", "heard %", "points lost", "codes used")
    seconds = sum(len(take.samples) for take in held_out) / RATE
    settings = {"takes": len(held_out), "seconds": round(seconds, 1), "trained_on": len(train), "steps": steps}
    table = Table("held-out takes", head, rows)
    return Report("codecs", settings, [table], results | {"original": {"accuracy": round(original, 4)}})


def goals(results: dict[str, Any]) -> list[tuple[str, float, str, float]]:
    """What was asked of the whole codec."""
    whole = next(iter(results.values()))
    lost = 100 * (results["original"]["accuracy"] - whole["accuracy"])
    return [("points of the listener's accuracy lost", round(lost, 2), "<=", 5.0)]


def toys(count: int) -> list[Take]:
    """Tones in place of digits, for a quick run."""
    rng = np.random.default_rng(0)
    takes = []
    for number in range(count):
        digit, length = number % 10, int(rng.integers(1200, 4000))
        wave = np.sin(np.arange(length) * 2 * np.pi * (200 + 150 * digit) / RATE) * rng.uniform(0.1, 0.9)
        takes.append(Take(f"{digit}_toy_{number}.wav", digit, "toy", wave.astype(np.float32)))
    return takes


def toy_codec() -> SoundCodes:
    """A codec of random weights."""
    config = SoundConfig(
        rate=RATE, strides=(20, 8), encoder_widths=(8, 8), encoder_blocks=(1, 1), decoder_widths=(8, 8),
        decoder_blocks=(1, 1), latent=4, books=2, codes=16,
    )  # fmt: skip
    books = np.random.default_rng(0).normal(size=(2, 16, 4)).astype(np.float32)
    return SoundCodes(SoundAutoencoder(config), books)


def main(arguments: Sequence[str] | None = None) -> Report:
    """Measure the shipped codec, or the one in a folder."""
    parser = _common.parser(__doc__)
    parser.add_argument("--data", type=Path, help="the folder with digits8k.zip")
    parser.add_argument("--codec", type=Path, help="a checkpoint folder (default: the shipped digits-sound)")
    options = _common.parsed(parser, arguments)
    data = _common.data_folder(options.data)
    if options.quick:
        codec, train, held_out, steps = toy_codec(), toys(40), toys(12), 60
    elif data is None:
        return _common.finish(Report("sound", {"skipped": "no data folder; pass --data"}, [], {}), options)
    else:
        codec = SoundCodes.from_folder(options.codec or ft.path("digits-sound"))
        (train, held_out), steps = split(data), 600
    report = compared(codec, train, held_out, steps=steps)
    return _common.finish(joined("sound", [report, asked(goals(report.results))]), options)


if __name__ == "__main__":
    main()
