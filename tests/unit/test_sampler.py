"""Sampler: every parameter's range, type and contradiction, and that it is what it was made as."""

from __future__ import annotations

import dataclasses
import math
import pickle
import re
from typing import Any

import numpy as np
import pytest

from foretoken import kernels
from foretoken.errors import ArgumentTypeError, InvalidArgument
from foretoken.sampler import Sampler

# name → values that are allowed, values that are not
NUMBERS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "temperature": ((0, 1e-30, 1, 1e30), (-1e-9, -1, 1e-31, 5e-324, 2e30)),
    "top_p": ((1e-9, 0.5, 1), (0, -0.1, 1.0001)),
    "min_p": ((0, 0.5, 1), (-0.1, 1.1)),
    "typical_p": ((0.1, 1), (0, -1, 1.1)),
    "top_n_sigma": ((0, 1e30), (-0.1, 2e30)),
    "xtc_probability": ((0, 1), (-0.1, 1.1)),
    "xtc_threshold": ((0, 1), (-0.1, 1.1)),
    "dry_multiplier": ((0, 1e30), (-0.1, 2e30)),
    "dry_base": ((1, 1e4), (0.99, 0, -1, 10001)),
    "mirostat_tau": ((0, 1e30), (-0.1, 2e30)),
    "mirostat_eta": ((0.1, 1), (0, -0.1, 1.1)),
    "repetition_penalty": ((1e-30, 1, 1e30), (0, -1, 1e-31, 2e30)),
    "presence_penalty": ((-1e30, 0, 1e30), (-2e30, 2e30)),
    "frequency_penalty": ((-1e30, 0, 1e30), (-2e30, 2e30)),
}
INTEGERS = ("top_k", "dry_allowed_length", "dry_range")
CASES = [(name, value) for name, (_, wrong) in NUMBERS.items() for value in (*wrong, math.nan, math.inf, -math.inf)]
CASES += [(name, value) for name in INTEGERS for value in (-1, 2**31)]


def test_every_number_has_a_line_here() -> None:
    fields = {field.name for field in dataclasses.fields(Sampler) if field.type in ("float", "int")}
    assert fields == NUMBERS.keys() | set(INTEGERS)


@pytest.mark.parametrize(("name", "value"), CASES)
def test_a_value_out_of_range_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(InvalidArgument, match=rf"{name} .*{re.escape(str(value))}$"):
        Sampler(**{name: value})


@pytest.mark.parametrize("name", NUMBERS)
def test_the_edges_of_a_range_are_inside(name: str) -> None:
    for value in NUMBERS[name][0]:
        for number in (value, np.float64(value)):
            assert getattr(Sampler(**{name: number}), name) == number
    assert getattr(Sampler(**{name: np.float32(1)}), name) == 1


@pytest.mark.parametrize("name", NUMBERS)
def test_the_kernels_allow_what_is_allowed(name: str) -> None:
    """The two checks must not disagree: what a Sampler takes may be compiled."""
    for value in NUMBERS[name][0]:
        kernels.compile_sampler(Sampler(**{name: value}), vocab_size=8)


@pytest.mark.parametrize("name", INTEGERS)
def test_integers_are_integers(name: str) -> None:
    assert getattr(Sampler(**{name: np.int32(3)}), name) == 3
    for value in (1.5, 1.0, "1", None, True):
        with pytest.raises(ArgumentTypeError, match=name):
            Sampler(**{name: value})


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", ["1", None, True, [1.0], 1j, np.array([1.0])])
def test_numbers_are_numbers(name: str, value: object) -> None:
    with pytest.raises(ArgumentTypeError, match=name):
        Sampler(**{name: value})


