"""Suffix look-up: the automaton counts what a rescan of all text counts; its corpus survives files and evictions."""

from __future__ import annotations

import doctest
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretoken import _rust
from foretoken.errors import ArgumentTypeError, CheckpointError, InvalidArgument, LimitExceeded
from foretoken.reference import suffix as reference
from tests.laws.lookup import TOKENS, answer, calls

from ..cases import cases


@settings(max_examples=cases(300))
@given(
    max_match=st.integers(1, 8),
    below=st.integers(0, 8),
    deeper=st.integers(0, 3),
    script=calls(st.tuples(st.just("add"), TOKENS)),
    shared=st.booleans(),
)
def test_rust_equals_a_rescan(
    max_match: int, below: int, deeper: int, script: list[tuple[Any, ...]], *, shared: bool
) -> None:
    drafters = []
    for module in (_rust, reference):
        corpus = module.SuffixCorpus(1 << 20, max_match=max_match + deeper)
        arguments = {"max_match": max_match, "min_match": max(1, max_match - below)}
        drafters.append((module.Suffix(corpus=corpus if shared else None, **arguments), corpus))
    (fast, fast_corpus), (slow, slow_corpus) = drafters
    for call in script:
        pair = (fast_corpus, slow_corpus) if call[0] == "add" else (fast, slow)
        assert answer(pair[0], *call) == answer(pair[1], *call), call
    again = pickle.loads(pickle.dumps(fast))
    assert (again.max_match, again.min_match) == (fast.max_match, fast.min_match)
    for row in (-1, 0, 1):
        assert answer(again, "propose", row, 5) == answer(slow, "propose", row, 5)


@settings(max_examples=cases(30))
@given(st.integers(1, 70), st.lists(st.integers(0, 40), min_size=50, max_size=400))
def test_states_of_many_transitions(period: int, noise: list[int]) -> None:
    text = [token for place, token in enumerate(noise) for token in (token, place % period)]
    fast, slow = _rust.Suffix(), reference.Suffix()
    fast.start(0, np.array(text[:-20], dtype=np.int64))
    slow.start(0, text[:-20])
    for place in range(len(text) - 20, len(text), 5):
        assert answer(fast, "propose", 0, 8) == answer(slow, "propose", 0, 8)
        fast.extend(0, text[place : place + 5])
        slow.extend(0, text[place : place + 5])


def test_the_most_frequent_wins_then_the_most_recent() -> None:
    drafter = _rust.Suffix()
    drafter.start(0, [1, 2, 1, 3, 1, 2, 9, 1])
    tokens, probs, match_length = drafter.propose(0, 2)
    assert (tokens.dtype, probs.dtype) == (np.int64, np.float64)
    assert tokens.tolist() == [2, 9]
    assert probs.tolist() == [2 / 3, 1 / 2]
    assert match_length == 1
    drafter.extend(0, [4])
    assert answer(drafter, "propose", 0, 3) == ([], [], 0)


def test_several_rows_in_one_call() -> None:
    drafters = [_rust.Suffix(), reference.Suffix()]
    for drafter in drafters:
        for row, text in enumerate(([1, 2, 1, 3, 1], [], [5, 5, 5], [7, 8])):
            drafter.start(row, text)
    for rows in ([0, 1, 2, 3], np.array([2, 0, 2]), []):
        for k in (0, 3):
            found, expected = [drafter.propose_rows(rows, k) for drafter in drafters]
            for one, other in zip(found, expected, strict=True):
                assert (one.dtype, one.shape) == (other.dtype, other.shape)
                np.testing.assert_array_equal(one, other)
    with pytest.raises(InvalidArgument, match="row 9 is unknown"):
        drafters[0].propose_rows([0, 9], 2)
    with pytest.raises(LimitExceeded, match="the drafts of all rows"):
        drafters[0].propose_rows([0] * 1025, 65536)


