"""Stop strings: the automaton finds what a search of the whole stream finds, however the stream is cut."""

from __future__ import annotations

import doctest
import pickle
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretoken import _rust
from foretoken.errors import ArgumentTypeError, InvalidArgument, LimitExceeded
from foretoken.reference import stop as reference

from ..cases import cases

# Letters that overlap themselves, and the bytes of characters that share their first byte.
STRINGS = st.lists(st.text("abéè€", min_size=1, max_size=4).map(str.encode), max_size=4)
STREAM = st.text("abéè€", max_size=20).map(str.encode)


def search(strings: list[bytes], stream: bytes) -> tuple[int, int] | None:
    """Where the first match to end begins and ends; among those that end together the longest."""
    for end in range(1, len(stream) + 1):
        found = [len(string) for string in strings if stream[:end].endswith(string)]
        if found:
            return end - max(found), end
    return None


@settings(max_examples=cases(500))
@given(strings=STRINGS, stream=STREAM, cuts=st.lists(st.integers(0, 60), max_size=8))
def test_any_cut_finds_what_a_search_finds(strings: list[bytes], stream: bytes, cuts: list[int]) -> None:
    match = search(strings, stream)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    matcher, state = _rust.StopStrings(strings), 0
    for begin, end in pairwise(edges):
        state, hold, match_start = matcher.feed(state, stream[begin:end])
        if match is not None and match[1] <= end:
            assert (state, hold, match_start) == (0, 0, match[0] - begin)
            return
        # What is held back is the longest end of the stream that begins a string, and never more.
        begins = [n for n in range(end + 1) if any(s.startswith(stream[end - n : end]) for s in strings)]
        assert (hold, match_start) == (max(begins, default=0), None)
    assert match is None


@settings(max_examples=cases(300))
@given(strings=STRINGS, pieces=st.lists(st.binary(max_size=3) | STREAM, max_size=12))
def test_rust_equals_the_twin(strings: list[bytes], pieces: list[bytes]) -> None:
    fast, slow = _rust.StopStrings(strings), reference.StopStrings(strings)
    again = pickle.loads(pickle.dumps(fast))
    assert again.strings == strings
    state = 0
    for piece in pieces:
        expected = slow.feed(state, piece)
        assert fast.feed(state, piece) == expected
        assert again.feed(state, piece) == expected
        state = expected[0]


@pytest.mark.parametrize("module", [_rust, reference])
def test_known_streams(module: Any) -> None:
    matcher = module.StopStrings([b"aab", b"END", b"ND"])
    state, hold, match_start = matcher.feed(0, b"xaa")
    assert (hold, match_start) == (2, None)
    state, hold, match_start = matcher.feed(state, b"a")  # "aaa": only the last two may begin "aab"
    assert (hold, match_start) == (2, None)
    assert matcher.feed(state, b"bzz") == (0, 0, -2)
    assert matcher.feed(0, b"..END")[2] == 2  # "ND" ends there too, but begins later
    euro = module.StopStrings(["€".encode()])
    state, hold, match_start = euro.feed(0, "x€".encode()[:2])
    assert (hold, match_start) == (1, None)
    assert euro.feed(state, "€".encode()[1:]) == (0, 0, -1)
    assert module.StopStrings([]).feed(0, b"anything") == (0, 0, None)


@pytest.mark.parametrize("module", [_rust, reference])
def test_arguments_are_checked(module: Any) -> None:
    with pytest.raises(InvalidArgument, match="empty"):
        module.StopStrings([b"a", b""])
    with pytest.raises(LimitExceeded, match="80000 bytes"):
        module.StopStrings([bytes(40_000), bytes(40_000)])
    with pytest.raises(ArgumentTypeError, match="bytes"):
        module.StopStrings(["text"])
    matcher = module.StopStrings([b"ab"])
    for state in (-1, 3, 2**70):
        with pytest.raises(InvalidArgument):
            matcher.feed(state, b"")
    with pytest.raises(ArgumentTypeError, match="bytes"):
        matcher.feed(0, "text")


@pytest.mark.parametrize("name", ["StopStrings"])
def test_the_example_of_the_docstring_runs(name: str) -> None:
    examples = doctest.DocTestParser().get_doctest(getattr(_rust, name).__doc__, dict(vars(_rust)), name, None, None)
    assert len(examples.examples) > 2
    assert doctest.DocTestRunner().run(examples).failed == 0
