"""Patches in Rust are those of torch, resizing is Pillow's, and what is cut comes back as it was."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foretoken import kernels
from foretoken.errors import ArgumentTypeError, InvalidArgument, LimitExceeded, ShapeError
from foretoken.kernels import Filter, Rounding, patchify, unpatchify
from foretoken.reference import patch as twin
from foretoken.reference.resize import resize

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def noise(seed: int, *shape: int, dtype: Any = np.uint8) -> np.ndarray:
    """Pixels; half of the pictures are only black and white, which overflows where filters are negative."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, shape) if seed % 2 else rng.integers(0, 2, shape) * 255
    return pixels.astype(dtype)


@st.composite
def cuts(draw: st.DrawFn) -> dict[str, Any]:
    """How pictures are cut; `sides` are some that patches fill."""
    patch = (draw(st.integers(1, 20)), draw(st.integers(1, 20)))
    stride = tuple(draw(st.integers(1, side)) for side in patch) if draw(st.booleans()) else patch
    merge = draw(st.integers(1, 3))
    sides = tuple(p + (merge * draw(st.integers(1, 3)) - 1) * s for p, s in zip(patch, stride, strict=True))
    return {"patch": patch, "stride": stride, "merge": merge, "frames": draw(st.integers(1, 3)), "sides": sides}


def expected(images: list[np.ndarray], *, scale: float, **options: Any) -> torch.Tensor:
    """What the twin says."""
    films = [torch.from_numpy(image if image.ndim == 4 else image[None]) for image in images]
    return twin.patchify(films, scale=scale, **options)


@settings(max_examples=300)
@given(cuts(), st.data())
def test_patches_are_those_of_torch(cut: dict[str, Any], data: st.DataObject) -> None:
    sides = cut.pop("sides")
    channels, exact = data.draw(st.sampled_from([1, 2, 3, 4, 5])), data.draw(st.booleans())
    shapes = data.draw(st.lists(st.lists(st.integers(1, 50), min_size=2, max_size=2), min_size=1, max_size=3))
    resized = data.draw(st.booleans())
    lengths = [data.draw(st.sampled_from([None, 1, 2, 3, 5])) for _ in shapes]
    crop = data.draw(st.sampled_from([None, sides]))
    larger = tuple(side + data.draw(st.integers(0, 9)) for side in sides) if crop else sides
    images = []
    for seed, (shape, length) in enumerate(zip(shapes, lengths, strict=True)):
        frame = (*(shape if resized else larger), channels)
        pixels = noise(seed, *frame if length is None else (length, *frame))
        images.append((pixels - np.float32(100)) / np.float32(77) if exact else pixels)
    options: dict[str, Any] = {"crop": crop, **cut}
    options["mean"], options["std"] = (0.4,), tuple(0.2 + 0.05 * i for i in range(channels))
    scale = data.draw(st.sampled_from([1 / 255, 1.0, 0.3]))
    kind, rounding = data.draw(st.sampled_from(list(Filter))), data.draw(st.sampled_from(list(Rounding)))
    size, threads = larger if resized else None, data.draw(st.integers(1, 3))
    found = patchify(images, size=size, resize=kind, rounding=rounding, scale=scale, threads=threads, **options)
    sizes = [larger] * len(images) if resized else None
    rows = expected(images, sizes=sizes, filter=kind.name, rounding=rounding.name, scale=scale, **options)
    np.testing.assert_array_equal(found.rows, rows.numpy())
    assert found.offsets.tolist() == [0, *np.cumsum(found.grid.prod(axis=1))]
    assert found.offsets[-1] == len(rows)


