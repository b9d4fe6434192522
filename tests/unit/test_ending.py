"""Where a row ends: the same place with every drafter, whatever crosses an edge of a block, a token or a character."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import foretoken as ft
from foretoken.canvas import Canvas, Step
from foretoken.errors import ArgumentTypeError, InvalidArgument
from tests.models import FunctionDrafter, TableModel
from tests.unit.test_text import byte_level, metaspace

BYTES = ft.Text(byte_level())
SPACES = ft.Text(metaspace())
PROMPT = [40]


class Script(TableModel):
    """A model that says what it was told: row r (whose prompt is one token, 40 + r) continues with scripts[r]."""

    def __init__(self, *scripts: Sequence[int], vocab_size: int = 400, ends: tuple[int, ...] = ()) -> None:
        super().__init__(vocab_size, ends=ends)
        self.scripts = [list(map(int, script)) for script in scripts]
        self.forwards = 0

    def logits(self, past: Sequence[int]) -> np.ndarray:
        self.forwards += 1
        row = np.full(self.vocab_size, -30.0, dtype=np.float32)
        script = self.scripts[past[0] - PROMPT[0]]
        row[script[(len(past) - 1) % len(script)]] = 30.0
        return row

    def guess(self, row: int, past: list[int], k: int) -> ft.Draft:
        script = self.scripts[past[0] - PROMPT[0]]
        return ft.Draft(np.array([script[(len(past) - 1 + i) % len(script)] for i in range(k)], dtype=np.int64))

    def half_right(self, row: int, past: list[int], k: int) -> ft.Draft:
        right = self.guess(row, past, k).tokens
        right[len(right) // 2 :] = 0
        return ft.Draft(right)


def strategies(model: Script) -> list[ft.Autoregressive]:
    """Nothing drafted; right guesses in blocks of several lengths; guesses that go wrong in the middle."""
    right, wrong = FunctionDrafter(model.guess, "right"), FunctionDrafter(model.half_right, "half right")
    lengths = [ft.Autoregressive(right, length=length) for length in (1, 2, 3, 8)]
    return [ft.Autoregressive(), *lengths, ft.Autoregressive(wrong, length=4)]


def write(model: Script, codec: ft.Text | None, **options: object) -> ft.Generation:
    """All rows of a script with all strategies: one result, for they must not differ."""
    canvas = Canvas([[PROMPT[0] + row] for row in range(len(model.scripts))])
    results = [ft.generate(model, canvas, strategy, codec=codec, **options) for strategy in strategies(model)]
    for other in results[1:]:
        for a, b in zip(results[0].rows, other.rows, strict=True):
            assert a.tokens.tolist() == b.tokens.tolist()
            assert a.signal == b.signal if codec else True
            assert a.finish_reason == b.finish_reason
        assert other.stats.tokens == results[0].stats.tokens
    return results[0]


Decode = Callable[[list[int]], str]


def ending(decode: Decode, tokens: list[int], stop: Sequence[str], least: int = 0) -> tuple[str, int, str]:
    """The plain way: add one token after another, look through all the text each time."""
    after = decode(tokens[:least])
    for count in range(least + 1, len(tokens) + 1):
        text = decode(tokens[:count])
        # Of the matches that are complete now the one that ended first counts, of those the longest.
        found = [(text.find(s, len(after)) + len(s), -len(s)) for s in stop if text.find(s, len(after)) >= 0]
        if found:
            end, length = min(found)
            return text[: end + length], count, "stop"
    return decode(tokens), len(tokens), "length"


@settings(max_examples=60)
@given(
    st.text(alphabet="ab é日", min_size=1, max_size=24),
    st.lists(st.text(alphabet="ab é日", min_size=1, max_size=4), min_size=1, max_size=4),
    st.integers(0, 4),
)
def test_stop_strings_stop_where_a_search_through_the_text_finds_them(text: str, stop: list[str], least: int) -> None:
    tokens = BYTES.encode(text).tolist()
    least = min(least, len(tokens))
    # A search from the least token on needs whole characters before it.
    while "�" in BYTES.decode(tokens[:least]):
        least -= 1
    out = write(Script(tokens), BYTES, stop=stop, min_tokens=least, max_tokens=len(tokens))
    assert (out.signal, len(out.tokens), out.finish_reason) == ending(BYTES.decode, tokens, stop, least)


@settings(max_examples=25)
@given(
    st.text(alphabet="ab é日", min_size=1, max_size=16).filter(str.strip),
    st.lists(st.text(alphabet="ab é日", min_size=1, max_size=3), min_size=1, max_size=3),
)
def test_stop_strings_of_a_tokenizer_that_is_not_byte_level(text: str, stop: list[str]) -> None:
    tokens = SPACES.encode(text).tolist()
    out = write(Script(tokens), SPACES, stop=stop, max_tokens=len(tokens))

    def said(generated: list[int]) -> str:  # after the prompt (the byte "%") the first word keeps its space
        return SPACES.decode([PROMPT[0], *generated])[1:]

    assert (out.signal, len(out.tokens), out.finish_reason) == ending(said, tokens, stop)


@settings(max_examples=40)
@given(
    st.text(alphabet="ab é日", min_size=1, max_size=16),
    st.lists(st.text(alphabet="ab é日", min_size=1, max_size=4), max_size=3),
    st.integers(0, 5),
)
def test_a_stream_shows_all_that_is_certain_and_nothing_else(text: str, stop: list[str], which: int) -> None:
    tokens = BYTES.encode(text).tolist()
    model = Script(tokens)
    options = {"codec": BYTES, "stop": stop, "max_tokens": len(tokens)}
    whole = ft.generate(model, Canvas([PROMPT]), strategies(model)[which], **options)
    shown, seen = "", []
    for step in ft.stream(model, Canvas([PROMPT]), strategies(model)[which], **options):
        shown += step.text
        seen += step.tokens
        assert whole.signal.startswith(shown)
        if step.finish_reason is None:
            read = BYTES.decode(seen).rstrip("�")
            held = read[len(shown) :]
            assert held == "" or any(s.startswith(held) for s in stop), (read, shown)
    assert shown == whole.signal
    assert seen == whole.tokens.tolist()


@pytest.mark.parametrize(
    ("text", "stop", "signal"),
    [
        ("once upon a time", "upon", "once "),
        ("once upon a time", "once", ""),
        ("once upon a time", ["time", "upon a"], "once "),
        ("aaab", ["aab"], "a"),
        ("abcabd", ["abd", "bca"], "a"),
        ("abcd", ["bc", "abcd"], "a"),
        ("abcd", ["bcd", "abcd"], ""),
        ("naïve café", "é", "naïve caf"),
        ("🙂🙃🙂", "🙃", "🙂"),
        ("abc", "abcd", "abc"),
        ("日本語", "本", "日"),
        ("a\n\nb", "\n\n", "a"),
    ],
)
def test_stop_strings_by_example(text: str, stop: str | list[str], signal: str) -> None:
    tokens = BYTES.encode(text)
    out = write(Script(tokens), BYTES, stop=stop, max_tokens=len(tokens))
    assert out.signal == signal
    assert out.finish_reason == ("length" if signal == text else "stop")


def test_the_parts_of_a_step_are_cut_alike() -> None:
    tokens = BYTES.encode("a b c d e f").tolist()
    model = Script(tokens)
    right = ft.Autoregressive(FunctionDrafter(model.guess), length=8)
    options = {"codec": BYTES, "stop": "c", "max_tokens": len(tokens), "logprobs": 2}
    steps = list(ft.stream(model, Canvas([PROMPT]), right, **options))
    for step in steps:
        assert len(step.tokens) == len(step.gaps) == len(step.logprobs) == len(step.top)
        assert step.accepted <= len(step.drafted)
        assert step.accepted <= len(step.tokens)
    assert steps[-1].finish_reason == "stop"
    assert [step.finish_reason for step in steps[:-1]] == [None] * (len(steps) - 1)
    out = ft.generate(model, Canvas([PROMPT]), right, **options)
    assert len(out.logprobs) == len(out.tokens) == out.stats.tokens < len(tokens)


def test_end_stops_where_it_comes_and_has_no_text() -> None:
    end = BYTES.tokenizer.token_to_id("<|end|>")
    tokens = [*BYTES.encode("ab"), end, *BYTES.encode("more")]
    out = write(Script(tokens, ends=(end,)), BYTES, max_tokens=20)
    assert out.finish_reason == "end"
    assert out.tokens.tolist() == tokens[: tokens.index(end) + 1]
    assert out.signal == "ab"
    # Another id may be named END, or none.
    for ends, reason in (((), "length"), ((tokens[0],), "end")):
        out = write(Script(tokens, ends=(end,)), BYTES, max_tokens=4, end_tokens=ends)
        assert out.finish_reason == reason
        assert len(out.tokens) == (1 if ends else 4)


def test_stop_tokens_stop_like_end_and_have_no_text() -> None:
    tokens = BYTES.encode("xyz").tolist()
    out = write(Script(tokens), BYTES, max_tokens=20, stop_tokens=[tokens[1], 399])
    assert (out.finish_reason, out.tokens.tolist(), out.signal) == ("stop", tokens[:2], "x")
    # What is both is END.
    out = write(Script(tokens, ends=(tokens[1],)), BYTES, max_tokens=20, stop_tokens=tokens)
    assert out.finish_reason == "stop"
    out = write(Script(tokens, ends=(tokens[0],)), BYTES, max_tokens=20, stop_tokens=tokens)
    assert out.finish_reason == "end"


@pytest.mark.parametrize("most", [1, 2, 7, 8, 9, 20])
def test_max_tokens_is_exact(most: int) -> None:
    out = write(Script(range(300)), None, max_tokens=most)
    assert out.tokens.tolist() == list(range(most))
    assert out.finish_reason == "length"


def test_the_last_token_may_end_for_two_reasons() -> None:
    tokens = BYTES.encode("abc").tolist()
    assert write(Script(tokens, ends=(tokens[-1],)), BYTES, max_tokens=len(tokens)).finish_reason == "end"
    assert write(Script(tokens), BYTES, max_tokens=len(tokens), stop="c").finish_reason == "stop"


@pytest.mark.parametrize("least", [0, 1, 3, 5])
def test_min_tokens_keep_end_from_being_drawn(least: int) -> None:
    """Where END is wanted before, the next best is taken: the script's other ids are equally unlikely, so id 0."""
    end, stop = 7, 8
    out = write(Script([5, end, stop, 6, end], ends=(end,)), None, min_tokens=least, max_tokens=12, stop_tokens=[stop])
    tokens = out.tokens.tolist()
    free = [5, end, stop, 6, end, 5, end]
    count = next(i for i in range(least, 7) if free[i] in (end, stop)) if least else 1
    assert len(tokens) == count + 1
    assert not {end, stop} & set(tokens[:least])
    assert tokens[-1] in (end, stop)


