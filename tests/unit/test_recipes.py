"""The language recipe: it learns, it is a function of its configuration, and no kill at any moment changes that."""

from __future__ import annotations

import dataclasses
import json
import lzma
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from foretoken import hub
from foretoken.errors import CheckpointError, InvalidArgument, ShapeError
from foretoken.recipes import corpus, language
from foretoken.recipes.language import LanguageConfig, Run, windows

WORDS = (
    "the",
    "a",
    "old",
    "small",
    "king",
    "cat",
    "sea",
    "tree",
    "went",
    "came",
    "saw",
    "said",
    "was",
    "to",
    "by",
    "home",
)
FIELDS: dict[str, Any] = {
    "recipe": "language", "sources": ["stories"], "tokenizer": "", "teacher": "", "vocab_size": 300,
    "hidden_size": 16, "intermediate_size": 24, "layers": 1, "heads": 2, "kv_heads": 1, "context": 32, "window": 16,
    "batch": 4, "steps": [8], "warmup": 2, "cooldown": 0.5, "rate": 0.02, "save_every": 3, "seed": 1,
}  # fmt: skip


def config(**changes: Any) -> LanguageConfig:
    fields = {**FIELDS, **changes}
    return LanguageConfig(
        **{name: tuple(v) if isinstance(v, list) else v for name, v in fields.items() if name != "recipe"}
    )


def write_rows(path: Path, rows: Iterable[object]) -> None:
    with lzma.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def story(number: int) -> dict[str, str]:
    """A document of common words, with a word in it that no other one has."""
    rng = np.random.default_rng(number)
    words = [WORDS[i] for i in rng.zipf(1.6, size=40) % len(WORDS)]
    text = f"number{number} " + " ".join(words) + "."
    return {"title": f"Story {number}", "source": "test", "text": text}


def write_data(folder: Path) -> Path:
    """A toy file of each source."""
    write_rows(folder / "stories.jsonl.xz", map(story, range(60)))
    pages = [
        {"page": f"linux/tool{i}", "en": {"about": [f"Tool {i}."], "steps": ["Run it"], "commands": [f"tool{i} -v"]}}
        for i in range(40)
    ]
    write_rows(folder / "tldr.jsonl.xz", pages)
    write_rows(
        folder / "docs.jsonl.xz", ({"title": f"PEP {i}", "text": f"Text of PEP {i}.\n\n\n\nEnd."} for i in range(40))
    )
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


def train(out: Path, data: Path, **changes: Any) -> Run:
    run = Run(config(**changes), data, out)
    run.train(lambda step, steps, loss: None)
    return run


def test_training_lowers_the_loss_and_is_a_function_of_the_seed(data: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int, float]] = []
    run = Run(config(steps=[60]), data, tmp_path / "a")
    run.train(lambda *progress: seen.append(progress))
    losses = [loss for _, _, loss in seen]
    assert [(step, steps) for step, steps, _ in seen] == [(step, 60) for step in range(1, 61)]
    assert losses[0] == pytest.approx(np.log(300), abs=0.3)
    assert np.mean(losses[-5:]) < 0.6 * losses[0]
    logged = [json.loads(line) for line in (tmp_path / "a" / "loss.jsonl").read_text().splitlines()]
    assert logged == [{"step": step, "loss": loss} for step, _, loss in seen]
    again, other = train(tmp_path / "b", data), train(tmp_path / "c", data, seed=2)
    twin = train(tmp_path / "d", data)
    assert all(torch.equal(a, b) for a, b in zip(again.module.parameters(), twin.module.parameters(), strict=True))
    assert (tmp_path / "b" / "loss.jsonl").read_bytes() == (tmp_path / "d" / "loss.jsonl").read_bytes()
    assert (tmp_path / "b" / "loss.jsonl").read_bytes() != (tmp_path / "c" / "loss.jsonl").read_bytes()
    assert other.step == 8


def test_a_finished_run_has_nothing_to_do(data: Path, tmp_path: Path) -> None:
    train(tmp_path, data)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    Run(config(), data, tmp_path).train(lambda *progress: pytest.fail("a step was taken"))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


