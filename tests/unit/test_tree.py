"""Trees of guesses: read in one forward, pruned to one path, merged from several drafters; no tree changes a token."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import foretoken as ft
from foretoken.canvas import Canvas
from foretoken.drafter.protocol import Draft
from foretoken.drafter.tree import merged, reach
from foretoken.errors import DraftError, InvalidArgument, LimitExceeded, UnsupportedModel
from foretoken.model.protocol import TreeSession
from tests.laws.test_verify_tree import random_parents
from tests.models import FunctionDrafter, TableModel, random_drafter, tiny_llama, tiny_model

VOCAB = 48
PROMPTS = [[5, 3, 8], [2], [9, 9, 9, 9, 1], [5, 3, 8, 5, 3]]


def ids(*tokens: int) -> np.ndarray:
    return np.array(tokens, dtype=np.int64)


# The model


def leading(parents: np.ndarray, node: int) -> list[int]:
    """The nodes that lead to one, itself included."""
    return [] if node < 0 else [*leading(parents, int(parents[node])), node]


MODELS: dict[str, Any] = {"torch": tiny_model(), "native": ft.Native(tiny_llama(), threads=1)}
BOTH = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)


def opened(
    model: Any, lengths: list[int], generator: np.random.Generator, nodes: int
) -> tuple[TreeSession, list[list[int]]]:
    """A cache with room for trees in which rows of these lengths were read, and the rows."""
    session = model.open_tree(len(lengths), 40, nodes)
    rows = [generator.integers(VOCAB, size=length).tolist() for length in lengths]
    longest = max(lengths)
    tokens = np.array([[*row, *[0] * (longest - len(row))] for row in rows])
    session.forward(tokens, np.array(lengths))
    return session, rows


def check_alone(model: Any, found: torch.Tensor, text: list[int]) -> None:
    """Asserts that this is what follows a text by a forward over all of it, to the bit if the model says so."""
    alone = model.open(1, 40).forward(np.array([text]), last=True)[0, 0]
    tolerance = 0.0 if isinstance(model, ft.Native) else 1e-5
    torch.testing.assert_close(found, alone, atol=tolerance, rtol=tolerance)


@BOTH
@settings(max_examples=40)
@given(data=st.data())
def test_a_node_is_the_chain_that_leads_to_it(model: Any, data: st.DataObject) -> None:
    """Before and after a path is kept, twice in a row, rows of any lengths."""
    lengths = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=3))
    generator = np.random.default_rng(data.draw(st.integers(0, 99)))
    session, texts = opened(model, lengths, generator, nodes=8)
    rows = len(lengths)
    for _ in range(2):
        width = data.draw(st.integers(1, 8))
        tokens, parents = generator.integers(VOCAB, size=(rows, width)), random_parents(generator, rows, width)
        counts = generator.integers(1, width + 1, size=rows) if data.draw(st.booleans()) else None
        logits = session.forward_tree(tokens, parents, counts)
        path = np.full((rows, width), -1)
        kept = np.zeros(rows, dtype=np.int64)
        for row in range(rows):
            nodes = range(width if counts is None else int(counts[row]))
            for node in nodes:
                text = [*texts[row], *tokens[row, leading(parents[row], node)].tolist()]
                check_alone(model, logits[row, node], text)
            chosen = leading(parents[row], int(generator.choice(nodes)))
            path[row, : len(chosen)], kept[row] = chosen, len(chosen)
            texts[row] += tokens[row, chosen].tolist()
        session.keep(path, kept)
        assert session.lengths.tolist() == [len(text) for text in texts]
    newest = generator.integers(VOCAB, size=(rows, 1))
    logits = session.forward(newest)
    for row in range(rows):
        text = [*texts[row], int(newest[row, 0])]
        check_alone(model, logits[row, 0], text)


@BOTH
def test_siblings_that_see_each_other_would_be_noticed(model: Any) -> None:
    """The control: siblings read as a chain see each other."""
    session, _ = opened(model, [4], np.random.default_rng(0), nodes=4)
    tokens = np.array([[7, 8]])
    apart = session.forward_tree(tokens, np.array([[-1, -1]]))[0, 1].clone()
    session.keep(np.array([[0]]), np.array([1]))
    session.truncate(np.array([4]))
    assert (session.forward(tokens)[0, 1] - apart).abs().max() > 0.05


@BOTH
def test_trees_that_are_none_are_refused(model: Any) -> None:
    session, _ = opened(model, [4, 2], np.random.default_rng(0), nodes=3)
    tokens = np.zeros((2, 3), dtype=np.int64)
    for parents in ([[-1, 1, 0], [-1, 0, 0]], [[-2, 0, 0], [-1, 0, 0]], [[0, 0, 0]] * 2):
        with pytest.raises(InvalidArgument, match="parents"):
            session.forward_tree(tokens, np.array(parents))
    with pytest.raises(InvalidArgument, match="no tree"):
        session.keep(np.array([[0], [0]]), np.array([1, 1]))
    deep = np.tile(np.arange(-1, 39), (2, 1))
    with pytest.raises(LimitExceeded, match="a tree"):
        session.forward_tree(np.zeros((2, 40), dtype=np.int64), deep)
    with pytest.raises(LimitExceeded, match="a tree"):
        session.forward_tree(np.zeros((2, 40), dtype=np.int64), np.full((2, 40), -1))
    assert session.lengths.tolist() == [4, 2]
    session.forward_tree(tokens, np.full((2, 3), -1))
    for again in (lambda: session.forward(tokens), lambda: session.forward_tree(tokens, np.full((2, 3), -1))):
        with pytest.raises(InvalidArgument, match="pruned"):
            again()
    session.keep(np.array([[2], [1]]), np.array([1, 1]))
    assert session.lengths.tolist() == [5, 3]


# Merging


def test_guesses_that_begin_alike_are_merged() -> None:
    one, two, three = Draft(ids(5, 6, 7)), Draft(ids(5, 6, 8)), Draft(ids(9, 6))
    tree = merged([(one, "a"), (two, "b"), (three, "c")], nodes=16, rejection=False, vocab=10)
    assert tree.tokens.tolist() == [5, 6, 7, 8, 9, 6]
    assert tree.parents is not None
    assert tree.parents.tolist() == [-1, 0, 1, 1, -1, 4]
    assert (tree.source, tree.probs) == ("a|b|c", None)
    again = merged([(tree, "t"), (three, "c"), (Draft(ids(9, 7)), "d")], nodes=7, rejection=False, vocab=10)
    assert (again.tokens.tolist(), again.parents.tolist()) == ([5, 6, 7, 8, 9, 6, 7], [-1, 0, 1, 1, -1, 4, 4])  # type: ignore[union-attr]


def test_what_does_not_fit_is_left_out_with_all_behind_it() -> None:
    chains = [(Draft(ids(*range(10 * i, 10 * i + 4))), str(i)) for i in range(3)]
    tree = merged(chains, nodes=6, rejection=False, vocab=40)
    assert tree.tokens.tolist() == [0, 1, 2, 3, 10, 11]
    same = merged([(Draft(ids(1, 2)), "a"), (Draft(ids(1, 2, 3)), "b")], nodes=6, rejection=False, vocab=40)
    assert same.parents is None  # a chain is one
    assert same.tokens.tolist() == [1, 2, 3]
    assert merged([(Draft(ids()), "a"), (Draft(ids(1, 2, 3)), "b")], nodes=2, rejection=True, vocab=4).source == "b"


def test_under_the_ratio_test_drawn_guesses_stand_for_themselves() -> None:
    law = np.full((2, 10), 0.1)
    drawn = [(Draft(ids(5, 6), law), "a"), (Draft(ids(5, 7), 2 * law[:, :5].repeat(2, axis=1) / 2), "b")]
    tree = merged([(Draft(ids(5, 6, 9)), "c"), *drawn], nodes=16, rejection=True, vocab=10)
    # Drawn ones first; of the certain ones those behind a drawn one that is the same are no test of their own.
    assert tree.tokens.tolist() == [5, 6, 5, 7, 9]
    assert tree.parents is not None
    assert tree.parents.tolist() == [-1, 0, -1, 2, 1]
    assert isinstance(tree.probs, np.ndarray)
    assert tree.probs[4].tolist() == np.eye(10)[9].tolist()
    sparse = (np.array([[5, 1], [6, -1]]), np.array([[0.5, 0.5], [1.0, 0.0]]))
    pair = merged([(Draft(ids(5, 6), sparse), "a"), (Draft(ids(3)), "c")], nodes=16, rejection=True, vocab=10)
    assert isinstance(pair.probs, tuple)
    assert [part.tolist() for part in pair.probs] == [[[5, 1], [6, -1], [3, -1]], [[0.5, 0.5], [1, 0], [1, 0]]]
    both = merged([drawn[0], (Draft(ids(5, 6), sparse), "s")], nodes=16, rejection=True, vocab=10)
    assert isinstance(both.probs, np.ndarray)
    np.testing.assert_array_equal(both.probs[2:].nonzero()[1], [1, 5, 6])


def test_drafts_are_cut_by_number_and_by_depth() -> None:
    tree = Draft(ids(1, 2, 3, 4, 5), np.eye(6)[[1, 2, 3, 4, 5]], parents=ids(-1, 0, 1, -1, 3))
    assert tree.depths.tolist() == [0, 1, 2, 0, 1]
    flat = tree.shallow(1)
    assert (flat.tokens.tolist(), flat.parents.tolist(), flat.probs.argmax(1).tolist()) == ([1, 4], [-1, -1], [1, 4])  # type: ignore[union-attr]
    two = tree.shallow(2)
    assert (two.tokens.tolist(), two.parents.tolist()) == ([1, 2, 4, 5], [-1, 0, -1, 2])  # type: ignore[union-attr]
    assert tree.shallow(3) is tree
    assert tree.first(2).parents.tolist() == [-1, 0]  # type: ignore[union-attr]
    assert reach(tree, [4, 5, 9]) == reach(Draft(ids(4, 5)), [4, 5, 9]) == 2
    assert reach(tree, [2]) == reach(tree, []) == 0


# The loop


def write(model: Any, strategy: Any = None, **options: Any) -> ft.Generation:
    return ft.generate(model, Canvas(PROMPTS), strategy, **{"max_tokens": 40, "seed": 11, **options})


def tree_of(model: Any, **keys: Any) -> ft.Several:
    """A look-up, a model and noise; one branch or other often ends right."""
    return ft.Several(ft.NGram(minimum=1), ft.SmallModel(model.first(1)), random_drafter(VOCAB), tree=True, **keys)


def test_ends_in_a_branch_are_those_of_plain_decoding() -> None:
    """END, stop tokens and limits, at every place of a tree."""
    seen = set()
    for seed in range(12):
        model = TableModel(ends=(0, 1, 2))
        options = {"seed": seed, "stop_tokens": (3, 4), "max_tokens": 9, "min_tokens": seed % 3}
        plain = write(model, **options)
        out = write(model, ft.Autoregressive(tree_of(model), length=4), **options)
        for a, b in zip(plain.rows, out.rows, strict=True):
            assert (a.tokens.tolist(), a.finish_reason) == (b.tokens.tolist(), b.finish_reason)
            seen.add(b.finish_reason)
        for step in out.trace:
            assert step.tokens[: step.accepted] == step.drafted[: step.accepted]
    assert seen == {"end", "stop", "length"}


def test_a_tree_accepts_what_any_of_its_drafters_guessed() -> None:
    """One knows even places, the other odd ones; together they know all, in one forward a token pair."""
    model = TableModel(order=1)

    def knows(parity: int) -> FunctionDrafter:
        def guess(row: int, past: list[int], k: int) -> Draft:
            right: list[int] = []
            for _ in range(k):
                right.append(int(model.logits([*past, *right]).argmax()))
            wrong = ids(*right)
            wrong[0] = right[0] if len(past) % 2 == parity else (right[0] + 1) % VOCAB
            return Draft(wrong)

        return FunctionDrafter(guess, f"knows {parity}")

    greedy = ft.Sampler(temperature=0)
    plain = write(model, sampler=greedy)
    both = ft.Several(knows(0), knows(1), tree=True)
    out = write(model, ft.Autoregressive(both, length=3), sampler=greedy)
    assert [row.tokens.tolist() for row in out.rows] == [row.tokens.tolist() for row in plain.rows]
    assert out.stats.tokens_per_forward > 3
    assert out.stats.acceptance == 1.0  # of the branch that went furthest
    assert out.stats.by_source.keys() == {"knows 0|knows 1"}


def test_each_drafter_learns_how_far_it_was_right() -> None:
    model, verdicts = TableModel(order=1), []

    class Judged(FunctionDrafter):
        def open(self, request: Any) -> Any:
            session = super().open(request)
            session.judge = lambda row, draft, accepted: verdicts.append((self.name, accepted))  # type: ignore[method-assign]
            return session

    def right(row: int, past: list[int], k: int) -> Draft:
        return Draft(ids(int(model.logits(past).argmax())))

    wrong = Judged(lambda row, past, k: Draft(ids(int(model.logits(past).argmin()))), "wrong")
    strategy = ft.Autoregressive(ft.Several(wrong, Judged(right, "right"), tree=True), length=1)
    write(model, strategy, sampler=ft.Sampler(temperature=0))
    assert set(verdicts) == {("wrong", 0), ("right", 1)}


@pytest.mark.parametrize("kind", [ft.Llama, ft.Native])
def test_a_shipped_tree_writes_the_plain_text(kind: Any) -> None:
    tale = ft.load("tales", model=kind)
    options: dict[str, Any] = {"max_tokens": 80, "seed": 7, "stop": "\n\n"}
    drafter = ft.Several(ft.NGram(), ft.small_model("tales"), tree=True)
    prompts = ["Once upon a time there was a king. Once upon a time", "The fox"]
    for verifier in (ft.Coupled(), ft.Rejection()):
        out = tale(prompts, strategy=ft.Autoregressive(drafter, verifier), **options)
        assert out.stats.accepted
        if verifier == ft.Coupled():
            assert [row.tokens.tolist() for row in out.rows] == [
                row.tokens.tolist() for row in tale(prompts, **options).rows
            ]


def test_a_model_that_reads_no_trees_is_refused() -> None:
    model = TableModel()
    model.open_tree = None  # type: ignore[assignment,method-assign]
    with pytest.raises(UnsupportedModel, match="open_tree"):
        write(model, ft.Autoregressive(tree_of(TableModel())))
    assert write(model, ft.Autoregressive(ft.Several(ft.NGram(), ft.Suffix()))).stats.tokens == 160


@pytest.mark.parametrize("verifier", [ft.Coupled(width=4), ft.Rejection(block=True)])
def test_verifiers_of_chains_take_no_trees(verifier: Any) -> None:
    with pytest.raises(InvalidArgument, match="makes trees"):
        ft.Autoregressive(tree_of(TableModel()), verifier, length=2)


@pytest.mark.parametrize("nodes", [1, 65, 2.0, True, None])
def test_the_nodes_of_a_tree_are_checked(nodes: Any) -> None:
    with pytest.raises(InvalidArgument, match="nodes"):
        ft.Several(ft.NGram(), ft.Suffix(), tree=True, nodes=nodes)


@pytest.mark.parametrize("block", [0, 1, None, "yes"])
def test_block_is_true_or_false(block: Any) -> None:
    with pytest.raises(InvalidArgument, match="block"):
        ft.Rejection(block=block)


PARENTS: dict[str, Any] = {
    "itself": ids(0, 0),
    "a later guess": ids(-1, 1),
    "before the text": ids(-2, 0),
    "too few": ids(-1),
    "floats": np.array([-1.0, 0.0]),
    "a list": [-1, 0],
}


@pytest.mark.parametrize("kind", PARENTS)
def test_rubbish_parents_are_refused_with_the_name_of_the_drafter(kind: str) -> None:
    rubbish = FunctionDrafter(lambda row, past, k: Draft(ids(5, 6), parents=PARENTS[kind]), "rubbish")
    with pytest.raises(DraftError, match="rubbish"):
        write(TableModel(), ft.Autoregressive(ft.Several(rubbish, ft.NGram(), tree=True), length=2))


def test_a_tree_of_a_drafter_that_announced_none_is_refused() -> None:
    stray = FunctionDrafter(lambda row, past, k: Draft(ids(5, 6), parents=ids(-1, -1)), "stray")
    with pytest.raises(DraftError, match="stray"):
        write(TableModel(), ft.Autoregressive(stray, length=2))
    deep = FunctionDrafter(lambda row, past, k: Draft(ids(5, 6, 7, 8), parents=ids(-1, 0, 1, 1)), "deep")
    deep.nodes = 4  # type: ignore[attr-defined]
    with pytest.raises(DraftError, match="deep"):
        write(TableModel(), ft.Autoregressive(deep, length=2))


# Laws


SPARSE = (np.array([[5, 6], [6, 5]]), np.array([[0.5, 0.5], [1.0, 0.0]]))
NO_LAWS: dict[str, Any] = {
    "nothing": (),
    "one of two": SPARSE[:1],
    "three": (*SPARSE, SPARSE[1]),
    "ids of floats": (SPARSE[1], SPARSE[1]),
    "probabilities of integers": (SPARSE[0], SPARSE[0]),
    "lists": (SPARSE[0].tolist(), SPARSE[1].tolist()),
    "another width": (SPARSE[0], SPARSE[1][:, :1]),
    "too few rows": (SPARSE[0][:1], SPARSE[1][:1]),
    "no rows": (SPARSE[0][0], SPARSE[1][0]),
    "an id beyond the vocabulary": (np.array([[5, VOCAB], [6, -1]]), SPARSE[1]),
    "an id twice": (np.array([[5, 5], [6, -1]]), SPARSE[1]),
    "a guess without probability": (np.array([[5, 6], [7, 5]]), SPARSE[1]),
}


@pytest.mark.parametrize("kind", NO_LAWS)
def test_sparse_laws_that_are_none_are_refused(kind: str) -> None:
    drafter = FunctionDrafter(lambda row, past, k: Draft(ids(5, 6), NO_LAWS[kind]))
    for wrapped in (drafter, ft.Several(drafter, ft.SmallModel(TableModel()), tree=True)):
        with pytest.raises(DraftError):
            write(TableModel(), ft.Autoregressive(wrapped, ft.Rejection(), length=2))


@pytest.mark.parametrize("block", [False, True])
def test_sparse_laws_are_the_dense_ones(*, block: bool) -> None:
    """A drafter that says the same in either form, whose row may be shorter than its neighbour's."""
    dense = np.zeros((2, VOCAB))
    dense[[0, 0, 1], [5, 6, 6]] = 0.5, 0.5, 1.0
    outs = []
    for laws in (SPARSE, dense):
        drafter = FunctionDrafter(lambda row, past, k, laws=laws: Draft(ids(5, 6), laws).first(1 + row % k))
        outs.append(write(TableModel(scale=0.5), ft.Autoregressive(drafter, ft.Rejection(block=block), length=2)))
    texts = [[row.tokens.tolist() for row in out.rows] for out in outs]
    assert texts[0] == texts[1]
    assert outs[0].stats.accepted
