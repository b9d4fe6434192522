"""Films of files: each frame for as long as its file says, whatever the rate; and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from foretoken.codec.films import read_film
from foretoken.errors import ArgumentTypeError, InvalidArgument, LimitExceeded, ShapeError

image = pytest.importorskip("PIL.Image")
GREYS = (10, 90, 170, 250)


def animation(path: Path, durations: list[int]) -> Path:
    """A film of one grey a frame, each shown for so many milliseconds."""
    frames = [image.fromarray(np.full((8, 6), grey, np.uint8)).convert("RGB") for grey in GREYS[: len(durations)]]
    lossless = {"lossless": True} if path.suffix == ".webp" else {}
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=durations, loop=0, **lossless)
    return path


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_a_varying_rate_keeps_its_pace(suffix: str, tmp_path: Path) -> None:
    path = animation(tmp_path / f"film{suffix}", [100, 300, 200, 100])
    assert read_film(path, rate=10)[:, 0, 0, 0].tolist() == [10, 90, 90, 90, 170, 170, 250]
    assert read_film(path, rate=10).shape == (7, 8, 6, 3)
    assert len(read_film(path, rate=20)) == 14
    assert read_film(path, rate=5)[:, 0, 0, 0].tolist() in ([90, 90, 170, 250], [90, 90, 170])  # 0.1 s, 0.3 s, …


def test_a_picture_is_a_film_of_one_frame(tmp_path: Path) -> None:
    image.fromarray(np.full((8, 6), 7, np.uint8)).save(tmp_path / "still.png")
    film = read_film(tmp_path / "still.png", rate=1)
    assert film.shape == (1, 8, 6, 3)
    assert (film == 7).all()


def test_arrays_tensors_and_pictures_are_films() -> None:
    film = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3), dtype=np.uint8)
    assert read_film(film) is film
    assert (read_film(torch.from_numpy(film)) == film).all()
    assert (read_film([image.fromarray(frame) for frame in film]) == film).all()


@pytest.mark.parametrize(
    ("film", "error", "message"),
    [
        (np.zeros((0, 8, 8, 3), np.uint8), ShapeError, "none of them 0"),
        (np.zeros((2, 8, 8, 4), np.uint8), ShapeError, "give"),
        (np.zeros((2, 8, 8, 3), np.float32), ArgumentTypeError, "float32"),
        ([], ShapeError, "one size"),
        ([np.zeros((8, 8, 3), np.uint8), np.zeros((4, 8, 3), np.uint8)], ShapeError, "one size"),
        (np.zeros((5, 2, 2, 3), np.uint8), LimitExceeded, "5 frames"),
        (7, ArgumentTypeError, "int"),
        ("no such film.gif", InvalidArgument, "no such film"),
    ],
)
def test_what_is_no_film_is_refused(film: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        read_film(film, max_frames=4)


def test_files_are_refused_before_they_fill_the_memory(tmp_path: Path) -> None:
    path = animation(tmp_path / "film.gif", [1000] * 4)
    with pytest.raises(LimitExceeded, match="4 frames"):
        read_film(path, max_frames=3)
    with pytest.raises(LimitExceeded, match="4000 frames at"):
        read_film(path, rate=1000, max_frames=100)
    for rate in (0, -1, float("nan"), float("inf")):
        with pytest.raises(InvalidArgument, match="rate"):
            read_film(path, rate=rate)
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(InvalidArgument, match=r"film\.gif"):
        read_film(path)
