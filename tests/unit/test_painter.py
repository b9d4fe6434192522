"""Pictures from texts: what a picture depends on, what is kept, how one looks on, and what is refused."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import foretoken as ft
from foretoken.canvas import UNKNOWN
from foretoken.errors import ArgumentTypeError, CheckpointError, InvalidArgument, LimitExceeded, ShapeError
from foretoken.errors import UnsupportedModel as Unsupported
from foretoken.painter.picture import Picture
from foretoken.painter.preview import Preview
from foretoken.painter.rows import filled
from foretoken.rules import Order
from foretoken.strategy.cascade import Cascade, Stage, every, rest
from foretoken.weights import write_object
from tests.painters import TEXTS, written

ONE_BY_ONE = ft.Masked(None, count=1, select=Order(range))
STRATEGIES = [
    ft.OneShot(),
    ft.Masked(3),
    ONE_BY_ONE,
    Cascade([Stage(every(4), ft.Masked(2)), Stage(rest)]),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("painter") / "toy")


@pytest.fixture(scope="module")
def paint(folder: Path) -> ft.Painter:
    return ft.Painter.load(folder)


def pixels(out: ft.Generation) -> list[np.ndarray]:
    return [row.signal.pixels for row in out.rows]


@pytest.mark.parametrize("strategy", STRATEGIES, ids=range(len(STRATEGIES)))
@pytest.mark.parametrize("imagine", [False, True])
def test_a_picture_depends_on_nothing_but_its_text_and_its_seed(
    paint: ft.Painter, strategy: Any, *, imagine: bool
) -> None:
    if imagine and isinstance(strategy, Cascade):
        return  # a cascade within a cascade
    seeds = [3, 4, 5]
    keys: dict[str, Any] = {"strategy": strategy, "imagine": imagine, "n": 2}
    together = pixels(paint(TEXTS, seed=seeds, threads=2, **keys))
    alone = [
        picture for text, seed in zip(TEXTS, seeds, strict=True) for picture in pixels(paint(text, seed=seed, **keys))
    ]
    assert all(np.array_equal(*pair) for pair in zip(together, alone, strict=True))
    assert len({picture.tobytes() for picture in together}) >= 5  # two toys may be alike


def test_steps_find_patches_far_from_each_other(paint: ft.Painter) -> None:
    fresh = [each.fresh for each in paint.stream(TEXTS[0], strategy=paint.steps(4), seed=1)]
    assert sum(part.sum() for part in fresh) == 16
    assert not (fresh[0][:, 1:] & fresh[0][:, :-1]).any()
    assert all(np.array_equal(*pair) for pair in zip(fresh, (p.fresh for p in paint.stream(
        TEXTS[1], strategy=paint.steps(4), seed=2)), strict=True))  # fmt: skip


def test_the_text_and_guidance_matter(paint: ft.Painter) -> None:
    plain, other = (pixels(paint(text, guidance=1, seed=2))[0] for text in TEXTS[:2])
    assert not np.array_equal(plain, other)
    guided = pixels(paint(TEXTS[0], guidance=4, seed=2))[0]
    away = pixels(paint(TEXTS[0], guidance=4, negative=TEXTS[1], seed=2))[0]
    assert len({picture.tobytes() for picture in (plain, guided, away)}) == 3
    assert np.array_equal(pixels(paint(TEXTS[0], guidance=4, negative=TEXTS[0], seed=2))[0], plain)


def test_what_is_kept_stays_to_the_last_bit(paint: ft.Painter) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    mask = np.zeros((16, 16), dtype=bool)
    mask[5, 2] = True  # one pixel: its patch is painted
    out = pixels(paint(TEXTS[0], picture=picture, mask=mask, seed=1))[0]
    changed = (out != picture).any(axis=2)
    assert changed[4:8, :4].any()
    changed[4:8, :4] = False
    assert not changed.any()


def test_what_lies_under_the_mask_counts_for_nothing(paint: ft.Painter) -> None:
    """An encoder of 3 × 3 looks across the edge of the mask."""
    one = np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    mask = np.zeros((16, 16), dtype=bool)
    mask[:8] = True
    other = np.where(mask[..., None], 255 - one, one)
    kept = [paint.rows.encode(each, paint.rows.patches_of(mask)) for each in (one, other)]
    assert np.array_equal(*kept)
    assert (kept[0] == UNKNOWN).sum() == 8
    assert not np.array_equal(*(paint.codec.encode(each)[8:] for each in (one, other)))  # the picture as it is tells
    painted = [paint(TEXTS[0], picture=each, mask=mask, seed=2).signal.pixels for each in (one, other)]
    assert np.array_equal(*painted)


def test_masked_pixels_are_those_nearest_to_them() -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4, 1).repeat(3, axis=2)
    mask = np.zeros((3, 4), dtype=bool)
    mask[1, 1] = mask[:, 3] = True
    found = filled(pixels, mask)[..., 0]
    assert np.array_equal(found[~mask], pixels[..., 0][~mask])
    assert found[1, 1] in (1, 4, 6, 9)
    assert found[:, 3].tolist() == [2, 6, 10]
    assert (filled(pixels, np.ones((3, 4), dtype=bool)) == 255).all()


def test_variations_repaint_a_share_each_of_its_own(paint: ft.Painter) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    out = pixels(paint.vary(picture, TEXTS[0], share=0.25, n=3, seed=6))
    whole = [(each == picture).all(axis=2).reshape(4, 4, 4, 4).all(axis=(1, 3)) for each in out]
    assert all(12 <= int(kept.sum()) <= 13 for kept in whole)
    assert len({kept.tobytes() for kept in whole}) == 3
    assert np.array_equal(pixels(paint.vary(picture, TEXTS[0], share=0.25, n=1, seed=8))[0], out[2])


def test_a_smaller_picture_is_extended(paint: ft.Painter) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (8, 4, 3), dtype=np.uint8)
    out = pixels(paint.extend(Picture(picture), TEXTS[0], at=(4, 8)))[0]
    assert np.array_equal(out[4:12, 8:12], picture)
    with pytest.raises(ShapeError, match="leaves"):
        paint.extend(picture, None, at=(12, 0))


def test_one_can_look_on_and_stop(paint: ft.Painter) -> None:
    seen: list[Preview] = []
    out = paint(TEXTS[:2], strategy=ft.Masked(3), seed=1, callback=seen.append, logprobs=0)
    own = [each for each in seen if each.row == 1]
    assert [each.step for each in own] == [1, 2, 3]
    assert sum(each.fresh.sum() for each in own) == 16
    assert own[-1].progress == 1 > own[0].progress
    assert np.array_equal(own[-1].picture.pixels, out.signal[1].pixels)
    grey = np.asarray(own[0].picture)[(~own[0].known).repeat(4, axis=0).repeat(4, axis=1)]
    assert (grey == 200).all()
    streamed = list(paint.stream(TEXTS[:2], strategy=ft.Masked(3), seed=1))
    assert all(np.array_equal(a.units, b.units) for a, b in zip(seen, streamed, strict=True))
    assert len(out.rows[0].logprobs or ()) == 16

    class Enough(Exception):
        pass

    def refuse(preview: Preview) -> None:
        raise Enough

    with pytest.raises(Enough):
        paint(TEXTS[0], callback=refuse)


def test_pictures_are_files(paint: ft.Painter, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    picture = paint(None, seed=3).signal
    assert isinstance(picture, Picture)
    picture.save(tmp_path / "anything.png", times=2)
    with image.open(tmp_path / "anything.png") as read:
        assert np.array_equal(np.asarray(read)[::2, 1::2], picture.pixels)
    assert [path.name for path in tmp_path.iterdir()] == ["anything.png"]


def test_a_pickled_painter_paints_the_same(paint: ft.Painter) -> None:
    again = pickle.loads(pickle.dumps(paint))
    assert np.array_equal(pixels(again(TEXTS[0], seed=5))[0], pixels(paint(TEXTS[0], seed=5))[0])


def test_bad_input_is_refused(paint: ft.Painter) -> None:
    picture = np.zeros((16, 16, 3), dtype=np.uint8)
    mask = np.ones((16, 16), dtype=bool)
    cases: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
        ("", {}, InvalidArgument, "empty"),
        (" \n", {}, InvalidArgument, "empty"),
        ("red " * 300, {}, LimitExceeded, "at most 12"),
        (7, {}, ArgumentTypeError, "a prompt must be"),
        (["a", 7], {}, ArgumentTypeError, "must be a text"),
        ("\ud800", {}, InvalidArgument, "no valid text"),
        ([], {}, InvalidArgument, "no prompt"),
        ("<|endoftext|>", {}, InvalidArgument, "says nothing"),
        ("a", {"strategy": ft.Masked}, Unsupported, "Order"),
        ("a", {"guidance": 10**400}, InvalidArgument, "scale"),
        ("a", {"n": "3"}, ArgumentTypeError, "n must be an integer"),
        ("a", {"n": 2.0}, ArgumentTypeError, "n must be an integer"),
        ("a", {"n": 10**12}, LimitExceeded, "more than 256"),
        (["a", "b"], {"n": 129}, LimitExceeded, "more than 256"),
        ("a", {"strategy": ft.Autoregressive()}, Unsupported, "Order"),
        ("a", {"guidance": float("nan")}, InvalidArgument, "scale"),
        ("a", {"guidance": 1, "negative": "b"}, InvalidArgument, "guidance is 1"),
        ("a", {"picture": picture}, InvalidArgument, "go together"),
        ("a", {"picture": picture[:8], "mask": mask}, ShapeError, "make it 16 × 16"),
        ("a", {"picture": picture, "mask": mask[:8]}, ShapeError, "mask has shape"),
        ("a", {"picture": picture, "mask": ~mask}, InvalidArgument, "nothing to paint"),
        ("a", {"picture": picture, "mask": mask.astype(int)}, ArgumentTypeError, "booleans"),
        ("a", {"callback": 3}, ArgumentTypeError, "callback"),
        ("a", {"seed": -1}, InvalidArgument, "seed"),
        ("a", {"n": 0}, InvalidArgument, "n must be"),
        ("a", {"logprobs": 2}, InvalidArgument, "logprobs"),
    ]
    for prompt, options, error, match in cases:
        with pytest.raises(error, match=match):
            paint(prompt, **options)
        if "callback" not in options:
            with pytest.raises(error, match=match):
                paint.stream(prompt, **options)  # before anybody asks for its first step
    for seed in (None, "a", 1.5, -1, 2**64):
        with pytest.raises((InvalidArgument, ArgumentTypeError), match="seed"):
            paint.vary(picture, seed=seed)  # type: ignore[arg-type]
    for at in (None, (1.5, 0), (0,), "00"):
        with pytest.raises(ArgumentTypeError, match="top, left"):
            paint.extend(picture[:8, :8], "a", at=at)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="no pixels"):
        paint.extend(picture[:0], "a", at=(0, 0))
    for share, n in ((0, 1), (2.0, 1), (0.5, 0)):
        with pytest.raises(InvalidArgument):
            paint.vary(picture, share=share, n=n)


def test_a_painter_without_imaginations_says_so(tmp_path: Path) -> None:
    plain = ft.Painter.load(written(tmp_path / "plain", latents=0))
    assert plain(TEXTS[0], seed=1).signal.pixels.shape == (16, 16, 3)
    with pytest.raises(Unsupported, match="imaginations"):
        plain("a", imagine=True)


def test_broken_folders_are_refused(tmp_path: Path) -> None:
    folder = written(tmp_path / "broken")
    write_object(folder / "painter.json", {"codec": str(folder / "codec"), "positions": 11})
    with pytest.raises(ShapeError, match="paints no square"):
        ft.load(folder)
    write_object(folder / "painter.json", {"codec": 3, "positions": 12})
    with pytest.raises(CheckpointError, match="codec and positions"):
        ft.load(folder)
