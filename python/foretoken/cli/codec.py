"""Look at what a codec makes of a file.

`foretoken codec show FILE` writes a page, or a PNG if --out ends so: a picture as it is, its units, what comes back,
and the errors; a film as a contact sheet; a sound as waves and spectrograms; a text as its tokens.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .. import codec as codecs
from ..codec.films import read_film
from ..codec.pictures import decoding, read
from ..codec.pixels import Pixels
from ..codec.protocol import Codec
from ..codec.samples import Samples
from ..codec.text import Text
from ..errors import InvalidArgument, LimitExceeded, UnknownModel
from ..evaluate.pictures import CAP, psnr, ssim
from ..hub import names as model_names
from ..hub import path
from ..layouts import delay
from ..model.checkpoint import TOKENIZER
from ..view import signals
from ..view.board import board
from ..view.page import page
from ..view.sheet import Coding, Sheet, decibels

MOST_PIXELS = 2**22
"""Of a picture, or of all frames of a film, that a page holds."""
MOST_SAMPLES = 2**24
MOST_CHARACTERS = 200_000

_PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".apng"}
_SOUNDS = {".wav", ".flac", ".ogg", ".oga", ".mp3", ".aif", ".aiff"}
_UNITS = {"picture": ("pixel", "patch"), "film": ("tubelet",), "sound": ("sample", "code"), "text": ("token",)}


def options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    show = parser.add_subparsers(metavar="COMMAND", required=True).add_parser(
        "show", help="write a page that shows it", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    show.add_argument("file", metavar="FILE", type=Path, help="a picture, animation, sound or text; a folder of frames")
    show.add_argument(
        "--codec",
        metavar="NAME",
        help="a shipped codec or a folder; pixels-8, pixels-16, pixels-24, samples-8, samples-16;\n"
        "for texts a model (default: the first shipped one of the file's kind, or the plainest)",
    )
    show.add_argument("--out", type=Path, metavar="FILE", help="of the page (.html) or picture (.png)")
    show.add_argument("--size", type=int, metavar="N", help="fit pictures into N × N pixels first, on white")
    show.add_argument("--json", action="store_true", help="write the figures as one JSON object")


def run(options: argparse.Namespace) -> None:
    """Run this command."""
    file: Path = options.file
    out: Path = options.out or Path(f"{file.resolve().name}.codec.html")
    if out.suffix not in (".html", ".png"):
        raise InvalidArgument(f"{out} is neither a page nor a picture: let --out end in .html or .png")
    if out.exists() and file.exists() and os.path.samefile(out, file):
        raise InvalidArgument(f"{out} is the file to be shown: give another --out")
    if options.size is not None and not 1 <= options.size <= math.isqrt(MOST_PIXELS):
        raise InvalidArgument(f"size is {options.size}: give 1 to {math.isqrt(MOST_PIXELS)}")
    kind = kind_of(file)
    sheet = _SHEETS[kind](file, chosen(kind, options.codec), options.size)
    content = board(sheet) if out.suffix == ".png" else page(sheet).encode()
    out.write_bytes(content)
    if options.json:
        print(json.dumps({"file": str(file), "kind": kind, "out": str(out), "figures": sheet.figures}))
    else:
        print(f"{out}: " + ", ".join(f"{name} {value}" for name, value in sheet.figures.items()))


def kind_of(file: Path) -> str:
    """Whether a file is a picture, film, sound or text: by its name, and where that says nothing, by its content.

    Raises:
        InvalidArgument: it is missing, or none of these.
    """
    suffix = file.suffix.lower()
    if not file.exists():
        raise InvalidArgument(f"there is no file {file}")
    if file.is_dir():
        return "film"
    if suffix in _SOUNDS:
        return "sound"
    if suffix in _PICTURES:
        return "film" if _frames(file) > 1 else "picture"
    with file.open("rb") as opened:
        head = opened.read(4096)
    try:
        head[: len(head) - 3 if len(head) == 4096 else None].decode()  # the last character may be cut
    except UnicodeDecodeError as error:
        if error.start < len(head) - 6:
            raise InvalidArgument(f"cannot tell what {file} is: name it .png, .wav, or whatever it is") from None
    if b"\0" in head:
        raise InvalidArgument(f"cannot tell what {file} is: name it .png, .wav, or whatever it is")
    return "text"


def _frames(file: Path) -> int:
    try:
        with decoding(file, MOST_PIXELS) as opened:
            return getattr(opened, "n_frames", 1)
    except (InvalidArgument, LimitExceeded):  # whatever is wrong with it, the reader of pictures says better
        return 1


def chosen(kind: str, name: str | None) -> tuple[str, Codec[Any]]:
    """The codec of a name, or that for a kind of signal, with its name.

    Raises:
        InvalidArgument: it is for another kind, or none is there.
        UnknownModel, CheckpointError: there is no such codec, or it is broken.
    """
    if name is None:
        name = next((one for one in _trained(kind) if _load(kind, one).unit in _UNITS[kind]), _PLAINEST[kind])
    if name is None:
        raise InvalidArgument(f"no codec for a {kind} is shipped: pass a folder as --codec")
    made = _load(kind, name)
    if made.unit not in _UNITS[kind]:
        raise InvalidArgument(f"the codec {name} makes {made.unit}s, of no {kind}: choose another --codec")
    return name, made


_PLAINEST = {"picture": "pixels-8", "film": None, "sound": "samples-8", "text": None}


def _trained(kind: str) -> list[str]:
    return sorted(model_names(), key=lambda name: name != "tales") if kind == "text" else codecs.names()


def _load(kind: str, name: str) -> Codec[Any]:
    if name in _PLAIN:
        return _PLAIN[name]()
    if kind == "text":
        folder = Path(name)
        return Text.from_file((folder if folder.is_dir() else path(name)) / TOKENIZER)
    try:
        return codecs.load(name)
    except UnknownModel:
        raise UnknownModel(f"no codec is called {name!r}; there are {[*codecs.names(), *_PLAIN]}") from None


_PLAIN: dict[str, Callable[[], Codec[Any]]] = {
    "pixels-8": lambda: Pixels(8),
    "pixels-16": lambda: Pixels(16),
    "pixels-24": lambda: Pixels(24),
    "samples-8": lambda: Samples(rate=8000, bits=8),
    "samples-16": lambda: Samples(rate=8000, bits=16),
}


def coding(name: str, codec: Codec[Any], signal: Any, units: np.ndarray) -> Coding:
    """What a codec made of a signal, in numbers."""
    shown = Path(name).name or name
    return Coding(shown, codec.unit, len(units), codec.vocab_size, codec.width, codec.bits(signal))


def _picture(file: Path, named: tuple[str, Codec[Any]], size: int | None) -> Sheet:
    name, codec = named
    original = fitted(read(file), size)
    _limit(original.shape[0] * original.shape[1], MOST_PIXELS, file, "pixels", "--size")
    units, grid = codec.encode(original), codec.grid(original)
    decoded = codec.decode(units, grid)
    made = coding(name, codec, original, units)
    return signals.picture(file.name, original, decoded, units, grid, made, near(original[None], decoded[None]))


def _film(file: Path, named: tuple[str, Codec[Any]], size: int | None) -> Sheet:
    name, codec = named
    if file.is_dir():
        paths = sorted(one for one in file.iterdir() if one.suffix.lower() in _PICTURES)
        if not paths:
            raise InvalidArgument(f"the folder {file} holds no pictures")
        original = read_film([fitted(read(one), size) for one in paths])
    else:
        original = np.stack([fitted(frame, size) for frame in read_film(file)])
    _limit(original[..., 0].size, MOST_PIXELS, file, "pixels in all its frames", "--size")
    units, grid = codec.encode(original), codec.grid(original)
    decoded = codec.decode(units, grid)
    made = coding(name, codec, original, units)
    measures = near(original, decoded[: len(original)])
    return signals.film(file.resolve().name, original, decoded, units, grid, made, measures)


def _sound(file: Path, named: tuple[str, Codec[Any]], size: int | None) -> Sheet:
    name, codec = named
    samples = codec.signal(file)  # type: ignore[attr-defined]
    _limit(len(samples), MOST_SAMPLES, file, "samples", "a shorter file")
    if not len(samples):
        raise InvalidArgument(f"{file} has no samples")
    units, grid = codec.encode(samples), codec.grid(samples)
    decoded = codec.decode(units, grid)[: len(samples)]
    off, power = np.square(decoded.astype(np.float64) - samples).sum(), np.square(samples.astype(np.float64)).sum()
    ratio = math.inf if off == 0 else 10 * math.log10(max(power, 1e-20) / off)
    made = coding(name, codec, samples, units)
    if len(grid) == 2:
        units = delay(*grid).grid(units).reshape(grid)
    rate = codec.rate  # type: ignore[attr-defined]
    return signals.sound(file.name, samples, decoded, units, rate, made, {"signal to noise": decibels(ratio)})


def _text(file: Path, named: tuple[str, Codec[Any]], size: int | None) -> Sheet:
    name, codec = named
    assert isinstance(codec, Text)
    _limit(file.stat().st_size, 4 * MOST_CHARACTERS, file, "bytes", "a shorter file")
    try:
        text = file.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{file} is not UTF-8 at byte {error.start}") from None
    units = codec.encode(text)
    pieces = [(codec.piece(int(unit)), int(unit)) for unit in units]
    measures = {"bytes a token": f"{len(text.encode()) / len(units):.2f}"}
    return signals.text(file.name, pieces, coding(name, codec, text, units), measures)


_SHEETS: dict[str, Callable[[Path, tuple[str, Codec[Any]], int | None], Sheet]] = {
    "picture": _picture,
    "film": _film,
    "sound": _sound,
    "text": _text,
}


def near(original: np.ndarray, decoded: np.ndarray) -> dict[str, str]:
    """PSNR and SSIM, means over pictures or frames."""
    ratio = psnr(original, decoded)
    measures = {"PSNR": decibels(math.inf if (ratio == CAP).all() else float(ratio.mean()))}
    if min(original.shape[1:3]) >= 11:
        measures["SSIM"] = f"{ssim(original, decoded).mean():.3f}"
    return measures


def fitted(picture: np.ndarray, size: int | None) -> np.ndarray:
    """A picture in the middle of a white square, as large as fits; as it is if no size is given."""
    if size is None or not picture.size or picture.shape[:2] == (size, size):
        return picture
    from PIL import Image

    height, width = picture.shape[:2]
    scale = size / max(height, width)
    high, wide = max(1, round(height * scale)), max(1, round(width * scale))
    shrunk = np.asarray(Image.fromarray(picture).resize((wide, high), Image.Resampling.LANCZOS))
    made = np.full((size, size, 3), 255, dtype=np.uint8)
    top, left = (size - high) // 2, (size - wide) // 2
    made[top : top + high, left : left + wide] = shrunk
    return made


def _limit(found: int, most: int, file: Path, what: str, instead: str) -> None:
    if found > most:
        raise LimitExceeded(f"{file} has {found:,} {what}, a page takes {most:,}: give {instead}")
