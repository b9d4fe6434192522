"""The recipe of picture codecs: its data and their splits, that it learns, and that no break changes it."""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import foretoken as ft
from foretoken.errors import CheckpointError, InvalidArgument
from foretoken.recipes import catalogue, pictures, sprites
from foretoken.recipes.patches import PatchesConfig, Run

image = pytest.importorskip("PIL.Image")

FIELDS: dict[str, Any] = {
    "sources": ("emoji",), "shares": (1.0,), "start": "", "batch": 4, "frames": 1, "patch": 4, "units": 1, "stem": 8,
    "stem_depth": 1, "trunk": 8, "trunk_depth": 1, "mixing": 0, "levels": (5, 5), "codes": 0, "width": 2, "steps": (6,),
    "warmup": 2, "cooldown": 0.5, "rate": 0.01, "save_every": 2, "seed": 1,
}  # fmt: skip
STYLES = ("flat", "round")
HAIR = ("Black", "Red", "White", "Blue")


def config(**changes: Any) -> PatchesConfig:
    return PatchesConfig(**{**FIELDS, **changes})


def encoded(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    image.fromarray(pixels).save(file, "WEBP", lossless=True, exact=True)
    return file.getvalue()


def disc(number: int) -> np.ndarray:
    """A disc of a colour of its own on nothing, (64, 64, 4)."""
    down, across = np.mgrid[:64, :64] - 31.5
    inside = down**2 + across**2 < (8 + number % 20) ** 2
    colour = np.random.default_rng(number).integers(0, 200, 3)
    return np.concatenate([np.where(inside[..., None], colour, 0), 255 * inside[..., None]], axis=2).astype(np.uint8)


def write_archive(path: Path, name: str, rows: list[tuple[dict[str, Any], np.ndarray]]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for row, pixels in rows:
            archive.writestr(row["file"], encoded(pixels))
        archive.writestr(name, "\n".join(json.dumps(row) for row, _ in rows))


def write_sprites(path: Path) -> None:
    """Layers of one colour each: a body over all of a cell, smaller ones above it, at another place in each frame."""
    folders = {
        "Body/Body 01 - Feminine, Thin/Tan": (60, (200, 150, 100)),
        "Body/Body 02 - Masculine, Thin/Tan": (60, (180, 130, 90)),
        **{f"Head/{name}/Tan": (30, (210, 160, 110)) for name in sprites._HEADS.values()},
        **{
            f"Hair/Short 01 - Curly/{c}": (10, (i * 40, 0, 90)) for i, c in enumerate(("Black", "Red", "White", "Blue"))
        },
        "Hair/Short 01 - Curly/_Behind/Black": (62, (9, 9, 9)),
    }
    for kind in ("Feminine, Thin", "Masculine, Thin"):
        for part in ("Feet", "Legs", "Torso", "Torso 2"):
            for i, colour in enumerate(("Red", "Green", "Blue")):
                folders[f"Clothing/{kind}/{part}/Thing 03 - {part}wear/{colour}"] = (20, (50 * i, 100, 20))
    with zipfile.ZipFile(path, "w") as archive:
        for folder, (side, colour) in folders.items():
            for name in sprites.ANIMATIONS:
                sheet = np.zeros((256, 3 * 64, 4), np.uint8)
                for row in range(4):
                    for frame in range(3):
                        place = 64 * row, 64 * frame + frame
                        sheet[place[0] : place[0] + side, place[1] : place[1] + side] = (*colour, 255)
                archive.writestr(f"Characters/{folder}/{name}.png", encoded(sheet))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    emoji = [
        ({"file": f"{style}/{i}.webp", "caption": f"disc {i}", "style": style}, disc(i))
        for i in range(60)
        for style in STYLES
    ]
    write_archive(folder / "emoji64.zip", "captions.jsonl", emoji)
    tiles = [({"file": f"a/{i}.webp", "caption": str(i)}, disc(i)[::2, ::2]) for i in range(200)]
    write_archive(folder / "tiles32.zip", "captions.jsonl", tiles)
    motion = [
        ({"file": f"{i}.webp", "caption": f"move {i}"}, np.concatenate([disc(i), disc(i + 1)])) for i in range(60)
    ]
    write_archive(folder / "motion64.zip", "captions.jsonl", motion)
    write_sprites(folder / "walk64.zip")
    return folder


def test_emoji_are_split_by_style_and_caption(data: Path) -> None:
    train, held_out = pictures.emoji(data)
    keys = [(i, style) for i in range(60) for style in STYLES]
    apart = [zlib.crc32(f"{style}/disc {i}".encode()) % 20 == 0 for i, style in keys]
    assert (len(train), len(held_out)) == (120 - sum(apart), sum(apart))
    white = np.where(disc(keys[apart.index(True)][0])[..., 3:] == 0, 255, disc(keys[apart.index(True)][0])[..., :3])
    assert (held_out[0] == white).all()


def test_four_tiles_make_a_picture(data: Path) -> None:
    train, _ = pictures.tiles(data)
    first = [i for i in range(200) if zlib.crc32(f"a/{i}.webp".encode()) % 20][:4]
    assert train.shape[1:] == (64, 64, 3)
    tile = disc(first[3])[::2, ::2]
    assert (train[0, 32:, 32:] == np.where(tile[..., 3:] == 0, 255, tile[..., :3])).all()


def test_motion_is_cut_into_frames(data: Path) -> None:
    train, held_out = pictures.motion(data)
    assert len(train) + len(held_out) == 60
    assert len(held_out) == sum(zlib.crc32(f"move {i}".encode()) % 20 == 0 for i in range(60))
    assert train[0].shape == (2, 64, 64, 3)
    assert (train[0][0] != train[0][1]).any()


def test_layers_lie_on_each_other_and_the_split_is_kept(data: Path) -> None:
    clips = sprites.walk(data, 40, seed=3)
    assert len({clip.caption for clip in clips}) > 20
    for clip in clips:
        assert clip.frames.shape == (3, 64, 64, 3)
        assert not clip.character.is_held_out
        assert clip.caption.endswith(f"{clip.animation} {clip.direction}")
        colour = next(name for name in clip.character.attributes if name.endswith(" hair")).split()[0]
        place = HAIR.index(colour.title())
        assert clip.frames[0, 0, 0].tolist() == [place * 40, 0, 90]  # hair is in front of everything
        assert clip.frames[0, 59, 0].tolist() in ([200, 150, 100], [180, 130, 90])
        behind = [9, 9, 9] if colour == "black" else [255, 255, 255]
        assert clip.frames[0, 61, 0].tolist() == behind
    held_out = sprites.walk(data, 5, seed=3, held_out=True)
    assert all(clip.character.is_held_out for clip in held_out)
    key = ", ".join(sorted(held_out[0].character.attributes))
    assert zlib.crc32(key.encode()) % 10 == 0
    again = sprites.walk(data, 40, seed=3)
    assert [clip.caption for clip in again] == [clip.caption for clip in clips]
    assert [clip.caption for clip in sprites.walk(data, 40, seed=4)] != [clip.caption for clip in clips]


@pytest.mark.parametrize("kind", ["fsq", "vq", "vectors"])
def test_it_learns_and_a_break_changes_nothing(kind: str, data: Path, tmp_path: Path) -> None:
    changes = {"fsq": {}, "vq": {"levels": (), "codes": 8}, "vectors": {"levels": ()}}[kind]
    made = config(sources=("emoji", "tiles", "walk"), shares=(2, 1, 1), steps=(40,), save_every=9, **changes)
    unbroken = Run(made, data, tmp_path / "unbroken")
    unbroken.train(lambda *_: None)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "unbroken" / "loss.jsonl").read_text().splitlines()]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:3])

    class Cut(Exception):
        pass

    def cut(step: int, *_: object) -> None:
        if step == 22:
            raise Cut

    with pytest.raises(Cut):
        Run(made, data, tmp_path / "broken").train(cut)
    resumed = Run(made, data, tmp_path / "broken")
    assert resumed.step == 18
    resumed.train(lambda *_: None)
    assert (tmp_path / "broken" / "loss.jsonl").read_text() == (tmp_path / "unbroken" / "loss.jsonl").read_text()
    for a, b in zip(unbroken.module.state_dict().values(), resumed.module.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    resumed.export(tmp_path / "codec")
    codec = ft.codec.load(tmp_path / "codec")
    assert codec.decode(codec.encode(np.zeros((64, 64, 3), np.uint8))).shape == (64, 64, 3)


def test_films_are_learnt_in_pieces(data: Path, tmp_path: Path) -> None:
    run = Run(config(sources=("motion", "walk"), shares=(1, 1), frames=4, steps=(2,), batch=12), data, tmp_path)
    films = run.batch()
    assert films.shape == (12, 4, 64, 64, 3)
    still = (films[:, 2] == films[:, 3]).all(axis=(1, 2, 3))
    assert still.all()  # two or three frames: the last one goes on
    assert (films[:, 0] != films[:, 1]).any()
    run.train(lambda *_: None)
    run.export(tmp_path / "codec")
    assert ft.codec.load(tmp_path / "codec").grid(films[0]) == (1, 8, 8)


def test_a_run_may_begin_with_the_weights_of_another(data: Path, tmp_path: Path) -> None:
    first = Run(config(steps=(3,)), data, tmp_path / "first")
    first.train(lambda *_: None)
    first.export(tmp_path / "first" / "checkpoint")
    begun = Run(config(start="{out}/first/checkpoint", levels=(), codes=8), data, tmp_path / "second")
    kept, mine = first.module.state_dict(), begun.module.state_dict()
    for name in kept.keys() & mine.keys():
        step = kept[name].abs().max() / 127  # at most, of the eight bits that matrices are kept in
        assert ((mine[name] - kept[name]).abs() <= 0.51 * step).all()
    assert (mine.keys() - kept.keys()) == {"bottleneck.codebook", "bottleneck.counts", "bottleneck.sums"}
    with pytest.raises(CheckpointError, match="nowhere"):
        Run(config(start="{out}/nowhere"), data, tmp_path / "third")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sources": ("nothing",)}, "sources"),
        ({"shares": ()}, "shares"),
        ({"shares": (0,)}, "shares"),
        ({"units": 3}, "units"),
        ({"batch": 0}, "batch"),
        ({"steps": ()}, "steps"),
    ],
)
def test_a_configuration_is_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        config(**changes)


