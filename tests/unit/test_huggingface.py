"""A transformers model behind `HuggingFace`: rows forget different amounts, and no logit tells."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from foretoken.errors import (
    ArgumentTypeError,
    InvalidArgument,
    LimitExceeded,
    ShapeError,
    UnsupportedModel,
)
from foretoken.model import huggingface_session
from foretoken.model.huggingface import HuggingFace, cache_name
from foretoken.model.protocol import CausalModel

transformers = pytest.importorskip("transformers", reason="needs transformers: pip install foretoken[hf]")

VOCAB, CONTEXT = 64, 96
SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": CONTEXT, "initializer_range": 0.2, "bos_token_id": None,
    "eos_token_id": None, "pad_token_id": None,
}  # fmt: skip
KINDS = ("Llama", "Qwen3", "GPT2")


def toy(kind: str, **changes: Any) -> Any:
    """A `…ForCausalLM` with random weights."""
    torch.manual_seed(0)
    if kind == "GPT2":
        shape = {"vocab_size": VOCAB, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": CONTEXT}
        shared = ("initializer_range", "bos_token_id", "eos_token_id", "pad_token_id")
        config = transformers.GPT2Config(**{**shape, **{name: SHAPE[name] for name in shared}, **changes})
        return transformers.GPT2LMHeadModel(config).eval()
    extra = {"head_dim": 8} if kind == "Qwen3" else {}
    config = getattr(transformers, f"{kind}Config")(**{**SHAPE, **extra, **changes})
    return getattr(transformers, f"{kind}ForCausalLM")(config).eval()


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest) -> Any:
    return toy(request.param)


@torch.no_grad()
def plain(model: Any, text: list[int], last: int = 1) -> np.ndarray:
    """Logits after the last units of a text, by the model alone and without a cache."""
    return model(input_ids=torch.tensor([text]), use_cache=False).logits[0, -last:].float().numpy()


def wander(model: Any, *, rows: int = 3, steps: int = 12, session: Any = None) -> tuple[float, Any]:
    """Read random blocks, keep a random part of each row's; the largest difference to `plain`, and the session."""
    rng = np.random.default_rng(0)
    texts = [rng.integers(VOCAB, size=size).tolist() for size in rng.integers(1, 9, size=rows)]
    session = HuggingFace(model).open(rows, CONTEXT) if session is None else session
    tokens = np.full((rows, 8), -7)  # padding may be anything
    for row, text in enumerate(texts):
        tokens[row, : len(text)] = text
    found = session.forward(tokens, np.array([len(text) for text in texts]), last=True)
    off = max(np.abs(found[row, 0].numpy() - plain(model, text)[0]).max() for row, text in enumerate(texts))
    for step in range(steps):
        width = 1 + step % 5
        block, counts = rng.integers(VOCAB, size=(rows, width)), rng.integers(1, width + 1, size=rows)
        found = session.forward(block, counts).numpy()
        for row, count in enumerate(counts):
            truth = plain(model, texts[row] + block[row, :count].tolist(), int(count))
            off = max(off, np.abs(found[row, :count] - truth).max())
            texts[row] += block[row, : rng.integers(0, count + 1)].tolist()
        session.truncate(np.array([len(text) for text in texts]))
        assert session.lengths.tolist() == [len(text) for text in texts]
    return float(off), session


def test_rows_may_keep_different_amounts(model: Any) -> None:
    """Holes are hidden and positions count around them."""
    off, session = wander(model)
    assert off < 1e-5
    assert session._width > session.lengths.max()  # there were holes


