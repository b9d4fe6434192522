"""The model that looks both ways: what it may see, its files, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from foretoken.errors import CheckpointError, InvalidArgument, LimitExceeded
from foretoken.model.masked import MaskedConfig, MaskedLlama, MaskedModule, load_masked, save_masked
from foretoken.model.protocol import LengthModel, ParallelModel

SHAPE = {
    "vocab_size": 14, "units": 8, "latents": 4, "imagination": 0, "lengths": 6, "end": 7, "hidden_size": 16,
    "intermediate_size": 32, "layers": 2, "heads": 2, "context": 12,
}  # fmt: skip


def module(**changes: int) -> MaskedModule:
    made = MaskedModule(MaskedConfig(**{**SHAPE, **changes}))
    made.initialise(torch.Generator().manual_seed(1))
    for weight in made.parameters():
        weight.data.add_(0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(2)))
    return made


def test_every_position_sees_both_sides_and_nothing_behind_its_row() -> None:
    model = MaskedLlama(module())
    canvas = np.array([[13, 8, -1, 3, -1, 5, 1, 1]])
    logits = model.predict(canvas, np.array([6]))
    for place, seen in ((1, True), (5, True), (6, False), (7, False)):
        other = canvas.copy()
        other[0, place] = 2
        differs = bool((model.predict(other, np.array([6]))[0, 2] != logits[0, 2]).any())
        assert differs == seen
    assert torch.allclose(model.predict(canvas[:, :6], np.array([6]))[0], logits[0, :6], atol=1e-5)


def test_units_stand_in_bodies_and_imaginations_in_front() -> None:
    logits = MaskedLlama(module()).predict(np.full((1, 5), -1), np.array([5]))[0]
    assert torch.isfinite(logits[0]).nonzero()[:, 0].tolist() == [9, 10, 11, 12]
    assert torch.isfinite(logits[1:]).all(dim=0).nonzero()[:, 0].tolist() == list(range(8))
    plain = MaskedLlama(module(latents=0, vocab_size=9)).predict(np.full((1, 5), -1), np.array([5]))[0]
    assert torch.isfinite(plain[0]).nonzero()[:, 0].tolist() == list(range(8))


def test_lengths_are_a_law() -> None:
    model = MaskedLlama(module())
    assert isinstance(model, LengthModel)
    law = model.predict_lengths(np.array([[13, 8, 8], [13, 8, 0]]), np.array([3, 2])).exp()
    assert law.shape == (2, 7)
    assert torch.allclose(law.sum(dim=1), torch.ones(2))
    alone = model.predict_lengths(np.array([[13, 8]]), np.array([2])).exp()
    assert torch.allclose(law[1], alone[0], atol=1e-5)


def test_weights_come_back_from_their_folder(tmp_path: Path) -> None:
    made = module()
    save_masked(made, tmp_path)
    back = load_masked(tmp_path)
    assert back.config == made.config
    for name, weight in back.state_dict().items():
        assert (weight == made.state_dict()[name].bfloat16().float()).all()
    assert isinstance(MaskedLlama(tmp_path), ParallelModel)
    near = MaskedLlama(tmp_path, dtype=torch.bfloat16).predict(np.array([[13, 8, -1]]), np.array([3]))
    exact = MaskedLlama(tmp_path).predict(np.array([[13, 8, -1]]), np.array([3]))
    assert near.dtype == torch.float32
    assert torch.allclose(near[0, 2, :8], exact[0, 2, :8], atol=0.05)


@pytest.mark.parametrize(
    ("change", "match"),
    [({"model": "llama"}, "model"), ({"heads": 3}, "heads"), ({"layers": 3}, "tensors"), ({"extra": 1}, "unknown")],
)
def test_a_folder_that_is_wrong_is_refused(tmp_path: Path, change: dict[str, object], match: str) -> None:
    save_masked(module(), tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(raw | change))
    with pytest.raises(CheckpointError, match=match):
        MaskedLlama(tmp_path)


def test_refusals() -> None:
    for change in ({"units": 14}, {"end": 8}, {"heads": 5}, {"layers": 0}, {"latents": -1}):
        with pytest.raises(InvalidArgument):
            dataclasses.replace(MaskedConfig(**SHAPE), **change)
    with pytest.raises(LimitExceeded, match="context"):
        MaskedLlama(module()).predict(np.full((1, 13), -1), np.array([13]))
    with pytest.raises(InvalidArgument, match="dtype"):
        MaskedLlama(module(), dtype=torch.int8)