def test_the_corpus_is_asked_where_it_knows_more() -> None:
    corpus = _rust.SuffixCorpus(1 << 20)
    drafter = _rust.Suffix(corpus=corpus)
    assert drafter.corpus is corpus
    drafter.start(0, [1, 2, 3, 7, 2, 3])
    assert answer(drafter, "propose", 0, 2)[0] == [7, 2]
    corpus.add([2, 3, 8])  # as long a match: the row's own text comes first
    assert answer(drafter, "propose", 0, 2)[0] == [7, 2]
    corpus.add([7, 2, 3, 9, 9])
    assert answer(drafter, "propose", 0, 2) == ([9, 9], [1.0, 1.0], 3)


@given(st.lists(TOKENS.filter(bool), min_size=1, max_size=30), st.integers(600, 4000), TOKENS.filter(bool))
def test_the_oldest_documents_leave(documents: list[list[int]], limit: int, row: list[int]) -> None:
    fast, slow = _rust.SuffixCorpus(limit, max_match=6), reference.SuffixCorpus(limit, max_match=6)
    fast_drafter, slow_drafter = _rust.Suffix(6, fast), reference.Suffix(6, slow)
    for drafter in (fast_drafter, slow_drafter):
        drafter.start(0, row)
    for document in documents:
        try:
            fast.add(document)
        except LimitExceeded:
            continue
        slow.add(document)
        slow.keep(len(fast))
        assert 1 <= len(fast)
        assert fast.memory <= limit == fast.memory_limit_bytes
        assert fast.tokens == slow.tokens
        assert answer(fast_drafter, "propose", 0, 6) == answer(slow_drafter, "propose", 0, 6)
        # What a row remembers of the corpus is from before the next eviction.
        for drafter in (fast_drafter, slow_drafter):
            drafter.extend(0, document[:2])


def test_documents_do_leave_and_too_large_ones_change_nothing() -> None:
    corpus = _rust.SuffixCorpus(10_000)
    added = 0
    while len(corpus) == added:
        corpus.add([added % 7, added % 5, added, 3, 4])
        added += 1
    assert 0 < len(corpus) < added
    assert corpus.memory <= 7_500
    before = (len(corpus), corpus.tokens, corpus.memory)
    for tokens in (np.zeros(5000, dtype=np.int64), np.arange(150)):
        with pytest.raises(LimitExceeded, match="raise the memory limit of 10000"):
            corpus.add(tokens)
    assert (len(corpus), corpus.tokens, corpus.memory) == before


@given(st.lists(TOKENS.filter(bool), max_size=8))
def test_files_and_pickles_keep_everything(
    tmp_path_factory: pytest.TempPathFactory, documents: list[list[int]]
) -> None:
    corpus = _rust.SuffixCorpus(100_000, max_match=7)
    for document in documents:
        corpus.add(document)
    folder = tmp_path_factory.mktemp("corpus")
    corpus.save(folder / "corpus.bin")
    assert [entry.name for entry in folder.iterdir()] == ["corpus.bin"]
    corpus.save(folder / "indexed.bin", index=True)
    copies = [_rust.SuffixCorpus.load(folder / name) for name in ("corpus.bin", "indexed.bin")]
    assert copies[0].memory == corpus.memory >= copies[1].memory  # which has no room to grow
    # The one with an automaton last, for there both grow on.
    for again in (pickle.loads(pickle.dumps(corpus)), *copies):
        assert (len(again), again.tokens) == (len(corpus), corpus.tokens)
        assert (again.max_match, again.memory_limit_bytes) == (7, 100_000)
        old, new = _rust.Suffix(7, corpus), _rust.Suffix(7, again)
        for token in range(3):
            old.start(token, [token])
            new.start(token, [token])
            assert answer(old, "propose", token, 9) == answer(new, "propose", token, 9)
        both = [corpus, again] if again is copies[1] else []
        for grown in both:  # an automaton that was read goes on growing as the one that was written
            grown.add([0, 1, 0, 2, 1, 0])
        for token in range(3 if both else 0):
            assert answer(old, "propose", token, 9) == answer(new, "propose", token, 9)


