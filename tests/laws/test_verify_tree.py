"""Trees, sparse laws and whole blocks: Rust is torch, and what is merged, or said in another form, changes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foretoken import kernels
from foretoken.errors import ArgumentTypeError, DraftError, ForetokenError, InvalidArgument, ShapeError
from foretoken.reference import verify as twin

from .. import tiny
from ..cases import cases
from .test_verify import BOTH, random_laws


def random_parents(generator: np.random.Generator, rows: int, k: int) -> np.ndarray:
    """Trees (rows, k) in which most guesses follow the one before."""
    parents = np.arange(-1, k - 1)[None].repeat(rows, axis=0)
    others = np.array([[generator.integers(-1, place) for place in range(k)] for _ in range(rows)], dtype=np.int64)
    return np.where(generator.random(parents.shape) < 0.6, parents, others.reshape(parents.shape))


def sparse(laws: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The same laws without tokens of probability 0, in any order, with padding anywhere."""
    width = int((laws > 0).sum(axis=-1).max(initial=0)) + 2
    ids, probs = np.full((*laws.shape[:2], width), -1, dtype=np.int64), np.zeros((*laws.shape[:2], width))
    for row, place in np.ndindex(laws.shape[:2]):
        some = generator.permutation(laws[row, place].nonzero()[0])
        slots = generator.permutation(width)[: len(some)]
        ids[row, place, slots], probs[row, place, slots] = some, laws[row, place, some]
    return ids, probs


def random_block(case: tiny.Case, rows: int, k: int, vocabulary: int, style: str) -> dict[str, np.ndarray]:
    """Logits, draft, parents; guesses that follow the same text and are the same see the same logits."""
    generator = case.generator
    few = min(vocabulary, 5)  # so that siblings are often the same token
    draft, parents = generator.integers(few, size=(rows, k)), random_parents(generator, rows, k)
    logits = tiny.random_logits(generator, (rows, k + 1, vocabulary), style)
    for row in range(rows):
        first: dict[tuple[int, int], int] = {}
        origin: list[int] = []
        for place in range(k):
            parent = int(parents[row, place])
            above = -1 if parent < 0 else origin[parent]
            origin.append(first.setdefault((above, int(draft[row, place])), place))
            if origin[place] == place and generator.random() < 0.6:  # most guesses are good ones
                here = logits[row, above + 1]
                here[draft[row, place]] = max(here[draft[row, place]] + 4, 3)
        logits[row, 1:] = logits[row, 1:][origin]
    return {"logits": logits, "draft": draft, "parents": parents}


@settings(max_examples=cases(700))
@given(data=st.data())
def test_rust_emits_what_torch_emits(data: st.DataObject) -> None:
    vocabulary = data.draw(st.integers(1, 60) | st.integers(1, 6))
    rows, k = data.draw(st.integers(1, 4)), data.draw(st.integers(0, 7))
    case = tiny.Case.drawn(data, rows=rows, vocabulary=vocabulary)
    block = random_block(case, rows, k, vocabulary, data.draw(st.sampled_from(tiny.STYLES)))
    rule = data.draw(st.sampled_from(["coupled", "rejection", "rejection", "block"]))
    form = data.draw(st.sampled_from(["certain", "dense", "sparse"]))
    laws = random_laws(case.generator, block["draft"], vocabulary)
    given_laws: dict[str, Any] = {
        "certain": None, "dense": torch.from_numpy(laws), "sparse": sparse(laws, case.generator)
    }  # fmt: skip
    lengths = case.generator.integers(k + 1, size=rows) if data.draw(st.booleans()) else None
    keys = {
        **case.keys, "lengths": lengths, "rejection": rule != "coupled", "block": rule == "block",
        "parents": None if rule == "block" else block["parents"], "logprobs": case.logprobs,
    }  # fmt: skip
    outcomes, pasts = [], []
    forms = [form, form, "dense"] if form == "sparse" else [form, form]
    for kernel, said in zip((kernels.verify, twin.verify, kernels.verify), forms, strict=False):
        past = case.histories()
        arrays = torch.from_numpy(block["logits"]), block["draft"]
        outcomes.append(tiny.outcome(kernel, *arrays, case.sampler, **keys, draft_probs=given_laws[said], history=past))
        pasts.append(past)
    for outcome, past in zip(outcomes[1:], pasts[1:], strict=True):
        tiny.assert_same(outcomes[0], outcome)
        tiny.assert_same_pasts(pasts[0], past)
    if not isinstance(outcomes[0], type):
        _assert_whole(outcomes[0], block["draft"], keys["parents"])


def _assert_whole(out: kernels.Verified, draft: np.ndarray, parents: np.ndarray | None) -> None:
    """Each path starts without a parent, goes from parent to child, and spells what was accepted."""
    for row, accepted in enumerate(out.accepted.tolist()):
        path = out.path[row, :accepted]
        before = path - 1 if parents is None else parents[row, path]
        assert before.tolist() == [-1, *path[:-1]][:accepted]
        assert out.tokens[row, :accepted].tolist() == draft[row, path].tolist()
        assert (out.path[row, accepted:] == -1).all()
        assert ((out.tokens[row] >= 0).sum(), (out.tokens[row, accepted + 1 :] == -1).all()) == (accepted + 1, True)


