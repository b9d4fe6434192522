"""The judge of languages: who speaks for what, whom it cannot tell, and that how much was read plays no part."""

from __future__ import annotations

import pytest

from foretoken.errors import InvalidArgument
from foretoken.evaluate.languages import Detector, Judged, mixed_rate

LINES = [
    *[("de", "Zeige die Hilfe an")] * 6, *[("fr", "Affiche l'aide de git")] * 40, ("es", "Muestra"),
    *[("es", "Muestra la ayuda de git en GNOME")] * 6,
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "source", "judged"),
    [
        ("Zeige Hilfe", "", Judged("de", False, 2, 2)),
        ("AFFICHE hilfe an", "", Judged("de", True, 3, 3)),
        ("Muestra die `Hilfe` en {{la}}", "", Judged("es", True, 3, 3)),
        ("de git", "", Judged(None, False, 0, 2)),  # of two languages
        ("Zeige GNOME", "Show gnome", Judged("de", False, 1, 1)),
        ("Zeige GNOME", "", Judged("de", True, 2, 2)),
        ("42 !", "", Judged(None, False, 0, 0)),
    ],
)
def test_words_that_only_one_language_has_speak_for_it(text: str, source: str, judged: Judged) -> None:
    assert Detector(LINES).judge(text, source) == judged


def test_a_word_seen_now_and_then_speaks_for_nobody() -> None:
    few = Detector([*LINES, *[("de", "Knopf")] * 3])
    assert few.judge("Knopf").sure == 0
    assert Detector([*LINES, *[("de", "Knopf")] * 4]).judge("Knopf").sure == 1


def test_lines_that_cannot_show_it_are_not_counted() -> None:
    detector = Detector(LINES)
    assert mixed_rate([detector.judge(text) for text in ("Zeige", "Zeige l'aide", "Hilfe an", "git")]) == 0.5
    assert mixed_rate([]) == 0
    with pytest.raises(InvalidArgument, match="two or more"):
        Detector([("de", "Zeige")])
