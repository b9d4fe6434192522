"""Weights of eight bits: as near as they can be, read back without callers noticing, refused where they are broken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import foretoken as ft
from foretoken.codec.patches import Patches
from foretoken.errors import CheckpointError, InvalidArgument
from foretoken.model.checkpoint import save_llama
from foretoken.weights import WEIGHTS, load_module, read_tensors, write_tensors
from tests.models import tiny_llama


def written(tensors: dict[str, Tensor], folder: Path) -> dict[str, Tensor]:
    write_tensors(folder / WEIGHTS, tensors, dtype=torch.int8)
    return read_tensors(folder / WEIGHTS)


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32), shape=st.lists(st.integers(0, 7), min_size=2, max_size=4), size=st.integers(-44, 37))
def test_each_weight_is_off_by_half_a_step_at_most(
    seed: int, shape: list[int], size: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A step is the largest of its row by 127; whatever the size of the weights, down to those that have no step."""
    random = np.random.default_rng(seed)
    rows = (
        random.normal(size=shape)
        * 10.0**size
        * 10.0 ** random.integers(-3, 1, size=(shape[0], *[1] * (len(shape) - 1)))
    )
    weights = torch.from_numpy(rows.astype(np.float32))
    found = written({"a": weights}, tmp_path_factory.mktemp("w"))["a"]
    assert (found.dtype, found.shape) == (torch.float32, weights.shape)
    if weights.numel():
        step = weights.abs().flatten(1).amax(dim=1).double() / 127
        tolerance = (step * 0.5001).clamp(min=1.2e-38 * 127).view(-1, *[1] * (len(shape) - 1))
        assert bool(((found.double() - weights.double()).abs() <= tolerance).all())


def test_what_is_read_is_written_the_same(tmp_path: Path) -> None:
    """The second rounding finds the steps of the first."""
    weights = {"w": torch.randn(6, 9, generator=torch.Generator().manual_seed(0)), "b": torch.tensor([1.0, -3e-9])}
    once = written(weights, tmp_path)
    assert torch.equal(once["b"], weights["b"])
    torch.testing.assert_close(written(once, tmp_path)["w"], once["w"], rtol=1e-6, atol=0.0)
    assert {name: tensor.dtype for name, tensor in load_file(tmp_path / WEIGHTS).items()} == {
        "w": torch.int8, "w.scale": torch.float32, "b": torch.float32
    }  # fmt: skip


def test_rows_of_zeros_stay(tmp_path: Path) -> None:
    weights = torch.tensor([[0.0, 0.0], [1e-45, 0.0], [1.0, -1.0]])
    assert written({"a": weights}, tmp_path)["a"].tolist() == [[0.0, 0.0], [0.0, 0.0], [1.0, -1.0]]


def test_a_module_does_not_notice(tmp_path: Path) -> None:
    """Also one with a parameter that is called scale, and with what is no matrix."""

    class Module(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor([1.5, 2.5]))
            self.convolution = nn.Conv2d(3, 4, 3)
            self.register_buffer("levels", torch.tensor(5.0))

    one, two = Module(), Module()
    write_tensors(tmp_path / WEIGHTS, one.state_dict(), dtype=torch.int8)
    load_module(two, tmp_path)
    for name, tensor in one.state_dict().items():
        torch.testing.assert_close(two.state_dict()[name], tensor, atol=2e-3, rtol=0.0)


def test_a_shipped_codec_in_a_quarter_of_float32(tmp_path: Path) -> None:
    shipped = ft.codec.load("emoji-fsq-64")
    assert isinstance(shipped, Patches)
    shipped.save(tmp_path, dtype=torch.int8)
    small = Patches.from_folder(tmp_path)
    numbers = sum(weight.numel() for weight in shipped.module.state_dict().values())
    assert (tmp_path / WEIGHTS).stat().st_size < 1.1 * numbers + 20_000
    picture = np.random.default_rng(0).integers(0, 256, size=(64, 64, 3), dtype=np.uint8)
    same = (small.encode(picture) == shipped.encode(picture)).mean()
    assert same > 0.5


SPOILT: dict[str, tuple[Callable[[dict[str, Tensor]], object], str]] = {
    "no scale": (lambda t: t.pop("w.scale"), "got none"),
    "a scale too few": (lambda t: t.update({"w.scale": torch.ones(2)}), r"got torch.float32 of shape \(2,\)"),
    "one for each weight": (lambda t: t.update({"w.scale": torch.ones(3, 4)}), r"got torch.float32 of shape \(3, 4\)"),
    "one for all": (lambda t: t.update({"w.scale": torch.tensor(1.0)}), r"got torch.float32 of shape \(\)"),
    "halves": (lambda t: t.update({"w.scale": torch.ones(3, dtype=torch.float16)}), "got torch.float16"),
    "integers": (lambda t: t.update({"w.scale": torch.ones(3, dtype=torch.int8)}), "int8"),
    "NaN": (lambda t: t["w.scale"].fill_(float("nan")), "'w.scale' holds NaN"),
    "infinity": (lambda t: t["w.scale"].fill_(float("inf")), "'w.scale' holds NaN or infinity"),
    "too large": (lambda t: (t["w.scale"].fill_(3e38), t["w"].fill_(100)), "infinite"),
    "no matrix": (lambda t: t.update({"w": torch.ones(3, dtype=torch.int8)}), r"int8 of shape \(3,\)"),
    "unsigned": (lambda t: t.update({"w": torch.ones(3, 4, dtype=torch.uint8)}), "uint8"),
    "wide": (lambda t: t.update({"w": torch.ones(3, 4, dtype=torch.int16)}), "int16"),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_broken_roundings_are_refused(kind: str, tmp_path: Path) -> None:
    spoil, message = SPOILT[kind]
    written({"w": torch.randn(3, 4)}, tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    spoil(tensors)
    save_file(tensors, tmp_path / WEIGHTS)
    with pytest.raises(CheckpointError, match=message):
        read_tensors(tmp_path / WEIGHTS)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_cannot_be_rounded_is_not_written(bad: float, tmp_path: Path) -> None:
    for tensors in ({"w": torch.tensor([[1.0, bad]])}, {"b": torch.tensor([bad])}):
        with pytest.raises(InvalidArgument, match="NaN or infinity"):
            write_tensors(tmp_path / "new" / WEIGHTS, tensors, dtype=torch.int8)
    with pytest.raises(InvalidArgument, match=r"'w\.scale'"):
        write_tensors(tmp_path / "new" / WEIGHTS, {"w": torch.ones(2, 2), "w.scale": torch.ones(2)}, dtype=torch.int8)
    assert not (tmp_path / "new").exists()


def test_language_models_stay_as_transformers_reads_them(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="int8"):
        save_llama(tiny_llama(), tmp_path / "m", dtype=torch.int8)
    assert not (tmp_path / "m").exists()
