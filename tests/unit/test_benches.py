"""Every bench runs from end to end on toy models, finds what it must find, and ends in a line of JSON."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

import foretoken as ft
from benches import (
    _common,
    _costs,
    _curve,
    _llama_cpp,
    clip,
    compression,
    drafters,
    exactness,
    jacobi,
    kernels,
    law,
    lookup,
    native,
    painter,
    patch,
    quantize,
    resume,
    reveal,
    sound,
    speed,
    tree,
    units,
)
from foretoken import hub
from foretoken.evaluate import kernels as kernel_bench
from foretoken.evaluate import peers
from foretoken.recipes import captions
from foretoken.recipes.captions import Caption, Captioned
from tests.models import tiny_llama
from tests.unit.test_clip import toy as judge

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


def test_drafters(capsys: pytest.CaptureFixture[str]) -> None:
    results = quick(drafters, capsys)
    counts = quick(drafters, capsys, "--counts")["tiny"]["counts"]
    assert set(counts) == {f"T={t}, {way}" for t in (0.0, 0.8, 1.0) for way in ("Coupled", "Rejection")}
    for run, singles in (("torch", {"Block, torch", "SmallModel, core"}), ("core", set())):
        for found in results["tiny"][run].values():
            assert set(found) >= {"plain", "Block", "tree of Block, SmallModel"} | singles
            assert all(one["differences"] == 0 and one["tokens_per_forward"] >= 1 for one in found.values())


def test_speed(capsys: pytest.CaptureFixture[str]) -> None:
    results = quick(speed, capsys)
    assert results["tiny"].keys() == {"plain", "drafters", "wrong", "overhead", "batch"}
    contenders = results["tiny"]["drafters"]["greedy"]["contenders"]
    assert {"Suffix", "SmallModel", "transformers, prompt look-up", "transformers, assisted"} <= contenders.keys()
    assert results["asked"]["measures"] == 14


def test_native(capsys: pytest.CaptureFixture[str]) -> None:
    results = quick(native, capsys)
    assert results["logits"]["tiny"]["native, float32"] < 1e-4
    assert {"PyTorch, 1 threads", "native, bfloat16, 1 threads"} <= results["prefill"].keys()
    assert {"PyTorch, 1 threads", "products alone, 1 threads", "int8, 1 threads"} <= results["step"].keys()
    assert {name.split(",")[0] for name in results["draft"]} == {"PyTorch", "native"}
    for found in results["decode"].values():
        assert {"transformers, assisted", "native, SmallModel", "native, NGram"} <= found.keys()
        changed = {name: figures["tokens_changed"] for name, figures in found.items() if name.startswith("native")}
        assert changed == dict.fromkeys(changed, 0) | {"native, float32": None}
    there = "llama.cpp, float32" in results["decode"]["greedy"]
    assert there == all(importlib.util.find_spec(name) for name in ("llama_cpp", "gguf"))
    assert results["asked"]["measures"] == 10 + 4 * there


def test_llama_cpp_runs_the_same_model() -> None:
    """Also one whose head is not its embedding, with the rows of queries and keys where it wants them."""
    pytest.importorskip("llama_cpp")
    pytest.importorskip("gguf")
    module = tiny_llama(layers=2, vocab_size=300)
    ids = np.arange(40) * 7 % 300
    with _llama_cpp.opened(module, 1) as peer:
        assert peer is not None
        assert _llama_cpp.difference(peer, module, ids) < 1e-4
        assert _llama_cpp.difference(peer, module, ids[:5]) < 1e-4  # the cache was emptied
        assert peer.write(ids, ft.Sampler(temperature=0.8, top_k=50, top_p=0.95), 8) == 8


def test_a_peer_that_is_not_there_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(_llama_cpp.importlib, "import_module", missing)
    with _llama_cpp.opened(tiny_llama(), 1) as peer:
        assert peer is None


def test_exactness(capsys: pytest.CaptureFixture[str]) -> None:
    results = quick(exactness, capsys)
    replayed, real = results["exact replayed logits"], results["exact tiny"]
    assert (replayed["runs"], replayed["differing_tokens"]) == (240, 0)
    assert real["without_near_tie"] == 0
    assert results["transformers tiny"]["equal"] == 2


def test_exactness_sees_a_difference() -> None:
    """The control."""
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


def test_painter(capsys: pytest.CaptureFixture[str]) -> None:
    results = quick(painter, capsys)
    assert set(results["sameness"]["differ"].values()) == {0}
    assert results["costs"]["8 steps"]["forwards"] == 8
    assert results["costs"]["one patch after another"]["forwards"] == 16


def test_jacobi(capsys: pytest.CaptureFixture[str]) -> None:
    results = quick(jacobi, capsys)
    kinds = [*results["tiny"].values(), *results["pictures"].values()]
    assert all(found["differing"] == 0 for kind in kinds for found in kind.values())
    assert results["pictures"]["T=1"].keys() >= {"plain", "repeat, 4", "above, 16", "above, adaptive"}
    assert results["asked"]["measures"] == 3


def test_compression(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(_common, "RESULTS", tmp_path)
    results = quick(compression, capsys, "--save")
    assert {"model", "5-gram", "xz -9e", "xz -9e, primed"} <= results["tiny"].keys()
    assert json.loads((tmp_path / "compression.json").read_text(encoding="utf-8"))["results"] == results


def test_compression_without_data_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_common, "data_folder", lambda given: None)
    compression.main([])
    assert "pass --data" in json.loads(capsys.readouterr().out.splitlines()[-1])["settings"]["skipped"]


@pytest.mark.parametrize("with_llama_cpp", [False, True])
def test_kernels(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, with_llama_cpp: bool) -> None:
    if with_llama_cpp:
        pytest.importorskip("llama_cpp")
    else:
        monkeypatch.setattr(peers, "_library", lambda: None)
    results = quick(kernels, capsys)
    assert len(results["sample"]) == 8
    assert all(found["times transformers"] > 0 for found in results["sample"].values())
    assert all(found["times hot floor"] > 0 for found in results["sample"].values())
    assert "softmax, multinomial µs" in results["sample"]["500, model, T"]
    assert ("llama.cpp, T last µs" in results["sample"]["500, model, T, p"]) == with_llama_cpp
    assert not any("copy µs" in found for found in results["sample"].values())
    assert {"T, float32", "T, bfloat16", "T, float16"} <= results["dtypes"].keys()
    assert results["verify"].keys() == {"Coupled", "Rejection", "Rejection, dense laws", "transformers"}
    assert all(found["times"] > 0 for found in results["threads"].values())
    assert results["asked"]["measures"] == 12 + 2 * with_llama_cpp


def test_time_against_vocabulary_is_drawn(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    results = quick(kernels, capsys, "--plot", str(tmp_path / "kernels.png"))
    assert results["curve"].keys() == {"1000", "2000"}
    assert {"hot", "cold", "hot floor", "cold floor", "transformers"} <= results["curve"]["1000"].keys()
    picture = (tmp_path / "kernels.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert 10_000 < len(picture) < 80_000


def test_labels_of_the_plot_stand_apart() -> None:
    heights = {"a": 1.0, "b": 1.1, "c": 1.2, "d": 100.0}
    moved = _curve._apart(heights, least=1.5)
    assert moved["d"] == pytest.approx(100)
    assert moved["b"] / moved["a"] == pytest.approx(1.5)
    assert moved["c"] / moved["b"] == pytest.approx(1.5)
    assert list(moved) == sorted(moved, key=moved.__getitem__)


def test_kernels_of_an_installed_package_need_no_peer(capsys: pytest.CaptureFixture[str]) -> None:
    kernel_bench.main(["--vocabulary", "300", "--repeats", "1", "--no-peer"])
    results = json.loads(capsys.readouterr().out.splitlines()[-1])["results"]
    assert results["asked"]["measures"] == 6  # the floor and the threads
    assert not any("transformers µs" in found for found in results["sample"].values())


def test_llama_cpp_draws_from_the_same_candidates() -> None:
    """With both orders of its chain, and with a fresh copy each time."""
    pytest.importorskip("llama_cpp")
    row = np.random.default_rng(0).normal(0, 3, 1000).astype(np.float32)
    best = set(np.argsort(-row)[:50].tolist())
    for own_order in (False, True):
        for fields, allowed in (({"top_k": 50, "top_p": 0.95}, best), ({}, set(range(1000)))):
            found = peers.llama_cpp({"temperature": 0.8, **fields}, row, own_order=own_order)
            assert found is not None
            call, _ = found
            drawn = {int(call(index)) for index in range(200)}
            assert len(drawn) > 5
            assert drawn <= allowed
            assert int(row.argmax()) in drawn


def test_patch(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("PIL")
    results = quick(patch, capsys)
    assert results.keys() == {"56 × 56, patch 14", "64 × 64, patch 16", "100 → 56", "threads", "asked"}
    for name, found in results.items():
        for other, figures in (found.get("apart") or {}).items():
            # torchvision rounds a resize otherwise than Pillow, by one level at most.
            resized = other.endswith("torchvision") and "→" in name
            assert figures["largest"] <= (0.016 if resized else 1e-5), (name, other)
    assert "transformers, Pillow" in results["threads"]
    assert not [missed for missed in results["asked"]["missed"] if "Pillow, off by" in missed]


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


def test_reveal(capsys: pytest.CaptureFixture[str]) -> None:
    results = quick(reveal, capsys)
    assert results.keys() == {"classic", "entropy", "probability", "asked"}
    assert {len(found["steps"]) for found in results["classic"].values()} == {8}
    assert results["asked"]["measures"] == 6


def test_quantize(capsys: pytest.CaptureFixture[str]) -> None:
    results = quick(quantize, capsys)
    assert results.keys() == {"nearest", "residual", "fsq", "packing", "colours", "sound", "round trips", "asked"}
    assert all(found["ids_that_differ_from_float64"]["ours"] == 0 for found in results["nearest"].values())
    assert results["packing"]["pack 10 bits"]["ours"]["ids_per_second"] > 0


def test_units(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    results = quick(units, capsys, "--plot", str(tmp_path / "units.png"))
    assert results.keys() == {"tiny", "1 B", "measured"}
    assert (tmp_path / "units.png").read_bytes().startswith(b"\x89PNG")
    rows, picture = results["measured"]["rows"], results["1 B"]["picture 1024², 24-bit pixels"]
    assert [name for name, row in rows.items() if row["measured"]] == [
        "film of 1 s, tubelets 4 × 8²", "sound of 1 s, codes"
    ]  # fmt: skip
    taken = [seconds for _, seconds in sorted((row["units"], row["seconds"]) for row in rows.values())]
    assert taken == sorted(taken)  # also by a noisy line, for it never falls
    assert {found["part"] for found in results["measured"]["units"].values()} == {"shorter", "line", "held out"}
    assert (picture["units"], picture["cache_bytes"]) == (2**20, 2**20 * 2 * 16 * 8 * 64 * 2)
    assert results["tiny"]["sound of 1 s, codes, delayed"]["forwards"] == 53


def test_operations_are_those_that_torch_counts() -> None:
    """A row read at once costs what its units cost one by one, but for what attention then masks."""
    from torch.utils.flop_counter import FlopCounterMode

    module, length = tiny_llama(), 24
    with FlopCounterMode(display=False) as counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        module(torch.zeros(1, length, dtype=torch.int64))
    found = _costs.costs(module.config, length, bytes_of_a_number=4)
    masked = 4 * 2 * 4 * 8 * (length**2 - length * (length + 1) // 2)  # layers, heads, width
    assert counter.get_total_flops() == found.operations + masked


def test_a_line_goes_through_what_lies_on_one() -> None:
    line = _costs.Line.through({place: 2e-3 + 5e-7 * place for place in (1, 10, 100, 5000)})
    assert (line.start, line.slope) == (pytest.approx(2e-3), pytest.approx(5e-7))
    falling = _costs.Line.through({1: 2.0, 2: 1.0})
    assert (falling.start, falling.slope) == (1.5, 0)
    assert line.between(200, 1000) == pytest.approx(sum(line.at(place) for place in range(201, 1001)))


def test_sound(capsys: pytest.CaptureFixture[str]) -> None:
    results = quick(sound, capsys)
    found = results["codecs"]
    names = ["SoundCodes, 2 of 2 books", "SoundCodes, 1 of 2 books", "k-means of samples, 2 × 16", "μ-law, 8 bits"]
    assert list(found) == [*names, "linear, 16 bits", "original"]
    assert [found[name]["bits_a_second"] for name in names] == [400, 200, 400, 64_000]
    assert found["linear, 16 bits"]["si_snr_db"] > found["μ-law, 8 bits"]["si_snr_db"] > 30
    assert found["μ-law, 8 bits"]["si_snr_db"] > found["k-means of samples, 2 × 16"]["si_snr_db"]
    assert found["original"]["accuracy"] == found["linear, 16 bits"]["accuracy"] > 0.7
    assert found["SoundCodes, 2 of 2 books"]["accuracy"] < 0.5  # random weights: the listener is no rubber stamp
    assert results["asked"]["missed"]


@pytest.mark.parametrize("bench", [clip, sound])
def test_a_bench_without_data_says_so(
    bench: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_common, "data_folder", lambda given: None)
    bench.main([])
    assert "pass --data" in json.loads(capsys.readouterr().out.splitlines()[-1])["settings"]["skipped"]


def test_clip(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A judge with random weights knows nothing, whatever it is asked."""
    random = np.random.default_rng(0)

    def emoji(data: Path, *, held_out: bool = False) -> Captioned:
        said = [Caption((f"thing {number}",), ("noto style", "flat style")[number % 2]) for number in range(4000)]
        said = said[3700:] if held_out else said[:3700]
        return random.integers(0, 256, (len(said), 64, 64, 3), dtype=np.uint8), said

    def characters(data: Path, count: int, **options: Any) -> Captioned:
        said = [
            Caption((f"tan {who}", f"hair {number}"), "walking left")
            for number in range(50)
            for who in ("man", "woman")
        ]
        return random.integers(0, 256, (100, 64, 64, 3), dtype=np.uint8), said

    monkeypatch.setattr(captions, "emoji", emoji)
    monkeypatch.setattr(captions, "characters", characters)
    results = quick(
        clip, capsys, "--data", str(tmp_path), "--model", str(judge(tmp_path / "toy", positions=64)), "--count", "100"
    )
    labels = results["clip"].pop("labels")
    assert labels.keys() == {"style, of nine", "direction, of four"}
    sets = results["clip"]
    assert list(sets)[1:3] == ["style and caption seen apart", "the same, through the codec"]
    assert {name: found["pairs"] for name, found in sets.items()} == dict.fromkeys(sets, 100)
    for found in sets.values():
        assert 0.3 < found["area_under_curve"] < 0.7
        assert found["first_among_100"] < 0.1
    assert len(results["asked"]["missed"]) == 2


@pytest.mark.parametrize("name", ["clip", "compression", "lookup", "native", "quantize", "sound", "speed", "units"])
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
