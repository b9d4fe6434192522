"""The Llama: equal to transformers', and to itself however its past was read, cut, chosen and padded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foretoken.errors import InvalidArgument, LimitExceeded
from foretoken.model.llama import LlamaModule, rotary_tables, rotate
from foretoken.model.llama_config import LlamaConfig, parameter_shapes
from foretoken.model.llama_session import Llama, LlamaSession
from foretoken.model.product import FEW, Product
from foretoken.model.protocol import CausalModel

TOLERANCE = 2e-5  # of logits near 1; a wrong position or a seen padding is off by 0.1


def config(**changes: Any) -> LlamaConfig:
    """A Llama of toy size with two query heads for each key."""
    fields = {
        "vocab_size": 37, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 24, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "tie_word_embeddings": False, "eos_token_id": (0,),
    }  # fmt: skip
    return LlamaConfig(**{**fields, **changes})


def module(seed: int = 0, **changes: Any) -> LlamaModule:
    """Weights of a size at which every part matters, the gains of the norms among them."""
    made = LlamaModule(config(**changes))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in made.parameters():
            weight.normal_(std=0.3, generator=generator).add_(1.0 if weight.ndim == 1 else 0.0)
    return made


MODULE = module()
MODEL = Llama(MODULE)


def expected(past: list[int], of: LlamaModule = MODULE) -> np.ndarray:
    """Logits (length, vocab) of a fresh forward over the whole past."""
    with torch.no_grad():
        return of(torch.tensor([past]))[0].numpy()


def ids(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(37, size=shape)


SHAPES = {
    "one key for each query": {"num_key_value_heads": 4},
    "grouped": {},
    "one key for all": {"num_key_value_heads": 1},
    "tied": {"tie_word_embeddings": True},
    "wide heads": {"head_dim": 12, "rope_theta": 500.0, "rms_norm_eps": 1e-2},
    "one layer": {"num_hidden_layers": 1},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_are_those_of_transformers(shape: str) -> None:
    transformers = pytest.importorskip("transformers")
    ours = module(**SHAPES[shape])
    theirs = transformers.LlamaForCausalLM(transformers.LlamaConfig(**ours.config.to_json())).eval()
    weights = dict(ours.named_parameters())
    assert weights.keys() == dict(theirs.named_parameters()).keys()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    tokens = torch.from_numpy(ids(3, 24))
    with torch.no_grad():
        reference = theirs(tokens).logits
        torch.testing.assert_close(ours(tokens), reference, atol=TOLERANCE, rtol=0)
    session = Llama(ours).open(3, 24)
    torch.testing.assert_close(session.forward(tokens.numpy()).clone(), reference, atol=TOLERANCE, rtol=0)
    assert reference.std() > 0.3


@pytest.mark.parametrize("shape", SHAPES)
def test_a_session_is_the_module_in_any_chunks(shape: str) -> None:
    trained = module(**SHAPES[shape])
    model, tokens = Llama(trained), ids(2, 24)
    reference = np.stack([expected(row.tolist(), trained) for row in tokens])
    for chunks in ([24], [1] * 24, [5, 1, 1, 10, 7], [23, 1], [1, 23]):
        session, at = model.open(2, 24), 0
        for width in chunks:
            logits = session.forward(tokens[:, at : at + width])
            assert logits.shape == (2, width, 37)
            np.testing.assert_allclose(logits, reference[:, at : at + width], atol=TOLERANCE)
            at += width
        assert session.lengths.tolist() == [24, 24]


def test_the_model_says_what_it_is() -> None:
    assert isinstance(MODEL, CausalModel)
    assert (MODEL.vocab_size, MODEL.context, MODEL.end_tokens) == (37, 24, (0,))
    assert MODEL.device == torch.device("cpu")


def test_weights_are_copied() -> None:
    trained = module()
    model = Llama(trained)
    before = model.open(1, 8).forward(ids(1, 4)).clone()
    with torch.no_grad():
        for weight in trained.parameters():
            weight.zero_()
    assert torch.equal(model.open(1, 8).forward(ids(1, 4)), before)


def test_ragged_prompts_are_read_as_each_alone() -> None:
    session, tokens, counts = MODEL.open(4, 24), ids(4, 9), np.array([9, 1, 4, 8])
    logits = session.forward(tokens, counts)
    for row, count in enumerate(counts):
        np.testing.assert_allclose(logits[row, :count], expected(tokens[row, :count].tolist()), atol=TOLERANCE)
    assert session.lengths.tolist() == counts.tolist()


def test_last_is_the_last_counted_unit() -> None:
    tokens, counts = ids(3, 6), np.array([6, 2, 5])
    for counted in (None, counts):
        every = MODEL.open(3, 24).forward(tokens, counted).clone()
        last = MODEL.open(3, 24).forward(tokens, counted, last=True)
        ends = np.full(3, 6) if counted is None else counted
        assert last.shape == (3, 1, 37)
        np.testing.assert_allclose(last[:, 0], every[np.arange(3), ends - 1], atol=TOLERANCE)


def test_padding_may_reach_beyond_the_capacity() -> None:
    """Rows at 7, 8 and 3 of 8 units, a block of 4: only what counts must fit, and padding is never seen."""
    session, tokens = MODEL.open(3, 8), ids(3, 8)
    session.forward(tokens[:, :6])
    session.truncate(np.array([6, 6, 1]))
    block = ids(3, 4, seed=1)
    logits = session.forward(block, np.array([1, 2, 2]))
    for row, (length, count) in enumerate(((6, 1), (6, 2), (1, 2))):
        past = [*tokens[row, :length].tolist(), *block[row, :count].tolist()]
        np.testing.assert_allclose(logits[row, :count], expected(past)[length:], atol=TOLERANCE)
    # The row that is not full goes on as if there had been no padding.
    session.select(np.array([2]))
    past = [tokens[2, 0], *block[2, :2], *tokens[0, :5]]
    np.testing.assert_allclose(session.forward(tokens[:1, :5])[0], expected(past)[3:], atol=TOLERANCE)


def test_one_row_may_be_padded_beyond_its_capacity() -> None:
    session, tokens = MODEL.open(1, 5), ids(1, 8)
    logits = session.forward(tokens, np.array([5]))
    np.testing.assert_allclose(logits[0, :5], expected(tokens[0, :5].tolist()), atol=TOLERANCE)


@pytest.mark.parametrize(("width", "counts"), [(6, None), (6, [5, 6]), (9, [4, 6])])
def test_more_than_the_capacity_is_refused_and_nothing_is_changed(width: int, counts: list[int] | None) -> None:
    session, tokens = MODEL.open(2, 8), ids(2, 16)
    session.forward(tokens[:, :3])
    with pytest.raises(LimitExceeded, match="9 units do not fit the capacity of 8"):
        session.forward(tokens[:, 3 : 3 + width], None if counts is None else np.array(counts))
    assert session.lengths.tolist() == [3, 3]
    logits = session.forward(tokens[:, 3:8])
    np.testing.assert_allclose(logits[0], expected(tokens[0, :8].tolist())[3:], atol=TOLERANCE)


@pytest.mark.parametrize("capacity", [0, -1, 25])
def test_a_cache_fits_the_context(capacity: int) -> None:
    with pytest.raises(LimitExceeded, match="24"):
        MODEL.open(1, capacity)
    with pytest.raises(InvalidArgument, match="at least one row"):
        MODEL.open(0, 8)


def test_a_long_context_costs_only_what_is_used() -> None:
    """A mask for all of a context of 2^20 would take a terabyte."""
    model = Llama(module(max_position_embeddings=2**20, num_hidden_layers=1))
    session = model.open(1, 64)
    session.forward(ids(1, 64))
    turn, causal = model.tables(64)
    assert len(turn) < 200
    assert causal.numel() < 200**2 * 2
    # And a longer session sees what a shorter one saw.
    first = model.open(1, 10).forward(ids(1, 10)).clone()
    assert torch.equal(model.open(1, 500).forward(ids(1, 10)), first)


def test_first_layers_share_the_weights() -> None:
    shallow = MODEL.first(1)
    assert shallow.layers[0] is MODEL.layers[0]
    assert shallow.head is MODEL.head
    cut = module()
    del cut.model.layers[1:]
    np.testing.assert_allclose(
        shallow.open(1, 9).forward(ids(1, 9))[0], expected(ids(1, 9)[0].tolist(), cut), atol=TOLERANCE
    )
    assert len(MODEL.layers) == 2
    for layers in (0, -1, 3):
        with pytest.raises(InvalidArgument, match=r"\[1, 2\]"):
            MODEL.first(layers)


class Twin:
    """A session and, beside it, what each row has read; every prediction is compared with a fresh forward."""

    def __init__(self, rows: int, capacity: int) -> None:
        self.session: LlamaSession = MODEL.open(rows, capacity)
        self.capacity = capacity
        self.past: list[list[int]] = [[] for _ in range(rows)]

    def forward(self, tokens: np.ndarray, counts: np.ndarray | None, *, last: bool) -> None:
        logits = self.session.forward(tokens, counts, last=last).clone()
        for row, past in enumerate(self.past):
            count = tokens.shape[1] if counts is None else int(counts[row])
            past += tokens[row, :count].tolist()
            right = expected(past)[-1:] if last else expected(past)[-count:]
            np.testing.assert_allclose(logits[row, : len(right)], right, atol=TOLERANCE)

    def step(self, data: st.DataObject) -> None:
        """One random thing that a strategy may do."""
        room = self.capacity - max(map(len, self.past))
        operation = data.draw(st.sampled_from(["level", "ragged", "truncate", "select"]))
        width = data.draw(st.integers(1, 6))
        tokens = data.draw(st.integers(0, 99).map(lambda seed: ids(len(self.past), width, seed=seed)))
        last = data.draw(st.booleans())
        if operation == "level" and width <= room:
            self.forward(tokens, None, last=last)
        elif operation == "ragged" and room:
            most = [min(width, self.capacity - len(past)) for past in self.past]
            counts = np.array([data.draw(st.integers(1, count)) for count in most])
            self.forward(tokens, counts, last=last)
        elif operation == "truncate":
            lengths = [data.draw(st.integers(0, len(past) + 1)) for past in self.past]
            self.session.truncate(np.array(lengths))
            self.past = [past[:length] for past, length in zip(self.past, lengths, strict=True)]
        elif operation == "select":
            lines = data.draw(st.lists(st.integers(0, len(self.past) - 1), min_size=1, max_size=4))
            self.session.select(np.array(lines))
            self.past = [list(self.past[line]) for line in lines]
        assert self.session.lengths.tolist() == list(map(len, self.past))


@settings(max_examples=60)
@given(st.data())
def test_any_history_predicts_as_a_fresh_forward(data: st.DataObject) -> None:
    twin = Twin(data.draw(st.integers(1, 4)), data.draw(st.sampled_from([5, 9, 24])))
    for _ in range(data.draw(st.integers(1, 12))):
        twin.step(data)


def test_the_twin_sees_a_mistake() -> None:
    """The control: a session that forgets to forget is found out."""
    twin = Twin(2, 24)
    twin.forward(ids(2, 8), None, last=False)
    twin.past = [past[:5] for past in twin.past]
    with pytest.raises(AssertionError):
        twin.forward(ids(2, 2, seed=1), None, last=False)


def test_rotation_is_rotation() -> None:
    """The norm stays, and a product of two turned vectors only knows their distance."""
    cos, sin = rotary_tables(config(), 24)
    x, y = torch.randn(8), torch.randn(8)
    turned = rotate(x.expand(24, 8), cos, sin)
    torch.testing.assert_close(turned.norm(dim=-1), x.norm().expand(24))
    products = turned @ rotate(y.expand(24, 8), cos, sin).T
    torch.testing.assert_close(products[3, 1], products[13, 11], atol=1e-5, rtol=0)
    assert abs(products[3, 1] - products[3, 2]) > 1e-4


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_are_known_before_there_are_weights(shape: str) -> None:
    made = module(**SHAPES[shape])
    assert parameter_shapes(made.config) == {name: tuple(weight.shape) for name, weight in made.named_parameters()}


def test_initial_weights_are_a_function_of_the_seed() -> None:
    made = []
    for seed in (1, 1, 2):
        fresh = LlamaModule(config())
        fresh.initialise(torch.Generator().manual_seed(seed))
        made.append(fresh.state_dict())
    assert all(torch.equal(made[0][name], made[1][name]) for name in made[0])
    assert not torch.equal(made[0]["lm_head.weight"], made[2]["lm_head.weight"])
    assert made[0]["model.layers.0.self_attn.o_proj.weight"].std() < 0.75 * made[0]["lm_head.weight"].std()


@pytest.mark.parametrize("rows", [1, 2, FEW, FEW + 1, 40])
@pytest.mark.parametrize("limit", [0, Product.BOTH])
def test_both_orders_of_a_weight_multiply_alike(rows: int, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Product, "BOTH", limit)
    weight, x, to = torch.randn(24, 16), torch.randn(rows, 16), torch.randn(rows, 24)
    product = Product(weight)
    assert (product.weight is None) == (limit == 0)
    for found, expected in ((product(x), x @ weight.T), (product.add(to, x), to + x @ weight.T)):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        assert found.is_contiguous()