@pytest.mark.parametrize("index", [False, True])
def test_cut_flipped_and_foreign_files_are_refused(tmp_path: Path, index: bool) -> None:
    corpus = _rust.SuffixCorpus(100_000)
    corpus.add([5, 6, 7])
    corpus.add([2**31 - 1])
    path = tmp_path / "corpus.bin"
    corpus.save(str(path), index=index)
    good = path.read_bytes()
    wrong = [good[:length] for length in range(0, len(good), 3 if index else 1)] + [good + b"\0", b"PK\3\4" + good]
    for bit in range(0, len(good) * 8, 7 if index else 1):
        flipped = bytearray(good)
        flipped[bit // 8] ^= 1 << bit % 8
        wrong.append(bytes(flipped))
    for data in wrong:
        path.write_bytes(data)
        with pytest.raises(CheckpointError, match=r"corpus\.bin cannot be read"):
            _rust.SuffixCorpus.load(path)
    path.write_bytes(good)
    assert len(_rust.SuffixCorpus.load(path)) == 2


def test_places_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    corpus = _rust.SuffixCorpus(1000)
    with pytest.raises(CheckpointError, match="cannot be read"):
        _rust.SuffixCorpus.load(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="cannot be written"):
        corpus.save(tmp_path / "no" / "folder")
    (tmp_path / "taken").mkdir()
    with pytest.raises(CheckpointError, match="cannot be written"):
        corpus.save(tmp_path / "taken")
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken"]


@pytest.mark.parametrize("module", [_rust, reference])
def test_arguments_are_checked(module: Any) -> None:
    for arguments in ({"max_match": 0}, {"max_match": 1025}, {"min_match": 0}, {"max_match": 2, "min_match": 3}):
        with pytest.raises(InvalidArgument, match=r"m(ax|in)_match"):
            module.Suffix(**arguments)
    with pytest.raises(InvalidArgument, match="corpus"):
        module.Suffix(5, module.SuffixCorpus(100, max_match=4))
    with pytest.raises(ArgumentTypeError, match="corpus"):
        module.Suffix(corpus=3)
    for limit in (0, -1):
        with pytest.raises(InvalidArgument, match="memory_limit_bytes"):
            module.SuffixCorpus(limit)
    with pytest.raises(InvalidArgument, match="tokens is empty"):
        module.SuffixCorpus(1000).add([])
    with pytest.raises(InvalidArgument, match="token -1 in place 0"):
        module.SuffixCorpus(1000).add([-1])
    with pytest.raises(InvalidArgument, match="row 5 is unknown"):
        module.Suffix().propose(5, 1)


def test_threads_may_share_a_corpus() -> None:
    corpus = _rust.SuffixCorpus(20_000)
    drafters = [_rust.Suffix(corpus=corpus) for _ in range(2)]
    wrong: list[Any] = []

    def work(row: int) -> None:
        drafter = drafters[row % 2]
        drafter.start(row, [row])
        for step in range(200):
            corpus.add([row, 50, step])
            drafter.extend(row, [50, row])
            tokens, _, _ = drafter.propose(row, 1)
            if len(tokens) != 1:
                wrong.append((row, step))
        drafter.stop(row)

    threads = [threading.Thread(target=work, args=(row,)) for row in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert corpus.memory <= 20_000


@pytest.mark.parametrize("name", ["SuffixCorpus", "Suffix"])
def test_the_example_of_the_docstring_runs(name: str) -> None:
    examples = doctest.DocTestParser().get_doctest(getattr(_rust, name).__doc__, dict(vars(_rust)), name, None, None)
    assert len(examples.examples) > 2
    assert doctest.DocTestRunner().run(examples).failed == 0
