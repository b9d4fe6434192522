"""The configuration of a Llama: what transformers writes is read, what is not understood is refused by name."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from foretoken.errors import CheckpointError, InvalidArgument
from foretoken.model.llama_config import LlamaConfig
from tests.unit.test_llama import config

INTEGERS = [field.name for field in dataclasses.fields(LlamaConfig) if field.type == "int"]


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize("value", [0, -1, 2**31, 1.5, "4", None, True])
def test_sizes_are_positive_integers(name: str, value: object) -> None:
    with pytest.raises(InvalidArgument, match=name):
        config(**{name: value})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_key_value_heads": 3}, "3 does not divide"),
        ({"head_dim": 7}, "even"),
        ({"num_hidden_layers": 10**6}, "1000"),
        ({"max_position_embeddings": 2**30}, "max_position_embeddings"),
        ({"rms_norm_eps": 0}, "rms_norm_eps"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps"),
        ({"rope_theta": float("inf")}, "rope_theta"),
        ({"rope_theta": "10000"}, "rope_theta"),
        ({"rope_theta": True}, "rope_theta"),
        ({"tie_word_embeddings": "false"}, "tie_word_embeddings"),
        ({"tie_word_embeddings": 0}, "tie_word_embeddings"),
        ({"eos_token_id": (37,)}, "eos_token_id 37"),
        ({"eos_token_id": (-1,)}, "eos_token_id -1"),
        ({"eos_token_id": (0, True)}, "eos_token_id True"),
        ({"eos_token_id": ("0",)}, "eos_token_id '0'"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        config(**changes)


def written(folder: Path, changes: dict[str, Any]) -> Path:
    """A config.json with some keys replaced, or left out where the value is `...`."""
    raw = {**config().to_json(), **changes}
    path = folder / "config.json"
    path.write_text(json.dumps({key: value for key, value in raw.items() if value is not ...}), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"auto_map": {"AutoModel": "evil.py"}}, r"unknown keys \['auto_map'\]"),
        ({"sliding_window": 8}, r"unknown keys \['sliding_window'\]"),
        ({"vocab_size": ...}, r"missing keys \['vocab_size'\]"),
        ({"hidden_size": ..., "head_dim": ...}, r"missing keys \['head_dim', 'hidden_size'\]"),
        ({"rope_theta": ...}, r"missing keys \['rope_theta'\]"),
        ({"model_type": "gpt2"}, "'gpt2'"),
        ({"model_type": ...}, "None"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"attention_bias": True}, "attention_bias"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "rotary"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rotary"),
        ({"rope_scaling": {"factor": 2.0}}, "rotary"),
        ({"rope_scaling": "linear"}, "rotary"),
        (
            {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
            "rope_theta is 10000.0 and, inside, 500.0",
        ),
        ({"head_dim": ..., "num_attention_heads": 0}, "missing keys|num_attention_heads"),
        ({"head_dim": ..., "hidden_size": "wide"}, "missing keys|hidden_size"),
        ({"head_dim": None}, "head_dim"),
        ({"hidden_size": -16}, "hidden_size"),
        ({"eos_token_id": 37}, "eos_token_id"),
        ({"eos_token_id": {}}, "eos_token_id"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings"),
    ],
)
def test_a_config_that_is_not_understood_is_refused_by_name(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = written(tmp_path, changes)
    with pytest.raises(CheckpointError, match=message) as caught:
        LlamaConfig.from_file(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "5", "null", "\ufeff{}", "[" * 10**5, '{"a": 1}{', "\x00"])
def test_what_is_no_json_object_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        LlamaConfig.from_file(path)


def test_a_config_that_is_no_text_or_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    for make in (lambda: path.write_bytes(b"\xff\xfe\x80"), path.unlink, path.mkdir):
        make()
        with pytest.raises(CheckpointError, match=r"config\.json"):
            LlamaConfig.from_file(path)


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({}, {}),
        ({"eos_token_id": 3}, {"eos_token_id": (3,)}),
        ({"eos_token_id": [1, 2]}, {"eos_token_id": (1, 2)}),
        ({"eos_token_id": None}, {"eos_token_id": ()}),
        ({"head_dim": ...}, {"head_dim": 4}),
        ({"rope_theta": ..., "rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}, {"rope_theta": 500.0}),
        ({"rope_scaling": None, "torch_dtype": "bfloat16", "_name_or_path": "x", "use_cache": False}, {}),
        ({"rope_theta": 10000}, {}),
    ],
)
def test_configs_of_transformers_are_read(changes: dict[str, Any], difference: dict[str, Any], tmp_path: Path) -> None:
    assert LlamaConfig.from_file(written(tmp_path, changes)) == dataclasses.replace(config(), **difference)
