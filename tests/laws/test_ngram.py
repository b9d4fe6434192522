"""Prompt look-up: the Rust index answers as a rescan of the text does."""

from __future__ import annotations

import doctest
import pickle
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretoken import _rust
from foretoken.errors import ArgumentTypeError, InvalidArgument
from foretoken.reference import ngram as reference
from tests.laws.lookup import answer, calls


@given(max_n=st.integers(1, 5), below=st.integers(0, 4), script=calls())
def test_rust_equals_a_rescan(max_n: int, below: int, script: list[tuple[Any, ...]]) -> None:
    min_n = max(1, max_n - below)
    fast, slow = _rust.NGram(max_n=max_n, min_n=min_n), reference.NGram(max_n=max_n, min_n=min_n)
    for call in script:
        assert answer(fast, *call) == answer(slow, *call), call
    again = pickle.loads(pickle.dumps(fast))
    assert (again.max_n, again.min_n) == (max_n, min_n)
    for row in (-1, 0, 1):
        assert answer(again, "propose", row, 5) == answer(slow, "propose", row, 5)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=300))
def test_growing_tables_lose_nothing(tokens: list[int]) -> None:
    fast, slow = _rust.NGram(max_n=3), reference.NGram(max_n=3)
    for drafter in (fast, slow):
        drafter.start(0, np.array(tokens, dtype=np.int64))
    assert answer(fast, "propose", 0, 20) == answer(slow, "propose", 0, 20)


def test_the_newest_occurrence_of_the_longest_run_is_copied() -> None:
    drafter = _rust.NGram(max_n=2)
    drafter.start(0, [1, 2, 5, 1, 2, 6, 3, 2, 7, 1, 2])
    assert answer(drafter, "propose", 0, 3) == ([6, 3, 2], 2)
    assert answer(drafter, "propose", 0, 0) == ([], 2)
    proposed, _ = drafter.propose(0, 1)
    assert proposed.dtype == np.int64
    assert proposed.shape == (1,)
    drafter.extend(0, [2])
    assert answer(drafter, "propose", 0, 2) == ([2, 2], 1)
    drafter.extend(0, [9])
    assert answer(drafter, "propose", 0, 3) == ([], 0)


def test_a_loop_goes_on() -> None:
    drafter = _rust.NGram()
    drafter.start(0, [4, 5, 6, 4, 5, 6, 4])
    assert answer(drafter, "propose", 0, 7) == ([5, 6, 4, 5, 6, 4, 5], 4)


def test_arrays_of_any_stride_are_read() -> None:
    drafter = _rust.NGram()
    drafter.start(0, np.array([1, 9, 2, 9, 1, 9], dtype=np.int64)[::2])
    assert answer(drafter, "propose", 0, 2) == ([2, 1], 1)


@pytest.mark.parametrize(
    ("sizes", "error"),
    [((0, 1), "max_n"), ((65, 1), "max_n"), ((4, 0), "min_n"), ((2, 3), "min_n"), ((2**70, 1), "64")],
)
@pytest.mark.parametrize("module", [_rust, reference])
def test_sizes_are_checked(module: Any, sizes: tuple[int, int], error: str) -> None:
    with pytest.raises(InvalidArgument, match=error):
        module.NGram(*sizes)


@pytest.mark.parametrize("module", [_rust, reference])
def test_messages_carry_the_numbers(module: Any) -> None:
    drafter = module.NGram()
    with pytest.raises(InvalidArgument, match="row 17 is unknown"):
        drafter.propose(17, 1)
    with pytest.raises(InvalidArgument, match="row 17 is unknown"):
        drafter.extend(17, [1])
    with pytest.raises(InvalidArgument, match="row 17 is unknown"):
        drafter.stop(17)
    drafter.start(17, [])
    with pytest.raises(InvalidArgument, match="row 17 is already started"):
        drafter.start(17, [])
    with pytest.raises(InvalidArgument, match="token -3 in place 1"):
        drafter.extend(17, [1, -3])
    with pytest.raises(InvalidArgument, match="token 2147483648 in place 0"):
        drafter.extend(17, [2**31])
    with pytest.raises(InvalidArgument, match="k is 65537"):
        drafter.propose(17, 65537)


def test_wrong_types_are_refused() -> None:
    drafter: Any = _rust.NGram()
    drafter.start(0, [])
    for wrong in (1, "12", [1.5], np.zeros(2), np.zeros((1, 2), dtype=np.int64), np.zeros(2, dtype=np.int32), None):
        with pytest.raises(ArgumentTypeError):
            drafter.extend(0, wrong)
    with pytest.raises(ArgumentTypeError):
        drafter.propose("0", 1)
    assert answer(drafter, "propose", 0, 4) == ([], 0)


def test_threads_may_share_a_drafter() -> None:
    drafter = _rust.NGram()
    wrong: list[Any] = []

    def work(row: int) -> None:
        drafter.start(row, [row, 9])
        for _ in range(300):
            drafter.extend(row, [row, 9])
            if drafter.propose(row, 3)[0].tolist() != [row, 9, row]:
                wrong.append(row)
        drafter.stop(row)

    threads = [threading.Thread(target=work, args=(row,)) for row in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("name", ["NGram"])
def test_the_example_of_the_docstring_runs(name: str) -> None:
    examples = doctest.DocTestParser().get_doctest(getattr(_rust, name).__doc__, dict(vars(_rust)), name, None, None)
    assert len(examples.examples) > 2
    assert doctest.DocTestRunner().run(examples).failed == 0
