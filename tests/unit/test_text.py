"""Text: there and back for every string, and a stream that says the same as the whole, never half a character."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from foretoken.codec.text import Text, incremental_utf8
from foretoken.errors import ArgumentTypeError, CheckpointError, InvalidArgument

SAMPLE = ["once upon a time there was a naïve café", "日本語の文", "he said: once upon 🙂 a time\n\n  x = 1"] * 4


def byte_level(*, vocab_size: int = 320) -> Tokenizer:
    """Byte-level BPE as the recipes train it, with two special tokens and one added word."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(SAMPLE, trainer)
    tokenizer.add_special_tokens(["<|pad|>"])
    tokenizer.add_tokens([AddedToken(" ≥word≤ ", normalized=False)])
    return tokenizer


def metaspace() -> Tokenizer:
    """What Llama 2 has: `▁` for spaces, bytes for what is not in the vocabulary."""
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"<0x{byte:02X}>": 3 + byte for byte in range(256)}
    pieces = ["▁", *"abcdeé", "▁a", "ab", "▁ab"]
    vocab |= {piece: 259 + i for i, piece in enumerate(pieces)}
    merges = [("▁", "a"), ("a", "b"), ("▁a", "b")]
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(["<s>", "</s>"])
    return tokenizer


CODECS = {"byte-level": Text(byte_level()), "metaspace": Text(metaspace())}
TEXTS = st.text(min_size=1, max_size=24) | st.lists(
    st.sampled_from([*SAMPLE[:3], " ab", "日", "é", "🙂"]), min_size=1
).map("".join)
NAMES = st.sampled_from(sorted(CODECS))


def streamed(codec: Text, ids: Iterable[int], *, after: Sequence[int] = ()) -> list[str]:
    """The characters that become certain with each token, and at the end."""
    stream, utf8 = codec.stream(after), incremental_utf8()
    pieces = [utf8.decode(stream.feed(int(token))) for token in ids]
    return [*pieces, utf8.decode(stream.finish(), final=True)]


@given(NAMES, TEXTS.filter(lambda text: text.strip()))
def test_every_text_comes_back(name: str, text: str) -> None:
    codec = CODECS[name]
    ids = codec.encode(text)
    assert ids.dtype == np.int64
    assert ids.ndim == 1
    assert codec.decode(ids) == (text.replace("▁", " ") if name == "metaspace" else text)


@given(NAMES, TEXTS)
def test_a_stream_says_what_the_whole_says(name: str, text: str) -> None:
    codec = CODECS[name]
    for ids in (codec.encode(text), codec.encode(text)[:-1], codec.encode(text)[1:]):
        assert "".join(streamed(codec, ids)) == codec.decode(ids)


@given(NAMES, st.data())
def test_any_ids_stream_and_decode_alike(name: str, data: st.DataObject) -> None:
    """Also rows of bytes that are no text at all, special tokens between them, and ids nobody knows."""
    codec = CODECS[name]
    ids = data.draw(st.lists(st.integers(0, codec.vocab_size + 2), max_size=12))
    assert "".join(streamed(codec, ids)) == codec.decode(ids)


@given(NAMES, st.text(alphabet="ab日🙂é ", min_size=1, max_size=12))
def test_never_half_a_character(name: str, text: str) -> None:
    codec = CODECS[name]
    ids = codec.encode(text)
    pieces = streamed(codec, ids)
    assert "�" not in "".join(pieces)
    # Each piece comes with the token that makes it whole, not later.
    for count in range(1, len(ids) + 1):
        certain = codec.decode(ids[:count]).rstrip("�")
        assert "".join(pieces[:count]) == certain


def test_half_a_character_at_the_end_is_shown_as_broken() -> None:
    for codec in CODECS.values():
        ids = codec.encode("ab 🚀")[:-1]
        assert set(codec.decode(ids)[3:]) == {"�"}
        *pieces, last = streamed(codec, ids)
        assert "".join(pieces) == "ab "
        assert set(last) == {"�"}