def test_stop_strings_are_looked_for_behind_min_tokens() -> None:
    tokens = [BYTES.tokenizer.token_to_id(letter) for letter in "abababab"]
    for least, count in ((0, 2), (1, 4), (2, 4), (3, 6), (7, 8)):
        out = write(Script(tokens), BYTES, stop="ab", min_tokens=least, max_tokens=8)
        expected = (count, "length") if least == 7 else (count, "stop")
        assert (len(out.tokens), out.finish_reason) == expected
        assert out.signal == "abababab"[: count if least == 7 else count - 2]


def test_every_row_ends_by_itself() -> None:
    end = BYTES.tokenizer.token_to_id("<|end|>")
    texts = ["one stop two", "three", "four five six seven eight nine"]
    scripts = [[*BYTES.encode(text), end] for text in texts]
    out = write(Script(*scripts, ends=(end,)), BYTES, stop=" stop", max_tokens=14)
    assert [row.finish_reason for row in out.rows] == ["stop", "end", "length"]
    assert [row.signal for row in out.rows] == ["one", "three", BYTES.decode(scripts[2][:14])]


def test_a_character_that_is_cut_by_the_limit_is_shown_as_broken() -> None:
    for codec in (BYTES, SPACES):
        tokens = codec.encode("a🚀").tolist()
        out = write(Script(tokens), codec, max_tokens=len(tokens) - 1)
        assert out.signal.strip().rstrip("�") == "a"
        assert out.signal.endswith("�")


