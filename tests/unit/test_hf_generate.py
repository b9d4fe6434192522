"""`model.generate(custom_generate=hf_generate)`: what transformers would do, or a clear refusal."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from foretoken import Coupled, EarlyExit, NGram, Rejection, Sampler, hf_generate, kernels
from foretoken.errors import ForetokenError, InvalidArgument, LimitExceeded, UnsupportedModel
from foretoken.model.huggingface import cache_name
from foretoken.model.huggingface_options import to_sampler

from ..models import random_drafter

transformers = pytest.importorskip("transformers", reason="needs transformers: pip install foretoken[hf]")

from .test_huggingface import KINDS, VOCAB, toy  # noqa: E402 - it needs transformers as well

PAD = 0
ENDS = [5, 7, 9, 11, 13, 15]
DRAFTERS = {
    "none": lambda: None,
    "n-gram": lambda: NGram(minimum=1),
    "random": lambda: random_drafter(VOCAB),
    "early exit": lambda: EarlyExit(1),
}


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest) -> Any:
    return toy(request.param)


@pytest.fixture
def llama() -> Any:
    return toy("Llama")


def ragged(*lengths: int) -> dict[str, torch.Tensor]:
    """Prompts of these lengths, padded on the left."""
    ids = torch.randint(1, VOCAB, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(1))
    mask = torch.arange(max(lengths)) >= max(lengths) - torch.tensor(lengths)[:, None]
    return {"input_ids": ids.where(mask, PAD), "attention_mask": mask.long()}


def both(model: Any, inputs: dict[str, Any], **options: Any) -> tuple[Any, Any]:
    """What transformers makes of it, and what we do."""
    given = {"max_new_tokens": 24, "do_sample": False, "pad_token_id": PAD, **inputs, **options}
    ours = {name: given.pop(name) for name in ("drafter", "length", "seed", "verifier") if name in given}
    return model.generate(**given), model.generate(**given, custom_generate=hf_generate, **ours)


@pytest.mark.parametrize("drafter", DRAFTERS)
@pytest.mark.parametrize("lengths", [(6,), (9, 9), (3, 9, 1, 6)])
def test_greedy_is_what_transformers_generates(model: Any, lengths: tuple[int, ...], drafter: str) -> None:
    """One row, level rows, ragged rows; guesses that are often, sometimes, never right."""
    for length in (None, 3) if drafter != "none" else (None,):
        theirs, ours = both(model, ragged(*lengths), drafter=DRAFTERS[drafter](), length=length)
        assert torch.equal(ours, theirs)
        assert ours.dtype is torch.int64


OPTIONS: dict[str, dict[str, Any]] = {
    "end tokens": {"eos_token_id": ENDS},
    "one end token": {"eos_token_id": 5},
    "no end before": {"eos_token_id": ENDS, "min_new_tokens": 7},
    "no end before this length": {"eos_token_id": ENDS, "min_length": 14},
    "length": {"max_new_tokens": None, "max_length": 20},
    "repetition penalty": {"repetition_penalty": 1.7},
    "bad words": {"bad_words_ids": [[3], [22, 34], [5]], "eos_token_id": [5]},
    "token bias": {"sequence_bias": {(17,): 2.0, (30,): -3.0}},
    "banned by bias": {"sequence_bias": [[[17, 3], float("-inf")], [[4], 1.5]]},
    "suppressed": {"suppress_tokens": [30, 18, 16]},
    "all": {
        "repetition_penalty": 1.3, "sequence_bias": {(17,): 2.0}, "bad_words_ids": [[3], [22, 34]],
        "suppress_tokens": [30], "eos_token_id": ENDS, "min_new_tokens": 5,
    },
    "what has no effect": {
        "length_penalty": 2.0, "early_stopping": False, "renormalize_logits": True, "num_assistant_tokens": 3,
        "cache_implementation": "dynamic",
    },
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
def test_options_mean_what_they_mean_in_transformers(model: Any, name: str) -> None:
    """With and without a drafter, for rows of different lengths."""
    for drafter in (None, NGram(minimum=1)):
        theirs, ours = both(model, ragged(4, 9, 2), drafter=drafter, length=4, **OPTIONS[name])
        assert torch.equal(ours, theirs)


WARPERS: list[dict[str, Any]] = [
    {}, {"top_k": 0}, {"top_k": 7}, {"temperature": 0.6, "top_k": 0}, {"top_p": 0.7}, {"min_p": 0.2},
    {"typical_p": 0.6},
    {"temperature": 1.7, "top_k": 30, "top_p": 0.9, "min_p": 0.02, "typical_p": 0.95},
    {"temperature": 0.8, "repetition_penalty": 1.4, "sequence_bias": {(2,): 1.0}, "bad_words_ids": [[3]]},
]  # fmt: skip


@pytest.mark.parametrize("options", WARPERS, ids=str)
def test_the_law_is_that_of_transformers(llama: Any, options: dict[str, Any]) -> None:
    """Probabilities behind the whole chain, on random logits."""
    ids = torch.randint(VOCAB, (1, 9))
    config, _ = llama._prepare_generation_config(None, do_sample=True, **options)
    llama._prepare_special_tokens(config, device="cpu", batch_size=1)
    chain = llama._get_logits_processor(config, input_ids_seq_length=9, encoder_input_ids=ids, device="cpu")
    compiled = kernels.compile_sampler(to_sampler(config, [], [], VOCAB, ids), vocab_size=VOCAB)
    for scale in (0.3, 1.0, 4.0):
        logits = scale * torch.randn(1, VOCAB)
        theirs = chain(ids, logits.clone()).softmax(dim=-1).numpy()
        ours = kernels.process(logits, compiled, seeds=[0], positions=[9], history=[kernels.History(ids[0].numpy())])
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def sampled(model: Any, inputs: dict[str, Any], **options: Any) -> torch.Tensor:
    given = {"max_new_tokens": 16, "do_sample": True, "pad_token_id": PAD, "top_k": 0, **inputs, **options}
    return model.generate(**given, custom_generate=hf_generate)


def test_a_seed_fixes_the_text(model: Any) -> None:
    """Whatever drafts, and whoever the neighbours are."""
    inputs = ragged(4, 9, 2)
    first = sampled(model, inputs, seed=7)
    for drafter in DRAFTERS.values():
        assert torch.equal(sampled(model, inputs, seed=7, drafter=drafter(), length=3), first)
    assert not torch.equal(sampled(model, inputs, seed=8), first)
    alone = sampled(model, {"input_ids": inputs["input_ids"][:1, -4:]}, seed=7)
    assert torch.equal(alone[0, 4:], first[0, 9:])
    mixed = sampled(model, inputs, seed=[7, 8, 9])
    assert torch.equal(mixed[0], first[0])
    assert not torch.equal(mixed[1], first[1])


def test_without_a_seed_torch_decides(llama: Any) -> None:
    texts = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        texts.append(sampled(llama, ragged(4)))
    assert torch.equal(texts[0], texts[1])
    assert not torch.equal(texts[0], texts[2])
    state = torch.get_rng_state()
    llama.generate(**ragged(4), max_new_tokens=2, do_sample=False, custom_generate=hf_generate)
    assert torch.equal(torch.get_rng_state(), state)  # greedy draws nothing


def test_several_samples_of_a_prompt_differ(llama: Any) -> None:
    inputs = ragged(4, 6)
    out = sampled(llama, inputs, seed=7, num_return_sequences=3, eos_token_id=ENDS)
    assert out.shape[0] == 6
    assert torch.equal(out[:, :6], inputs["input_ids"].repeat_interleave(3, dim=0))
    assert all(not torch.equal(out[i], out[j]) for i, j in itertools.combinations(range(6), 2))
    once = sampled(llama, inputs, seed=7, eos_token_id=ENDS)
    assert torch.equal(out[3, : once.shape[1]], once[1, : out.shape[1]])  # sample 0 is the text without samples
    same = {"input_ids": inputs["input_ids"][1:].repeat(3, 1)}
    repeated = sampled(llama, same, seed=7)
    assert all(not torch.equal(repeated[i], repeated[j]) for i, j in itertools.combinations(range(3), 2))


def test_rejection_is_a_choice(llama: Any) -> None:
    for verifier in (Coupled(width=3), Rejection()):
        out = sampled(llama, ragged(4, 9), seed=7, drafter=EarlyExit(1), length=3, verifier=verifier)
        assert out.shape == (2, 25)


def test_a_dictionary_if_asked_for(llama: Any) -> None:
    theirs, ours = both(llama, ragged(4, 9), return_dict_in_generate=True, eos_token_id=ENDS)
    assert type(ours) is type(theirs)
    assert torch.equal(ours.sequences, theirs.sequences)


class Listener:
    """A streamer that keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[int] = []
        self.puts = 0
        self.ended = False

    def put(self, value: torch.Tensor) -> None:
        self.puts += 1
        self.heard += value.reshape(-1).tolist()

    def end(self) -> None:
        self.ended = True