# One process imports torch, then forks a child for each run; a child kills itself (SIGKILL, as `kill -9` does) before
# or behind the n-th thing it does to a file or to the weights, a file half-written; or its parent kills it, some time.
KILLS = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from foretoken.recipes import language

torch.set_num_threads(1)
os.environ["TOKENIZERS_PARALLELISM"] = "false"
data, root, config = Path(sys.argv[1]), Path(sys.argv[2]), language.LanguageConfig.from_file(Path(sys.argv[3]))

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def deadly(owner, name, moment, counter):
    function = getattr(owner, name)
    def call(*arguments, **keywords):
        place, counter[0] = counter[0], counter[0] + 1
        if place == moment // 2 and moment % 2 == 0:
            if name == "save_file":
                function(*arguments, **keywords)
                os.truncate(arguments[1], os.path.getsize(arguments[1]) // 2)
            die()
        result = function(*arguments, **keywords)
        if place == moment // 2:
            die()
        return result
    setattr(owner, name, call)

def run(out, moment=None, seconds=None):
    child = os.fork()
    if child == 0:
        counter = [0]
        for owner, name in ((os, "replace"), (os, "fsync"), (language.run, "save_file"), (language.np, "save"),
                            (language, "token_stream"), (language.Run, "advance")):
            deadly(owner, name, -2 if moment is None else moment, counter)
        made = language.Run(config, data, out)
        made.train(lambda *progress: None)
        made.export(out / "export")
        (out / "moments").write_text(str(2 * counter[0]))
        os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]

started = time.perf_counter()
assert run(root / "unbroken") == 0
whole = time.perf_counter() - started
moments = int((root / "unbroken" / "moments").read_text())
print(moments)
for moment in range(moments):
    assert run(root / f"moment-{moment}", moment=moment) == signal.SIGKILL, moment
    assert run(root / f"moment-{moment}") == 0