def test_half_a_character_waits_for_the_other_half() -> None:
    tokens = BYTES.encode("🚀é").tolist()
    assert len(tokens) > 3
    texts = [step.text for step in ft.stream(Script(tokens), Canvas([PROMPT]), codec=BYTES, max_tokens=len(tokens))]
    assert "".join(texts) == "🚀é"
    assert texts.index("🚀") == len(BYTES.encode("🚀")) - 1 > 0
    assert all("�" not in text for text in texts)


def test_ids_beyond_the_tokenizer_have_no_text() -> None:
    """Models round their vocabulary up; nothing keeps them from drawing what no token has."""
    out = write(Script([*BYTES.encode("a"), 399, *BYTES.encode("b")]), BYTES, max_tokens=3)
    assert out.signal == "ab"


@pytest.mark.parametrize(
    ("stop", "error", "message"),
    [
        ("", InvalidArgument, "empty"),
        (["a", ""], InvalidArgument, "empty"),
        (["a", 5], ArgumentTypeError, "int"),
        (b"a", ArgumentTypeError, "int"),
        (5, ArgumentTypeError, "int"),
        (None, ArgumentTypeError, "NoneType"),
        ("a\ud800", InvalidArgument, "character 1"),
        (["a" * 2**17], ValueError, "65,?536|131,?072"),
    ],
)
def test_what_is_no_stop_string_is_refused(stop: object, error: type[Exception], message: str) -> None:
    model = Script([1])
    with pytest.raises(error, match=message):
        ft.generate(model, Canvas([PROMPT]), codec=BYTES, stop=stop, max_tokens=3)
    assert model.forwards == 0


