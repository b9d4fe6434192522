"""Pictures and films through an auto-encoder: shapes, orders, what is refused, and what comes back."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import foretoken as ft
from foretoken.codec.autoencoder import AutoencoderConfig, PatchAutoencoder, merged, parted, widened_weights
from foretoken.codec.patches import Film, Patches, cut, paste
from foretoken.errors import ArgumentTypeError, CheckpointError, ForetokenError, InvalidArgument, ShapeError

TOY = AutoencoderConfig(
    frames=1, patch=2, units=1, stem=8, stem_depth=1, trunk=8, trunk_depth=1, mixing=0, levels=(5, 4), codes=0, width=2
)
KINDS: dict[str, dict[str, Any]] = {
    "fsq": {},
    "fsq, 4 units": {"units": 4},
    "vq": {"levels": (), "codes": 11, "width": 3},
    "vectors": {"levels": (), "width": 3, "units": 4},
}


def toy(**changes: Any) -> PatchAutoencoder:
    """A module with weights that do something: its second convolutions begin as zeros otherwise."""
    torch.manual_seed(0)
    module = PatchAutoencoder(dataclasses.replace(TOY, **changes))
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.ndim > 1:
                tensor.normal_(std=0.4)
    return module


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_units_lie_in_a_grid_and_come_back_as_pictures(kind: str) -> None:
    codec = Patches(toy(**KINDS[kind]))
    picture = noise(12, 20, 3)
    units, grid = codec.encode(picture), codec.grid(picture)
    assert grid == ((6, 10) if "units" in KINDS[kind] else (3, 5))
    assert len(units) == math.prod(grid)
    back = codec.decode(units, grid)
    assert (back.shape, back.dtype) == (picture.shape, np.uint8)
    if codec.vocab_size is None:
        assert units.shape[1] == codec.width == 3
        assert codec.bits(picture) == 32 * 3 * len(units)
    else:
        assert 0 <= units.min() <= units.max() < codec.vocab_size
        assert len(set(units.tolist())) > 1
        assert codec.bits(picture) == len(units) * math.log2(codec.vocab_size)
    assert codec.canvas([picture, picture]).lengths == (len(units), len(units))


@pytest.mark.parametrize("kind", KINDS)
def test_a_unit_sees_its_neighbourhood_and_lies_where_it_is(kind: str) -> None:
    """Change one corner of a large picture: the units there change, those far away do not."""
    codec = Patches(toy(**KINDS[kind]))
    picture = np.full((64, 64, 3), 128, dtype=np.uint8)
    changed = picture.copy()
    changed[:8, :8] = noise(8, 8, 3)
    before, after = codec.encode(picture), codec.encode(changed)
    rows, columns = codec.grid(picture)
    differs = (before != after).reshape(rows, columns, -1).any(axis=2)
    assert differs[: rows // 4, : columns // 4].any()
    assert not differs[rows * 3 // 4 :].any()
    assert not differs[:, columns * 3 // 4 :].any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_its_pictures(kind: str) -> None:
    codec = Patches(toy(**KINDS[kind]))
    pictures = noise(70, 8, 8, 3)  # more than one batch of the module
    units = codec.encode_batch(pictures)
    alone = np.stack([codec.encode(picture) for picture in pictures])
    if codec.vocab_size is None:
        np.testing.assert_allclose(units, alone, atol=1e-4)
    else:
        assert (units == alone).mean() > 0.99  # a number at a boundary may fall to either side
    back = codec.decode_batch(units)
    assert np.abs(back[3].astype(int) - codec.decode(units[3])).max() <= 1


def test_merging_is_undone_and_keeps_neighbours_together() -> None:
    grid = torch.arange(4 * 6).view(1, 4, 6, 1)
    assert merged(grid)[0, 0, 0].tolist() == [0, 1, 6, 7]
    assert torch.equal(parted(merged(grid)), grid)
    wide = torch.arange(2 * 4 * 8 * 3).view(2, 4, 8, 3)
    assert torch.equal(parted(merged(wide)), wide)


@pytest.mark.parametrize("frames", [1, 2, 4])
def test_cutting_is_undone_exactly(frames: int) -> None:
    config = dataclasses.replace(TOY, frames=frames)
    films = noise(3, 2 * frames, 8, 12, 3)
    patches = cut(films, config)
    assert patches.shape == (3, 2, frames, 4, 6, 3 * 4)
    assert -1 <= float(patches.min()) < float(patches.max()) <= 1
    assert (paste(patches, config) == films).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_still_film_is_coded_as_its_picture_by_widened_weights(kind: str) -> None:
    pictures = toy(**KINDS[kind])
    films = PatchAutoencoder(dataclasses.replace(pictures.config, frames=4))
    state = films.state_dict()
    found = widened_weights(pictures.state_dict(), {name: value.shape for name, value in state.items()})
    assert found.keys() == state.keys()
    films.load_state_dict(found)
    picture = noise(8, 12, 3)
    alone, film = Patches(pictures), Film(films)
    np.testing.assert_allclose(film.encode([picture] * 4), alone.encode(picture), atol=1e-4)
    back = film.decode(film.encode([picture] * 4), film.grid([picture] * 4))
    assert np.abs(back - alone.decode(alone.encode(picture), alone.grid(picture)).astype(int)).max() <= 1


def test_only_weights_that_fit_are_taken() -> None:
    wide = PatchAutoencoder(dataclasses.replace(TOY, trunk=16)).state_dict()
    found = widened_weights(toy().state_dict(), {name: value.shape for name, value in wide.items()})
    assert "stem_in.0.first.weight" in found
    assert not any(name.startswith(("trunk", "merge", "split.weight")) for name in found)


@pytest.mark.parametrize("frames", [2, 4])
@pytest.mark.parametrize("length", [1, 4, 5])
def test_a_film_is_filled_up_with_its_last_frame(frames: int, length: int) -> None:
    codec = Film(toy(frames=frames))
    film = noise(length, 8, 12, 3)
    time = -(-length // frames)
    assert codec.grid(film) == (time, 2, 3)
    units = codec.encode(film)
    assert len(units) == time * 6
    full = np.concatenate([film, np.repeat(film[-1:], time * frames - length, axis=0)])
    assert (codec.encode(full) == units).all()
    assert (codec.encode(list(film)) == units).all()
    assert codec.decode(units, (time, 2, 3)).shape == full.shape


def test_tubelets_of_other_times_do_not_touch() -> None:
    codec = Film(toy(frames=2))
    film = noise(4, 8, 8, 3)
    changed = film.copy()
    changed[2:] = 255 - changed[2:]
    before, after = codec.encode(film), codec.encode(changed)
    assert (before[:4] == after[:4]).all()
    assert (before[4:] != after[4:]).any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_codec_is_loaded_with_the_same_units(kind: str, tmp_path: Path) -> None:
    codec = Patches(toy(**KINDS[kind]))
    with torch.no_grad():
        for tensor in codec.module.state_dict().values():
            tensor.copy_(tensor.bfloat16())  # what the file keeps
    codec.save(tmp_path)
    state = torch.get_rng_state()
    loaded = ft.codec.load(tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    assert isinstance(loaded, Patches)
    picture = noise(16, 16, 3)
    assert (loaded.encode(picture) == codec.encode(picture)).all()
    assert (loaded.decode(loaded.encode(picture)) == codec.decode(codec.encode(picture))).all()


def test_pictures_of_every_kind_are_read(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    codec = Patches(toy())
    grey = noise(8, 8)
    image.fromarray(grey).save(tmp_path / "grey.png")
    units = codec.encode(np.repeat(grey[..., None], 3, axis=2))
    assert (codec.encode(tmp_path / "grey.png") == units).all()
    assert (codec.encode(image.fromarray(grey)) == units).all()
    assert (codec.encode(torch.from_numpy(grey)) == units).all()


@pytest.mark.parametrize(
    ("picture", "error", "message"),
    [
        (np.zeros((0, 8, 3), np.uint8), ShapeError, "multiples of 4"),
        (np.zeros((1, 1, 3), np.uint8), ShapeError, "1 × 1"),
        (np.zeros((8, 10, 3), np.uint8), ShapeError, "8 × 10"),
        (np.zeros((8, 8, 2), np.uint8), ShapeError, "channels"),
        (np.full((8, 8, 3), np.nan, np.float32), ArgumentTypeError, "uint8"),
        (5, ArgumentTypeError, "int"),
        ("no such file.png", InvalidArgument, "no such file"),
    ],
)
def test_what_is_no_picture_is_refused(picture: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Patches(toy()).encode(picture)


@pytest.mark.parametrize(
    ("film", "message"),
    [
        (np.zeros((0, 8, 8, 3), np.uint8), "none of them 0"),
        (np.zeros((2, 8, 8, 4), np.uint8), "give"),
        ([np.zeros((8, 8, 3), np.uint8), np.zeros((4, 8, 3), np.uint8)], "one size"),
        ([], "one size"),
        (np.zeros((8, 8, 3), np.uint8), r"shape \(8, 8, 3\)"),
    ],
)
def test_what_is_no_film_is_refused(film: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        Film(toy(frames=2)).encode(film)


@pytest.mark.parametrize(
    ("kind", "units", "grid", "error", "message"),
    [
        ("fsq", np.arange(5), None, ShapeError, "2 × 2"),
        ("fsq", np.arange(4), (2, 3), ShapeError, "2 × 3"),
        ("fsq", np.arange(4), (-2, -2), InvalidArgument, "positive"),
        ("fsq", np.array([0, 1, 2, 20]), None, InvalidArgument, "20"),
        ("fsq", np.array([0, 1, 2, -1]), None, InvalidArgument, "-1"),
        ("fsq", np.zeros(4), None, ArgumentTypeError, "integers"),
        ("fsq, 4 units", np.arange(9), None, ShapeError, "multiples of 2"),
        ("vectors", np.zeros((4, 2), np.float32), None, ShapeError, "width|3"),
        ("vectors", np.full((4, 3), np.nan, np.float32), None, InvalidArgument, "NaN"),
    ],
)
def test_units_that_are_none_are_refused(
    kind: str, units: np.ndarray, grid: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Patches(toy(**KINDS[kind])).decode(units, grid)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"units": 2}, "1 or 4"),
        ({"stem": 0}, "stem"),
        ({"frames": 1.5}, "frames"),
        ({"levels": [1, 5]}, "levels"),
        ({"levels": [5]}, "width"),
        ({"codes": 8}, "no codes"),
        ({"more": 1}, "more"),
        ({"codec": "film"}, "film"),
        ({"stem": 16}, "fit"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    Patches(toy()).save(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(CheckpointError, match=message):
        Patches.from_folder(tmp_path)


def test_a_codec_and_a_model_are_not_taken_for_each_other(tmp_path: Path) -> None:
    Patches(toy()).save(tmp_path)
    with pytest.raises(CheckpointError, match="codec"):
        ft.load(tmp_path)
    with pytest.raises(CheckpointError, match=r"ft\.load"):
        ft.codec.load("tales")
    with pytest.raises(ForetokenError, match="nowhere"):
        ft.codec.load("nowhere")
