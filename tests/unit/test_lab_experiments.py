"""The three experiments on tiny data: they find what is there, and say what is missing."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from foretoken.canvas import UNKNOWN
from foretoken.codec.patches import Patches
from foretoken.errors import CheckpointError, InvalidArgument
from foretoken.lab import multimodality, which_answer, which_language, which_style
from foretoken.lab.answering import Trained, acceptance, answer, gather
from foretoken.lab.contenders import Contender, contenders
from foretoken.lab.oracle import Oracle
from foretoken.lab.sentences import Meaning
from foretoken.model.checkpoint import TOKENIZER, save_llama
from foretoken.model.llama_session import Llama
from foretoken.model.masked import MaskedConfig, MaskedLlama, MaskedModule, save_masked
from foretoken.recipes.conditions import GROUPS, STYLES, TLDR_UNITS
from foretoken.recipes.language import train_tokenizer
from foretoken.recipes.translations import Pair
from foretoken.strategy.lengths import UntilEnd
from foretoken.strategy.oneshot import OneShot
from tests.models import tiny_llama
from tests.painters import written
from tests.unit.test_patches import toy

THREE = ("a pub by the river", "the river has its own pub", "near the river , a pub")
MEANINGS = [
    Meaning("pub", tuple(tuple(line.split()) for line in THREE)),
    Meaning("inn", tuple(tuple(line.replace("pub", "quiet inn").split()) for line in THREE)),
]


def by_name(task: Any) -> dict[str, Any]:
    return {outcome.name: outcome for outcome in task.outcomes}


def test_which_answer_finds_mixing_and_its_cures() -> None:
    noted: list[str] = []
    task = which_answer.measure(MEANINGS, contenders(bound=0.3), n=60, note=noted.append)
    found = by_name(task)
    assert found["one shot, sampled"].figures["valid"] < 0.1
    for name in ("autoregressive", "shared z, one shot", "every 4th AR, rest NAR", "steps by entropy ≤ 0.3"):
        assert found[name].figures["valid"] == 1
        assert found[name].figures["modes of 3"] == 3
        assert found[name].figures["distance"] < 0.15
        assert found[name].curve[-1] != found[name].curve[-1] or found[name].curve[-1] == 1
    assert found["shared z, one shot"].figures["forwards"] == 2
    assert found["sampled confidence ≥ 0.8"].figures["distance"] > 0.2
    curve = found["one shot as a draft, ratio test"].curve
    assert curve[0] == pytest.approx(1)  # where nothing stands before, the marginal is the law
    assert curve[1] < 0.9
    assert noted == [outcome.name for outcome in task.measured]
    assert [sign for _, _, sign, _ in task.goals] == ["<=", "<=", ">=", ">=", ">=", ">="]
    assert task.floors["total correlation (nats)"] > 2
    assert json.loads(json.dumps(task.results()))["rows"]["autoregressive"]["valid"] == 1


PAIRS = [
    Pair("show it", "de", "zeige dieses jetzt bitte"), Pair("show it", "fr", "affiche cela maintenant"),
    Pair("hide it", "de", "verstecke dieses jetzt bitte"), Pair("hide it", "fr", "cache cela maintenant"),
]  # fmt: skip


class Bilingual:
    """A parallel model that knows both translations of each line, and nothing else."""

    latents, end_tokens, vocab_size, context = 0, (0,), TLDR_UNITS + 1, 100

    def __init__(self, tokenizer: Any, width: int) -> None:
        self.config = SimpleNamespace(untold=-9, lengths=0)
        self.lines = sorted({pair.english for pair in PAIRS})
        self.heads = [[*tokenizer.encode(line).ids, TLDR_UNITS] for line in self.lines]
        answers = np.zeros((len(self.lines), 2, width), dtype=np.int64)
        for place, line in enumerate(self.lines):
            for mode, pair in enumerate(pair for pair in PAIRS if pair.english == line):
                ids = tokenizer.encode(pair.text).ids
                answers[place, mode, : len(ids)] = ids
        self.oracle = Oracle(answers, units=TLDR_UNITS, end=0)

    def predict(self, canvas: np.ndarray, lengths: np.ndarray) -> torch.Tensor:
        logits = torch.full((*canvas.shape, self.vocab_size), -torch.inf)
        logits[..., 0] = 0
        for row, units in enumerate(canvas[: len(lengths)]):
            start = int(np.flatnonzero(units == TLDR_UNITS)[0]) + 1
            meaning = TLDR_UNITS + self.heads.index(units[:start].tolist())
            body = np.concatenate(([meaning], units[start : lengths[row]]))
            found = self.oracle.predict(body[None], np.array([len(body)]))[0, 1:, :TLDR_UNITS]
            logits[row, start : start + len(found), :TLDR_UNITS] = found
        return logits


def test_which_language_finds_mixing_and_its_cures() -> None:
    tokenizer = train_tokenizer([text for pair in PAIRS for text in (pair.english, pair.text)], 300)
    models = Trained(Bilingual(tokenizer, 41), None, Path())  # type: ignore[arg-type]
    ways = contenders(bound=0.1, length=UntilEnd(41), shared=False)
    task = which_language.measure(PAIRS * 5, PAIRS, models, tokenizer, ways, inputs=9, n=40)
    found = by_name(task)
    assert "autoregressive" not in found  # there is no causal model
    assert found["one shot, sampled"].figures["mixed"] > 0.5
    for name in ("every 4th AR, rest NAR", "steps by entropy ≤ 0.1"):
        assert found[name].figures["mixed"] == 0
        assert found[name].figures["told"] == 1
        assert found[name].figures["language entropy"] == pytest.approx(np.log(2), abs=0.05)
        assert found[name].samples[0][0] in ("show it", "hide it")
    assert task.floors["mixed in German lines by people"] == 0
    assert ("which language, one shot, sampled: mixed", found["one shot, sampled"].figures["mixed"], ">=", 0.5) in [
        *task.goals
    ]
    with pytest.raises(InvalidArgument, match="nothing to ask"):
        which_language.measure(PAIRS * 5, [Pair("x " * 99, "de", "y")], models, tokenizer, ways, inputs=9, n=1)


UNITS = 20
CONTEXT = 16 + 2 + 1


def masked(latents: int = 3) -> MaskedModule:
    config = MaskedConfig(
        vocab_size=UNITS + len(STYLES) + 1 + len(GROUPS) + latents + 1, units=UNITS, latents=latents, imagination=0,
        lengths=0, end=-1, hidden_size=16, intermediate_size=16, layers=1, heads=2, context=CONTEXT,
    )  # fmt: skip
    module = MaskedModule(config)
    module.initialise(torch.Generator().manual_seed(0))
    return module


def test_which_style_judges_what_models_paint() -> None:
    codec = Patches(toy())
    pictures = np.random.default_rng(0).integers(0, 200, (40, 16, 16, 3), dtype=np.uint8)
    pictures[::2] //= 8
    units = codec.encode_batch(pictures)
    real = which_style.Real(units, pictures, ["dark", "light"] * 20, ["Flags", "Objects"] * 20)
    causal = Llama(tiny_llama(vocab_size=UNITS + len(STYLES) + 1 + len(GROUPS)))
    models = Trained(MaskedLlama(masked()), causal, Path())
    ways, how = which_style.picture_ways(4, 2, shared=True, causal=True), which_style.asking(models)
    task = which_style.measure(real, real, models, codec, ways, how, inputs=5)
    found = by_name(task)
    assert [outcome.name for outcome in task.outcomes] == [way.name for way in ways]
    assert task.floors["foreign parts in real pictures"] < task.floors["in patches of many pictures"] + 0.2
    assert task.floors["judge's error, all parts"] < 0.3
    assert found["autoregressive"].figures["forwards"] == 16
    assert found["one shot, sampled"].figures["forwards"] == 1
    assert found["shared z, one shot"].figures["forwards"] == 2
    assert found["8 steps, Halton"].figures["forwards"] == 8
    group, picture = found["one shot, sampled"].samples[1]
    assert (group, picture.shape, picture.dtype) == ("Objects", (16, 16, 3), np.uint8)
    assert len(found["one shot, sampled"].curve) == 16


def test_answers_stand_behind_their_conditions() -> None:
    models = Trained(MaskedLlama(masked()), None, Path())
    conditions = [np.array([UNITS + 1, UNITS + 11]), np.array([UNITS + 2, UNITS + 12])]
    made = answer(Contender("one", OneShot()), models, conditions, body=16, seed=3, n=2)
    assert [len(body) for body in made.bodies] == [16] * 4
    assert (made.forwards, all(0 <= body.min() and body.max() < UNITS for body in made.bodies)) == (1, True)
    alone = answer(Contender("one", OneShot()), models, conditions[1:], body=16, seed=4, n=2)
    np.testing.assert_array_equal(made.bodies[3], alone.bodies[1])
    assert (made.bodies[0] != made.bodies[1]).any()
    assert acceptance(models, conditions, made.bodies[::2], places=8) == []
    assert UNKNOWN not in np.concatenate(made.bodies)


def test_models_are_told_apart_by_what_lies_in_their_folders(tmp_path: Path) -> None:
    save_masked(masked(), tmp_path / "a")
    save_llama(tiny_llama(), tmp_path / "b")
    (tmp_path / "b" / TOKENIZER).write_text("{}")
    found = gather([tmp_path / "a"])
    assert isinstance(found["style"], Trained)
    assert found["style"].causal is None
    found = gather([tmp_path / "a", tmp_path / "b"])
    assert found["language"] == "no masked model of it is among --models; foretoken train tldr-masked makes one"
    with pytest.raises(CheckpointError, match="one kind"):
        gather([tmp_path / "a", tmp_path / "a"])


def test_nothing_to_measure_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"no e2e\.jsonl\.xz"):
        multimodality.run(tmp_path, [])


def test_a_painter_is_asked_by_caption(tmp_path: Path) -> None:
    folder = written(tmp_path / "painter")
    models = gather([folder])["style"]
    assert isinstance(models, Trained)
    how = which_style.asking(models)
    assert (how.field, how.length, len(how.ids("red heart"))) == ("caption", 12, 12)
    codec = Patches.from_folder(folder / "codec")
    pictures = np.random.default_rng(0).integers(0, 200, (40, 16, 16, 3), dtype=np.uint8)
    pictures[::2] //= 8
    real = which_style.Real(codec.encode_batch(pictures), pictures, ["dark", "light"] * 20, ["red heart", "house"] * 20)
    ways = which_style.picture_ways(4, how.length, shared=True, causal=False)
    found = by_name(which_style.measure(real, real, models, codec, ways, how, inputs=4))
    assert found["autoregressive"].figures["forwards"] == 16
    assert found["shared z, 8 steps, Halton"].figures["forwards"] == 9
    assert found["one shot, sampled"].samples[1][0] == "house"
