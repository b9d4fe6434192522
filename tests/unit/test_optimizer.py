"""Muon: orthogonal updates for the matrices, the library's own Adam for the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from foretoken.recipes.language import Run
from foretoken.recipes.optimizer import Muon, orthogonalise
from tests.unit.test_recipes import config, write_data


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 6, 20), (2, 20, 6), (1, 1, 7)])
def test_orthogonalised_updates_have_singular_values_near_one(shape: tuple[int, int, int]) -> None:
    updates = torch.randn(shape) * 10.0 ** torch.arange(-3, shape[0] - 3)[:, None, None]
    values = torch.linalg.svdvals(orthogonalise(updates))
    assert values.min() > 0.6
    assert values.max() < 1.3
    assert torch.linalg.svdvals(updates / updates.norm(dim=(-2, -1), keepdim=True)).min() < 0.6 or shape == (1, 1, 7)
    # The directions stay: U Vᵀ of the update itself.
    u, _, vh = torch.linalg.svd(updates, full_matrices=False)
    cosine = (orthogonalise(updates) * (u @ vh)).sum(dim=(-2, -1)) / (min(shape[1:]) ** 0.5)
    norms = orthogonalise(updates).norm(dim=(-2, -1))
    assert (cosine / norms > 0.97).all()


def test_half_the_digits_orthogonalise_as_well() -> None:
    updates = torch.randn(2, 6, 20)
    whole, halves = orthogonalise(updates), orthogonalise(updates, dtype=torch.bfloat16)
    assert halves.dtype == torch.float32
    # Singular values near one are not drawn to it: what is compared are the directions.
    assert ((whole * halves).sum(dim=(-2, -1)) / (whole.norm(dim=(-2, -1)) * halves.norm(dim=(-2, -1))) > 0.999).all()
    assert (halves - whole).abs().max() > 0  # they are halves


def test_no_update_is_no_update() -> None:
    assert orthogonalise(torch.zeros(2, 3, 4)).abs().max() == 0


def test_what_is_no_matrix_is_trained_by_adam(data: Path, tmp_path: Path) -> None:
    run = Run(config(), data, tmp_path)
    ours = Muon(run.module)
    assert ours.matrices.keys() & ours.others.keys() == set()
    assert set(ours.others) == {name for name, w in run.module.named_parameters() if w.ndim == 1 or "embed" in name}
    twins = {name: weight.detach().clone().requires_grad_() for name, weight in ours.others.items()}
    adam = torch.optim.Adam(twins.values(), lr=0.01, betas=(0.9, 0.95), eps=1e-10)
    for _ in range(5):
        for name, weight in run.module.named_parameters():
            weight.grad = torch.randn_like(weight)
            if name in twins:
                twins[name].grad = weight.grad.clone()
        ours.step(0.01)
        adam.step()
    for name, twin in twins.items():
        torch.testing.assert_close(ours.others[name], twin, atol=1e-6, rtol=1e-5)


def test_matrices_move_by_the_root_mean_square_of_adam(data: Path, tmp_path: Path) -> None:
    run = Run(config(hidden_size=32, heads=2), data, tmp_path)
    muon = Muon(run.module, decay=0.0)
    before = {name: weight.detach().clone() for name, weight in muon.matrices.items()}
    for weight in run.module.parameters():
        weight.grad = torch.randn_like(weight)
    muon.step(0.01)
    for name, weight in muon.matrices.items():
        moved = (weight - before[name]).square().mean().sqrt().item() / 0.01
        assert moved == pytest.approx(0.2, rel=0.2), name


def test_momentum_and_decay_are_those_of_the_paper(data: Path, tmp_path: Path) -> None:
    """Nesterov's form: the buffer follows the gradient, and the update looks one step further than the buffer."""
    run = Run(config(), data, tmp_path)
    muon = Muon(run.module, momentum=0.9, decay=0.5)
    weights = {name: weight.detach().clone() for name, weight in muon.matrices.items()}
    buffers = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for _ in range(4):
        for weight in run.module.parameters():
            weight.grad = torch.randn_like(weight)
        for name, weight in weights.items():
            gradient = muon.matrices[name].grad
            buffers[name] = 0.9 * buffers[name] + 0.1 * gradient
            update = orthogonalise((0.9 * buffers[name] + 0.1 * gradient)[None])[0]
            weights[name] = weight * (1 - 0.01 * 0.5) - 0.01 * 0.2 * max(weight.shape) ** 0.5 * update
        muon.step(0.01)
    for name, weight in weights.items():
        torch.testing.assert_close(muon.matrices[name].detach(), weight, atol=1e-5, rtol=1e-4)