def test_a_broken_byte_breaks_nothing_before_it() -> None:
    """The library, asked for the whole, gives up on every byte of the run that a broken one stands in."""
    codec = CODECS["metaspace"]
    broken = codec.tokenizer.token_to_id("<0xFF>")
    ids = [*codec.encode("日日"), broken, *codec.encode("ab")]
    assert codec.tokenizer.decode(ids) == "������� ab"
    assert codec.decode(ids) == "".join(streamed(codec, ids)) == "日日� ab"
    assert codec.decode(ids[: len(ids) - 1]) == "日日�"


@given(NAMES, TEXTS, TEXTS)
def test_a_stream_goes_on_where_a_prompt_ended(name: str, prompt: str, text: str) -> None:
    """The space before a word belongs to the word: a continuation must not lose it."""
    codec = CODECS[name]
    before, rest = codec.encode(prompt), codec.encode(text)
    whole = codec.decode([*before, *rest])
    assert codec.decode(before) + "".join(streamed(codec, rest, after=before)) == whole


def test_a_space_before_a_continuation_is_kept() -> None:
    codec = CODECS["metaspace"]
    ids = codec.encode("ab ab")
    assert "".join(streamed(codec, ids[1:], after=ids[:1])) == " ab"
    assert "".join(streamed(codec, ids[1:])) == "ab"


def test_special_tokens_have_names_but_no_text() -> None:
    for name, special in (("byte-level", "<|end|>"), ("metaspace", "</s>")):
        codec = CODECS[name]
        token = codec.tokenizer.token_to_id(special)
        assert codec.decode([token]) == ""
        assert codec.piece(token) == special
        ids = [*codec.encode("ab"), token, *codec.encode("ab")]
        assert special not in codec.decode(ids)
        assert "".join(streamed(codec, ids)) == codec.decode(ids)


def test_added_words_are_text() -> None:
    codec = CODECS["byte-level"]
    ids = codec.encode("a ≥word≤ b")
    assert codec.tokenizer.token_to_id(" ≥word≤ ") in ids
    assert codec.decode(ids) == "a ≥word≤ b"


def test_decoding_agrees_with_the_library() -> None:
    """Our own way back through bytes is the library's, where there is no broken character to word differently."""
    codec = CODECS["byte-level"]
    rng = np.random.default_rng(0)
    for _ in range(200):
        ids = rng.integers(codec.vocab_size, size=8).tolist()
        assert codec.decode(ids) == codec.tokenizer.decode(ids, skip_special_tokens=True)