@settings(max_examples=cases(150))
@given(data=st.data())
def test_no_tree_changes_a_coupled_token(data: st.DataObject) -> None:
    """Rust alone: a model of order one, decoded token by token and by trees of right and wrong guesses."""
    vocabulary, steps = data.draw(st.integers(2, 20)), 10
    case = tiny.Case.drawn(data, rows=1, vocabulary=vocabulary)
    table = torch.from_numpy(tiny.random_logits(case.generator, (vocabulary, vocabulary), "normal"))
    plain, tree = tiny.history([0], []), tiny.history([0], [])
    seeds, generator = case.keys["seeds"], case.generator

    def last(past: Any) -> int:
        return int(past.tokens[-1])

    for i in range(steps):
        out = tiny.outcome(
            kernels.sample, table[last(plain)][None], case.sampler, seeds=seeds, positions=[i], history=[plain]
        )
        if isinstance(out, type):
            return  # the constraints left nothing
    expected = plain.tokens.tolist()
    deepest = 0
    while len(tree) < len(expected):
        done, k = len(tree), int(generator.integers(0, 9))
        parents = random_parents(generator, 1, k)
        guesses: list[int] = []
        depths: list[int] = []
        for parent in parents[0].tolist():
            depths.append(0 if parent < 0 else depths[parent] + 1)
            right = expected[min(done + depths[-1], steps)]
            guesses.append(right if generator.random() < 0.6 else int(generator.integers(vocabulary)))
        kept = np.array(depths, dtype=np.int64) < len(expected) - done - 1
        k = int(kept.cumprod().sum())  # no guess behind what is known
        rows = table[[last(tree), *guesses[:k]]][None]
        draft = np.array([guesses[:k]], dtype=np.int64).reshape(1, k)
        tied = np.ascontiguousarray(parents[:, :k])
        keys: dict[str, Any] = {"seeds": seeds, "positions": [done - 1], "history": [tree], "parents": tied}
        out = kernels.verify(rows, draft, case.sampler, **keys)
        assert tree.tokens.tolist() == expected[: len(tree)]
        deepest = max(deepest, int(out.accepted[0]))
        # As far as any branch is right, the guesses are accepted.
        frontier, reach = {-1}, 0
        for token in expected[done:]:
            frontier = {i for i in range(k) if int(parents[0, i]) in frontier and guesses[i] == token}
            reach += bool(frontier)
            if not frontier:
                break
        assert int(out.accepted[0]) == reach
    assert tree.mu == plain.mu


@BOTH
def test_siblings_that_are_the_same_share_what_follows(kernel: Any) -> None:
    logits = torch.full((1, 5, 3), -9.0)
    for place, token in enumerate([1, 2, 2, 0, 0]):  # what follows the text, and then each guess
        logits[0, place, token] = 9.0
    draft, parents = torch.tensor([[1, 1, 0, 2]]), torch.tensor([[-1, -1, 0, 1]])
    for rejection in (False, True):
        keys: dict[str, Any] = {"seeds": [0], "positions": [0], "parents": parents, "rejection": rejection}
        out = kernel(logits, draft, tiny.compiled(vocab_size=3, temperature=0.0), **keys)
        assert np.asarray(out.tokens).tolist() == [[1, 2, 0, -1, -1]]
        assert np.asarray(out.path).tolist() == [[1, 3, -1, -1]]


@BOTH
@pytest.mark.parametrize("rejection", [False, True])
def test_a_token_that_may_not_be_drawn_is_not_accepted(kernel: Any, *, rejection: bool) -> None:
    """Even if the drafter's law, by the tolerance of its sum, takes all there is, and however often it is guessed."""
    banned = tiny.compiled(vocab_size=2, bad_words=[(1,)])
    laws = torch.tensor([[[1.0, 9e-7]] * 3], dtype=torch.float64).expand(500, -1, -1).contiguous()
    draft, parents = torch.ones(500, 3, dtype=torch.int64), torch.full((500, 3), -1)
    for probs, tree, block in ((laws, parents, False), (None, parents, False), (laws, None, True)):
        out = kernel(
            torch.zeros(500, 4, 2), draft, banned, seeds=range(500), positions=[0] * 500, rejection=rejection,
            parents=tree, block=block and rejection, draft_probs=probs,
        )  # fmt: skip
        assert not (np.asarray(out.tokens) == 1).any()
        assert not np.asarray(out.accepted).any()


@BOTH
def test_a_block_of_perfect_guesses_is_always_accepted(kernel: Any) -> None:
    logits, laws = torch.randn(200, 4, 9), torch.full((200, 3, 9), 1 / 9, dtype=torch.float64)
    draft = torch.randint(9, (200, 3))
    logits[:, :3] = 0
    keys: dict[str, Any] = {"seeds": range(200), "positions": [3] * 200, "rejection": True, "block": True}
    out = kernel(logits, draft, tiny.compiled(vocab_size=9), **keys, draft_probs=laws)
    assert np.asarray(out.accepted).tolist() == [3] * 200


