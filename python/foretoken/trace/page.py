"""A trace as HTML: a whole document, or a fragment for a notebook, from the same parts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from string import Template

import numpy as np

from ..canvas import TIE, UNKNOWN, Stats, Step
from . import charts
from .alignment import HALF, Alignment
from .marks import percent, rate, visible

_HUES = 6  # colours for drafters in trace.html; a seventh drafter takes the first colour again
_GIVEN = '<span class="t given">{}</span>'
_ENDED = {"end": "ended by the model", "stop": "ended by a stop text", "length": "ended by max_tokens"}


class Page:
    """Renders what a `Trace` holds; see there for the arguments."""

    def __init__(
        self,
        steps: Sequence[Step],
        prompts: Sequence[np.ndarray],
        stats: Stats,
        piece: Callable[[int], str],
        texts: Sequence[str],
    ) -> None:
        self.prompts, self.stats, self.piece, self.texts = prompts, stats, piece, texts
        self.sources = list(dict.fromkeys(step.source for step in steps if step.drafted))
        self.rows: list[list[Step]] = [[] for _ in range(max([len(prompts), *(step.row + 1 for step in steps)]))]
        for step in steps:
            self.rows[step.row].append(step)

    def document(self) -> str:
        """A whole page with style and script inside."""
        return Template(_template()).substitute(
            top=self._legend() + self._figures(),
            rows=self._rows(replay=True),
            charts=charts.acceptance(self.stats) + charts.time(self.stats),
            guesses="" if self.sources else "hidden",
        )

    def fragment(self) -> str:
        """The rows, the figures and the legend, with the style, for a notebook's cell."""
        style = _template().partition("<style>")[2].partition("</style>")[0]
        parts = self._rows(replay=False) + self._figures() + self._legend()
        return f'<div class="foretoken"><style>{style}</style>{parts}</div>'

    def _legend(self) -> str:
        keys = [
            '<span class="t given">given</span> the prompt',
            '<span class="t">chosen</span> by the model, one a forward',
        ]
        for source in self.sources:
            drafted, accepted = self.stats.by_source.get(source, (0, 0))
            share = f", {accepted:,} of {drafted:,}" if drafted else ""
            keys.append(f'<span class="t"{self._hue(source)}>{visible(source)}</span> guessed, and right{share}')
        if self.sources:
            keys.append('<span class="t instead">chosen</span> instead of a <del>refused</del> guess: point at it')
        how = (
            "A cheap drafter guesses the next few tokens and one forward checks them all. The model decides about "
            "every token; right guesses only bring them sooner."
            if self.sources
            else "Nothing was guessed here, so each token took a forward of its own."
        )
        shown = "".join(f"<span>{key}</span>" for key in keys)
        what = "Each time a model runs, which is called a forward, it makes one token: a word or a piece of one."
        if any(step.positions is not None for steps in self.rows for step in steps):
            what = "Each time the model runs, which is called a forward, it finds some of the tokens that are unknown."
            how = "They stand anywhere in the row, and the next forward knows them."
        return f'<div class="legend"><p><b>{what}</b> {how}</p><p class="keys">{shown}</p></div>'

    def _figures(self) -> str:
        stats = self.stats
        figures = {
            "tokens a forward": f"{stats.tokens_per_forward:.2f}",
            "tokens": f"{stats.tokens:,}",
            "forwards" if len(self.rows) == 1 else "forwards for all rows": f"{stats.forwards:,}",
            "of the guesses right": percent(stats.acceptance) if stats.drafted else "–",
            "near ties": f"{stats.near_ties:,}",
            "tokens a second": rate(stats.tokens_per_second) if stats.seconds["total"] else "–",
        }
        cells = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in figures.items())
        return f'<dl class="figures">{cells}</dl>'

    def _rows(self, *, replay: bool) -> str:
        button = '<button class="replay" hidden>▶ replay</button>' if replay else ""
        sections = []
        for index, steps in enumerate(self.rows):
            prompt = self.prompts[index] if index < len(self.prompts) else ()
            text = self.texts[index] if index < len(self.texts) else ""
            name = "Text" if len(self.rows) == 1 else f"Text {index + 1}"
            length = sum(len(step.tokens) for step in steps)
            known = sum(int(unit) != UNKNOWN for unit in prompt)
            note = f"{known:,} tokens given, {length:,} made in {len(steps):,} forwards"
            if steps and steps[-1].finish_reason:
                note += f", {_ENDED[steps[-1].finish_reason]}"
            if any(step.positions is not None for step in steps):
                given, made = [], self._filled(prompt, steps)
            else:
                given = [_GIVEN.format(shown) for shown in self._shown([(prompt, text)])]
                shown = iter(self._shown([(step.tokens, step.text) for step in steps]))
                made = [self._tokens(forward, step, shown) for forward, step in enumerate(steps, start=1)]
            sections.append(
                f'<section class="row"><header><h2>{name} <small>{note}</small></h2>{button}</header>'
                f'<div class="text" dir="auto">{"".join(given + made)}</div>{charts.strip(steps, self._hue)}</section>'
            )
        return "".join(sections)

    def _filled(self, prompt: Sequence[int] | np.ndarray, steps: Sequence[Step]) -> list[str]:
        """The units of a row that was filled at any position, in their order; each knows its forward."""
        last = {place: (forward, step) for forward, step in enumerate(steps, start=1) for place in step.positions or ()}
        spans = []
        for place in range(max(len(prompt), max(last, default=-1) + 1)):
            if place in last:
                forward, step = last[place]
                index = (step.positions or []).index(place)
                spans.append(self._token(forward, step, index, visible(self.piece(step.tokens[index]))))
            elif place < len(prompt) and prompt[place] != UNKNOWN:
                spans.append(_GIVEN.format(visible(self.piece(int(prompt[place])))))
        return spans

    def _shown(self, parts: Sequence[tuple[Sequence[int] | np.ndarray, str]]) -> list[str]:
        """HTML of each token, from (tokens, the text that became certain with them) one after another."""
        alignment, pieces, texts = Alignment(), [], {}
        for tokens, text in parts:
            new = [self.piece(int(token)) for token in tokens]
            pieces += new
            for index, characters in alignment.feed(new, text):
                texts[index] = texts.get(index, "") + characters
        half = '<i class="h" title="part of the character that follows"></i>'
        last = max(texts, default=-1)
        return [
            half if HALF in piece and index < last and index not in texts else visible(texts.get(index, piece))
            for index, piece in enumerate(pieces)
        ]

    def _tokens(self, forward: int, step: Step, shown: Iterator[str]) -> str:
        return "".join(self._token(forward, step, place, next(shown)) for place in range(len(step.tokens)))

    def _token(self, forward: int, step: Step, place: int, shown: str) -> str:
        hue, guess, focus = "", "", '"'
        tie = " tie" if place < len(step.gaps) and step.gaps[place] < TIE else ""
        if place < step.accepted:
            hue = self._hue(step.source)
        elif place < len(step.drafted):
            guess, focus = f"<del>{self._quote(step.drafted[place])}</del>", ' instead" tabindex="0"'
        return (
            f'<span class="t{tie}{focus} data-f="{forward}"{hue}>{guess}{shown}'
            f'<span class="tip" role="tooltip">{self._tip(forward, step, place, guess)}</span></span>'
        )

    def _tip(self, forward: int, step: Step, place: int, guess: str) -> str:
        token, source = step.tokens[place], f"<b>{visible(step.source)}</b>"
        chosen = f"<q>{self._quote(token)}</q>"
        if place < step.accepted:
            head = f"{source} guessed {chosen}, and the model chose it"
        elif guess:
            head = f"{source} guessed {guess}, the model chose {chosen} instead"
            behind = " ".join(f"<del>{self._quote(unit)}</del>" for unit in step.drafted[place + 1 :])
            head += f"<small>dropped with it: {behind}</small>" if behind else ""
        else:
            head = f"the model chose {chosen}"
        facts = [f"forward {forward}", f"token id {token}"]
        if step.logprobs:
            facts.append(f"probability {percent(math.exp(step.logprobs[place]))}")
        if place < len(step.gaps) and step.gaps[place] < TIE:
            facts.append(f"near tie: the next one was {step.gaps[place]:.1e} nats behind")
        lines = [" · ".join(facts)]
        if step.top:
            best = [f"<q>{self._quote(unit)}</q> {percent(math.exp(p))}" for unit, p in step.top[place]]
            lines.append(f"most probable: {', '.join(best)}")
        return head + "".join(f"<small>{line}</small>" for line in lines)

    def _quote(self, token: int) -> str:
        return visible(self.piece(token), breaks=False)

    def _hue(self, source: str) -> str:
        return f' data-d="{self.sources.index(source) % _HUES}"'


def _template() -> str:
    return (resources.files("foretoken.trace") / "trace.html").read_text(encoding="utf-8")