def test_pieces_of_all_ids_can_be_shown() -> None:
    for codec in CODECS.values():
        for token in range(codec.vocab_size + 2):
            assert codec.piece(token)
        assert codec.piece(codec.vocab_size) == f"<{codec.vocab_size}>"
        assert codec.piece(-1) == "<-1>"


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize(
    ("prompt", "error", "message"),
    [
        ("", InvalidArgument, "empty"),
        ("a\ud800b", InvalidArgument, "character 1"),
        (None, ArgumentTypeError, "NoneType"),
        (b"bytes", ArgumentTypeError, "bytes"),
        (5, ArgumentTypeError, "int"),
        (["a"], ArgumentTypeError, "list"),
    ],
)
def test_what_is_no_prompt_is_refused(name: str, prompt: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        CODECS[name].encode(prompt)  # type: ignore[arg-type]


@pytest.mark.parametrize("prompts", ["text", b"text", 5, None])
def test_a_canvas_takes_several_prompts(prompts: object) -> None:
    codec = CODECS["byte-level"]
    assert codec.canvas(["a", "once upon"]).rows[1].tolist() == codec.encode("once upon").tolist()
    with pytest.raises(ArgumentTypeError, match=r"sequence of signals|must be a string"):
        codec.canvas(prompts)  # type: ignore[arg-type]


@pytest.mark.parametrize("prompts", [[], ["a", ""]])
def test_a_canvas_of_nothing_is_refused(prompts: list[str]) -> None:
    with pytest.raises(InvalidArgument):
        CODECS["byte-level"].canvas(prompts)


@pytest.mark.parametrize("name", CODECS)
def test_what_is_no_id_is_not_decoded(name: str) -> None:
    codec = CODECS[name]
    with pytest.raises(InvalidArgument, match="-1"):
        codec.decode([5, -1])
    with pytest.raises(ArgumentTypeError, match="float64"):
        codec.decode([5.5])  # type: ignore[list-item]
    assert codec.decode([]) == ""
    assert codec.decode(np.array([2**40])) == ""


def test_a_prompt_that_is_too_much_for_the_tokenizer_is_an_error_of_ours(capfd: pytest.CaptureFixture[str]) -> None:
    """The library panics in a regular expression that runs wild, and a panic of Rust is no Exception."""
    wild = byte_level()
    wild.pre_tokenizer = pre_tokenizers.Split(Regex("(a+)+$"), "isolated")
    with pytest.raises(InvalidArgument, match="cannot encode"):
        Text(wild).encode("a" * 30 + "!")
    assert Text(wild).encode("ab").size
    capfd.readouterr()  # the library prints its panic
    unknown = Tokenizer(models.WordLevel({"a": 0}, unk_token="<unk>"))
    with pytest.raises(InvalidArgument, match="cannot encode"):
        Text(unknown).encode("b")


def saved(folder: Path, tokenizer: Tokenizer, **changes: object) -> Path:
    """A tokenizer.json, some of its keys replaced."""
    path = folder / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(tokenizer.to_str()), **changes}), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", CODECS)
def test_a_file_says_what_the_tokenizer_says(name: str, tmp_path: Path) -> None:
    codec = CODECS[name]
    again = Text.from_file(saved(tmp_path, codec.tokenizer))
    ids = codec.encode("ab naïve 🙂")
    for twin in (again, pickle.loads(pickle.dumps(codec))):
        assert twin.encode("ab naïve 🙂").tolist() == ids.tolist()
        assert twin.decode(ids) == codec.decode(ids)
        assert twin.vocab_size == codec.vocab_size


def test_padding_and_truncation_of_a_file_are_left_out(tmp_path: Path) -> None:
    tokenizer = byte_level()
    ids = Text(tokenizer).encode("once upon a time, and so on").tolist()
    tokenizer.enable_truncation(2)
    assert len(Text(tokenizer).encode("once upon a time, and so on")) == 2
    tokenizer.enable_padding(length=64)
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    assert Text.from_file(path).encode("once upon a time, and so on").tolist() == ids


@pytest.mark.parametrize(
    "text", ["", "{", "null", "[]", "{}", "[" * 10**5, '{"model": {"type": "Pickle"}}', "\x00\xff"]
)
def test_a_broken_file_is_refused_by_name(text: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        Text.from_file(path)


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, byte_level())
    whole = path.read_bytes()
    for part in range(20):
        path.write_bytes(whole[: len(whole) * part // 20])
        with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
            Text.from_file(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "tokenizer.json", tmp_path):
        with pytest.raises(CheckpointError, match=str(tmp_path)):
            Text.from_file(path)


def test_ids_that_are_given_twice_or_enormous_are_refused(tmp_path: Path) -> None:
    model = json.loads(byte_level().to_str())["model"]
    vocab = model["vocab"] | {"once": model["vocab"]["!"]}
    with pytest.raises(CheckpointError, match="more than one token"):
        Text.from_file(saved(tmp_path, byte_level(), model=model | {"vocab": vocab}))
    vocab = model["vocab"] | {"once": 2**32 - 1}
    with pytest.raises(CheckpointError, match="4294967295"):
        Text.from_file(saved(tmp_path, byte_level(), model=model | {"vocab": vocab}))