IDS, PROBS = torch.tensor([[[1, -1]], [[1, 0]]]), torch.tensor([[[1.0, 0.0]], [[0.3, 0.7]]], dtype=torch.float64)


def second(ids: list[int], probs: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Sparse laws whose second row is this."""
    tokens, law = IDS.clone(), PROBS.clone()
    tokens[1, 0], law[1, 0] = torch.tensor(ids), torch.tensor(probs, dtype=torch.float64)
    return tokens, law


HOSTILE: list[tuple[str, type[ForetokenError], dict[str, Any]]] = [
    ("a parent that is the guess itself", DraftError, {"parents": torch.tensor([[-1], [0]])}),
    ("a parent before the text", DraftError, {"parents": torch.tensor([[-1], [-2]])}),
    ("parents of int32", ArgumentTypeError, {"parents": torch.full((2, 1), -1, dtype=torch.int32)}),
    ("too few parents", ShapeError, {"parents": torch.full((1, 1), -1)}),
    ("parents of rank one", ShapeError, {"parents": torch.full((2,), -1)}),
    ("blocks of trees", InvalidArgument, {"block": True, "parents": torch.full((2, 1), -1)}),
    ("blocks without the ratio test", InvalidArgument, {"block": True, "rejection": False}),
    ("ids beyond the vocabulary", DraftError, {"draft_probs": second([1, 3], [0.5, 0.5])}),
    ("ids below the padding", DraftError, {"draft_probs": second([1, -2], [1.0, 0.0])}),
    ("a token twice", DraftError, {"draft_probs": second([1, 1], [0.5, 0.5])}),
    ("a guess that the law does not name", DraftError, {"draft_probs": second([0, 2], [0.5, 0.5])}),
    ("a guess of probability 0", DraftError, {"draft_probs": second([0, 1], [1.0, 0.0])}),
    ("a sparse sum below one", DraftError, {"draft_probs": second([1, 0], [0.5, 0.4])}),
    ("mass on padding alone", DraftError, {"draft_probs": second([1, -1], [0.5, 0.5])}),
    ("a sparse NaN", DraftError, {"draft_probs": second([1, 0], [0.5, float("nan")])}),
    ("a negative probability", DraftError, {"draft_probs": second([1, 0], [1.5, -0.5])}),
    ("ids of another shape", ShapeError, {"draft_probs": (IDS[:, :, :1].contiguous(), PROBS)}),
    ("ids of floats", ArgumentTypeError, {"draft_probs": (IDS.double(), PROBS)}),
    ("sparse laws of float32", ArgumentTypeError, {"draft_probs": (IDS, PROBS.float())}),
    ("sparse laws of too few rows", ShapeError, {"draft_probs": (IDS[:1], PROBS[:1])}),
]


@BOTH
@pytest.mark.parametrize(("error", "change"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE])
def test_hostile_arguments_are_refused(kernel: Any, error: type[ForetokenError], change: dict[str, Any]) -> None:
    pasts = [tiny.history([0], []), tiny.history([0], [])]
    keys: dict[str, Any] = {"seeds": [0, 0], "positions": [0, 0], "history": pasts, "rejection": True, **change}
    with pytest.raises(error) as caught:
        kernel(torch.zeros(2, 2, 3), torch.tensor([[1], [1]]), tiny.compiled(vocab_size=3), **keys)
    assert [len(past) for past in pasts] == [1, 1]
    if error is DraftError:
        assert "row 1" in str(caught.value)


@BOTH
def test_what_the_ratio_test_does_not_read_is_not_looked_at(kernel: Any) -> None:
    keys: dict[str, Any] = {"seeds": [0, 0], "positions": [0, 0], "draft_probs": second([7, 7], [9.0, 9.0])}
    kernel(torch.zeros(2, 2, 3), torch.tensor([[1], [1]]), tiny.compiled(vocab_size=3), **keys)


@pytest.mark.gpu
@pytest.mark.parametrize("rule", ["coupled", "rejection", "block"])
def test_a_gpu_emits_what_a_cpu_emits(rule: str) -> None:
    generator = np.random.default_rng(0)
    logits, draft = torch.randn(16, 7, 500), torch.randint(500, (16, 6))
    parents = None if rule == "block" else torch.from_numpy(random_parents(generator, 16, 6))
    laws = random_laws(generator, draft.numpy(), 500)
    outcomes = [
        kernels.verify(
            logits.to(device), draft, tiny.compiled(vocab_size=500), seeds=range(16), positions=[2] * 16,
            rejection=rule != "coupled", block=rule == "block", parents=parents, draft_probs=form, logprobs=1,
        )
        for device, form in (("cpu", laws), ("cuda", laws), ("cuda", sparse(laws, generator)))
    ]  # fmt: skip
    for outcome in outcomes[1:]:
        tiny.assert_same(outcomes[0], outcome)