def test_a_streamer_hears_every_token(llama: Any) -> None:
    """Although transformers 5.23 does not hand it on."""
    for drafter in (None, NGram(minimum=1)):
        listener = Listener()
        out = llama.generate(
            **ragged(6), max_new_tokens=20, pad_token_id=PAD, streamer=listener, custom_generate=hf_generate,
            drafter=drafter, length=4,
        )  # fmt: skip
        assert listener.heard == out[0].tolist()
        assert listener.ended
    assert listener.puts < 1 + 20  # some steps brought several tokens
    with pytest.raises(InvalidArgument, match="single row"):
        llama.generate(**ragged(4, 6), max_new_tokens=2, streamer=Listener(), custom_generate=hf_generate)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """Two letters a token, as a fast tokenizer of transformers."""
    from tokenizers import Tokenizer, decoders, models

    pieces = ["".join(pair) for pair in itertools.product("abcdefgh", repeat=2)][:VOCAB]
    made = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, []))
    made.decoder = decoders.ByteLevel()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made)


def test_stop_strings_end_a_row(llama: Any, tokenizer: Any) -> None:
    """Across the border of two tokens, inside an accepted block."""
    inputs = ragged(6)
    free = llama.generate(**inputs, max_new_tokens=24, pad_token_id=PAD)
    pieces = [tokenizer.convert_ids_to_tokens(i) for i in free[0, 6:].tolist()]
    stop = (pieces[7] + pieces[8])[1:3]
    for drafter in (None, NGram(minimum=1)):
        theirs, ours = both(llama, inputs, stop_strings=[stop], tokenizer=tokenizer, drafter=drafter, length=4)
        assert torch.equal(ours, theirs)
        assert ours.shape[1] < free.shape[1]
    rows = llama.generate(
        **ragged(4, 9, 2), max_new_tokens=24, pad_token_id=PAD, stop_strings="ab", tokenizer=tokenizer,
        custom_generate=hf_generate,
    )  # fmt: skip
    free = llama.generate(**ragged(4, 9, 2), max_new_tokens=24, pad_token_id=PAD)
    for row, whole in zip(rows.tolist(), free.tolist(), strict=True):
        text = "".join(tokenizer.convert_ids_to_tokens(whole[9:]))
        size = (text.index("ab") + 3) // 2 if "ab" in text else 24
        assert row[9 : 9 + size] == whole[9 : 9 + size]
        assert set(row[9 + size :]) <= {PAD}
    custom: dict[str, Any] = {"custom_generate": hf_generate}
    with pytest.raises(InvalidArgument, match="pad_token_id"):
        llama.generate(**ragged(4, 6), max_new_tokens=2, stop_strings="ab", tokenizer=tokenizer, **custom)
    with pytest.raises(InvalidArgument, match="fast tokenizer"):
        llama.generate(**ragged(4), max_new_tokens=2, stop_strings="ab", **custom)


