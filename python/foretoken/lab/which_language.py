"""Which language? English to German, French or Spanish, and nothing tells to which."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from ..codec.text import Text
from ..errors import InvalidArgument
from ..evaluate.languages import Detector, mixed_rate
from ..evaluate.modes import adjacent_repetition, language_entropy
from ..model.checkpoint import TOKENIZER
from ..recipes.conditions import LONGEST_LINE, TLDR_UNITS
from ..recipes.translations import LANGUAGES, Pair, pairs
from ..strategy.lengths import Predicted, UntilEnd
from ..strategy.oneshot import OneShot
from .answering import Trained, acceptance, answer
from .contenders import Contender, contenders, warmed
from .task import Outcome, Task

TITLE = "Which language? A translation whose language is not told"
BOUND = 0.3
_SHOWN = 4


def run(
    data: Path,
    models: Trained,
    *,
    inputs: int,
    n: int = 3,
    seed: int = 0,
    temperature: float = 1.0,
    note: Callable[[str], None] = lambda _: None,
) -> Task:
    """The experiment on held-out lines.

    Args:
        data: the data folder.
        models: those of the tldr recipe.
        inputs: English lines.
        n: answers to each.
        seed: of all draws.
        temperature: of all draws.
        note: is told what is being done.

    Raises:
        InvalidArgument, CheckpointError: see `translations.pairs`.
    """
    train, held_out = pairs(data)
    tokenizer = Text.from_file(models.folder / TOKENIZER).tokenizer
    length = UntilEnd(LONGEST_LINE + 1)
    ways = contenders(bound=BOUND, length=length, shared=models.masked.latents > 0, temperature=temperature)
    if models.masked.config.lengths:
        ways[3:3] = warmed([Contender("one shot, 5 lengths tried", OneShot(Predicted(beam=5)))], temperature)
    return measure(train, held_out, models, tokenizer, ways, inputs=inputs, n=n, seed=seed, note=note)


def measure(
    train: Sequence[Pair],
    held_out: Sequence[Pair],
    models: Trained,
    tokenizer: Tokenizer,
    ways: Sequence[Contender],
    *,
    inputs: int,
    n: int,
    seed: int = 0,
    note: Callable[[str], None] = lambda _: None,
) -> Task:
    """The experiment; arguments as for `run`, and the pairs, the tokenizer and the ways to answer.

    Raises:
        InvalidArgument: no held-out line is short enough.
    """
    detector = Detector((pair.language, pair.text) for pair in train)
    lines = sorted({pair.english for pair in held_out}, key=lambda line: zlib.crc32(line.encode()))
    encoded = [(line, tokenizer.encode(line, add_special_tokens=False).ids) for line in lines]
    short = [(line, np.append(ids, TLDR_UNITS)) for line, ids in encoded if 0 < len(ids) <= LONGEST_LINE][:inputs]
    if not short:
        raise InvalidArgument(f"no held-out line has at most {LONGEST_LINE} tokens: there is nothing to ask")
    outcomes = []
    for way in (way for way in ways if models.causal is not None or not way.causal):
        note(way.name)
        outcomes.append(_outcome(way, models, tokenizer, detector, short, n, seed))
    floors = {
        f"mixed in {name} lines by people": mixed_rate(
            [detector.judge(pair.text, pair.english) for pair in held_out if pair.language == language]
        )
        for language, name in LANGUAGES.items()
    }
    floors["language entropy, all alike (nats)"] = float(np.log(len(LANGUAGES)))
    about = (
        f"{len(short)} held-out lines of command help (tldr-pages, CC-BY 4.0), {n} answers to each. A line is mixed if "
        "words that only one language has (posterior above 0.95 on the training lines) stand in it for two; lines with "
        "fewer than two such words cannot show it, and are left out. Told is the share that can."
    )
    return Task(TITLE, about, outcomes, floors, _goals(outcomes))


def _goals(outcomes: Sequence[Outcome]) -> list[tuple[str, float, str, float]]:
    found = []
    for each in outcomes:
        rate = float(each.figures["mixed"] or 0)
        if each.name == "one shot, sampled":
            found.append((f"which language, {each.name}: mixed", rate, ">=", 0.5))
        if each.cure:
            found.append((f"which language, {each.name}: mixed", rate, "<=", 0.1))
    return found


def _outcome(
    way: Contender,
    models: Trained,
    tokenizer: Tokenizer,
    detector: Detector,
    lines: Sequence[tuple[str, np.ndarray]],
    n: int,
    seed: int,
) -> Outcome:
    conditions = [condition for _, condition in lines]
    made = answer(way, models, conditions, body=LONGEST_LINE + 1, seed=seed, n=n)
    texts = [tokenizer.decode(body.tolist()) for body in made.bodies]
    judged = [detector.judge(text, lines[place // n][0]) for place, text in enumerate(texts)]
    told = [each for each in judged if each.sure >= 2]
    counts = [sum(each.language == language for each in told) for language in LANGUAGES]
    figures: dict[str, float | None] = {
        "mixed": mixed_rate(judged),
        "told": len(told) / len(judged),
        "language entropy": language_entropy(counts),
        "repeats": adjacent_repetition(made.bodies),
        "units": float(np.mean([len(body) for body in made.bodies])),
        "forwards": made.forwards,
        "ms each": made.milliseconds,
    }
    each = [condition for condition in conditions for _ in range(n)]
    curve = acceptance(models, each, made.bodies, places=24)
    samples = [(lines[place][0], texts[place * n]) for place in range(min(_SHOWN, len(lines)))]
    return Outcome(way.name, figures, curve, samples, way.cure)
