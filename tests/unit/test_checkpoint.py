"""Checkpoints: there and back, to transformers and from it; and every way in which a folder may lie."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save, save_file

from foretoken import weights
from foretoken.errors import CheckpointError
from foretoken.model.checkpoint import load_llama, save_llama
from foretoken.model.llama import LlamaModule
from foretoken.weights import read_tensors
from tests.models import tiny_llama

IDS = torch.from_numpy(np.random.default_rng(0).integers(48, size=(2, 17)))
WEIGHTS = "model.safetensors"


def tied() -> LlamaModule:
    """A Llama whose head is its embedding."""
    module = tiny_llama()
    shape = {**vars(module.config), "tie_word_embeddings": True}
    made = LlamaModule(type(module.config)(**shape))
    made.load_state_dict({**module.state_dict(), "lm_head.weight": module.model.embed_tokens.weight})
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good checkpoint, to be spoilt."""
    save_llama(tiny_llama(), tmp_path / "good")
    return tmp_path / "good"


def logits(model: Callable[[torch.Tensor], Any]) -> torch.Tensor:
    with torch.no_grad():
        out = model(IDS)
    return getattr(out, "logits", out)


@pytest.mark.parametrize("make", [tiny_llama, tied])
def test_what_is_saved_is_loaded(make: Callable[[], LlamaModule], tmp_path: Path) -> None:
    module = make()
    save_llama(module, tmp_path / "a" / "b")
    again = load_llama(tmp_path / "a" / "b")
    assert again.config == module.config
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), again.parameters(), strict=True))
    assert torch.equal(logits(again), logits(module))
    assert sorted(p.name for p in (tmp_path / "a" / "b").iterdir()) == ["config.json", WEIGHTS]


