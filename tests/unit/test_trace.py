"""The page of a trace: every token and its origin, nothing from outside, and no text that becomes markup."""

from __future__ import annotations

import html.parser
import itertools
import pickle
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretoken.canvas import Stats, Step
from foretoken.trace import Trace
from foretoken.trace.alignment import HALF, Alignment
from foretoken.trace.marks import duration, percent, rate, visible

PIECES = ["Once", " upon", " a", " time", "\n", " the", "  cat", "\tsat", "<b>", HALF, HALF, "<|end|>"]


class Outline(html.parser.HTMLParser):
    """What a browser would make of a page: tags, attributes, and the text that is not in a tooltip."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.classes: Counter[str] = Counter()
        self.attributes: list[tuple[str, str | None]] = []
        self.text, self.tips, self._open = "", "", []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += attrs
        names = (dict(attrs).get("class") or "").split()
        self.classes.update(names)
        if tag not in ("meta", "link", "input"):
            self._open.append("tip" if "tip" in names or tag in ("style", "script", "del") else "text")

    def handle_endtag(self, tag: str) -> None:
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if "tip" in self._open:
            self.tips += data
        else:
            self.text += data


def made(*steps: tuple[list[int], list[int], int], source: str = "suffix", row: int = 0) -> list[Step]:
    """Steps of a row from (tokens, drafted, accepted)."""
    return [
        Step(row, tokens, drafted, accepted, source if drafted else "", gaps=[1.0] * len(tokens))
        for tokens, drafted, accepted in steps
    ]


def trace(steps: list[Step], prompts: tuple[list[int], ...] = ([0, 1],), pieces: list[str] = PIECES) -> Trace:
    stats = Stats(prompt_tokens=sum(map(len, prompts)), forwards=len(steps), row_forwards=len(steps))
    for step in steps:
        stats.count(step)
    stats.seconds.update(prompt=0.5, model=2.0, draft=0.25, sample=0.25, total=4.0)
    return Trace(steps, [np.array(prompt) for prompt in prompts], stats, pieces.__getitem__)


STEPS = made(([2], [], 0), ([3, 4, 5], [3, 4, 7], 2), ([6, 7], [6], 1), ([8], [1, 2, 3], 0))


def test_every_token_shows_how_it_came() -> None:
    """Prompt, chosen, guessed and right, chosen instead: each as often as in the steps."""
    page = Outline(trace(STEPS).to_html())
    rows = trace(STEPS).to_html().partition('<div class="text"')[2].partition('<p class="note">')[0]
    assert rows.count('class="t given"') == 2
    assert rows.count("data-d=") == 3
    assert rows.count("instead") - rows.count("</b> instead") >= 2
    assert rows.count('class="tip"') == 7
    assert page.classes["tip"] == 7
    assert "Once upon a time" in page.text


def test_refused_guesses_are_told_with_what_was_chosen() -> None:
    """In words, for the pointer and the keyboard; those behind them too."""
    page = Outline(trace(STEPS).to_html())
    assert "suffix guessed \tsat, the model chose  the instead" in page.tips
    assert "suffix guessed  upon, the model chose <b> instead" in page.tips
    assert "dropped with it:  a  time" in page.tips
    assert ("tabindex", "0") in page.attributes


def test_text_is_kept_to_the_character() -> None:
    """Spaces, tabs and newlines stay, so that what is copied is the text."""
    text = Outline(trace(STEPS).to_html()).text
    assert "Once upon a time\n the  cat\tsat<b>" in text


def test_figures_and_drawings() -> None:
    """The numbers of the stats; a bar for each place; a part of time for each part."""
    page = Outline(trace(STEPS).to_html())
    for figure in ("1.75", "43 %", "tokens a forward", "tokens a second", "near ties", "3 of 7"):
        assert figure in page.text
    assert page.tags["svg"] == 1
    assert page.classes["bar"] == page.classes["track"] == 3
    assert [
        float(height) for height in re.findall(r'class="bar" y="[^"]+" height="([^"]+)"', trace(STEPS).to_html())
    ] == [pytest.approx(share * 100, abs=0.05) for share in trace(STEPS).stats.acceptance_by_position]
    for part in ("prompt", "model", "guessing", "choosing, checking", "everything else", "25 %"):
        assert part in page.text


def test_a_column_for_each_forward() -> None:
    """As high as what it brought and dropped."""
    page = trace(STEPS).to_html()
    assert re.findall(r"--a:(\d+);--s:(\d+);--r:(\d+)", page) == [
        ("0", "1", "0"), ("2", "1", "1"), ("1", "1", "0"), ("0", "1", "3")
    ]  # fmt: skip


def test_rows_of_a_batch_are_sections() -> None:
    """Each with its own prompt, also a row without steps."""
    steps = made(([2], [], 0)) + made(([3], [5], 0), row=1, source="small")
    steps[0].finish_reason = "end"
    page = Outline(trace(steps, ([0], [1], [2, 2])).to_html())
    assert page.classes["row"] == 3
    assert "ended by the model" in page.text
    assert "Text 3 2 tokens given, 0 made in 0 forwards" in page.text


def test_without_a_drafter_there_is_nothing_to_unfold() -> None:
    """No chart of acceptance, no legend of guesses, and without times no times."""
    plain = trace(made(([2], [], 0), ([3], [], 0)))
    plain.stats.seconds["total"] = 0.0
    page = Outline(plain.to_html())
    assert page.tags["svg"] == 0
    assert page.tags["table"] == 0
    assert "Nothing was guessed here" in page.text
    assert 'id="unfold" hidden' in plain.to_html()


EVIL = [
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</span></div></body>", "$body $rows ${charts}",
    "&lt;&amp;", "<!--", "]]>", "javascript:alert(1)", "' onmouseover='alert(1)", "</style><style>*{display:none}",
]  # fmt: skip


def test_no_text_becomes_markup() -> None:
    """Of tokens, prompts, guesses or names: the tags of the page are those of a harmless one."""
    ids = list(range(len(EVIL)))
    guesses = [[(i + 1) % len(EVIL)] for i in ids]
    evil = trace(made(*(([i], guesses[i], 0) for i in ids), source=EVIL[1]), (ids,), EVIL)
    evil.stats.by_source = {EVIL[1]: [10, 0]}
    tame = trace(made(*(([i], guesses[i], 0) for i in ids), source="name"), (ids,), [f"{i}abc" for i in ids])
    evil_page, tame_page = Outline(evil.to_html()), Outline(tame.to_html())
    for tag in tame_page.tags.keys() | evil_page.tags.keys():
        if tag != "i":  # marks of spaces
            assert evil_page.tags[tag] == tame_page.tags[tag], tag
    assert not [name for name, _ in evil_page.attributes if name.startswith("on")]
    for text in EVIL:
        assert text in evil_page.text
        assert text in evil_page.tips


def test_nothing_comes_from_outside() -> None:
    """No address, no link, no import in the page."""
    page = trace(STEPS).to_html()
    assert not re.search(r"https?:|//[a-z]|url\(|@import|\bsrc=|fetch\(|XMLHttp", page)
    assert [value for name, value in Outline(page).attributes if name == "href"] == ["data:,"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x00", "U+0000"), ("\x1b", "U+001B"), ("\r", "U+000D"), ("\x7f", "U+007F"), ("\x85", "U+0085"),
        ("\u202e", "right-to-left override"), ("\u200b", "U+200B"), ("\u00a0", "no-break space"),
        ("\ud83d", "U+D83D"), (HALF, "part of a character"), ("", "nothing"), ("\u2028", "U+2028"),
        ("\ue000", "U+E000"),
    ],
)  # fmt: skip
def test_what_cannot_be_seen_is_shown(text: str, shown: str) -> None:
    """Control characters, marks of direction, halves: by name or number, and they do not do what they do."""
    marked = visible(text)
    assert shown in marked
    assert text == "" or text == HALF or text not in marked
    marked.encode()


def test_newlines_do_not_break_a_quotation() -> None:
    """In a tooltip the mark stands alone."""
    assert visible("\n") == '<i class="n"></i>\n'
    assert visible("\n", breaks=False) == '<i class="n"></i>'


def test_cut_characters_are_shown_whole() -> None:
    """With the last token of theirs; those before are marked; the true half at the end stays one."""
    steps = made(([0, 9], [], 0), ([10, 1], [], 0), ([9], [], 0))
    for step, text in zip(steps, ("Once", "ï upon", ""), strict=True):
        step.text = text
    page = trace(steps).to_html().partition('<div class="text"')[2].partition('<p class="note">')[0]
    shown = re.findall(r'data-f="\d">(.*?)<span class="tip"', page)
    assert [re.sub("<[^>]+>", "", token) for token in shown] == ["Once", "", "ï", " upon", HALF]
    assert shown[1].startswith('<i class="h"')


def test_prompts_with_cut_characters_are_shown_whole() -> None:
    """If their text is given."""
    whole = Trace(made(([2], [], 0)), [np.array([9, 10, 1])], Stats(), PIECES.__getitem__, texts=["é upon"])
    assert "é upon a" in Outline(whole.to_html()).text


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters=HALF)), st.data())
def test_alignment_gives_all_characters_back(text: str, data: st.DataObject) -> None:
    """However bytes are cut into tokens and tokens into steps, in order, and each to a token that was there."""
    raw = text.encode()
    cuts = sorted(data.draw(st.sets(st.integers(0, len(raw)), max_size=12)) | {0, len(raw)})
    pieces = [raw[a:b] for a, b in itertools.pairwise(cuts)]
    alignment, seen, done, released = Alignment(), b"", 0, []
    while done < len(pieces):
        count = data.draw(st.integers(1, 4))
        new = pieces[done : done + count]
        done += len(new)
        certain = len(seen.decode(errors="ignore"))
        seen += b"".join(new)
        more = alignment.feed([piece.decode(errors="replace") for piece in new], seen.decode(errors="ignore")[certain:])
        assert all(index < done for index, _ in more)
        released += more
    assert "".join(characters for _, characters in released) == text
    indices = [index for index, _ in released]
    assert indices == sorted(indices)
    if all(HALF not in piece.decode(errors="replace") for piece in pieces):
        assert released == [(index, piece.decode()) for index, piece in enumerate(pieces)]


def test_alignment_of_held_text_and_tokens_without_text() -> None:
    """What may begin a stop string comes later; END has no text."""
    row = Alignment()
    assert row.feed(["ab", "cd"], "abc") == [(0, "ab"), (1, "c")]
    assert row.feed(["e"], "") == []
    assert row.feed(["<|end|>", "f"], "def") == [(1, "d"), (2, "e"), (4, "f")]


def test_save_replaces_whole_files_only(tmp_path: Path) -> None:
    """A page that cannot be made leaves the old one, and no scraps."""
    path = tmp_path / "trace.html"
    trace(STEPS).save(path)
    first = path.read_text(encoding="utf-8")
    assert first == trace(STEPS).to_html()
    broken = Trace(STEPS, [], Stats(), lambda _: 1 / 0)  # type: ignore[arg-type, return-value]
    with pytest.raises(ZeroDivisionError):
        broken.save(path)
    assert path.read_text(encoding="utf-8") == first
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(FileNotFoundError):
        trace(STEPS).save(tmp_path / "nowhere" / "trace.html")


def test_is_a_sequence_of_steps_and_pickles() -> None:
    """Also if the pieces come from a lambda; the pickled trace makes the same page."""
    whole = trace(STEPS)
    assert (len(whole), list(whole), whole[1], whole[-1]) == (4, STEPS, STEPS[1], STEPS[3])
    STEPS_WITH_TOP = made(([2], [], 0))
    STEPS_WITH_TOP[0].top, STEPS_WITH_TOP[0].logprobs = [[(2, -0.1), (8, -3.0)]], [-0.1]
    fresh = Trace(STEPS_WITH_TOP, [np.array([0])], Stats(), lambda unit: PIECES[unit])
    again = pickle.loads(pickle.dumps(fresh))
    assert again.to_html() == fresh.to_html()
    assert "probability 90 %" in Outline(fresh.to_html()).tips
    assert "most probable:  a 90 %, <b> 5.0 %" in Outline(fresh.to_html()).tips


def test_near_ties_are_marked() -> None:
    """Outlined, and told."""
    steps = made(([2], [], 0))
    steps[0].gaps = [3e-7]
    page = Outline(trace(steps).to_html())
    assert page.classes["tie"] == 1
    assert "near tie: the next one was 3.0e-07 nats behind" in page.tips


def test_numbers_for_people() -> None:
    """Rounded as one would say them."""
    assert [percent(share) for share in (0.0, 0.004, 0.095, 0.1, 0.567, 1.0)] == [
        "0 %",
        "0.4 %",
        "9.5 %",
        "10 %",
        "57 %",
        "100 %",
    ]
    assert [rate(figure) for figure in (2.46, 99.94, 1234.5)] == ["2.5", "99.9", "1,234"]
    assert [duration(seconds) for seconds in (0.0004, 0.25, 1.5)] == ["0.4 ms", "250.0 ms", "1.50 s"]
