"""Token shards: what was saved is read, part by part; and a file that is not one, or was changed, is refused."""

from __future__ import annotations

import copy
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from foretoken.errors import ArgumentTypeError, CheckpointError, InvalidArgument
from foretoken.kernels import TokenShard


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokens.shard"


def test_random_shapes_come_back(file: Path) -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        bits, shape = int(rng.integers(1, 33)), tuple(rng.integers(0, 9, rng.integers(0, 4)).tolist())
        ids = np.asarray(rng.integers(0, 2**bits, shape))
        shard = TokenShard.save(file, ids, bits=bits)
        assert (shard.bits, shard.shape, shard.path) == (bits, shape, file)
        shard.verify()
        length = shape[0] if shape else 1
        assert len(shard) == length
        np.testing.assert_array_equal(shard.read(0, length), ids)
        start, stop = sorted(rng.integers(0, length + 1, 2).tolist())
        if shape:
            np.testing.assert_array_equal(shard.read(start, stop), ids[start:stop])


def test_a_part_is_read_without_the_rest(file: Path) -> None:
    """What lies elsewhere may be broken: only `verify` looks there."""
    ids = np.arange(200_000).reshape(1000, 200) % 1000
    shard = TokenShard.save(file, ids, bits=10)
    assert file.stat().st_size == 24 + 16 + 250_000 + 8
    data = bytearray(file.read_bytes())
    data[100_000] ^= 16
    file.write_bytes(data)
    np.testing.assert_array_equal(shard.read(900, 1000), ids[900:])
    with pytest.raises(CheckpointError, match="checksum does not fit"):
        shard.verify()


def test_it_is_a_sequence(file: Path) -> None:
    ids = np.arange(6).reshape(3, 2)
    shard = TokenShard.save(file, ids, bits=3)
    np.testing.assert_array_equal(list(shard), ids)
    np.testing.assert_array_equal(shard[-1], ids[-1])
    assert TokenShard.save(file, np.arange(4), bits=2)[3].shape == ()
    for place in (4, -5, 2**62):
        with pytest.raises(IndexError, match=r"0\.\.4"):
            TokenShard(file)[place]


def test_it_can_be_copied(file: Path) -> None:
    shard = TokenShard.save(file, np.arange(10), bits=4)
    for other in (pickle.loads(pickle.dumps(shard)), copy.deepcopy(shard), TokenShard(str(file))):
        np.testing.assert_array_equal(other.read(2, 5), [2, 3, 4])


def test_places_are_checked(file: Path) -> None:
    shard = TokenShard.save(file, np.arange(10), bits=4)
    for start, stop in ((0, 11), (-1, 3), (5, 4), (11, 11)):
        with pytest.raises(InvalidArgument, match="place is"):
            shard.read(start, stop)


def test_ids_are_checked(file: Path) -> None:
    for ids, bits, error in (
        (np.array([4]), 2, InvalidArgument),
        (np.array([-1]), 2, InvalidArgument),
        (np.array([1]), 33, InvalidArgument),
        (np.array([1.5]), 2, ArgumentTypeError),
        (np.arange(6)[::2], 4, ArgumentTypeError),
    ):
        with pytest.raises(error):
            TokenShard.save(file, ids, bits=bits)
    assert not file.exists()
    with pytest.raises(CheckpointError, match="cannot be written"):
        TokenShard.save(file / "no" / "folder", np.arange(2), bits=1)


def test_every_cut_and_every_changed_byte_is_seen(file: Path) -> None:
    shard = TokenShard.save(file, np.arange(40).reshape(8, 5), bits=6)
    whole = file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            TokenShard(file)
        with pytest.raises(CheckpointError):
            shard.verify()
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        file.write_bytes(changed)
        with pytest.raises(CheckpointError):
            TokenShard(file).verify()
    file.write_bytes(whole[:-20])
    with pytest.raises(CheckpointError, match="cannot be read"):
        shard.read(0, 8)


def header(bits: int, shape: tuple[int, ...], version: int = 1) -> bytes:
    return b"FTTOKENS" + struct.pack(f"<4I{len(shape)}Q", version, bits, len(shape), 0, *shape)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "does not begin"),
        (b"FTCORPUS" + bytes(100), "does not begin"),
        (header(0, ()) + bytes(8), "0 bits"),
        (header(33, ()) + bytes(8), "33 bits"),
        (header(8, (1,), version=2) + bytes(9), "version 2"),
        (header(8, (2**40, 2**40)) + bytes(8), "speaks of ids"),
        (header(1, (2**63,)) + bytes(8), "speaks of ids"),
        (header(8, (2**63, 2, 0)) + bytes(8), "speaks of ids"),
        (header(8, (5,)) + bytes(8), "speaks of ids"),
    ],
)
def test_hostile_headers_are_refused(file: Path, data: bytes, match: str) -> None:
    file.write_bytes(data)
    with pytest.raises(CheckpointError, match=match):
        TokenShard(file)


def test_an_empty_axis_hides_no_large_one(file: Path) -> None:
    file.write_bytes(header(8, (0, 2**63, 2**63)) + bytes(8))
    shard = TokenShard(file)
    assert len(shard) == 0
    with pytest.raises(InvalidArgument):
        shard.read(0, 1)


def test_no_file_and_no_shard(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        TokenShard(tmp_path / "none")
    with pytest.raises(CheckpointError, match="cannot be read"):
        TokenShard(tmp_path)
