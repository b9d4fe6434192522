"""FSQ, VQ and vectors: what the kernels encode is what training saw, and training does what it should."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from foretoken.codec.bottleneck import FSQ, VQ, Bottleneck, Gaussian


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def trained_vq(steps: int = 1500) -> tuple[VQ, torch.Tensor]:
    """A book of 16 codes over 8 far clusters, begun from one of them only."""
    vq = VQ(16, 2)
    centres = torch.tensor([[x, y] for x in (-6.0, -2.0, 2.0, 6.0) for y in (-3.0, 3.0)])
    for step in range(steps):
        drawn = generator(step)
        which = torch.randint(8, (64,), generator=drawn) if step else torch.zeros(64, dtype=torch.long)
        vq(centres[which] + 0.1 * torch.randn(64, 2, generator=drawn), drawn)
    return vq, centres


@pytest.mark.parametrize("levels", [[5], [8, 5, 5, 5], [4, 4, 4], [2, 3, 7]])
def test_fsq_units_are_what_the_decoder_was_trained_on(levels: list[int]) -> None:
    fsq = FSQ(levels)
    numbers = 2 * torch.randn(500, len(levels), generator=generator())
    trained, extra = fsq(numbers, generator())
    units = fsq.encode(numbers)
    assert torch.equal(fsq.decode(units), trained)
    assert float(extra) == 0
    assert len(np.unique(units)) > min(50, np.prod(levels) // 2)
    assert 0 <= units.min() <= units.max() < fsq.vocab_size


@pytest.mark.parametrize("levels", [[5], [4], [2]])
def test_every_fsq_level_is_reached(levels: list[int]) -> None:
    numbers = torch.linspace(-30, 30, 2001)[:, None]
    assert set(FSQ(levels).encode(numbers).tolist()) == set(range(levels[0]))


@pytest.mark.parametrize("bottleneck", [FSQ([5, 4]), VQ(16, 2), Gaussian(2)], ids=lambda b: type(b).__name__)
def test_gradients_go_through(bottleneck: Bottleneck) -> None:
    numbers = torch.randn(64, bottleneck.inputs, generator=generator(), requires_grad=True)
    codes, extra = bottleneck(numbers, generator())
    assert codes.shape == (64, bottleneck.width)
    (codes.sum() + extra).backward()
    assert numbers.grad is not None
    assert (numbers.grad[:, : bottleneck.width] != 0).any(dim=0).all()


def test_vq_units_are_what_the_decoder_was_trained_on() -> None:
    vq, centres = trained_vq()
    numbers = centres + 0.3
    before = vq.codebook.clone()
    trained, _ = vq(numbers, generator())
    units = torch.cdist(numbers, before).argmin(dim=1)
    torch.testing.assert_close(trained, before[units])
    vq.codebook.copy_(before)
    assert (vq.encode(numbers) == units.numpy()).all()
    assert torch.equal(vq.decode(units.numpy()), before[units])


def test_dead_codes_are_moved_to_where_vectors_are() -> None:
    """All codes begin in one cluster; without restarts the other seven would share what little moves."""
    vq, centres = trained_vq()
    nearest = torch.cdist(centres, vq.codebook).min(dim=1).values
    assert float(nearest.max()) < 0.3
    assert len(set(vq.encode(centres).tolist())) == 8
    assert float(torch.cdist(vq.codebook, centres).min(dim=1).values.max()) < 0.5


def test_vq_is_a_function_of_the_generator() -> None:
    first, second = trained_vq(20)[0], trained_vq(20)[0]
    assert all(torch.equal(a, b) for a, b in zip(first.buffers(), second.buffers(), strict=True))


def test_vectors_have_mean_0_and_variance_1_and_come_back() -> None:
    gaussian = Gaussian(2)
    for step in range(6000):
        drawn = generator(step)
        mean = torch.randn(32, 2, generator=drawn) * torch.tensor([3.0, 0.1]) + torch.tensor([5.0, -1.0])
        gaussian(torch.cat([mean, torch.full_like(mean, -20)], dim=1), drawn)
    units = gaussian.encode(torch.cat([mean, mean], dim=1))
    assert np.abs(units.mean(axis=0)).max() < 0.5
    assert np.abs(np.log(units.std(axis=0))).max() < 0.4
    torch.testing.assert_close(gaussian.decode(units), mean, atol=1e-4, rtol=1e-4)


def test_the_normal_law_is_sampled_and_pulled_to_the_standard_one() -> None:
    gaussian = Gaussian(1, pull=1.0)
    numbers = torch.tensor([[2.0, np.log(0.25)]]).repeat(20_000, 1)
    drawn, extra = gaussian(numbers, generator())
    assert abs(float(drawn.mean()) - 2) < 0.02
    assert abs(float(drawn.std()) - 0.5) < 0.02
    assert float(extra) == pytest.approx(0.5 * (4 + 0.25 - 1 - np.log(0.25)), rel=1e-4)