class Favour(transformers.LogitsProcessor):
    """A processor of one's own: the id after the last one is likely, even ones are not."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores = scores.clone()
        scores[:, ::2] -= 2.0
        scores[torch.arange(len(scores)), (input_ids[:, -1] + 1) % VOCAB] += 3.0
        return scores


def test_processors_of_ones_own(model: Any) -> None:
    """Called as transformers calls them, for drafted tokens too."""
    processors = transformers.LogitsProcessorList([Favour(), transformers.RepetitionPenaltyLogitsProcessor(1.2)])
    for lengths, drafter in itertools.product([(6,), (5, 5)], (None, NGram(minimum=1))):
        theirs, ours = both(
            model, ragged(*lengths), logits_processor=processors, drafter=drafter, length=4, eos_token_id=ENDS,
            min_new_tokens=5, bad_words_ids=[[4], [6, 7]],
        )  # fmt: skip
        assert torch.equal(ours, theirs)
    theirs, ours = both(model, ragged(6), prefix_allowed_tokens_fn=lambda row, ids: [1, 2, 3, int(ids[-1]) // 2])
    assert torch.equal(ours, theirs)


def test_processors_that_do_not_fit(llama: Any) -> None:
    own = transformers.LogitsProcessorList([Favour()])
    twice = transformers.LogitsProcessorList([transformers.RepetitionPenaltyLogitsProcessor(1.5)])
    for expected, options in (
        ("after repetition_penalty", {"logits_processor": own, "repetition_penalty": 1.2}),
        ("after repetition_penalty", {"logits_processor": own, "sequence_bias": {(3,): 1.0}}),
        ("both set a Repetition", {"logits_processor": twice, "repetition_penalty": 1.2}),
        ("which row", {"prefix_allowed_tokens_fn": lambda row, ids: [1, 2]}),
    ):
        with pytest.raises(InvalidArgument, match=expected):
            both(llama, ragged(4, 6), **options)


UNSUPPORTED: dict[str, dict[str, Any]] = {
    "num_beams": {"num_beams": 3},
    "penalty_alpha": {"penalty_alpha": 0.6, "top_k": 4},
    "dola_layers": {"dola_layers": "low"},
    "prompt_lookup_num_tokens": {"prompt_lookup_num_tokens": 4},
    "assistant_early_exit": {"assistant_early_exit": 1},
    "guidance_scale": {"guidance_scale": 1.5},
    "no_repeat_ngram_size": {"no_repeat_ngram_size": 2},
    "encoder_repetition_penalty": {"encoder_repetition_penalty": 1.2},
    "encoder_no_repeat_ngram_size": {"encoder_no_repeat_ngram_size": 2},
    "top_h": {"top_h": 0.5, "do_sample": True},
    "epsilon_cutoff": {"epsilon_cutoff": 0.01, "do_sample": True},
    "eta_cutoff": {"eta_cutoff": 0.01, "do_sample": True},
    "forced_bos_token_id": {"forced_bos_token_id": 3},
    "forced_eos_token_id": {"forced_eos_token_id": 3},
    "remove_invalid_values": {"remove_invalid_values": True},
    "exponential_decay_length_penalty": {"exponential_decay_length_penalty": (2, 1.1), "eos_token_id": 3},
    "begin_suppress_tokens": {"begin_suppress_tokens": [3]},
    "sequence_bias is supported for single": {"sequence_bias": {(3, 4): 2.0}},
    "watermarking_config": {"watermarking_config": transformers.WatermarkingConfig()},
    "max_time": {"max_time": 1.0},
    "use_cache": {"use_cache": False},
    "cache_implementation": {"cache_implementation": "static"},
    "prefill_chunk_size": {"prefill_chunk_size": 4},
    "output_scores": {"output_scores": True, "return_dict_in_generate": True},
    "output_logits": {"output_logits": True, "return_dict_in_generate": True},
    "output_attentions": {"output_attentions": True, "return_dict_in_generate": True},
    "output_hidden_states": {"output_hidden_states": True, "return_dict_in_generate": True},
    "synced_gpus": {"synced_gpus": True},
    "Impatience": {"stopping_criteria": "Impatience"},
    "MaxLengthCriteria": {"stopping_criteria": "MaxLengthCriteria"},
    "cannot continue": {cache_name(toy("Llama")): "cache"},
    "position_ids": {"position_ids": torch.arange(3, 9)[None]},
    "left only": {"attention_mask": torch.tensor([[1, 1, 1, 1, 1, 0]])},
    "padding on the left": {"attention_mask": torch.tensor([[1, 0, 1, 1, 1, 1]])},
    "assistant_model": {"assistant_model": "model"},
}  # fmt: skip


class Impatience(transformers.StoppingCriteria):
    def __call__(self, input_ids: torch.Tensor, scores: Any, **others: Any) -> torch.Tensor:
        return torch.ones(len(input_ids), dtype=torch.bool)


@pytest.mark.parametrize("reason", UNSUPPORTED)
def test_what_is_not_supported_is_refused(llama: Any, reason: str) -> None:
    made = {
        "cache": lambda: transformers.DynamicCache(config=llama.config),
        "model": lambda: toy("Llama"),
        "Impatience": lambda: transformers.StoppingCriteriaList([Impatience()]),
        "MaxLengthCriteria": lambda: transformers.StoppingCriteriaList([transformers.MaxLengthCriteria(8)]),
    }
    options = {
        name: made[value]() if isinstance(value, str) and value in made else value
        for name, value in UNSUPPORTED[reason].items()
    }
    given = {**ragged(6), "max_new_tokens": 4, "pad_token_id": PAD, "eos_token_id": None, **options}
    with pytest.raises(InvalidArgument, match=reason):
        llama.generate(**given, custom_generate=hf_generate)


def test_an_option_of_the_future_is_refused(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is known to be carried out, or to have no effect, passes."""
    right = transformers.GenerationConfig.__init__

    def later(self: Any, **given: Any) -> None:
        self.telepathy = given.pop("telepathy", None)
        right(self, **given)

    monkeypatch.setattr(transformers.GenerationConfig, "__init__", later)
    llama.generate(**ragged(4), max_new_tokens=2, custom_generate=hf_generate)
    config = transformers.GenerationConfig(telepathy=3, max_new_tokens=2)
    with pytest.raises(InvalidArgument, match="telepathy"):
        llama.generate(**ragged(4), generation_config=config, custom_generate=hf_generate)