@pytest.mark.parametrize(
    ("content", "message"),
    [('{"recipe": "cake"}', "cake"), ("[]", "object"), ('{"recipe": "patches"}', "missing"), ("{", "JSON")],
)
def test_a_file_that_is_no_configuration_is_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(CheckpointError, match=message):
        catalogue.run(tmp_path / "x.json", tmp_path, tmp_path / "run")


@pytest.mark.parametrize("damage", ["missing", "cut", "no rows", "no picture"])
def test_damaged_data_are_refused(damage: str, data: Path, tmp_path: Path) -> None:
    file = tmp_path / "emoji64.zip"
    whole = (data / "emoji64.zip").read_bytes()
    if damage == "cut":
        file.write_bytes(whole[: len(whole) // 2])
    elif damage != "missing":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("a.txt", "")
            if damage == "no picture":
                archive.writestr("captions.jsonl", '{"file": "a.txt", "caption": "a", "style": "b"}')
    with pytest.raises((CheckpointError, InvalidArgument), match=r"emoji64\.zip"):
        pictures.emoji(tmp_path)


@pytest.mark.parametrize("path", sorted(Path(catalogue.__file__).parent.glob("configs/*.json")), ids=lambda p: p.stem)
def test_shipped_configurations_are_whole(path: Path) -> None:
    raw = json.loads(path.read_text())
    if raw["recipe"] == "patches":
        made = PatchesConfig.from_file(path)
        assert dataclasses.asdict(made)["seed"] == raw["seed"]
