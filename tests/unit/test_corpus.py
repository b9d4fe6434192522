"""Training data: whole documents on one side each, read once an epoch; damaged files are refused by name."""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import numpy as np
import pytest
import torch

from foretoken.errors import CheckpointError, InvalidArgument
from foretoken.recipes import corpus
from foretoken.recipes.language import Run, windows
from tests.unit.test_recipes import config, story, write_data, write_rows


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("sources", [("stories",), ("docs",), ("tldr",), ("stories", "docs", "tldr")])
def test_splits_are_whole_documents_of_one_side(sources: tuple[str, ...], data: Path) -> None:
    train_texts, held_out = corpus.split(data, sources, one_in=5)
    assert train_texts
    assert held_out
    assert not set(train_texts) & set(held_out)
    assert len(train_texts) + len(held_out) == sum(60 if name == "stories" else 40 for name in sources)
    assert (train_texts, held_out) == corpus.split(data, sources, one_in=5)


def test_a_document_keeps_its_side_whatever_comes_and_goes(data: Path, tmp_path: Path) -> None:
    before = corpus.split(data, ("stories",), one_in=5)
    write_rows(tmp_path / "stories.jsonl.xz", map(story, [*range(99, 30, -1), *range(10)]))
    after = corpus.split(tmp_path, ("stories",), one_in=5)
    shared = {*before[0], *before[1]} & {*after[0], *after[1]}
    for side in (0, 1):
        assert shared & set(before[side]) == shared & set(after[side])
        assert len(shared & set(before[side])) > 3


def test_what_is_held_out_is_never_trained_on(data: Path, tmp_path: Path) -> None:
    run = Run(config(), data, tmp_path)
    text = run.tokenizer.decode(run.tokens.tolist())
    train_texts, held_out = corpus.split(data, ("stories",))
    names = {which: [text.split()[0] for text in texts] for which, texts in (("train", train_texts), ("out", held_out))}
    assert names["out"]
    assert all(f"{name} " in text for name in names["train"])
    assert not any(f"{name} " in text for name in names["out"])


def test_every_epoch_reads_every_window_once(data: Path, tmp_path: Path) -> None:
    run = Run(config(), data, tmp_path)
    tokens = np.arange(1 + 16 * 12, dtype=np.uint16)
    for epoch in (0, 1):
        steps = [windows(config(), tokens, 3 * epoch + step) for step in range(3)]
        assert all(step.shape == (4, 17) for step in steps)
        assert sorted(int(row[0]) for step in steps for row in step) == list(range(0, 192, 16))
        assert all((row.diff() == 1).all() for step in steps for row in step)
    assert not torch.equal(windows(config(), tokens, 0), windows(config(), tokens, 3))
    assert torch.equal(windows(config(), tokens, 5), windows(config(), tokens, 5))
    assert not torch.equal(windows(config(), run.tokens, 0), windows(config(seed=2), run.tokens, 0))
    with pytest.raises(InvalidArgument, match="fewer than one batch"):
        windows(config(), tokens[:40], 0)


def test_prose_is_reflowed() -> None:
    text = "\ufeffOnce upon\r\na time  \nthere was\n\n\n\nThe End\nQuote"
    assert corpus.reflow(text) == "Once upon a time there was\n\nThe End\nQuote\n"


def test_tldr_pages_are_markdown(data: Path) -> None:
    key, text = next(corpus.tldr(data))
    assert key == "linux/tool0"
    assert text == "# tool0\n\n> Tool 0.\n\n- Run it:\n\n`tool0 -v`\n"


@pytest.mark.parametrize("cut", [0, 1, 10, 30, -1])
def test_a_cut_data_file_is_refused(cut: int, data: Path, tmp_path: Path) -> None:
    (tmp_path / "stories.jsonl.xz").write_bytes((data / "stories.jsonl.xz").read_bytes()[:cut])
    with pytest.raises(CheckpointError, match=r"stories\.jsonl\.xz"):
        Run(config(), tmp_path, tmp_path / "out")
    assert not (tmp_path / "out" / "train.npy").exists()


@pytest.mark.parametrize("line", ["{", "5", "[]", "null", "{}", '{"title": 1, "text": 2, "source": 3}', "[" * 10**5])
def test_a_row_of_another_kind_is_refused(line: str, tmp_path: Path) -> None:
    with lzma.open(tmp_path / "stories.jsonl.xz", "wt", encoding="utf-8") as file:
        file.write(json.dumps(story(1)) + "\n" + line + "\n")
    with pytest.raises(CheckpointError, match=r"stories\.jsonl\.xz"):
        corpus.split(tmp_path, ("stories",))


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    with lzma.open(tmp_path / "stories.jsonl.xz", "wb") as file:
        file.write(b'{"text": "\xff\xfe"}\n')
    with pytest.raises(CheckpointError, match="damaged"):
        corpus.split(tmp_path, ("stories",))


def test_missing_data_and_unknown_sources_are_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"stories\.jsonl\.xz.*--data"):
        corpus.split(tmp_path, ("stories",))
    with pytest.raises(InvalidArgument, match=r"'poems'.*'docs', 'stories', 'tldr'"):
        corpus.split(data, ("stories", "poems"))


def test_copies_of_training_text_are_not_unseen() -> None:
    numbers = np.random.default_rng(0).integers(0, 10**9, size=(40, 100))
    train_texts = [" ".join(map(str, row)) for row in numbers[:20]]
    fresh = [" ".join(map(str, row)) for row in numbers[20:]]
    copy, shifted = train_texts[3], "x" + train_texts[5][7:]
    quoted = [text + train_texts[i][: len(text) // 2] for i, text in enumerate(fresh[:3])]  # a third is copied
    mostly = fresh[4][:200] + train_texts[7]
    assert corpus.unseen(train_texts, [copy, *fresh, shifted, *quoted, mostly, "short"]) == [*fresh, *quoted, "short"]
    assert corpus.unseen([], fresh) == fresh
    assert corpus.unseen(train_texts, []) == []
