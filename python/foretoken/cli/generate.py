"""Continue a text.

The text goes to standard output as it comes. On a terminal it is coloured: guesses that were right in the colour of
their drafter, refused ones struck through, what the model chose by itself plain.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from typing import Any

from ..canvas import Stats, Step
from ..drafter.lookup import NGram, Suffix
from ..drafter.protocol import Drafter
from ..drafter.several import Several
from ..drafter.small_model import EarlyExit
from ..errors import InvalidArgument
from ..generation import Generation
from ..hub import load, small_model
from ..model.llama_session import Llama
from ..model.native import Native
from ..pipeline import Pipeline
from ..sampler import Sampler
from ..strategy.autoregressive import Autoregressive
from ..strategy.watched import Watched
from ..view.terminal import Terminal, use_color

DRAFTERS = ("none", "ngram", "suffix", "small", "early-exit", "several")


def options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    sampler = Sampler()
    parser.add_argument(
        "prompt", nargs="?", metavar="PROMPT", help="the text to continue; - or a pipe: read it from standard input"
    )
    parser.add_argument("--model", default="tales", help="a shipped model or a folder (default: tales)")
    parser.add_argument("--torch", action="store_true", help="run it in PyTorch instead of in the core")
    parser.add_argument(
        "--max-tokens",
        type=int,
        metavar="N",
        help="the most tokens to add (default: until the text ends or the context is full)",
    )
    parser.add_argument(
        "--temperature", type=float, default=sampler.temperature, metavar="T", help="0 is greedy (default: 1)"
    )
    parser.add_argument(
        "--top-k", type=int, default=sampler.top_k, metavar="K", help="keep the K most probable tokens; 0 keeps all"
    )
    parser.add_argument(
        "--top-p", type=float, default=sampler.top_p, metavar="P", help="keep the most probable tokens up to this mass"
    )
    parser.add_argument(
        "--min-p", type=float, default=sampler.min_p, metavar="P", help="keep tokens this probable beside the best"
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="the same seed writes the same text, whatever the drafter (default: 0)",
    )
    parser.add_argument("-n", "--n", type=int, default=1, metavar="N", help="how many samples to write (default: 1)")
    parser.add_argument(
        "--stop", action="append", default=[], metavar="TEXT", help="end before this text; may be given several times"
    )
    parser.add_argument(
        "--drafter",
        choices=DRAFTERS,
        default="none",
        help="who guesses ahead; several: suffix, then small (default: none)",
    )
    parser.add_argument("--json", action="store_true", help="write one JSON object instead of the text")
    parser.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        help="auto: on a terminal, unless NO_COLOR is set",
    )
    parser.add_argument("--trace", metavar="FILE", help="write a page (HTML) that shows how each token came")


def run(options: argparse.Namespace) -> None:
    """Run this command."""
    if options.prompt is None and sys.stdin.isatty():
        options.wrong_usage("no prompt: give a text to continue, or - to read it from standard input")
    prompt = read_prompt() if options.prompt in (None, "-") else options.prompt
    kind = Llama if options.torch else Native
    pipeline = load(options.model, model=kind)
    strategy = Autoregressive(drafter=drafter(options.drafter, pipeline, options.model, kind))
    sampler = Sampler(temperature=options.temperature, top_k=options.top_k, top_p=options.top_p, min_p=options.min_p)
    keys: dict[str, Any] = {
        "max_tokens": options.max_tokens, "sampler": sampler, "seed": options.seed, "n": options.n, "stop": options.stop
    }  # fmt: skip
    if options.json or options.n != 1:
        out = pipeline(prompt, strategy=strategy, **keys)
        if not options.json:
            write_rows(out, pipeline, prompt, options)
    else:
        terminal = Terminal(sys.stdout, pipeline.codec.piece, color=use_color(sys.stdout, options.color))
        terminal.prompt(prompt)
        out = pipeline(prompt, strategy=Watched(strategy, terminal.step), **keys)
        print(flush=True)
    if sys.stderr.isatty() and not options.json:
        print(f"\n[{out.figures}]", file=sys.stderr)
    if options.json:
        print(json.dumps(as_json(out, pipeline.name)))
    if options.trace:
        out.trace.save(options.trace)


def read_prompt() -> str:
    """Standard input as the prompt, without the newline that ends its last line."""
    try:
        text = sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"the prompt on standard input is not UTF-8 at byte {error.start}") from None
    return text.removesuffix("\n").removesuffix("\r")


def drafter(name: str, pipeline: Pipeline, model: str, kind: Any) -> Drafter | None:
    """The drafter that a word on the command line means."""
    if name == "ngram":
        return NGram()
    if name == "suffix":
        return Suffix()
    if name == "small":
        return small_model(model, model=kind)
    if name == "several":
        return Several(Suffix(), small_model(model, model=kind))
    if name == "early-exit":
        return EarlyExit(max(1, len(pipeline.model.layers) // 4))
    return None


def write_rows(out: Generation, pipeline: Pipeline, prompt: str, options: argparse.Namespace) -> None:
    """Several samples, one after another."""
    steps: dict[int, list[Step]] = {}
    for step in out.trace:
        steps.setdefault(step.row, []).append(step)
    color = use_color(sys.stdout, options.color)
    for index, row in enumerate(out.rows):
        print(f"{'' if index == 0 else chr(10)}--- sample {row.sample + 1} of {len(out.rows)}, {row.finish_reason}")
        terminal = Terminal(sys.stdout, pipeline.codec.piece, color=color)
        terminal.prompt(prompt)
        for step in steps.get(index, ()):
            terminal.step(step)
        print()


def as_json(out: Generation, model: str) -> dict[str, Any]:
    """A generation as plain values: one text, or a list of them where several samples were asked for."""
    one = len(out.rows) == 1
    return {
        "model": model,
        "text": out.signal,
        "tokens": out.tokens.tolist() if one else [tokens.tolist() for tokens in out.tokens],
        "finish_reason": out.finish_reason,
        "stats": stats_as_json(out.stats),
    }


def stats_as_json(stats: Stats) -> dict[str, Any]:
    """The sums and what follows from them; lists by place in a draft."""
    places = range(len(stats.drafted_at))
    return dataclasses.asdict(stats) | {
        "drafted_at": [stats.drafted_at[i] for i in places],
        "accepted_at": [stats.accepted_at[i] for i in places],
        "tokens_per_forward": stats.tokens_per_forward,
        "acceptance": stats.acceptance,
        "acceptance_by_position": stats.acceptance_by_position,
        "tokens_per_second": stats.tokens_per_second,
    }