def test_stop_strings_need_a_codec() -> None:
    with pytest.raises(InvalidArgument, match="codec"):
        ft.generate(Script([1]), Canvas([PROMPT]), stop="a", max_tokens=3)


def test_ten_thousand_stop_strings() -> None:
    stop = [f"{i:04d}" for i in range(10**4)]
    tokens = BYTES.encode("the year 1984 was").tolist()
    out = ft.generate(Script(tokens), Canvas([PROMPT]), codec=BYTES, stop=stop, max_tokens=len(tokens))
    assert (out.signal, out.finish_reason) == ("the year ", "stop")


@pytest.mark.parametrize("name", ["stop_tokens", "end_tokens"])
@pytest.mark.parametrize(
    ("ids", "error"),
    [
        ([-1], InvalidArgument),
        ([400], InvalidArgument),
        (["a"], ArgumentTypeError),
        ([1.0], ArgumentTypeError),
        ([True], ArgumentTypeError),
        (5, ArgumentTypeError),
        ("ab", ArgumentTypeError),
    ],
)
def test_ids_that_end_are_ids(name: str, ids: object, error: type[Exception]) -> None:
    with pytest.raises(error, match=name):
        ft.generate(Script([1]), Canvas([PROMPT]), max_tokens=3, **{name: ids})


def test_steps_say_which_drafter_was_right() -> None:
    model = Script(range(50))
    strategy = ft.Autoregressive(FunctionDrafter(model.guess, "oracle"), length=4)
    steps = list(ft.stream(model, Canvas([PROMPT]), strategy, max_tokens=20))
    assert all(isinstance(step, Step) for step in steps)
    assert {step.source for step in steps if step.drafted} == {"oracle"}
    assert {step.source for step in steps if not step.drafted} == {""}
    assert sum(len(step.tokens) for step in steps) == 20