chance = random.Random(7)
for moment in range(6):  # again and again in one folder
    run(root / "again", moment=chance.randrange(moments // 2))
    run(root / "again", seconds=chance.uniform(0, whole))
assert run(root / "again") == 0
"""


def test_no_kill_changes_the_loss_curve_or_a_weight(data: Path, tmp_path: Path) -> None:
    """At each of some fifty moments, and at random ones in a row: the end is that of the unbroken run, to the byte."""
    (tmp_path / "config.json").write_text(json.dumps(FIELDS), encoding="utf-8")
    arguments = [str(data), str(tmp_path), str(tmp_path / "config.json")]
    run = subprocess.run([sys.executable, "-c", KILLS, *arguments], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) > 40
    results = sorted(path for path in tmp_path.iterdir() if path.is_dir())
    assert len(results) == int(run.stdout) + 2
    for name in ("loss.jsonl", "tokenizer.json", "train.npy", "export/model.safetensors", "export/config.json"):
        whole = (tmp_path / "unbroken" / name).read_bytes()
        assert all((path / name).read_bytes() == whole for path in results), name
    state = load_file(
        tmp_path / "unbroken" / "state.safetensors"
    )  # as bytes they differ: the library shuffles metadata
    for path in results:
        found = load_file(path / "state.safetensors")
        assert found.keys() == state.keys()
        assert all(torch.equal(found[name], state[name]) for name in state), path
    assert len((tmp_path / "unbroken" / "loss.jsonl").read_text().splitlines()) == 8


def test_a_finished_run_can_be_made_longer(data: Path, tmp_path: Path) -> None:
    """Its further steps are those of a run that was asked for all of them at once."""
    at_once = train(tmp_path / "at once", data, steps=[8, 13])
    train(tmp_path / "longer", data)
    longer = train(tmp_path / "longer", data, steps=[8, 13])
    assert (longer.out / "loss.jsonl").read_text() == (at_once.out / "loss.jsonl").read_text()
    for a, b in zip(at_once.module.parameters(), longer.module.parameters(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(InvalidArgument, match="another configuration"):
        Run(config(), data, tmp_path / "longer")


def test_a_pupil_learns_the_law_of_its_teacher(data: Path, tmp_path: Path) -> None:
    """Taught, it is nearer to the teacher on windows than one of the same size and steps that read the text."""
    teacher = train(tmp_path / "teacher", data, steps=[20])
    teacher.export(tmp_path / "teacher" / "checkpoint")
    shape: dict[str, Any] = {"hidden_size": 8, "steps": [60], "tokenizer": "{out}/teacher"}
    taught = train(tmp_path / "taught", data, teacher="{out}/teacher/checkpoint", **shape)
    alone = train(tmp_path / "alone", data, **shape)
    assert all(weight.grad is None for weight in taught.teacher.parameters())
    with torch.inference_mode():
        ids = windows(taught.config, taught.tokens, 10**6)[:, :-1]
        law = taught.teacher(ids).log_softmax(-1)
        far = [(law.exp() * (law - run.module(ids).log_softmax(-1))).sum(-1).mean() for run in (taught, alone)]
    assert far[0] < 0.8 * far[1]
    with pytest.raises(ShapeError, match="the teacher has 300 ids"):
        Run(config(teacher=str(tmp_path / "teacher" / "checkpoint"), vocab_size=299), data, tmp_path / "small")


def test_a_checkpoint_is_gone_on_from_not_begun_anew(data: Path, tmp_path: Path) -> None:
    """The control of the test above: what is resumed really is the state on disk."""
    run = Run(config(), data, tmp_path)
    for _ in range(3):
        run.advance()
    run.save()
    resumed = Run(config(), data, tmp_path)
    assert resumed.step == resumed.optimizer.step_count == 3
    for a, b in zip(run.module.parameters(), resumed.module.parameters(), strict=True):
        assert torch.equal(a, b)
    assert all(torch.equal(run.optimizer.state[name], resumed.optimizer.state[name]) for name in run.optimizer.state)
    assert run.advance() == resumed.advance()


@pytest.mark.parametrize("changes", [{"steps": [9]}, {"seed": 2}, {"sources": ("docs",)}, {"rate": 0.01}])
@pytest.mark.parametrize("when", ["finished", "before the first checkpoint"])
def test_a_folder_of_another_configuration_is_refused(
    when: str, changes: dict[str, Any], data: Path, tmp_path: Path
) -> None:
    if when == "finished":
        train(tmp_path, data)
    else:
        Run(config(), data, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InvalidArgument, match="another configuration"):
        Run(config(**changes), data, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("note", ["", "{", "[]", "{}", '{"steps": 8}'])
def test_a_folder_with_another_note_is_refused(note: str, data: Path, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(note)
    with pytest.raises(InvalidArgument, match="another configuration"):
        Run(config(), data, tmp_path)
    assert (tmp_path / "run.json").read_text() == note


@pytest.mark.parametrize("name", ["state.safetensors", "train.npy", "tokenizer.json"])
def test_a_damaged_folder_is_refused_by_name(name: str, data: Path, tmp_path: Path) -> None:
    train(tmp_path, data)
    whole = (tmp_path / name).read_bytes()
    for part in (0, 1, 7, 12):
        (tmp_path / name).write_bytes(whole[: len(whole) * part // 20])
        with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
            Run(config(), data, tmp_path)


def test_a_loss_that_is_none_stops_the_run_and_keeps_the_last_state(data: Path, tmp_path: Path) -> None:
    run = Run(config(), data, tmp_path)
    run.save()
    with torch.no_grad():
        run.module.model.norm.weight.fill_(float("nan"))
    with pytest.raises(InvalidArgument, match="lower the learning rate"):
        run.train(lambda *progress: None)
    assert all(torch.isfinite(tensor).all() for tensor in load_file(tmp_path / "state.safetensors").values())


def test_an_exported_model_writes(data: Path, tmp_path: Path) -> None:
    run = train(tmp_path / "run", data)
    run.export(tmp_path / "model")
    pipeline = hub.load(tmp_path / "model")
    assert pipeline.codec.vocab_size == run.tokenizer.get_vocab_size() <= pipeline.model.vocab_size == 300
    assert pipeline.model.end_tokens == (0,)
    assert pipeline("the old king", max_tokens=5).stats.tokens <= 5
    # Another run may take its tokenizer.
    drafter = train(tmp_path / "small", data, tokenizer="{out}/run", layers=2, steps=[1])
    assert drafter.tokenizer.to_str() == run.tokenizer.to_str()
    with pytest.raises(ShapeError, match="vocab_size is 280"):
        Run(config(tokenizer=str(tmp_path / "run"), vocab_size=280), data, tmp_path / "other")
    with pytest.raises(CheckpointError, match="nowhere"):
        Run(config(tokenizer=str(tmp_path / "nowhere")), data, tmp_path / "third")


# Configurations


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": [0]}, "steps"),
        ({"steps": []}, "steps"),
        ({"steps": [3, 3]}, "steps"),
        ({"steps": [3, 2]}, "steps"),
        ({"steps": 5}, "steps|int"),
        ({"batch": -1}, "batch"),
        ({"hidden_size": 16.0}, "hidden_size"),
        ({"layers": True}, "layers"),
        ({"rate": 0}, "rate"),
        ({"rate": float("nan")}, "rate"),
        ({"rate": "0.1"}, "rate"),
        ({"cooldown": 1.5}, "cooldown"),
        ({"heads": 3}, "does not divide"),
        ({"window": 64}, "longer than the context"),
        ({"vocab_size": 70000}, "16 bits"),
        ({"seed": -1}, "seed"),
        ({"poems": 1}, r"unknown keys \['poems'\]"),
        ({"seed": ...}, r"missing keys \['seed'\]"),
        ({"sources": 5}, "sources|int"),
    ],
)
def test_a_configuration_is_checked_by_name(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "toy.json"
    raw = {key: value for key, value in {**FIELDS, **changes}.items() if value is not ...}
    path.write_text(json.dumps(raw), encoding="utf-8")
    with pytest.raises(CheckpointError, match=message) as caught:
        LanguageConfig.from_file(path)
    assert "toy.json" in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "5", "[" * 10**5])
def test_a_configuration_that_is_no_json_object_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "toy.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"toy\.json"):
        LanguageConfig.from_file(tmp_path / "toy.json")
    with pytest.raises(InvalidArgument, match=r"none\.json"):
        LanguageConfig.from_file(tmp_path / "none.json")


LANGUAGE = [
    path
    for path in sorted(Path(language.__file__).parent.glob("configs/*.json"))
    if json.loads(path.read_text())["recipe"] == "language"
]


@pytest.mark.parametrize("path", LANGUAGE, ids=lambda path: path.stem)
def test_shipped_configurations_are_sound(path: Path) -> None:
    shipped = LanguageConfig.from_file(path)
    assert shipped.model(0).vocab_size == shipped.vocab_size
    assert set(shipped.sources) <= corpus.SOURCES.keys()


def test_the_learning_rate_rises_stays_and_falls() -> None:
    made = config(steps=[100], warmup=10, cooldown=0.5, rate=0.2)
    rates = [made.rate_at(step) for step in range(101)]
    assert rates[:10] == pytest.approx(np.linspace(0.02, 0.2, 10))
    assert set(rates[9:51]) == {0.2}
    assert rates[50:] == pytest.approx(np.linspace(0.2, 0.0, 51))
    assert dataclasses.replace(made, cooldown=0.0, warmup=0).rate_at(0) == 0.2
    longer = dataclasses.replace(made, steps=(100, 300))
    assert [longer.rate_at(step) for step in range(100)] == rates[:100]
    assert {longer.rate_at(step) for step in range(100, 201)} == {0.2}
    assert [longer.rate_at(step) for step in range(200, 301)] == pytest.approx(np.linspace(0.2, 0.0, 101))
