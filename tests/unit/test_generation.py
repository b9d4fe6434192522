"""What a generation says of itself: one row or several, in a terminal, in a notebook, through pickle."""

from __future__ import annotations

import pickle

import numpy as np

from foretoken.canvas import Stats, Step
from foretoken.generation import Generation, Row
from foretoken.trace import Trace


def generation(*texts: str) -> Generation:
    """Rows that say these texts, one character a token, one token a forward."""
    steps = [
        Step(row, [ord(c)], [], 0, "", [1.0], text=c, logprobs=[-0.5], top=[[(ord(c), -0.5)]])
        for row, text in enumerate(texts)
        for c in text
    ]
    stats = Stats(prompt_tokens=len(texts), forwards=max(map(len, texts)), row_forwards=len(steps))
    for step in steps:
        stats.count(step)
    stats.seconds["total"] = 2.0
    rows = [
        Row(
            np.array([ord(c) for c in text]),
            text,
            "length",
            [-0.5] * len(text),
            [[(ord(c), -0.5)] for c in text],
            prompt=i,
        )
        for i, text in enumerate(texts)
    ]
    return Generation(rows, stats, Trace(steps, [np.array([65])] * len(texts), stats, chr))


def test_one_row_speaks_for_itself() -> None:
    """The values themselves, not lists of one."""
    out = generation("abc")
    assert (out.signal, out.finish_reason, out.logprobs) == ("abc", "length", [-0.5] * 3)
    assert out.tokens.tolist() == [97, 98, 99]
    assert out.top_logprobs == [[(97, -0.5)], [(98, -0.5)], [(99, -0.5)]]


def test_several_rows_are_lists() -> None:
    """In the order of the rows."""
    out = generation("abc", "de")
    assert (out.signal, out.finish_reason) == (["abc", "de"], ["length", "length"])
    assert [tokens.tolist() for tokens in out.tokens] == [[97, 98, 99], [100, 101]]
    assert out.logprobs == [[-0.5] * 3, [-0.5] * 2]


def test_repr_is_short() -> None:
    """One line, however long the text."""
    assert (
        repr(generation("abc"))
        == "Generation(Row('abc', 3 tokens, length); 3 tokens in 3 forwards, 1.00 a forward, 1.5 tokens/s)"
    )
    long = repr(generation("a long\ntext " * 50))
    assert len(long) < 200
    assert "\n" not in long
    assert (
        repr(generation("abc", "de"))
        == "Generation(2 rows, 5 tokens in 3 forwards, 1.00 a forward and row, 2.5 tokens/s)"
    )
    assert repr(generation("abc", "de").rows[1]) == "Row('de', 2 tokens, length, prompt 1, sample 0)"


def test_str_is_the_text_and_the_figures() -> None:
    """What a person wants to read first comes first."""
    assert str(generation("abc")) == "abc\n\n[3 tokens in 3 forwards, 1.00 a forward, 1.5 tokens/s]"
    assert str(generation("abc", "de")).splitlines()[:3] == ["[0] abc", "", "[1] de"]


def test_figures_tell_of_guesses_and_ties() -> None:
    """Only where there are some."""
    out = generation("abc")
    out.stats.count(Step(0, [65, 66], [65, 70], 1, "suffix", [1e-7, 1.0]))
    assert "50 % of 2 guesses right" in out.figures
    assert "1 near tie" in out.figures


def test_notebook_shows_tokens_and_figures() -> None:
    """A fragment with its style, without scripts, by the same code as the page."""
    shown = generation("a<b", "de")._repr_html_()
    assert shown.startswith('<div class="foretoken"><style>')
    assert "<script" not in shown
    assert "<html" not in shown
    assert shown.count('class="tip"') == 5
    assert "&lt;" in shown
    assert "tokens a forward" in shown
    for part in ('class="text"', 'class="figures"', 'class="strip"'):
        assert part in shown
        assert part in generation("a<b", "de").trace.to_html()


def test_pickles() -> None:
    """Rows, stats and trace come back as they were."""
    out = generation("abc", "de")
    again = pickle.loads(pickle.dumps(out))
    assert repr(again) == repr(out)
    assert again.signal == out.signal
    assert [a.tolist() for a in again.tokens] == [a.tolist() for a in out.tokens]
    assert again.stats == out.stats
    assert list(again.trace) == list(out.trace)
    assert again._repr_html_() == out._repr_html_()