@pytest.mark.parametrize("broken", ["_show_new", "_positions"])
def test_a_session_that_shows_its_holes_is_caught(model: Any, broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: neither the mask nor the positions could be left out."""
    session = HuggingFace(model).open(3, CONTEXT)
    right = getattr(session, broken)

    def show_all(width: int, added: np.ndarray) -> np.ndarray:
        return np.ones_like(right(width, added))

    def count_slots(width: int) -> torch.Tensor:
        return (session._width + torch.arange(width)).expand(3, width)

    monkeypatch.setattr(session, broken, show_all if broken == "_show_new" else count_slots)
    assert wander(model, session=session)[0] > 0.05


def test_packing_changes_nothing(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache is packed often, and stays small."""
    monkeypatch.setattr(huggingface_session, "_FEW_HOLES", 2)
    packed = []
    right = huggingface_session.HuggingFaceSession._pack
    monkeypatch.setattr(
        huggingface_session.HuggingFaceSession, "_pack", lambda session: (packed.append(1), right(session))
    )
    off, session = wander(model)
    assert off < 1e-5
    assert len(packed) > 1
    assert session._width <= session.lengths.max() + 2 + 5


def test_one_row_is_plain_transformers(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit, with nothing to hide: the cache is only cropped."""
    session = HuggingFace(model).open(1, CONTEXT)
    calls: list[dict[str, Any]] = []
    forward, name = model.forward, cache_name(model)
    monkeypatch.setattr(model, "forward", lambda **given: (calls.append(given), forward(**given))[1])
    cache = transformers.DynamicCache(config=model.config)
    rng = np.random.default_rng(0)
    for width, keep in ((7, 7), (4, 2), (1, 1), (5, 0), (3, 3)):
        ids = rng.integers(VOCAB, size=(1, width))
        found = session.forward(ids)
        with torch.no_grad():
            truth = forward(input_ids=torch.tensor(ids), **{name: cache}, use_cache=True).logits
        assert torch.equal(found, truth)
        cache.crop(keep - width)
        session.truncate(session.lengths - (width - keep))
    assert len(calls) == 5
    assert all(not {"attention_mask", "position_ids"} & given.keys() for given in calls)


def test_rows_are_taken_out_and_repeated(model: Any) -> None:
    """After `select`, each line goes on as the row it was."""
    rng = np.random.default_rng(1)
    tokens, lengths = rng.integers(VOCAB, size=(3, 7)), (4, 2, 6)
    session = HuggingFace(model).open(3, CONTEXT)
    session.forward(tokens, np.array([5, 2, 7]))
    session.truncate(np.array(lengths))
    texts = [tokens[row, :length].tolist() for row, length in enumerate(lengths)]
    for order in ([0, 1, 2], [2, 0, 0, 1], [3, 1], [1]):
        session.select(np.array(order))
        texts = [texts[row] for row in order]
        block = rng.integers(VOCAB, size=(len(order), 3))
        found = session.forward(block).numpy()
        for row, text in enumerate(texts):
            np.testing.assert_allclose(found[row], plain(model, text + block[row].tolist(), 3), atol=1e-5)
        session.truncate(session.lengths - 3)
        assert session.lengths.tolist() == [len(text) for text in texts]


@pytest.mark.parametrize("without", [None, "_keeps_by_row", "_keeps"])
def test_last_is_the_last_that_counts(model: Any, without: str | None) -> None:
    """Whether or not the model can be told which rows of logits are wanted."""
    wrapped = HuggingFace(model)
    if without is not None:
        setattr(wrapped, without, False)
    tokens = np.random.default_rng(0).integers(VOCAB, size=(3, 6))
    for counts in (None, np.array([2, 6, 4]), np.array([3, 3, 3])):
        found = wrapped.open(3, 10).forward(tokens, counts, last=True)
        full = wrapped.open(3, 10).forward(tokens, counts)
        last = np.full(3, 5) if counts is None else counts - 1
        assert found.shape == (3, 1, VOCAB)
        torch.testing.assert_close(found[:, 0], full[torch.arange(3), torch.from_numpy(last)], atol=1e-5, rtol=0)


def test_the_cache_grows_to_the_context(model: Any) -> None:
    """From one unit, one at a time, over the room that was made at first."""
    text = np.random.default_rng(0).integers(VOCAB, size=CONTEXT)
    session = HuggingFace(model).open(1, CONTEXT)
    found = np.concatenate([session.forward(text[None, i : i + 1])[0].numpy() for i in range(CONTEXT)])
    np.testing.assert_allclose(found, plain(model, text.tolist(), CONTEXT), atol=1e-5)


def test_padding_may_reach_beyond_the_context(model: Any) -> None:
    """A learned position has no embedding there, and nothing looks at it."""
    rng = np.random.default_rng(0)
    text = rng.integers(VOCAB, size=CONTEXT)
    session = HuggingFace(model).open(2, CONTEXT)
    session.forward(np.stack((text[:-1], text[:-1])), np.array([CONTEXT - 1, 4]))
    found = session.forward(np.stack((text[-1:].repeat(5), text[4:9])), np.array([1, 5])).numpy()
    np.testing.assert_allclose(found[0, 0], plain(model, text.tolist())[0], atol=1e-5)
    np.testing.assert_allclose(found[1], plain(model, text[:9].tolist(), 5), atol=1e-5)


def test_wrong_input_is_refused_and_changes_nothing(model: Any) -> None:
    session = HuggingFace(model).open(2, 8)
    session.forward(np.ones((2, 4), dtype=np.int64))
    for error, call in (
        (InvalidArgument, lambda: session.forward(np.array([[1], [VOCAB]]))),
        (InvalidArgument, lambda: session.forward(np.array([[1], [-1]]))),
        (ShapeError, lambda: session.forward(np.array([[1]]))),
        (ShapeError, lambda: session.forward(np.zeros((2, 0), dtype=np.int64))),
        (ShapeError, lambda: session.forward(np.ones((2, 2), dtype=np.int64), np.array([0, 2]))),
        (ShapeError, lambda: session.forward(np.ones((2, 2), dtype=np.int64), np.array([1, 3]))),
        (ShapeError, lambda: session.forward(np.ones((2, 2), dtype=np.int64), np.array([1]))),
        (LimitExceeded, lambda: session.forward(np.ones((2, 5), dtype=np.int64))),
        (ShapeError, lambda: session.truncate(np.array([1]))),
        (ShapeError, lambda: session.truncate(np.array([1, -1]))),
        (ShapeError, lambda: session.select(np.array([2]))),
        (ShapeError, lambda: session.select(np.array([], dtype=np.int64))),
    ):
        with pytest.raises(error):
            call()
    assert session.lengths.tolist() == [4, 4]
    session.lengths[:] = 0  # a copy
    found = session.forward(np.full((2, 1), 3)).numpy()
    np.testing.assert_allclose(found[0, 0], plain(model, [1, 1, 1, 1, 3])[0], atol=1e-5)


def test_sessions_that_cannot_be(model: Any) -> None:
    wrapped = HuggingFace(model)
    for capacity in (0, CONTEXT + 1):
        with pytest.raises(LimitExceeded, match=str(CONTEXT)):
            wrapped.open(1, capacity)
    with pytest.raises(InvalidArgument, match="at least one row"):
        wrapped.open(0, 8)
    model.train()
    with pytest.raises(InvalidArgument, match=r"model\.eval\(\)"):
        wrapped.open(1, 8)
    assert model.training


def test_the_model_stays_as_it_was(model: Any) -> None:
    """Weights, mode, config and structure, after decoding and cutting."""
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    config, structure = copy.deepcopy(model.config.to_dict()), repr(model)
    wander(model, steps=4)
    wander(HuggingFace(model).first(1).model, steps=2)
    assert (model.config.to_dict(), repr(model), model.training) == (config, structure, False)
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())
    model(input_ids=torch.tensor([[1, 2, 3]])).logits.sum().backward()  # no inference tensor was left behind


def test_what_it_says_of_the_model() -> None:
    model = toy("Llama")
    wrapped = HuggingFace(model)
    assert isinstance(wrapped, CausalModel)
    assert (wrapped.vocab_size, wrapped.context, wrapped.end_tokens) == (VOCAB, CONTEXT, ())
    assert wrapped.device == torch.device("cpu")
    for ends, expected in ((3, (3,)), ([3, 5], (3, 5)), ([3, VOCAB], (3,)), (0, (0,))):
        model.generation_config.eos_token_id = ends
        assert wrapped.end_tokens == expected
    model.generation_config.eos_token_id, model.config.eos_token_id = None, 7
    assert wrapped.end_tokens == (7,)
    model.resize_token_embeddings(VOCAB + 3)
    assert HuggingFace(model).vocab_size == VOCAB + 3
    assert HuggingFace(toy("GPT2")).context == CONTEXT
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4, "original_max_position_embeddings": 48}
    assert HuggingFace(toy("Llama", rope_parameters=rope)).context == 48


def test_it_pickles(model: Any) -> None:
    again = pickle.loads(pickle.dumps(HuggingFace(model)))
    tokens = np.array([[1, 2, 3]])
    assert torch.equal(again.open(1, 4).forward(tokens), HuggingFace(model).open(1, 4).forward(tokens))


def test_logits_are_float32_whatever_the_model() -> None:
    model = toy("Llama").to(torch.bfloat16)
    session = HuggingFace(model).open(2, 16)
    tokens = np.array([[1, 2, 3], [4, 5, 6]])
    assert session.forward(tokens, np.array([3, 1])).dtype is torch.float32
    found = session.forward(np.array([[7, 8], [5, 6]]))
    assert found.dtype is torch.float32
    truth = plain(model, [4, 5, 6])[0]
    assert np.abs(found[1, 1].numpy() - truth).max() < 0.1 * truth.std()


def test_the_first_layers(model: Any) -> None:
    """Hidden states under the same norm and head, from the same memory."""
    trunk = model.transformer if hasattr(model, "transformer") else model.model
    norm, blocks = (trunk.ln_f, trunk.h) if hasattr(trunk, "ln_f") else (trunk.norm, trunk.layers)
    wrapped, ids = HuggingFace(model), torch.tensor([[3, 1, 4, 1, 5]])
    for layers in (1, 2):
        caught = []
        hook = blocks[layers - 1].register_forward_hook(lambda *args, caught=caught: caught.append(args[-1]))
        with torch.no_grad():
            model(input_ids=ids)
            hook.remove()
            hidden = caught[0][0] if isinstance(caught[0], tuple) else caught[0]
            truth = model.lm_head(norm(hidden))
        shallow = wrapped.first(layers)
        torch.testing.assert_close(shallow.open(1, 8).forward(ids.numpy()), truth, atol=1e-5, rtol=0)
        assert wander(shallow.model)[0] < 1e-5
        known = {weight.data_ptr() for weight in model.parameters()}
        assert all(weight.data_ptr() in known for weight in shallow.model.parameters())
    assert len(blocks) == model.config.num_hidden_layers == 3
    for layers in (0, 4):
        with pytest.raises(InvalidArgument, match=r"\[1, 3\]"):
            wrapped.first(layers)


def test_layers_that_are_not_found() -> None:
    config = transformers.OPTConfig(
        vocab_size=VOCAB, hidden_size=16, ffn_dim=16, num_hidden_layers=1, num_attention_heads=2,
        word_embed_proj_dim=16, max_position_embeddings=32,
    )  # fmt: skip
    model = transformers.OPTForCausalLM(config).eval()
    with pytest.raises(UnsupportedModel, match=r"model\.layers"):
        HuggingFace(model).first(1)
    hooked = toy("Llama")
    hooked.forward = hooked.forward  # as accelerate does
    with pytest.raises(UnsupportedModel, match="device_map"):
        HuggingFace(hooked).first(1)


def small(kind: str, suffix: str = "ForCausalLM", **changes: Any) -> Any:
    known = vars(getattr(transformers, f"{kind}Config")())
    shape = {name: value for name, value in SHAPE.items() if name in known}
    config = getattr(transformers, f"{kind}Config")(**{**shape, **changes})
    return getattr(transformers, f"{kind}{suffix}")(config).eval()


REFUSED = {
    "sliding window of 16": lambda: small("Mistral", sliding_window=16),
    "sliding window of 4096": lambda: small("Gemma2", head_dim=8),
    "sliding window": lambda: transformers.Gemma3ForCausalLM(
        transformers.Gemma3TextConfig(**{**SHAPE, "head_dim": 8, "pad_token_id": 0})
    ).eval(),
    "recurrent state": lambda: small("Mamba", state_size=4),
    "by distance between": lambda: small(
        "GPTNeo", attention_types=[[["global", "local"], 1]], num_layers=2, num_heads=4
    ),
    "no position_ids": lambda: small("Bloom", n_layer=1, n_head=4),
    "encoder-decoder": lambda: small("T5", "ForConditionalGeneration", d_model=16, d_kv=4, d_ff=16, num_layers=1),
    "no language-model head": lambda: transformers.LlamaModel(transformers.LlamaConfig(**SHAPE)).eval(),
    "LinearAttentionLayer": lambda: small(
        "Lfm2", num_hidden_layers=2, layer_types=["conv", "full_attention"], pad_token_id=0
    ),
    "max_position_embeddings": lambda: _without_context(),
    "takes no mask": lambda: _with_unmasked_attention(),
}


def _without_context() -> Any:
    model = toy("Llama")
    vars(model.config)["max_position_embeddings"] = None
    return model


def _with_unmasked_attention() -> Any:
    model = toy("Llama")
    model.config._attn_implementation_internal = "mine"
    return model


@pytest.mark.parametrize("reason", REFUSED)
def test_models_that_are_refused(reason: str) -> None:
    model = REFUSED[reason]()
    with pytest.raises(UnsupportedModel, match=reason):
        HuggingFace(model)


def test_whether_a_model_looks_ahead_is_tried() -> None:
    """Configs do not say: BERT and GPT-NeoX both call themselves no decoder."""
    for changes, refused in (({}, True), ({"is_decoder": True}, False)):
        wrapped = HuggingFace(small("Bert", "LMHeadModel", max_position_embeddings=CONTEXT, **changes))
        if refused:
            with pytest.raises(UnsupportedModel, match="looks at what follows"):
                wrapped.open(1, 8)
        else:
            assert wander(wrapped.model)[0] < 1e-5
    model = small("GPTNeoX")
    assert not model.config.is_decoder
    assert wander(model)[0] < 1e-5


def test_a_model_that_does_not_follow_its_positions() -> None:
    """RoBERTa counts from its padding id: no config says so, the first session of several rows finds it out."""
    model = small("Roberta", is_decoder=True, pad_token_id=0, max_position_embeddings=CONTEXT)
    wrapped = HuggingFace(model)
    found = wrapped.open(1, 8).forward(np.array([[5, 6, 7]]))
    np.testing.assert_allclose(found[0, -1].numpy(), plain(model, [5, 6, 7])[0], atol=1e-5)
    with pytest.raises(UnsupportedModel, match="does not follow"):
        wrapped.open(2, 8)


def test_what_is_no_model() -> None:
    for thing in (None, "gpt2", nn.Linear(2, 2)):
        with pytest.raises(ArgumentTypeError, match=type(thing).__name__):
            HuggingFace(thing)  # type: ignore[arg-type]


def test_without_transformers() -> None:
    """The package imports, and what needs transformers says how to get it."""
    code = (
        "import sys; sys.modules['transformers'] = None\n"
        "import foretoken, torch\n"
        "model = torch.nn.Linear(1, 1); model.config = None\n"
        "for call in (lambda: foretoken.HuggingFace(model), lambda: foretoken.hf_generate(model, torch.ones(1, 1))):\n"
        "    try: call()\n"
        "    except foretoken.errors.MissingExtra as error: print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.count("pip install foretoken[hf]") == 2
