"""Presets give what the processors of transformers give: to the bit through torchvision, nearly so through Pillow."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from foretoken import kernels
from foretoken.codec import presets
from foretoken.errors import ArgumentTypeError, InvalidArgument, LimitExceeded, MissingExtra, ShapeError

Image = pytest.importorskip("PIL.Image")
transformers = pytest.importorskip("transformers")
PILLOW = kernels.Rounding.PILLOW
if int(pytest.importorskip("PIL").__version__.split(".")[0]) < 13:
    PILLOW = kernels.Rounding.PILLOW_12


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Neither smooth nor only noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 9 + 1, width // 9 + 1, 3)).repeat(9, 0).repeat(9, 1)[:height, :width]
    return np.clip(coarse + rng.integers(-60, 60, coarse.shape), 0, 255).astype(np.uint8)


SIZES = [(1024, 1024), (480, 640), (640, 480), (57, 33), (30, 900), (900, 30), (224, 224), (225, 449)]
PICTURES = [picture(height, width, seed) for seed, (height, width) in enumerate(SIZES)]
NAMES = {"qwen2_vl": "Qwen2VLImageProcessor", "clip": "CLIPImageProcessor", "vit": "ViTImageProcessor"}


def through_pillow(name: str, **options: Any) -> Callable[..., Any]:
    """The processor that needs no torchvision."""
    made = getattr(transformers, NAMES[name] + "Pil", None)
    if made is None:
        pytest.skip("this transformers has no processor of that name")
    return made(**options)


def through_torchvision(name: str, **options: Any) -> Callable[..., Any]:
    """The processor that people get where torchvision is installed."""
    pytest.importorskip("torchvision")
    return getattr(transformers, NAMES[name])(**options)


def assert_pixels(found: dict[str, torch.Tensor], expected: Any, *, deviation: float, exact: bool) -> None:
    """The same, or but for the last bits: never another pixel, for those are 1/255 apart, and are divided."""
    assert found.keys() == set(expected.keys())
    for name, tensor in found.items():
        assert tensor.shape == expected[name].shape
        assert tensor.dtype == expected[name].dtype
        difference = (tensor.double() - expected[name].double()).abs().max().item()
        assert difference == 0 if exact else difference <= 1e-5 < 1 / 255 / deviation


@pytest.mark.parametrize("name", list(NAMES))
def test_pictures_are_those_of_torchvision(name: str) -> None:
    processor, preset = through_torchvision(name), getattr(presets, name)
    for image in PICTURES:
        expected = processor(image, return_tensors="pt")
        assert_pixels(preset(image), expected, deviation=0.5, exact=True)
        assert_pixels(preset(Image.fromarray(image), threads=2), expected, deviation=0.5, exact=True)
    assert_pixels(preset(PICTURES), processor(PICTURES, return_tensors="pt"), deviation=0.5, exact=True)


@pytest.mark.parametrize("name", list(NAMES))
def test_pictures_are_those_of_pillow(name: str) -> None:
    processor, preset = through_pillow(name), getattr(presets, name)
    for image in PICTURES:
        expected = processor(image, return_tensors="pt")
        assert_pixels(preset(image, rounding=PILLOW), expected, deviation=0.5, exact=False)
    expected = processor([Image.fromarray(image) for image in PICTURES], return_tensors="pt")
    assert_pixels(preset(PICTURES, rounding=PILLOW), expected, deviation=0.5, exact=False)


@pytest.mark.parametrize("through", [through_pillow, through_torchvision])
def test_pictures_that_stay_as_large_as_they_are(through: Any) -> None:
    exact = through is through_torchvision
    image = picture(1008, 1008)
    expected = through("qwen2_vl")(image, do_resize=False, return_tensors="pt")
    assert_pixels(presets.qwen2_vl(image, resize=False), expected, deviation=0.3, exact=exact)
    image = picture(1024, 1024)
    options: dict[str, Any] = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "patch_size": 16}
    expected = through("qwen2_vl", **options)(image, do_resize=False, return_tensors="pt")
    found = presets.qwen2_vl(image, resize=False, patch=16, mean=presets.HALF, std=presets.HALF)
    assert_pixels(found, expected, deviation=0.5, exact=exact)
    image = picture(224, 300)
    assert_pixels(
        presets.clip(image, resize=False),
        through("clip")(image, do_resize=False, return_tensors="pt"),
        deviation=0.3,
        exact=exact,
    )
    image = picture(224, 224)
    expected = through("vit")(image, do_resize=False, return_tensors="pt")
    assert_pixels(presets.vit(image, resize=False), expected, deviation=0.5, exact=exact)


def test_another_size_is_another_size() -> None:
    """The control: a comparison that says nothing would pass here, too."""
    processor = through_pillow("vit")
    expected = processor(PICTURES[1], return_tensors="pt")
    other = presets.vit(PICTURES[1], rounding=kernels.Rounding.TORCH)
    different = (other["pixel_values"] - expected["pixel_values"]).abs() > 1e-5
    assert different.any()
    assert ((other["pixel_values"] - expected["pixel_values"]).abs() <= 2 / 255 / 0.5 + 1e-5).all()
    with pytest.raises(AssertionError):
        assert_pixels(presets.vit(PICTURES[2], rounding=PILLOW), expected, deviation=0.5, exact=False)


def test_films_are_those_of_torchvision() -> None:
    pytest.importorskip("torchvision")
    processor = transformers.Qwen2VLVideoProcessor(cap_pixels_per_frame=False)
    films = [np.stack([picture(96, 130, seed) for seed in range(5)]), picture(300, 200)[None].repeat(2, 0)]
    for film in films:
        expected = processor([torch.from_numpy(film).permute(0, 3, 1, 2)], return_tensors="pt")
        assert_pixels(presets.qwen2_vl_film(film), expected, deviation=0.3, exact=True)
    both = presets.qwen2_vl_film(films)
    assert both["video_grid_thw"].tolist()[0][0] == 3
    assert len(both["pixel_values_videos"]) == both["video_grid_thw"].prod(dim=1).sum()
    with pytest.raises(ShapeError, match="no \\(frames"):
        presets.qwen2_vl_film(films[0][0])


def test_sizes_are_those_of_transformers() -> None:
    module = pytest.importorskip("transformers.models.qwen2_vl.image_processing_pil_qwen2_vl")
    rng = np.random.default_rng(0)
    for _ in range(2000):
        height, width = (2 ** rng.uniform(0, 12, 2)).astype(int).tolist()
        options = {"factor": int(rng.choice([28, 32])), "least": int(rng.choice([3136, 65536])), "most": 1003520}
        if max(height, width) > 200 * min(height, width):
            with pytest.raises(ShapeError, match="200 times"):
                presets.qwen2_vl_size(height, width, **options)
            continue
        expected = module.smart_resize(height, width, options["factor"], options["least"], options["most"])
        assert presets.qwen2_vl_size(height, width, **options) == expected


def test_halves_are_those_of_floats() -> None:
    exact = presets.clip(PICTURES[1])["pixel_values"]
    for dtype in (torch.bfloat16, torch.float16):
        assert torch.equal(presets.clip(PICTURES[1], dtype=dtype)["pixel_values"], exact.to(dtype))


def test_files_are_read_in_many_forms(tmp_path: Path) -> None:
    image = picture(60, 80)
    upright = Image.fromarray(image)
    expected = presets.vit(image)["pixel_values"]

    def read(name: str, made: Any, **options: Any) -> torch.Tensor:
        made.save(tmp_path / name, **options)
        return presets.vit(tmp_path / name)["pixel_values"]

    assert torch.equal(read("plain.png", upright), expected)
    assert torch.equal(presets.vit(str(tmp_path / "plain.png"))["pixel_values"], expected)
    assert torch.equal(presets.vit(torch.from_numpy(image))["pixel_values"], expected)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    assert torch.equal(read("turned.png", turned, exif=exif), expected)
    palette = upright.quantize(16)
    assert torch.equal(read("palette.png", palette), presets.vit(np.array(palette.convert("RGB")))["pixel_values"])
    cmyk = upright.convert("CMYK")
    assert torch.equal(read("cmyk.tif", cmyk), presets.vit(np.array(cmyk.convert("RGB")))["pixel_values"])
    grey = upright.convert("L")
    assert torch.equal(read("grey.png", grey), presets.vit(np.array(grey))["pixel_values"])
    assert torch.equal(
        read("one.png", grey.convert("1")), presets.vit(np.array(grey.convert("1").convert("L")))["pixel_values"]
    )
    deep = (np.array(grey).astype(np.uint16) << 8) + 37
    assert torch.equal(read("deep.png", Image.fromarray(deep)), presets.vit(np.array(grey))["pixel_values"])
    clear = upright.copy()
    clear.putalpha(0)
    white = presets.vit(np.full_like(image, 255))["pixel_values"]
    assert torch.equal(read("clear.png", clear), white)
    assert torch.equal(presets.vit(np.array(clear))["pixel_values"], white)
    half = upright.copy()
    half.putalpha(128)
    assert (presets.vit(np.array(half))["pixel_values"] - read("half.png", half)).abs().max() < 2 / 255 / 0.5


def test_files_that_cannot_be_read_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tmp_path / "whole.png"
    Image.fromarray(picture(200, 200)).save(whole)
    cut, text = tmp_path / "cut.png", tmp_path / "text.png"
    cut.write_bytes(whole.read_bytes()[:5000])
    text.write_text("no picture")
    for path in (cut, text, tmp_path / "missing.png", tmp_path):
        with pytest.raises(InvalidArgument, match="cannot read the picture"):
            presets.vit(path)
    for side in (10_000, 12_000, 100_000):
        bomb = tmp_path / "bomb.png"
        header = bytearray(whole.read_bytes())
        header[16:24] = side.to_bytes(4, "big") * 2
        header[29:33] = zlib.crc32(bytes(header[12:29])).to_bytes(4, "big")
        bomb.write_bytes(bytes(header))
        with pytest.raises(LimitExceeded, match=r"more than 67108864 pixels|too large"):
            presets.vit(bomb)
    with pytest.raises(ArgumentTypeError, match="a picture is a int"):
        presets.vit(3)
    with pytest.raises(ArgumentTypeError, match="float64"):
        presets.vit(np.zeros((3, 3, 3)))
    with pytest.raises(ArgumentTypeError, match="give one of torch"):
        presets.vit(PICTURES[0], dtype=np.float32)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="1, 3 or 4 channels"):
        presets.vit(np.zeros((3, 3, 2), dtype=np.uint8))
    with pytest.raises(ShapeError, match="must be 224 × 224"):
        presets.vit(np.zeros((448, 224, 3), dtype=np.uint8), resize=False)
    with pytest.raises(ShapeError, match="for example to 224 × 224"):
        presets.vit(np.zeros((300, 224, 3), dtype=np.uint8), resize=False)
    with pytest.raises(ShapeError, match="less than the crop"):
        presets.clip(np.zeros((300, 100, 3), dtype=np.uint8), resize=False)
    with pytest.raises(ShapeError, match="200 times"):
        presets.qwen2_vl(np.zeros((1, 201, 3), dtype=np.uint8))
    with pytest.raises(InvalidArgument, match="images is empty"):
        presets.clip([])
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtra, match="foretoken\\[image\\]"):
        presets.vit(whole)
