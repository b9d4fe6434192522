"""The noise is Philox as published, our logarithm is a logarithm, and Rust and torch draw the same bits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from foretoken import _rust
from foretoken.errors import InvalidArgument, ShapeError
from foretoken.reference import noise

from . import statistics

CPU = torch.device("cpu")
FULL = 0xFFFFFFFF
# From the file kat_vectors of Random123 1.14: counter, key, what ten rounds make of them.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((FULL,) * 4, (FULL,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_philox_gives_the_published_answers(
    counter: tuple[int, ...], key: tuple[int, int], words: tuple[int, ...]
) -> None:
    four, (low, high) = torch.tensor(counter).unbind(), torch.tensor(key).unbind()
    assert tuple(int(word) for word in noise.philox(four, (low, high))) == words
    assert tuple(_rust.philox(counter, key)) == words


@given(
    st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, noise.STREAMS - 1)
)
def test_rust_and_torch_draw_the_same_bits(seed: int, position: int, row: int, stream: int) -> None:
    where = noise.place([seed], [position], [row], count=1, device=CPU)
    tokens = np.arange(37)
    rust = _rust.uniform(seed, row, position, tokens, stream)
    assert np.array_equal(noise.uniform(where, stream, 37)[0].numpy(), rust)
    assert np.array_equal(noise.gumbel(where, stream, 37)[0].numpy(), _rust.gumbel(seed, row, position, tokens, stream))
    assert noise.uniform(where, stream).item() == rust[0]


def test_many_gumbels_are_the_same_bits() -> None:
    where = noise.place([2**63 + 5], [7], None, count=1, device=CPU)
    twin = noise.gumbel(where, noise.CHOICE, 300_000)[0].numpy()
    assert np.array_equal(twin, _rust.gumbel(2**63 + 5, 0, 7, np.arange(300_000), noise.CHOICE))


def test_ln_is_within_two_units_in_the_last_place() -> None:
    generator = np.random.default_rng(0)
    values = np.concatenate(
        [
            generator.random(50_000),
            np.exp(generator.uniform(-700, 700, 50_000)),
            1 - generator.random(10_000) * 1e-6,
            [2**-33, 1 - 2**-33, 0.5, math.sqrt(0.5), np.nextafter(math.sqrt(0.5), 0), 2.0, 1.5, np.finfo(float).tiny],
        ]
    )
    ours = noise.ln(torch.from_numpy(values)).numpy()
    exact = np.array([math.log(value) for value in values])
    # Near 1 the logarithm of what 1 ± x rounds to is small, and math.log itself is right to half a unit.
    assert np.all(np.abs(ours - exact) <= 2 * np.spacing(np.abs(exact)))
    assert noise.ln(torch.ones(1, dtype=torch.float64)).item() == 0


def test_noise_is_never_infinite() -> None:
    """The extreme words give uniforms strictly inside (0, 1) and finite Gumbels, whatever the stream draws."""
    u = (torch.tensor([0, FULL], dtype=torch.float64) + 0.5) * 2.0**-32
    assert u.tolist() == [2.0**-33, 1 - 2.0**-33]
    gumbels = -noise.ln(-noise.ln(u))
    assert -3.13 < gumbels[0] < -3.12
    assert 22.87 < gumbels[1] < 22.88


def test_places_do_not_share_noise() -> None:
    """A change of seed, position, row, stream or token changes the word; so does each of the 128 bits of input."""
    seen = set()
    for seed in (0, 1, 2**32, 2**63):
        where = noise.place([seed] * 4, [0, 1, 0, 2**31], [0, 0, 1, 0], count=4, device=CPU)
        for stream in range(noise.STREAMS):
            seen.update(noise.words(where, stream, 9).flatten().tolist())
    assert len(seen) == 4 * 4 * noise.STREAMS * 9


def test_uniforms_are_uniform() -> None:
    where = noise.place([3], [0], None, count=1, device=CPU)
    cells = np.histogram(noise.uniform(where, noise.ACCEPT, 200_000).numpy(), bins=1000, range=(0, 1))[0]
    assert statistics.tail(cells, np.full(1000, 1e-3)) > statistics.FALSE_ALARM


@pytest.mark.parametrize(
    ("seeds", "positions", "rows", "error"),
    [
        ([-1], [0], None, InvalidArgument),
        ([2**64], [0], None, InvalidArgument),
        ([0], [-1], None, InvalidArgument),
        ([0], [2**32], None, InvalidArgument),
        ([0], [0], [2**32], InvalidArgument),
        ([0, 1], [0], None, ShapeError),
        ([0], [0, 1], None, ShapeError),
        ([0], [0], [0, 1], ShapeError),
    ],
)
def test_places_out_of_range_are_refused(
    seeds: list[int], positions: list[int], rows: list[int] | None, error: type[Exception]
) -> None:
    with pytest.raises(error):
        noise.place(seeds, positions, rows, count=1, device=CPU)


def test_a_word_is_two_halves_of_published_blocks() -> None:
    """The definition, written out, so that whoever implements it elsewhere has vectors to test against."""
    seed, position, row, stream = 0x0123456789ABCDEF, 77, 5, noise.DRAFT
    where = noise.place([seed], [position], [row], count=1, device=CPU)
    found = noise.words(where, stream, 20)[0].tolist()
    for token, word in enumerate(found):
        key = (seed & FULL, seed >> 32)
        upper, lower = (
            _rust.philox((token // 8, position, row, marked), key)[token % 4] >> (16 * (token // 4 % 2)) & 0xFFFF
            for marked in (stream, stream + 2**31)
        )
        assert word == upper * 2**16 + lower
    assert found[:3] == [0x81C92488, 0xB92E8E12, 0x4355D383]