@pytest.mark.parametrize("name", NUMBERS)
def test_an_integer_beyond_floats_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match=name):
        Sampler(**{name: 10**400})


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"logit_bias": {-1: 1.0}}, InvalidArgument, "logit_bias"),
        ({"logit_bias": {2**31: 1.0}}, InvalidArgument, "logit_bias"),
        ({"logit_bias": {"abc": 1.0}}, ArgumentTypeError, "'abc'"),
        ({"logit_bias": {True: 1.0}}, ArgumentTypeError, "True"),
        ({"logit_bias": {1: math.nan}}, InvalidArgument, r"logit_bias\[1\]"),
        ({"logit_bias": {1: -math.inf}}, InvalidArgument, r"logit_bias\[1\]"),
        ({"logit_bias": {1: "2"}}, ArgumentTypeError, r"logit_bias\[1\]"),
        ({"logit_bias": [(1, 2.0)]}, ArgumentTypeError, "logit_bias"),
        ({"logit_bias": None}, ArgumentTypeError, "logit_bias"),
        ({"bad_words": [()]}, InvalidArgument, "empty"),
        ({"bad_words": [5]}, ArgumentTypeError, "bad_words"),
        ({"bad_words": 5}, ArgumentTypeError, "bad_words"),
        ({"bad_words": ["word"]}, ArgumentTypeError, "bad_words"),
        ({"bad_words": "word"}, ArgumentTypeError, "bad_words"),
        ({"bad_words": [(1, 1.5)]}, ArgumentTypeError, "bad_words"),
        ({"bad_words": [(1, -1)]}, InvalidArgument, "bad_words"),
        ({"allowed_tokens": ()}, InvalidArgument, "nothing could be drawn"),
        ({"allowed_tokens": [-1]}, InvalidArgument, "allowed_tokens"),
        ({"allowed_tokens": "ab"}, ArgumentTypeError, "allowed_tokens"),
        ({"allowed_tokens": 3}, ArgumentTypeError, "allowed_tokens"),
        ({"allowed_tokens": np.array([0.5])}, ArgumentTypeError, "allowed_tokens"),
        ({"dry_breakers": [1.0]}, ArgumentTypeError, "dry_breakers"),
        ({"dry_breakers": [-3]}, InvalidArgument, "dry_breakers"),
        ({"dry_breakers": 3}, ArgumentTypeError, "dry_breakers"),
        ({"dry_breakers": None}, ArgumentTypeError, "dry_breakers"),
        ({"processor": "upper"}, ArgumentTypeError, "processor"),
    ],
)
def test_collections_are_checked(fields: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Sampler(**fields)


@pytest.mark.parametrize("other", [{"xtc_probability": 0.5}, {"typical_p": 0.9}, {"mirostat_tau": 3.0}])
def test_greedy_contradicts_what_only_chance_can_do(other: dict[str, float]) -> None:
    with pytest.raises(InvalidArgument, match=next(iter(other))):
        Sampler(temperature=0, **other)
    assert not Sampler(**other).is_greedy


@pytest.mark.parametrize(
    "other",
    [{"top_k": 5}, {"top_p": 0.9}, {"min_p": 0.1}, {"typical_p": 0.9}, {"top_n_sigma": 1.0}, {"xtc_probability": 0.5}],
)
def test_mirostat_contradicts_every_truncation(other: dict[str, float]) -> None:
    with pytest.raises(InvalidArgument, match=f"mirostat.*{next(iter(other))}"):
        Sampler(mirostat_tau=3.0, **other)


def test_what_is_off_contradicts_nothing() -> None:
    off = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "typical_p": 1.0, "top_n_sigma": 0.0, "xtc_probability": 0.0}
    assert Sampler(mirostat_tau=3.0, **off).mirostat_tau == 3.0
    assert Sampler(temperature=0, top_k=5, top_p=0.9, min_p=0.1, repetition_penalty=1.2).is_greedy


def test_unknown_names_and_positions_are_refused() -> None:
    with pytest.raises(TypeError):
        Sampler(temprature=1.0)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Sampler(0.8)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, False),
        ({"temperature": 0.5, "top_k": 3, "min_p": 0.1, "xtc_probability": 0.5, "logit_bias": {1: 1.0}}, False),
        ({"allowed_tokens": [1], "bad_words": [(1,)]}, False),
        ({"bad_words": [(1,), (1, 2)]}, True),
        ({"repetition_penalty": 1.1}, True),
        ({"presence_penalty": -0.1}, True),
        ({"frequency_penalty": 0.1}, True),
        ({"dry_multiplier": 0.1}, True),
        ({"mirostat_tau": 3.0}, True),
    ],
)
def test_looks_back_says_whether_the_past_matters(fields: dict[str, Any], *, expected: bool) -> None:
    assert Sampler(**fields).looks_back is expected


def test_collections_come_in_many_kinds_and_are_copied() -> None:
    words, breakers, allowed, bias = [[1, 2]], np.array([3, 4]), np.array([5, 6], dtype=np.uint16), {np.int64(7): 1}
    sampler = Sampler(bad_words=words, dry_breakers=breakers, allowed_tokens=allowed, logit_bias=bias)
    words[0].append(9)
    breakers[0] = 9
    allowed[0] = 9
    bias[np.int64(8)] = 2
    twin = Sampler(bad_words=((1, 2),), dry_breakers=iter([3, 4]), allowed_tokens={5, 6}, logit_bias={7: 1.0})
    assert sampler == twin
    assert pickle.loads(pickle.dumps(sampler)) == twin
    assert sampler != Sampler(bad_words=((1, 2),))
    with pytest.raises(dataclasses.FrozenInstanceError):
        sampler.temperature = 2.0  # type: ignore[misc]
