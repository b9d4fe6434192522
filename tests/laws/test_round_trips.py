"""What loses nothing loses nothing: ten thousand random shapes there and back."""

from __future__ import annotations

import numpy as np

from foretoken import kernels

SHAPES = 10_000


def test_pixels_of_24_bits() -> None:
    chance = np.random.default_rng(1)
    for _ in range(SHAPES):
        shape = tuple(chance.integers(0, 12, chance.integers(1, 4)))
        pixels = chance.integers(0, 256, (*shape, 3), dtype=np.uint8)
        ids = kernels.rgb24_encode(pixels)
        assert ids.shape == shape
        assert (kernels.rgb24_decode(ids) == pixels).all()


def test_patches_without_a_codec() -> None:
    """Pictures and films, any patch, blocks of patches, with and without normalisation."""
    chance = np.random.default_rng(2)
    for _ in range(SHAPES):
        channels, frames, merge = (int(n) for n in chance.integers(1, (5, 4, 4)))
        patch = tuple(int(n) for n in chance.integers(1, 6, 2))
        counts = chance.integers(1, 4, 2) * merge
        length = int(chance.integers(1, 6))
        film = chance.integers(0, 256, (length, counts[0] * patch[0], counts[1] * patch[1], channels), dtype=np.uint8)
        how = {"patch": patch, "merge": merge, "frames": frames}
        if chance.random() < 0.5:
            how |= {"mean": chance.random(channels).tolist(), "std": (0.1 + chance.random(channels)).tolist()}
        rows, grid, _ = kernels.patchify(film, **how)
        assert len(rows) == grid.prod()
        assert (kernels.unpatchify(rows, grid, lengths=[length], **how)[0] == film).all()


def test_linear_sound() -> None:
    chance = np.random.default_rng(3)
    for _ in range(SHAPES):
        bits = int(chance.choice([8, 16]))
        ids = chance.integers(0, 2**bits, tuple(chance.integers(0, 30, chance.integers(1, 3))))
        samples = kernels.pcm_decode(ids, bits=bits)
        again, clipped = kernels.pcm_encode(samples, bits=bits)
        assert (again == ids).all()
        assert (clipped, samples.dtype) == (0, np.float32)


def test_ids_packed_in_bits() -> None:
    chance = np.random.default_rng(4)
    for _ in range(SHAPES):
        bits = int(chance.integers(1, 33))
        ids = chance.integers(0, 2**bits, chance.integers(0, 200))
        packed = kernels.pack_bits(ids, bits=bits)
        assert len(packed) == -(-len(ids) * bits // 8)
        assert (kernels.unpack_bits(packed, bits=bits, count=len(ids)) == ids).all()
