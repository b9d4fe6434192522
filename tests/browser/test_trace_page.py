"""The page of a trace in a real browser: it renders, reacts, fits, and asks for nothing outside."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from foretoken.canvas import Stats, Step
from foretoken.trace import Trace

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome is installed")

WORDS = ["Once", " upon", " a", " time", ",", " there", " was", " <i>fox</i>", "\n", "\tand", " the", " end", "\x1b"]
PROBE = """<script>
const said = [], rows = document.querySelectorAll(".row");
try {
  const first = rows[0].querySelector(".text [data-f='2']");
  first.dispatchEvent(new MouseEvent("mouseover", {bubbles: true}));
  said.push("lit " + rows[0].querySelectorAll(".on").length + ", elsewhere " + rows[1].querySelectorAll(".on").length);
  first.dispatchEvent(new MouseEvent("mouseout", {bubbles: true}));
  said.push("dark " + document.querySelectorAll(".on").length);
  const replay = rows[0].querySelector("button.replay");
  replay.click();
  said.push("hidden " + rows[0].querySelectorAll(".later").length);
  replay.click();
  said.push("shown " + rows[0].querySelectorAll(".later").length);
  const unfold = document.getElementById("unfold"), guess = document.querySelector(".text del");
  said.push("guess " + getComputedStyle(guess).display);
  unfold.click();
  said.push("unfolded " + getComputedStyle(guess).display);
  document.getElementById("theme").click();
  said.push("theme " + document.body.style.colorScheme + " " + getComputedStyle(document.body).color);
  let widest = 0;
  for (const token of document.querySelectorAll(".text .t")) {
    const tip = token.querySelector(".tip");
    if (!tip) continue;
    tip.style.display = "block";
    token.dispatchEvent(new MouseEvent("mouseover", {bubbles: true}));
    widest = Math.max(widest, tip.getBoundingClientRect().right);
    tip.style.display = "";
  }
  said.push("inside " + (widest <= innerWidth && document.documentElement.scrollWidth <= innerWidth));
  said.push("requests " + performance.getEntriesByType("resource").length);
} catch (error) { said.push(String(error)); }
document.body.dataset.said = said.join("; ");
</script></body>"""


def page() -> str:
    """Two rows, three drafters, every kind of token."""
    rng = np.random.default_rng(3)
    steps = []
    for row in range(2):
        for forward in range(40):
            drafted = rng.integers(0, len(WORDS), size=int(rng.integers(0, 6))).tolist() if forward else []
            accepted = int(rng.integers(0, len(drafted) + 1))
            tokens = [*drafted[:accepted], int(rng.integers(0, len(WORDS)))]
            source = ("suffix", "small model", "early exit")[int(rng.integers(0, 3))] if drafted else ""
            steps.append(Step(row, tokens, drafted, accepted, source, [1.0] * len(tokens)))
    stats = Stats(prompt_tokens=4, forwards=40, row_forwards=80)
    for step in steps:
        stats.count(step)
    stats.seconds.update(prompt=0.01, model=0.5, draft=0.05, sample=0.05, total=0.7)
    return Trace(steps, [np.array([0, 1]), np.array([2, 3])], stats, WORDS.__getitem__).to_html()


def browse(path: Path, *options: str) -> str:
    """What the browser prints."""
    command = [
        str(BROWSER),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        *options,
        path.as_uri(),
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page with a script at its end that uses it."""
    path = tmp_path_factory.mktemp("page") / "trace.html"
    path.write_text(page().replace("</body>", PROBE), encoding="utf-8")
    return path


def test_tokens_bars_and_tooltips_are_in_the_document(probed: Path) -> None:
    """After the browser has read the page, as many as were written."""
    source, document = page(), browse(probed, "--dump-dom")
    for part in ('class="tip"', 'class="t given"', 'class="bar"', "tabindex", "--a:"):
        assert source.count(part) == document.count(part) > 0, part
    assert "the model chose" in document
    assert "&lt;i&gt;fox&lt;/i&gt;" in document
    assert "U+001B" in document


@pytest.mark.parametrize("width", [420, 800, 1300])
def test_the_page_reacts_and_fits(probed: Path, width: int) -> None:
    """Pointing lights a forward, replay hides and shows, guesses unfold, the theme turns; nothing is cut off."""
    document = browse(probed, "--dump-dom", f"--window-size={width},900", "--blink-settings=preferredColorScheme=1")
    match = re.search(r'data-said="([^"]*)"', document)
    assert match
    said = dict(part.split(" ", 1) for part in match[1].split("; "))
    lit, elsewhere = said["lit"].split(", elsewhere ")
    assert int(lit) >= 2
    assert elsewhere == "0"
    assert (said["dark"], said["shown"]) == ("0", "0")
    assert int(said["hidden"]) > 40
    assert (said["guess"], said["unfolded"]) == ("none", "inline")
    assert said["theme"] == "dark rgb(227, 230, 234)"
    assert (said["inside"], said["requests"]) == ("true", "0")


def test_light_and_dark_are_drawn(probed: Path, tmp_path: Path) -> None:
    """Two pictures, one bright, one dark, neither empty."""
    matplotlib_image = pytest.importorskip("matplotlib.image")
    brightness = []
    for scheme in (1, 0):
        picture = tmp_path / f"{scheme}.png"
        browse(
            probed,
            f"--screenshot={picture}",
            "--window-size=900,900",
            f"--blink-settings=preferredColorScheme={scheme}",
        )
        pixels = matplotlib_image.imread(picture)[..., :3]
        assert pixels.std() > 0.02
        brightness.append(float(pixels.mean()))
    assert brightness[0] != brightness[1]
