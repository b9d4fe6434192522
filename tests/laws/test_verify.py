"""`verify` in Rust is `verify` in torch, keeps the law at real vocabularies, and changes nothing when it fails.

That the law is kept exactly is shown in `test_law.py` by enumeration of the twin.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foretoken import kernels
from foretoken.errors import ArgumentTypeError, DraftError, ForetokenError, InvalidArgument, LogitsError, ShapeError
from foretoken.reference import noise
from foretoken.reference import sample as sample_twin
from foretoken.reference import verify as twin

from .. import tiny
from ..cases import cases
from . import statistics

BOTH = pytest.mark.parametrize("kernel", [kernels.verify, twin.verify], ids=["rust", "torch"])
DRAWS = 200_000


def random_laws(generator: np.random.Generator, draft: np.ndarray, vocabulary: int) -> np.ndarray:
    """Laws (rows, k, vocabulary) that may have drawn these tokens; many tokens are impossible under them."""
    weights = generator.exponential(size=(*draft.shape, vocabulary)) * (
        generator.random((*draft.shape, vocabulary)) < 0.6
    )
    np.put_along_axis(weights, draft[..., None], generator.exponential(size=(*draft.shape, 1)) + 0.1, axis=-1)
    return weights / weights.sum(axis=-1, keepdims=True)


@settings(max_examples=cases(1200))
@given(data=st.data())
def test_rust_emits_what_torch_emits(data: st.DataObject) -> None:
    vocabulary = data.draw(st.integers(1, 300) | st.integers(1, 8))
    rows, k = data.draw(st.integers(1, 4)), data.draw(st.integers(0, 5))
    case = tiny.Case.drawn(data, rows=rows, vocabulary=vocabulary)
    generator = case.generator
    logits = tiny.random_logits(generator, (rows, k + 1, vocabulary), data.draw(st.sampled_from(tiny.STYLES)))
    draft = generator.integers(vocabulary, size=(rows, k))
    # Most guesses are good ones, so that blocks get long.
    liked = np.take_along_axis(logits[:, :k], draft[..., None], axis=-1) + np.float32(4)
    liked = np.where(generator.random(draft.shape)[..., None] < 0.7, np.maximum(liked, 3), liked).astype(np.float32)
    np.put_along_axis(logits[:, :k], draft[..., None], liked, axis=-1)
    rejection = data.draw(st.booleans())
    given_laws = rejection and data.draw(st.booleans())
    keys = {
        **case.keys,
        "lengths": generator.integers(k + 1, size=rows) if data.draw(st.booleans()) else None,
        "rejection": rejection,
        "draft_probs": torch.from_numpy(random_laws(generator, draft, vocabulary)) if given_laws else None,
        "logprobs": case.logprobs,
    }
    outcomes, pasts = [], []
    for kernel in (kernels.verify, twin.verify):
        past = case.histories()
        block = torch.from_numpy(logits), torch.from_numpy(draft)
        outcomes.append(tiny.outcome(kernel, *block, case.sampler, **keys, history=past))
        pasts.append(past)
    tiny.assert_same(*outcomes)
    tiny.assert_same_pasts(*pasts)
    if not isinstance(outcomes[0], type):
        tokens, accepted = np.asarray(outcomes[0].tokens), np.asarray(outcomes[0].accepted)
        for row in range(rows):
            assert (tokens[row] >= 0).sum() == accepted[row] + 1
            assert tokens[row, : accepted[row]].tolist() == draft[row, : accepted[row]].tolist()
            if pasts[0] is not None and case.pasts is not None:
                emitted = tokens[row, : accepted[row] + 1].tolist()
                assert pasts[0][row].tokens.tolist() == case.pasts[row][0] + case.pasts[row][1] + emitted


@settings(max_examples=cases(200))
@given(data=st.data())
def test_coupled_tokens_are_those_of_plain_decoding(data: st.DataObject) -> None:
    """Rust alone: a model of order one, decoded token by token and in blocks of any draft."""
    vocabulary, steps = data.draw(st.integers(2, 30)), 12
    case = tiny.Case.drawn(data, rows=1, vocabulary=vocabulary)
    table = torch.from_numpy(tiny.random_logits(case.generator, (vocabulary, vocabulary), "normal"))
    prompt, output, _ = ([0], [], None) if case.pasts is None else case.pasts[0]
    prompt, start = prompt or [0], int(case.keys["positions"][0])
    plain, block = tiny.history(prompt, output), tiny.history(prompt, output)
    keys = {"seeds": case.keys["seeds"]}

    def last(past: Any) -> int:
        return int(past.tokens[-1])

    try:
        for i in range(steps):
            kernels.sample(table[last(plain)][None], case.sampler, **keys, positions=[start + i], history=[plain])
    except LogitsError:
        return  # the constraints left nothing
    expected = plain.tokens.tolist()
    while len(block) < len(expected):
        done = len(block)
        k = int(case.generator.integers(0, min(4, len(expected) - done)))
        good = np.array(expected[done : done + k], dtype=np.int64)
        draft = np.where(case.generator.random(k) < 0.7, good, case.generator.integers(vocabulary, size=k))
        rows = table[[last(block), *draft.tolist()]][None]
        position = start + done - len(prompt) - len(output)
        guesses = torch.from_numpy(draft[None])
        kernels.verify(rows, guesses, case.sampler, **keys, positions=[position], history=[block])
        assert block.tokens.tolist() == expected[: len(block)]
    assert block.mu == plain.mu


class Chain:
    """A model of order one and what it, and speculation on it, draw as first and second token."""

    def __init__(self, vocabulary: int, **fields: Any) -> None:
        generator = np.random.default_rng(vocabulary)
        self.vocabulary = vocabulary
        self.sampler = tiny.compiled(vocab_size=vocabulary, **fields)
        self.first = torch.from_numpy(tiny.random_logits(generator, (vocabulary,), "normal"))
        self.second = torch.from_numpy(tiny.random_logits(generator, (vocabulary, vocabulary), "normal"))
        # A third of the guesses is accepted, so that what replaces the others weighs enough to be judged.
        near = 0.4 * self.first + torch.from_numpy(generator.normal(size=vocabulary).astype(np.float32))
        self.q = self.law(near[None])

    def law(self, logits: torch.Tensor) -> torch.Tensor:
        """The exact laws of rows of logits, by the twin."""
        zeros = [0] * len(logits)
        return sample_twin.process(logits, self.sampler, seeds=zeros, positions=zeros)

    def pairs(self) -> np.ndarray:
        """The law of (first, second), flat."""
        return (self.law(self.first[None])[0][:, None] * self.law(self.second)).flatten().numpy()

    def speculated(
        self, *, rejection: bool, stream: int, q: torch.Tensor | None = None, batch: int = 10_000
    ) -> tuple[np.ndarray, float]:
        """How often Rust emits each pair when the first token is drafted from `self.q`, and the acceptance.

        The drafter draws with the noise of `stream` and says that it drew from q.
        """
        counts, accepted = np.zeros(self.vocabulary**2, dtype=np.int64), 0
        laws = (self.q if q is None else q)[None].expand(batch, -1, -1).contiguous()
        for start in range(0, DRAWS, batch):
            at = np.arange(start, start + batch) * 2
            seeds = np.full(batch, 21)
            where = noise.place(seeds.tolist(), at.tolist(), None, count=batch, device=laws.device)
            scores = self.q.log() + noise.gumbel(where, stream, self.vocabulary)
            draft = scores.argmax(dim=-1, keepdim=True)
            logits = torch.stack([self.first.expand(batch, -1), self.second[draft[:, 0]]], dim=1)
            keys: dict[str, Any] = {"rejection": rejection, "draft_probs": laws if rejection else None}
            out = kernels.verify(logits, draft, self.sampler, seeds=seeds, positions=at, **keys, threads=2)
            tokens = torch.as_tensor(out.tokens)
            after = self.second[tokens[:, 0]]
            plain = kernels.sample(after, self.sampler, seeds=seeds, positions=at + 1, threads=2)
            second = torch.where(tokens[:, 1] < 0, torch.as_tensor(plain.tokens), tokens[:, 1])
            counts += np.bincount((tokens[:, 0] * self.vocabulary + second).numpy(), minlength=len(counts))
            accepted += int(np.asarray(out.accepted).sum())
        return counts, accepted / DRAWS


@pytest.mark.parametrize("fields", [{}, {"temperature": 0.8, "top_k": 30, "top_p": 0.95}])
def test_rust_keeps_the_law_under_the_ratio_test(fields: dict[str, Any]) -> None:
    chain = Chain(50, **fields)
    counts, acceptance = chain.speculated(rejection=True, stream=noise.DRAFT)
    assert statistics.tail(counts, chain.pairs()) > statistics.FALSE_ALARM
    p = chain.law(chain.first[None])[0]
    # What Leviathan et al. derive: a draft is accepted with probability Σ min(p, q).
    assert acceptance == pytest.approx(float(torch.minimum(p, chain.q[0]).sum()), abs=5 / DRAWS**0.5)


def test_rust_keeps_the_law_when_coupled() -> None:
    """A drafter may share the noise of the choice; that is what makes it guess well."""
    chain = Chain(50)
    shared, often = chain.speculated(rejection=False, stream=noise.CHOICE)
    apart, seldom = chain.speculated(rejection=False, stream=noise.DRAFT)
    np.testing.assert_array_equal(shared, apart)
    assert statistics.tail(shared, chain.pairs()) > statistics.FALSE_ALARM
    assert often > seldom + 0.1


def test_noise_shared_with_the_ratio_test_is_caught() -> None:
    chain = Chain(50)
    counts, _ = chain.speculated(rejection=True, stream=noise.RESIDUAL)
    assert statistics.tail(counts, chain.pairs()) < statistics.FALSE_ALARM


def test_a_wrong_draft_law_is_caught() -> None:
    chain = Chain(50)
    flat = torch.full_like(chain.q, 1 / 50)
    counts, _ = chain.speculated(rejection=True, stream=noise.DRAFT, q=flat)
    assert statistics.tail(counts, chain.pairs()) < statistics.FALSE_ALARM


def test_rust_keeps_the_law_of_a_large_vocabulary() -> None:
    """The first token of a block, V = 4,096; the bonus row is that of the first again."""
    vocabulary, batch, fields = 4096, 500, {"top_k": 200, "logit_bias": {5: 2.0}}
    generator = np.random.default_rng(1)
    sampler = tiny.compiled(vocab_size=vocabulary, **fields)
    target, drafter = tiny.random_logits(generator, (2, 1, vocabulary), "normal")
    drafter = 0.7 * target + 0.5 * drafter
    law, q = (sample_twin.process(torch.from_numpy(x), sampler, seeds=[0], positions=[0]) for x in (target, drafter))
    laws = q.expand(batch, 1, -1).contiguous()
    logits = torch.from_numpy(target).expand(batch, 2, -1).contiguous()
    guessing = torch.from_numpy(drafter).expand(batch, -1).contiguous()
    counts = np.zeros(vocabulary, dtype=np.int64)
    for start in range(0, DRAWS, batch):
        keys: dict[str, Any] = {"seeds": np.full(batch, 5), "positions": np.arange(start, start + batch), "threads": 2}
        draft = torch.as_tensor(kernels.sample(guessing, sampler, **keys, stream=noise.DRAFT).tokens)[:, None]
        out = kernels.verify(logits, draft, sampler, **keys, rejection=True, draft_probs=laws)
        counts += np.bincount(np.asarray(out.tokens)[:, 0], minlength=vocabulary)
    assert statistics.tail(counts, law[0].numpy()) > statistics.FALSE_ALARM


@BOTH
def test_a_perfect_drafter_is_always_accepted(kernel: Any) -> None:
    logits = torch.randn(64, 4, 20)
    sampler = tiny.compiled(vocab_size=20, temperature=0.9, top_k=9)
    flat = logits[:, :3].reshape(-1, 20)
    laws = sample_twin.process(flat, sampler, seeds=[0] * 192, positions=[0] * 192).reshape(64, 3, 20)
    draft = torch.multinomial(laws.reshape(-1, 20), 1).reshape(64, 3)
    out = kernel(logits, draft, sampler, seeds=range(64), positions=[0] * 64, rejection=True, draft_probs=laws)
    assert np.asarray(out.accepted).tolist() == [3] * 64


@BOTH
def test_greedy_accepts_what_greedy_would_say(kernel: Any) -> None:
    logits = torch.tensor([[[0.0, 2.0, 1.0], [3.0, 0.0, 1.0], [0.0, 0.0, 1.0]]])
    sampler = tiny.compiled(vocab_size=3, temperature=0.0)
    for rejection in (False, True):
        for draft, tokens in (([1, 0], [1, 0, 2]), ([1, 2], [1, 0, -1]), ([0, 0], [1, -1, -1])):
            out = kernel(logits, torch.tensor([draft]), sampler, seeds=[0], positions=[0], rejection=rejection)
            assert np.asarray(out.tokens).tolist() == [tokens]


@BOTH
def test_a_row_without_a_draft_is_plain_decoding(kernel: Any) -> None:
    logits, sampler = torch.randn(5, 3, 11), tiny.compiled(vocab_size=11)
    keys = {"seeds": range(5), "positions": [4] * 5}
    plain = kernels.sample(logits[:, 0].contiguous(), sampler, **keys)
    for rejection in (False, True):
        out = kernel(
            logits, torch.full((5, 2), -7), sampler, **keys, lengths=[0] * 5, rejection=rejection
        )  # what lies beyond a row's length is not looked at
        np.testing.assert_array_equal(np.asarray(out.tokens)[:, 0], plain.tokens)
        np.testing.assert_allclose(np.asarray(out.gaps)[:, 0], plain.gaps, rtol=1e-12)
        assert (np.asarray(out.tokens)[:, 1:] == -1).all()


@BOTH
def test_rows_that_are_not_reached_may_hold_anything(kernel: Any) -> None:
    logits = torch.zeros(1, 3, 4)
    logits[0, 0, 1], logits[0, 1:] = 50, torch.nan
    out = kernel(logits, torch.tensor([[2, 2]]), tiny.compiled(vocab_size=4), seeds=[0], positions=[0])
    assert np.asarray(out.tokens).tolist() == [[1, -1, -1]]


@BOTH
def test_nothing_is_committed_when_a_row_fails(kernel: Any) -> None:
    logits = torch.zeros(2, 2, 3)
    logits[0, 0, 1], logits[1, 0, 1], logits[1, 1, 0] = 90, 90, torch.nan
    pasts = [tiny.history([0], []), tiny.history([], [1])]
    sampler = tiny.compiled(vocab_size=3, presence_penalty=0.1)
    keys = {"seeds": [0, 0], "positions": [0, 0], "history": pasts}
    with pytest.raises(LogitsError, match="row 1"):
        kernel(logits, torch.tensor([[1], [1]]), sampler, **keys)
    assert [past.tokens.tolist() for past in pasts] == [[0], [1]]
    logits[1, 1, 0] = 0
    out = kernel(logits, torch.tensor([[1], [1]]), sampler, **keys)
    assert np.asarray(out.accepted).tolist() == [1, 1]
    assert [len(past) for past in pasts] == [3, 3]


@pytest.mark.gpu
@pytest.mark.parametrize("rejection", [False, True])
def test_a_gpu_emits_what_a_cpu_emits(*, rejection: bool) -> None:
    logits, draft = torch.randn(32, 5, 3000), torch.randint(3000, (32, 4))
    logits[:, :4].scatter_add_(2, draft[..., None], torch.full((32, 4, 1), 9.0))
    laws = torch.from_numpy(random_laws(np.random.default_rng(0), draft.numpy(), 3000)) if rejection else None
    sampler = tiny.compiled(vocab_size=3000, top_k=900, min_p=1e-4, frequency_penalty=0.2)
    outcomes, pasts = [], []
    for device in ("cpu", "cuda"):
        past = [tiny.history([i], [i + 1]) for i in range(32)]
        keys: dict[str, Any] = {"seeds": range(32), "positions": [2] * 32, "history": past, "rejection": rejection}
        outcomes.append(kernels.verify(logits.to(device), draft, sampler, **keys, draft_probs=laws, logprobs=2))
        pasts.append(past)
    tiny.assert_same(*outcomes)
    tiny.assert_same_pasts(*pasts)


SURE = torch.tensor([[[0.0, 1.0, 0.0]], [[0.2, 0.3, 0.5]]], dtype=torch.float64)


def laws_with(row: list[float]) -> torch.Tensor:
    """Draft laws whose second row is this."""
    laws = SURE.clone()
    laws[1, 0] = torch.tensor(row, dtype=torch.float64)
    return laws


HOSTILE: list[tuple[str, type[ForetokenError], dict[str, Any]]] = [
    ("logits of rank two", ShapeError, {"logits": torch.zeros(2, 3)}),
    ("logits of float64", ArgumentTypeError, {"logits": torch.zeros(2, 2, 3, dtype=torch.float64)}),
    ("logits not contiguous", ArgumentTypeError, {"logits": torch.zeros(2, 3, 2).transpose(1, 2)}),
    ("another vocabulary", ShapeError, {"logits": torch.zeros(2, 2, 4)}),
    ("NaN", LogitsError, {"logits": torch.full((2, 2, 3), torch.nan)}),
    ("a draft of int32", ArgumentTypeError, {"draft": torch.tensor([[1], [1]], dtype=torch.int32)}),
    ("a draft of floats", ArgumentTypeError, {"draft": torch.tensor([[1.0], [1.0]])}),
    ("a draft too long", ShapeError, {"draft": torch.ones(2, 2, dtype=torch.int64)}),
    ("a draft of too few rows", ShapeError, {"draft": torch.ones(1, 1, dtype=torch.int64)}),
    ("a draft of rank one", ShapeError, {"draft": torch.ones(2, dtype=torch.int64)}),
    ("a draft above the vocabulary", DraftError, {"draft": torch.tensor([[1], [3]])}),
    ("a negative draft", DraftError, {"draft": torch.tensor([[1], [-1]])}),
    ("a negative length", DraftError, {"lengths": [1, -1]}),
    ("a length beyond the draft", DraftError, {"lengths": [1, 2]}),
    ("too few lengths", ShapeError, {"lengths": [1]}),
    ("a negative probability", DraftError, {"draft_probs": laws_with([-0.1, 0.6, 0.5])}),
    ("a probability of NaN", DraftError, {"draft_probs": laws_with([torch.nan, 0.5, 0.5])}),
    ("a probability above one", DraftError, {"draft_probs": laws_with([0.0, 1.5, 0.0])}),
    ("an impossible draft", DraftError, {"draft_probs": laws_with([0.5, 0.0, 0.5])}),
    ("a sum above one", DraftError, {"draft_probs": laws_with([0.2, 0.3, 0.500002])}),
    ("a sum below one", DraftError, {"draft_probs": laws_with([0.2, 0.3, 0.499998])}),
    ("laws of float32", ArgumentTypeError, {"draft_probs": SURE.float()}),
    ("laws of another shape", ShapeError, {"draft_probs": SURE[:, :, :2].contiguous()}),
    ("laws of too few rows", ShapeError, {"draft_probs": SURE[:1]}),
    ("laws not contiguous", ArgumentTypeError, {"draft_probs": SURE.transpose(0, 2).contiguous().transpose(0, 2)}),
    ("a position near the end", InvalidArgument, {"positions": [0, 2**32 - 1]}),
    ("a negative seed", InvalidArgument, {"seeds": [0, -1]}),
    ("too few positions", ShapeError, {"positions": [0]}),
    ("more logprobs than tokens", InvalidArgument, {"logprobs": 4}),
]


@BOTH
@pytest.mark.parametrize(("error", "change"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE])
def test_hostile_arguments_are_refused(kernel: Any, error: type[ForetokenError], change: dict[str, Any]) -> None:
    arguments = {
        "logits": torch.zeros(2, 2, 3),
        "draft": torch.tensor([[1], [1]]),
        "seeds": [0, 0],
        "positions": [0, 0],
        "rejection": True,
        "draft_probs": SURE,
        "history": [tiny.history([0], []), tiny.history([0], [])],
        **change,
    }
    block = [arguments.pop("logits"), arguments.pop("draft")]
    if kernel is kernels.verify:
        block = [tensor.numpy() for tensor in block]  # floating tensors, unlike arrays, are converted
    with pytest.raises(error) as caught:
        kernel(*block, tiny.compiled(vocab_size=3), **arguments)
    assert [len(past) for past in arguments["history"]] == [1, 1]
    if error is DraftError:
        assert "row 1" in str(caught.value)


@BOTH
def test_draft_errors_name_row_place_and_token(kernel: Any) -> None:
    with pytest.raises(DraftError, match=r"row 1.*token 77.*place 2"):
        kernel(
            torch.zeros(2, 4, 3),
            torch.tensor([[0, 0, 0], [0, 0, 77]]),
            tiny.compiled(vocab_size=3),
            seeds=[0, 0],
            positions=[0, 0],
        )


@BOTH
def test_sums_within_the_tolerance_pass(kernel: Any) -> None:
    for off in (-0.9e-6, 0.0, 0.9e-6):
        laws = laws_with([0.2, 0.3, 0.5 + off])
        keys = {"seeds": [0, 0], "positions": [0, 0], "rejection": True}
        kernel(torch.zeros(2, 2, 3), torch.tensor([[1], [1]]), tiny.compiled(vocab_size=3), **keys, draft_probs=laws)


@BOTH
def test_a_law_that_is_short_of_mass_everywhere_still_emits(kernel: Any) -> None:
    """q ≥ p everywhere, by the tolerance of its sum, leaves no residual when noise rejects; no crash, no -1."""
    laws = torch.tensor([[[1.0]]], dtype=torch.float64).expand(3000, 1, 1).contiguous()
    keys = {"seeds": range(3000), "positions": [0] * 3000, "rejection": True, "draft_probs": laws}
    out = kernel(torch.zeros(3000, 2, 1), torch.zeros(3000, 1, dtype=torch.int64), tiny.compiled(vocab_size=1), **keys)
    assert np.asarray(out.accepted).tolist() == [1] * 3000
