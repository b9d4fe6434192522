"""Every bench runs from end to end on toy models, finds what it must find, and ends in a line of JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer

from benches import _common, compression, exactness, kernels, law, lookup, native, patch, resume, speed, tree
from foretoken import hub

pytest.importorskip("transformers")


def quick(bench: Any, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    """Results of a bench in quick mode, as its last line says them."""
    threads = torch.get_num_threads()
    try:
        report = bench.main(["--quick", "--threads", "1", *arguments])
    finally:
        torch.set_num_threads(threads)
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last == json.loads(report.to_json())
    return last["results"]


def test_speed(capsys: pytest.CaptureFixture[str]) -> None:
    results = quick(speed, capsys)
    assert results["tiny"].keys() == {"plain", "drafters", "wrong", "overhead", "batch"}
    contenders = results["tiny"]["drafters"]["greedy"]["contenders"]
    assert {"Suffix", "SmallModel", "transformers, prompt look-up", "transformers, assisted"} <= contenders.keys()
    assert results["asked"]["measures"] == 14


def test_native(capsys: pytest.CaptureFixture[str]) -> None:
    results = quick(native, capsys)
    assert {"PyTorch, 1 threads", "products alone, 1 threads", "int8, 1 threads"} <= results["step"].keys()
    assert {name.split(",")[0] for name in results["draft"]} == {"PyTorch", "native"}
    for found in results["decode"].values():
        assert {"transformers, assisted", "native, SmallModel", "native, NGram"} <= found.keys()
        assert {figures["tokens_changed"] for name, figures in found.items() if name.startswith("native")} == {0}
    assert results["asked"]["measures"] == 8


def test_exactness(capsys: pytest.CaptureFixture[str]) -> None:
    results = quick(exactness, capsys)
    replayed, real = results["exact replayed logits"], results["exact tiny"]
    assert (replayed["runs"], replayed["differing_tokens"]) == (210, 0)
    assert real["without_near_tie"] == 0
    assert results["transformers tiny"]["equal"] == 2


def test_exactness_sees_a_difference() -> None:
    """The control."""
    import numpy as np

    one, leads = np.array([1, 2, 3, 4]), [0.5, 1e-7, 0.5, 0.5]
    assert exactness.compare("", (one, leads), (one.copy(), leads)) == (0, None)
    count, difference = exactness.compare("", (one, leads), (np.array([1, 7, 3, 5]), leads))
    assert count == 2
    assert difference == ("", 1, 2, 7, 1e-7)
    assert exactness.compare("", (one, leads), (one[:3], leads))[0] == 1


def test_law(capsys: pytest.CaptureFixture[str]) -> None:
    results = quick(law, capsys)
    assert results["worst"] < law.ASKED
    assert results["controls_caught"]
    assert all(line["guesses"] > 0 for line in results["distances"].values())


def test_tree(capsys: pytest.CaptureFixture[str]) -> None:
    results = quick(tree, capsys)
    assert all(line["differing"] == 0 for kind in results["trees"].values() for line in kind.values())
    assert results["blocks"].keys() == {"one after another", "whole blocks", "tree with n-grams"}


def test_compression(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(_common, "RESULTS", tmp_path)
    results = quick(compression, capsys, "--save")
    assert {"model", "5-gram", "xz -9e", "xz -9e, primed"} <= results["tiny"].keys()
    assert json.loads((tmp_path / "compression.json").read_text(encoding="utf-8"))["results"] == results


def test_compression_without_data_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_common, "data_folder", lambda given: None)
    compression.main([])
    assert "pass --data" in json.loads(capsys.readouterr().out.splitlines()[-1])["settings"]["skipped"]


def test_kernels(capsys: pytest.CaptureFixture[str]) -> None:
    results = quick(kernels, capsys)
    assert len(results["sample"]) == 8
    assert all(found["times transformers"] > 1 for found in results["sample"].values())
    assert results["verify"].keys() == {"Coupled", "Rejection", "transformers"}
    assert results["threads"]["times"] > 0


def test_patch(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("PIL")
    results = quick(patch, capsys)
    assert results.keys() == {"56 × 56, patch 14", "64 × 64, patch 16", "100 → 56", "threads", "asked"}
    for name, found in results.items():
        assert all(figures["largest"] <= 1e-5 for figures in found.get("apart", {}).values()), name
    assert "transformers, Pillow" in results["threads"]
    assert not [missed for missed in results["asked"]["missed"] if "off by" in missed]


def test_resume(capsys: pytest.CaptureFixture[str]) -> None:
    results = quick(resume, capsys)
    assert len(results["deaths"]) == 1
    assert (results["losses"], results["losses_that_differ"], results["tensors_that_differ"]) == (120, 0, 0)


def test_lookup(capsys: pytest.CaptureFixture[str]) -> None:
    results = quick(lookup, capsys)
    assert results.keys() == {"text", "drafters", "rows", "corpus", "lattice"}
    assert {"NGram", "transformers, prompt look-up"} <= results["drafters"]["row alone, without an index"].keys()
    assert (
        results["corpus"]["save documents"]["megabytes"]
        < results["corpus"]["save documents and automaton"]["megabytes"]
    )


@pytest.mark.parametrize("name", ["compression", "lookup", "native", "speed"])
def test_a_bench_is_a_script(name: str, tmp_path: Path) -> None:
    """It finds the tests' models from any folder, and does not stand in the way of a module of its own name."""
    script = _common.ROOT / "benches" / f"{name}.py"
    run = subprocess.run(
        [sys.executable, str(script), "--help"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "--quick" in run.stdout


def test_prompts_are_as_they_say() -> None:
    rows = [json.loads(line) for line in _common.PROMPTS.read_text(encoding="utf-8").splitlines()]
    assert [row["model"] for row in rows] == ["tales"] * 50 + ["manual"] * 30
    assert len({row["text"] for row in rows}) == 80
    assert all(row["source"] and row["title"] and row["licence"] for row in rows)
    for name in {"tales", "manual"} & set(hub.names()):
        tokenizer = Tokenizer.from_file(str(hub.path(name) / "tokenizer.json"))
        counts = [len(tokenizer.encode(row["text"]).ids) for row in rows if row["model"] == name]
        assert 20 <= min(counts) <= max(counts) <= 60
    assert sorted(_common.texts("tales", 50)) == sorted(row["text"] for row in rows[:50])
    assert _common.texts("manual", 4)[1::2] == [row["text"] for row in rows[65:67]]


def test_documents_are_taken_at_even_distances() -> None:
    documents = [str(i) for i in range(10)]
    assert compression.spread(documents, 3) == ["0", "3", "6"]
    assert compression.spread(documents, None) == compression.spread(documents, 50) == documents