def test_inputs_that_do_not_fit(llama: Any) -> None:
    common: dict[str, Any] = {"max_new_tokens": 4, "custom_generate": hf_generate}
    embeds = llama.get_input_embeddings()(torch.tensor([[1, 2, 3]])).detach()
    with pytest.raises(InvalidArgument, match="inputs_embeds"):
        llama.generate(inputs_embeds=embeds, **common)
    with pytest.raises(LimitExceeded, match="context"):
        llama.generate(**ragged(9), **{**common, "max_new_tokens": 500})
    with pytest.raises(InvalidArgument, match=r"model\.generate"):
        hf_generate(llama, torch.tensor([[1]]))
    with pytest.raises(InvalidArgument, match="token_type_ids"):
        toy("GPT2").generate(**ragged(4), token_type_ids=torch.zeros(1, 4, dtype=torch.int64), **common)
    with pytest.raises(UnsupportedModel, match="sliding window"):
        toy("Mistral", sliding_window=16).generate(**ragged(4), **common)
    with pytest.raises(ForetokenError, match="seed"):
        sampled(llama, ragged(4), seed=-1)


def test_nothing_of_the_model_changes(llama: Any) -> None:
    llama.generation_config.eos_token_id = ENDS
    before = llama.generation_config.to_dict(), llama.config.to_dict()
    both(llama, ragged(4, 6), drafter=NGram(minimum=1))
    assert (llama.generation_config.to_dict(), llama.config.to_dict()) == before


def test_the_default_sampler_is_the_law_of_the_model(llama: Any) -> None:
    """Not a default of ours: `do_sample` alone keeps transformers' top_k of 50."""
    config, _ = llama._prepare_generation_config(None, do_sample=True)
    assert to_sampler(config, [], [], VOCAB, torch.ones(1, 1)) == Sampler(top_k=50)
    config, _ = llama._prepare_generation_config(None, do_sample=False)
    assert to_sampler(config, [], [], VOCAB, torch.ones(1, 1)).is_greedy