def test_bfloat16_halves_the_file_and_is_read_as_float32(tmp_path: Path) -> None:
    module = tiny_llama()
    save_llama(module, tmp_path / "full")
    save_llama(module, tmp_path / "half", dtype=torch.bfloat16)
    full, half = ((tmp_path / name / WEIGHTS).stat().st_size for name in ("full", "half"))
    assert half < 0.6 * full
    again = load_llama(tmp_path / "half")
    for a, b in zip(module.parameters(), again.parameters(), strict=True):
        assert b.dtype == torch.float32
        assert torch.equal(a.bfloat16().float(), b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("make", [tiny_llama, tied])
def test_transformers_loads_ours(
    make: Callable[[], LlamaModule], dtype: torch.dtype, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    transformers = pytest.importorskip("transformers")
    module = make()
    save_llama(module, tmp_path, dtype=dtype)
    theirs = transformers.LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    capfd.readouterr()  # its progress bars
    assert theirs.generation_config.eos_token_id == [0]
    ours = load_llama(tmp_path)
    torch.testing.assert_close(logits(ours), logits(theirs), atol=1e-5, rtol=0)


@pytest.mark.parametrize("tie", [False, True])
def test_ours_loads_transformers(tie: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=48, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=tie,
    )  # fmt: skip
    theirs = transformers.LlamaForCausalLM(config)
    theirs.save_pretrained(tmp_path)
    capfd.readouterr()
    ours = load_llama(tmp_path)
    assert ours.config.eos_token_id == (2,)
    torch.testing.assert_close(logits(ours), logits(theirs), atol=1e-5, rtol=0)


def test_a_tied_head_may_be_in_the_file_too(tmp_path: Path) -> None:
    module = tied()
    save_llama(module, tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    save_file({**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"].clone()}, tmp_path / WEIGHTS)
    assert torch.equal(logits(load_llama(tmp_path)), logits(module))


def test_loading_leaves_the_randomness_of_the_caller_alone(folder: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_llama(folder)
    assert torch.equal(torch.rand(3), expected)


def test_loading_does_not_drag_in_what_it_does_not_need(folder: Path) -> None:
    """Torch's compiler is 900 modules; a first text must not wait for them."""
    code = (
        "import sys, pathlib\n"
        "from foretoken.model.checkpoint import load_llama\n"
        f"load_llama(pathlib.Path({str(folder)!r}))\n"
        "print({'torch._dynamo', 'sympy', 'transformers'} & sys.modules.keys())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"


def test_what_is_loaded_outlives_the_file(folder: Path) -> None:
    """Weights are copied: a file that is overwritten or cut later must neither change nor kill."""
    module = load_llama(folder)
    before = logits(module)
    os.truncate(folder / WEIGHTS, 8)
    assert torch.equal(logits(module), before)


def test_saving_again_replaces_as_a_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = logits(load_llama(folder))
    monkeypatch.setattr(weights, "save_file", lambda tensors, path, metadata: 1 / 0)  # as a full disk would
    with pytest.raises(ZeroDivisionError):
        save_llama(tiny_llama(seed=1), folder)
    assert torch.equal(logits(load_llama(folder)), before)


def refused(folder: Path, message: str, *, name: str = WEIGHTS) -> None:
    """Loading fails with this message, which tells the file."""
    with pytest.raises(CheckpointError, match=message) as caught:
        load_llama(folder)
    assert name in str(caught.value)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("name", ["config.json", WEIGHTS])
def test_missing_files_are_named(name: str, folder: Path) -> None:
    (folder / name).unlink()
    refused(folder, name, name=name)
    (folder / name).mkdir()
    refused(folder, name, name=name)


def test_pickles_are_never_loaded(folder: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(folder / "owned"),))

    (folder / WEIGHTS).unlink()
    for name in ("pytorch_model.bin", "model.pt", "weights.pkl"):
        (folder / name).write_bytes(pickle.dumps(Evil()))
    refused(folder, r"pytorch_model\.bin.*pickles and never loaded")
    assert not (folder / "owned").exists()
    # Nor under another name.
    (folder / WEIGHTS).write_bytes(pickle.dumps(Evil()))
    refused(folder, "not a whole safetensors file")
    assert not (folder / "owned").exists()


def test_a_cut_file_is_refused_wherever_it_is_cut(folder: Path) -> None:
    path = folder / WEIGHTS
    whole = path.read_bytes()
    for place in [len(whole) * part // 20 for part in range(20)] + [1, 7, 8, 9, len(whole) - 1]:
        path.write_bytes(whole[:place])
        refused(folder, "not a whole safetensors file")
    path.write_bytes(whole + b"\0")
    refused(folder, "not a whole safetensors file")


def packed(header: object, data: bytes = b"") -> bytes:
    """The bytes of a safetensors file with this header, or these bytes of one."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(shape: list[int], offsets: list[int], dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


FOUR = struct.pack("<f", 1.0)
HOSTILE = {
    "empty": b"",
    "header of 2^63": struct.pack("<Q", 2**63) + b"{}",
    "header longer than the file": struct.pack("<Q", 100) + b"{}",
    "header of 100 MB": struct.pack("<Q", 10**8) + b" " * 200,
    "header is a list": packed([]),
    "header is a number": packed(5),
    "header is deep": packed(b"[" * 10**5),
    "header is not UTF-8": packed(b'{"\xff": 1}'),
    "header is cut": packed(b'{"a": {"dtype"'),
    "entry is a number": packed({"a": 5}),
    "entry lacks its shape": packed({"a": {"dtype": "F32", "data_offsets": [0, 4]}}, FOUR),
    "unknown dtype": packed({"a": entry([1], [0, 4], "F33")}, FOUR),
    "four bits": packed({"a": entry([2], [0, 1], "F4")}, b"\0"),
    "eight bits": packed({"a": entry([4], [0, 4], "F8_E4M3")}, FOUR),
    "integers": packed({"a": entry([1], [0, 4], "I32")}, FOUR),
    "booleans": packed({"a": entry([4], [0, 4], "BOOL")}, b"\0\1\0\1"),
    "negative shape": packed({"a": entry([-1], [0, 4])}, FOUR),
    "shape beyond 64 bits": packed({"a": entry([0, 2**63], [0, 0])}),
    "shape that overflows": packed({"a": entry([2**32, 2**32], [0, 4])}, FOUR),
    "offsets beyond the file": packed({"a": entry([2], [0, 8])}, FOUR),
    "offsets backwards": packed({"a": entry([1], [4, 0])}, FOUR),
    "a hole": packed({"a": entry([1], [4, 8])}, FOUR * 2),
    "an overlap": packed({"a": entry([1], [0, 4]), "b": entry([1], [0, 4])}, FOUR),
    "a name twice": packed(b'{"a":%s,"a":%s}' % ((json.dumps(entry([1], [0, 4])).encode(),) * 2), FOUR),
    "a key twice": packed(b'{"a":{"dtype":"I32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}', FOUR),
    "NaN": packed({"a": entry([1], [0, 4])}, struct.pack("<f", float("nan"))),
    "infinity": packed({"a": entry([2], [0, 8])}, FOUR + struct.pack("<f", -float("inf"))),
    "NaN in half": packed({"a": entry([2], [0, 4], "BF16")}, b"\xff\xff\x00\x00"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "evil.safetensors"
    path.write_bytes(HOSTILE[kind])
    with pytest.raises(CheckpointError, match=r"evil\.safetensors"):
        read_tensors(path)


@pytest.mark.parametrize("kind", HOSTILE)
def test_nothing_hostile_gets_into_a_model(kind: str, folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(HOSTILE[kind])
    refused(folder, ".")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_file_is_refused_or_harmless(tmp_path: Path, data: st.DataObject) -> None:
    """Whatever bytes are changed: an error of ours, or tensors of the right kind."""
    whole = bytearray(save({"a": torch.ones(3, 2), "b": torch.zeros(4, dtype=torch.bfloat16)}))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "a.safetensors"
    path.write_bytes(whole)
    with contextlib.suppress(CheckpointError):
        assert all(bool(torch.isfinite(tensor).all()) for tensor in read_tensors(path).values())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.pop("model.norm.weight"), "'model.norm.weight' is None"),
        (lambda t: t.update(extra=torch.zeros(1)), "'extra' is.*expected None"),
        (lambda t: t.update({"../../etc/passwd": torch.zeros(1)}), "etc/passwd"),
        (lambda t: t.update({"lm_head.weight": torch.zeros(47, 32)}), r"\(47, 32\), expected \(48, 32\)"),
        (lambda t: t.update({"lm_head.weight": torch.zeros(48 * 32)}), r"\(1536,\)"),
        (lambda t: t.update({"lm_head.weight": torch.zeros(48, 32, dtype=torch.int32)}), "int32"),
        (lambda t: t["model.norm.weight"].fill_(float("nan")), "'model.norm.weight' holds NaN"),
        (lambda t: t.clear(), "differ"),
    ],
)
def test_weights_that_do_not_fit_are_named(
    spoil: Callable[[dict[str, torch.Tensor]], object], message: str, folder: Path
) -> None:
    tensors = load_file(folder / WEIGHTS)
    spoil(tensors)
    save_file(tensors, folder / WEIGHTS)
    refused(folder, message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": 3}, "layers.2"),
        ({"num_hidden_layers": 1000}, "8982 tensors differ"),
        ({"num_hidden_layers": 10**6}, "at most 1000"),
        ({"vocab_size": 2**30}, r"expected \(1073741824, 32\)"),
        ({"hidden_size": 64}, "expected"),
        ({"max_position_embeddings": 2**31 - 1}, "max_position_embeddings"),
        ({"tie_word_embeddings": True, "vocab_size": 47}, "embed_tokens"),
        ({"mystery": 1}, r"unknown keys \['mystery'\]"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused_before_memory_is_taken(
    changes: dict[str, Any], message: str, folder: Path
) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}), encoding="utf-8")
    refused(folder, message, name="config.json")