@settings(max_examples=200)
@given(cuts(), st.integers(1, 4), st.integers(1, 4), st.data())
def test_together_again_as_in_torch(cut: dict[str, Any], channels: int, length: int, data: st.DataObject) -> None:
    """Of any numbers, so that overlapping patches disagree."""
    sides, frames = cut.pop("sides"), cut["frames"]
    window = data.draw(st.sampled_from([kernels.hann, kernels.triangle, kernels.flat]))
    rounded = data.draw(st.booleans())
    cells = [(side - p) // s + 1 for side, p, s in zip(sides, cut["patch"], cut["stride"], strict=True)]
    grid = (-(-length // frames), *cells)
    generator = torch.Generator().manual_seed(length)
    rows = torch.randn(int(np.prod(grid)), channels * frames * int(np.prod(cut["patch"])), generator=generator)
    options: dict[str, Any] = {"mean": (0.5,), "std": (0.4,), **cut}
    found = unpatchify(
        rows, [grid], lengths=[length], window=window, scale=1 / 255, threads=data.draw(st.integers(1, 3)),
        dtype=np.uint8 if rounded else np.float32, **options,
    )  # fmt: skip
    windows = (window(cut["patch"][0]), window(cut["patch"][1]))
    again = twin.unpatchify(rows, [grid], lengths=[length], scale=1 / 255, windows=windows, round=rounded, **options)
    np.testing.assert_array_equal(found[0], again[0].numpy())


def test_ten_thousand_pictures_come_back() -> None:
    """Pictures and films of random shapes, cut at random, exactly."""
    rng = np.random.default_rng(0)
    for number in range(10_000):
        patch, merge, frames = rng.integers(1, 18, 2), int(rng.integers(1, 4)), int(rng.integers(1, 4))
        stride = rng.integers(1, patch + 1) if number % 4 == 0 else patch
        height, width = patch + (merge * rng.integers(1, 4, 2) - 1) * stride
        length = int(rng.integers(1, 5)) if number % 3 == 0 else None
        shape = (int(height), int(width), int(rng.integers(1, 6)))
        pixels = rng.integers(0, 256, shape if length is None else (length, *shape), dtype=np.uint8)
        options: dict[str, Any] = {
            "patch": tuple(patch.tolist()), "stride": tuple(stride.tolist()), "merge": merge, "frames": frames,
            "mean": 0.45, "std": 0.27,
        }  # fmt: skip
        rows, grid, _ = patchify(pixels, **options, dtype=np.float16 if number % 2 else np.float32)
        (back,) = unpatchify(rows, grid, lengths=None if length is None else [length], **options)
        assert back.shape == pixels.shape
        assert (back == pixels).all(), options


@pytest.mark.parametrize("kind", list(Filter))
def test_resizing_is_pillows(kind: Filter) -> None:
    """To the last bit, of bytes and of floats, from any size to any size."""
    image = pytest.importorskip("PIL.Image")
    pillow = pytest.importorskip("PIL")
    # Older ones begin with the rows whatever the size.
    rounding = Rounding.PILLOW if int(pillow.__version__.split(".")[0]) >= 13 else Rounding.PILLOW_12
    rng = np.random.default_rng(kind.value)
    for number in range(250):
        size, shape = rng.integers(1, 120, 2).tolist(), rng.integers(2, 120, 2)
        pixels = noise(number, *shape.tolist(), 3)
        floats = (pixels - np.float32(99)) / np.float32(3)
        for array in (pixels, floats):
            options: dict[str, Any] = {"patch": size, "size": size, "resize": kind, "rounding": rounding, "scale": 1}
            rows = patchify(array, **options).rows
            for channel, found in enumerate(np.asarray(rows).reshape(3, *size)):
                resized = image.fromarray(array[..., channel]).resize(size[::-1], image.Resampling[kind.name])
                np.testing.assert_array_equal(found, np.asarray(resized), err_msg=f"{shape} to {size}")
        whole = np.asarray(image.fromarray(pixels).resize(size[::-1], image.Resampling[kind.name]))
        twins = resize(torch.from_numpy(pixels[None]), (size[0], size[1]), kind.name, rounding=rounding.name)
        np.testing.assert_array_equal(twins[0].numpy(), whole)


@pytest.mark.parametrize("kind", [Filter.BILINEAR, Filter.BICUBIC])
def test_resizing_is_torchs(kind: Filter) -> None:
    """Of bytes, to the last bit: what torchvision calls."""
    rng = np.random.default_rng(kind.value)
    for number in range(250):
        size, shape = rng.integers(1, 120, 2).tolist(), rng.integers(1, 120, 2).tolist()
        pixels = noise(number, *shape, 3)
        planes = torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous()
        resized = torch.nn.functional.interpolate(planes, size, mode=kind.name.lower(), antialias=True)
        rows = patchify(pixels, patch=size, size=size, resize=kind, rounding=Rounding.TORCH, scale=1).rows
        np.testing.assert_array_equal(
            np.asarray(rows).reshape(3, *size), resized[0].numpy(), err_msg=f"{shape} to {size}"
        )


def test_a_row_is_what_a_convolution_sees() -> None:
    pixels = noise(1, 4, 28, 42, 3)
    rows, grid, _ = patchify(pixels, patch=14, frames=2, mean=MEAN, std=STD)
    weight = torch.randn(8, 3, 2, 14, 14)
    numbers = (torch.from_numpy(pixels) / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    volume = torch.nn.functional.conv3d(numbers.permute(3, 0, 1, 2)[None], weight, stride=(2, 14, 14))
    found = torch.from_numpy(np.asarray(rows)) @ weight.flatten(1).T
    torch.testing.assert_close(found.T.reshape(1, 8, *grid[0]), volume, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, np.float16, "float32"])
def test_numbers_are_rounded_as_torch_rounds(dtype: Any) -> None:
    pixels = [noise(1, 12, 9, 3), noise(3, 3, 3, 3)]
    exact = torch.from_numpy(np.asarray(patchify(pixels, patch=3, mean=MEAN, std=STD).rows))
    found = patchify(pixels, patch=3, mean=MEAN, std=STD, dtype=dtype).rows
    assert isinstance(found, torch.Tensor) == isinstance(dtype, torch.dtype)
    rounded = exact.to(dtype) if isinstance(dtype, torch.dtype) else exact.numpy().astype(dtype)
    assert found.dtype == rounded.dtype
    assert bool((found == rounded).all())
    small = patchify(np.geomspace(1e-9, 1e5, 900, dtype=np.float32).reshape(30, 30, 1), patch=1, dtype=torch.float16)
    assert bool((small.rows.flatten() == torch.from_numpy(np.geomspace(1e-9, 1e5, 900, dtype=np.float32)).half()).all())


def test_memory_of_the_caller_is_read_and_written() -> None:
    pixels = torch.from_numpy(noise(1, 6, 4, 3)).requires_grad_(False)
    for out in (np.zeros((6, 12), np.float32), torch.zeros(6, 12, dtype=torch.bfloat16)):
        found = patchify(pixels, patch=2, out=out)
        assert found.rows is out
        assert bool((out == (patchify(pixels, patch=2, dtype=out.dtype).rows)).all())
    read_only = noise(1, 4, 4, 3)
    read_only.flags.writeable = False
    assert patchify(read_only, patch=2).rows.shape == (4, 12)


def test_pictures_of_many_sizes_are_packed() -> None:
    """Each as if it were alone, at a size of its own; a function decides."""
    images = [noise(seed, 10 + 17 * seed, 90 - 13 * seed, 3) for seed in range(5)]

    def size(height: int, width: int) -> tuple[int, int]:
        return max(1, height // 28) * 28, max(1, width // 28) * 28

    packed = patchify(images, patch=14, size=size, merge=2, frames=2)
    assert packed.grid.tolist() == [
        [1, size(*image.shape[:2])[0] // 14, size(*image.shape[:2])[1] // 14] for image in images
    ]
    for place, image in enumerate(images):
        alone = patchify(image, patch=14, size=size, merge=2, frames=2)
        np.testing.assert_array_equal(packed.rows[slice(*packed.offsets[place : place + 2])], alone.rows)


def test_other_threads_run_meanwhile() -> None:
    """The interpreter is free while pixels are worked on: a thread that counts goes on counting."""
    pixels, counted, stop = noise(1, 2800, 2800, 3), 0, threading.Event()
    patchify(pixels, patch=14)
    started = time.perf_counter()
    patchify(pixels, patch=14, size=2772)
    taken = time.perf_counter() - started

    def count() -> None:
        nonlocal counted
        while not stop.is_set():
            counted += 1
            time.sleep(taken / 100)

    thread = threading.Thread(target=count)
    thread.start()
    patchify(pixels, patch=14, size=2772)
    during = counted
    stop.set()
    thread.join()
    assert during >= 10


def test_arguments_are_checked() -> None:
    picture = noise(1, 28, 42, 3)

    def refused(error: type[Exception], match: str, images: Any = picture, **changed: Any) -> None:
        with pytest.raises(error, match=match):
            patchify(images, **{"patch": 14, **changed})

    refused(
        ShapeError, "picture 0 is 28 × 42, which patches do not fill: .* for example to 20 × 40", patch=10, stride=10
    )
    refused(ShapeError, "for example to 28 × 28", merge=2)
    refused(ShapeError, "picture 1 is 0 × 5: give sides", [picture, noise(1, 0, 5, 3)])
    refused(ShapeError, "picture 0 is 28 × 0", noise(1, 28, 0, 3))
    refused(ShapeError, "picture 0 is 1 × 1, .* 14 × 14", noise(1, 1, 1, 3))
    refused(ShapeError, "film 0 has 0 frames", noise(1, 0, 28, 28, 3))
    refused(ShapeError, "film 0 has 3 frames for tubelets of 2", noise(1, 3, 28, 28, 3), frames=2, repeat_last=False)
    refused(ShapeError, "picture 1 has 4 channels, expected 3", [picture, noise(1, 28, 28, 4)])
    refused(ShapeError, "mean has 3 entries for 1 channels", noise(1, 28, 28, 1), mean=MEAN)
    refused(ShapeError, r"picture 0 has shape \(28, 42\)", picture[..., 0])
    refused(ShapeError, "less than the crop of 56 × 56", crop=56)
    refused(ShapeError, "out has shape", out=np.empty((5, 588), np.float32))
    refused(ShapeError, "give sides in 1..=1048576", size=2**21)
    refused(LimitExceeded, "2147483648 is the most", size=(14 * 70_000, 14 * 70_000))
    refused(
        InvalidArgument,
        "picture 0 holds NaN or infinity in place 7",
        np.where(np.arange(588) == 7, np.nan, 1).astype(np.float32).reshape(14, 14, 3),
    )
    refused(InvalidArgument, "picture 0 holds NaN or infinity", np.full((14, 14, 3), np.inf, np.float32))
    refused(InvalidArgument, "images is empty", [])
    refused(InvalidArgument, "std is 0", std=0.0)
    refused(InvalidArgument, "mean is NaN", mean=np.nan)
    refused(InvalidArgument, "scale is 0", scale=0)
    refused(InvalidArgument, "patch is 0", patch=0)
    refused(InvalidArgument, "stride is 15", stride=15)
    refused(InvalidArgument, "threads is 0", threads=0)
    refused(InvalidArgument, "merge is -1", merge=-1)
    refused(ArgumentTypeError, "size is None", size=lambda height, width: None)
    refused(ArgumentTypeError, "patch is 1.5", patch=1.5)
    refused(ArgumentTypeError, "resize is 'bicubic'", resize="bicubic")
    refused(ArgumentTypeError, "rounding is None", rounding=None)
    refused(ArgumentTypeError, "picture 0 is uint16: convert it", picture.astype(np.uint16))
    refused(ArgumentTypeError, "picture 0 is float64: convert it", picture.astype(np.float64))
    refused(ArgumentTypeError, "the first uint8", [picture, picture.astype(np.float32)])
    refused(ArgumentTypeError, "C-contiguous", picture[:, ::-1])
    refused(ArgumentTypeError, "C-contiguous", torch.from_numpy(picture).transpose(0, 1))
    refused(ArgumentTypeError, "C-contiguous", out=np.empty((6, 1176), np.float32)[:, ::2])
    refused(ArgumentTypeError, "images is a str", "picture.png")
    refused(ArgumentTypeError, "picture 0 is a list", [[1, 2, 3]])
    refused(ArgumentTypeError, "dtype is", dtype=np.int32)
    refused(ArgumentTypeError, "dtype is", dtype=torch.float64)
    locked = np.empty((6, 588), np.float32)
    locked.flags.writeable = False
    refused(ArgumentTypeError, "out cannot be written to", out=locked)
    assert patchify(noise(1, 1, 1, 3), patch=1).rows.shape == (1, 3)


def test_what_cannot_be_put_together_is_refused() -> None:
    rows, grid, _ = patchify(noise(1, 28, 42, 3), patch=14)

    def refused(error: type[Exception], match: str, **changed: Any) -> None:
        with pytest.raises(error, match=match):
            unpatchify(**{"patches": rows, "grid": grid, "patch": 14, **changed})

    refused(ShapeError, "patches has 3528 entries, expected 7056", grid=[[1, 3, 4]])
    refused(ShapeError, "give lengths", grid=[[2, 1, 3]])
    refused(ShapeError, "lengths has 2 entries, expected 1", lengths=[1, 1])
    refused(ShapeError, "is to have 3 frames: its patches span 1 to 1", lengths=[3])
    refused(ShapeError, "grid has shape", grid=[1, 2, 3])
    refused(ShapeError, "multiples of 2", merge=2)
    refused(ShapeError, "expected rows of a multiple of 225", patch=15)
    refused(ShapeError, "window has 3 entries, expected 14", stride=7, grid=[[1, 1, 6]], window=lambda size: np.ones(3))
    refused(InvalidArgument, "window is 0", stride=7, grid=[[1, 1, 6]], window=lambda size: np.zeros(size))
    refused(InvalidArgument, "grid holds 0", grid=[[1, 0, 3]])
    refused(
        InvalidArgument,
        "row 2 holds NaN or infinity in place 5",
        patches=np.where(np.arange(3528) == 2 * 588 + 5, np.nan, rows.ravel()).astype(np.float32).reshape(rows.shape),
    )
    refused(InvalidArgument, "threads is 0", threads=0)
    refused(ArgumentTypeError, "dtype is", dtype=np.int32)
    refused(ArgumentTypeError, "dtype is", patches=rows.astype(np.float64))
    refused(ArgumentTypeError, "C-contiguous", patches=np.asfortranarray(rows))
    refused(LimitExceeded, "2147483648 is the most", grid=[[1, 2**30, 2**30]])


@pytest.mark.gpu
def test_pictures_on_a_gpu_stay_there() -> None:
    pixels = [noise(seed, 50, 40, 3) for seed in range(3)]
    options: dict[str, Any] = {"patch": 14, "size": 56, "merge": 2, "frames": 2, "mean": MEAN, "std": STD}
    found = patchify([torch.from_numpy(image).cuda() for image in pixels], **options)
    rows, grid, _ = patchify(pixels, **options)
    assert found.rows.is_cuda
    torch.testing.assert_close(found.rows.cpu(), torch.from_numpy(np.asarray(rows)), rtol=1e-6, atol=1e-6)
    options.pop("size")
    back = unpatchify(found.rows, found.grid, **options)
    for one, other in zip(back, unpatchify(rows, grid, **options), strict=True):
        np.testing.assert_array_equal(one.cpu().numpy(), other)
