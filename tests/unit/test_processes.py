"""Other processes: what is public goes there by pickle and does there what it does here, and a fork goes on."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import inspect
import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import foretoken as ft
from foretoken import Sampler, kernels
from foretoken.canvas import Canvas
from foretoken.strategy.cascade import every, rest
from tests.models import tiny_llama, tiny_model
from tests.painters import tiny_painter
from tests.unit.test_clip import toy as toy_judge
from tests.unit.test_filling import masked_model
from tests.unit.test_patches import toy as patch_autoencoder
from tests.unit.test_sound_codes import toy as sound_codes
from tests.unit.test_text import byte_level

PROMPT = [5, 3, 8, 5, 3, 8, 5, 3]
ROW = np.random.default_rng(0).normal(size=(1, 48)).astype(np.float32)
ELSEWHERE = {"ForetokenError", "HuggingFace", "kernels.TokenShard"}
"""Public classes whose pickling is tested where their other tests are."""
SESSIONS = {"kernels.NativeSession", "kernels.BlockRing", "kernels.NativeBlock"}
"""What belongs to a process; the last is made anew from the weights that a `BlockDrafter` keeps."""


def decoded(strategy: Any, model: Any = None) -> Any:
    """A short text, and how it came about."""
    out = ft.generate(model or tiny_model(), Canvas([PROMPT]), strategy, max_tokens=12, min_tokens=12, seed=3)
    return out.tokens.tolist(), list(out.trace)


def filled(strategy: Any, model: Any = None) -> Any:
    """A row, filled in."""
    out = ft.generate(model or masked_model(), Canvas([[8, -1, 3, -1, -1]]), strategy, seed=3)
    return out.units.tolist()


def drafted(drafter: Any) -> Any:
    return decoded(ft.Autoregressive(drafter, length=3))


def predicted(model: Any) -> Any:
    return model.open(1, 8).forward(np.array([PROMPT])).tolist()


def sampled(sampler: Any = None, history: Any = None) -> Any:
    sampler = sampler or kernels.compile_sampler(Sampler(repetition_penalty=5.0), vocab_size=48)
    keys: Any = {"seeds": [7], "positions": [1], "history": history and [history], "commit": False}
    return repr(kernels.sample(ROW, sampler, **keys))


def looked_up(index: Any) -> Any:
    """Also in a row that it has known for long."""
    index.start(1, PROMPT)
    return repr([index.propose(row, 4) for row in (0, 1)])


def index(made: Any) -> Any:
    made.start(0, [1, 2, 3, 1, 2])
    return made


def corpus() -> Any:
    made = kernels.SuffixCorpus(1 << 20)
    made.add([8, 5, 3, 9, 9])
    return made


def past() -> Any:
    made = kernels.History([int(ROW.argmax())], mu=2.5)
    made.extend([4])
    return made


def native() -> Any:
    return ft.Native(tiny_llama(), threads=2)


def verified() -> Any:
    sampler = kernels.compile_sampler(Sampler(), vocab_size=48)
    return kernels.verify(np.stack([ROW, ROW], axis=1), np.array([[3]]), sampler, seeds=[7], positions=[1])


def painted(painter: Any) -> Any:
    return painter(None, seed=3).signal.pixels.tolist()


def masked(kernel: Any) -> Any:
    sampler = kernels.compile_sampler(Sampler(), vocab_size=48)
    return kernel(ROW[:, None], np.array([[-1]]), sampler, seeds=[7], step=1)


def judge() -> Any:
    with tempfile.TemporaryDirectory() as folder:
        return ft.evaluate.Clip(toy_judge(Path(folder)))


SCORES = ROW[:, :6].reshape(1, 2, 3)
IDS = np.arange(6).reshape(1, 2, 3)
CODEC = ft.Text(byte_level())
SOUND = np.sin(np.arange(1600, dtype=np.float32))
PIXELS = np.random.default_rng(0).integers(0, 256, (3, 8, 12, 3), dtype=np.uint8)

# How each is made, and what it then does, as values that can be compared.
PUBLIC: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "Adaptive": (lambda: ft.Adaptive(5), repr),
    "Autoregressive": (lambda: ft.Autoregressive(ft.NGram(minimum=1), ft.Rejection(), length=3), decoded),
    "BlockDrafter": (
        lambda: ft.BlockDrafter("tales-block"),
        lambda drafter: decoded(ft.Autoregressive(drafter, length=3), ft.load("tales").model),
    ),
    "Canvas": (lambda: Canvas([PROMPT, [1]]), lambda canvas: [row.tolist() for row in canvas.rows]),
    "Cascade": (lambda: ft.Cascade([ft.Stage(every(2)), ft.Stage(rest)]), filled),
    "Coupled": (lambda: ft.Coupled(width=3), repr),
    "Draft": (lambda: ft.Draft(np.array([1, 2]), evidence=2, source="test"), repr),
    "EarlyExit": (lambda: ft.EarlyExit(1), drafted),
    "Film": (lambda: ft.Film(patch_autoencoder(frames=2)), lambda codec: codec.encode(PIXELS).tolist()),
    "Generation": (
        lambda: ft.generate(tiny_model(), Canvas([PROMPT]), max_tokens=4, min_tokens=4),
        lambda out: (out.tokens.tolist(), list(out.trace), out.stats.tokens),
    ),
    "Guided": (lambda: ft.Guided(masked_model(), 2.0, without=np.copy), lambda model: filled(ft.OneShot(), model)),
    "Jacobi": (lambda: ft.Jacobi(3, ft.above(2)), drafted),
    "Llama": (tiny_model, predicted),
    "Masked": (lambda: ft.Masked(2), filled),
    "MaskedDrafter": (lambda: ft.MaskedDrafter(masked_model()), lambda drafter: drafter.name),
    "MaskedLlama": (masked_model, lambda model: filled(ft.OneShot(), model)),
    "NGram": (lambda: ft.NGram(minimum=1), drafted),
    "Native": (native, predicted),
    "OneShot": (lambda: ft.OneShot(ft.UntilEnd(3)), repr),
    "Patches": (lambda: ft.Patches(patch_autoencoder()), lambda codec: codec.encode(PIXELS[0]).tolist()),
    "Painter": (tiny_painter, painted),
    "Picture": (lambda: ft.Picture(PIXELS[0]), lambda picture: np.asarray(picture).tolist()),
    "Preview": (lambda: next(tiny_painter().stream(None, seed=3)), lambda preview: preview.picture.pixels.tolist()),
    "Pipeline": (
        lambda: ft.Pipeline(CODEC, tiny_model(vocab_size=330), name="toy"),
        lambda pipeline: pipeline("ab", max_tokens=8, min_tokens=8, seed=3).signal,
    ),
    "Pixels": (lambda: ft.Pixels(8), lambda codec: codec.encode(PIXELS[0]).tolist()),
    "Predicted": (lambda: ft.Predicted(beam=3), repr),
    "Rejection": (lambda: ft.Rejection(block=True), repr),
    "RowByRow": (lambda: ft.RowByRow(masked_model()), lambda model: filled(ft.OneShot(), model)),
    "Sampler": (lambda: Sampler(top_p=0.9, logit_bias={3: 1.0}, bad_words=[[1, 2]]), repr),
    "Samples": (lambda: ft.Samples(rate=8000, bits=8), lambda codec: codec.encode(SOUND).tolist()),
    "Several": (lambda: ft.Several(ft.Suffix(corpus(), minimum=1), ft.NGram(), tree=True), drafted),
    "SmallModel": (lambda: ft.SmallModel(native()), drafted),
    "SoundCodes": (sound_codes, lambda codec: codec.encode(SOUND).tolist()),
    "Stage": (lambda: ft.Stage(every(4)), lambda stage: stage.part(np.arange(9)).tolist()),
    "Stats": (lambda: ft.Stats(tokens=3, seconds={"total": 1.0}), repr),
    "Step": (lambda: ft.Step(0, [1], [1], 1, "test", [0.5]), repr),
    "Suffix": (lambda: ft.Suffix(corpus(), minimum=1), drafted),
    "SuffixCorpus": (corpus, lambda corpus: looked_up(index(kernels.Suffix(corpus=corpus)))),
    "Text": (lambda: CODEC, lambda codec: codec.encode("ab naïve 🙂").tolist()),
    "UntilEnd": (lambda: ft.UntilEnd(3), repr),
    "evaluate.Clip": (judge, lambda judge: judge.score(PIXELS, ["red", "a", "flat style"]).tolist()),
    "kernels.Bigram": (lambda: kernels.Bigram(ROW.T, ROW.T), repr),
    "kernels.Chains": (lambda: kernels.lattice_chains(IDS, SCORES), repr),
    "kernels.Choices": (
        lambda: kernels.sample(ROW, kernels.compile_sampler(Sampler(), vocab_size=48), seeds=[7], positions=[1]),
        repr,
    ),
    "kernels.Compiled": (lambda: kernels.compile_sampler(Sampler(top_p=0.5, min_p=0.1), vocab_size=48), sampled),
    "kernels.Coded": (lambda: kernels.Coded(np.array([3, 1]), 1), repr),
    "kernels.Confidences": (lambda: masked(kernels.confidences), repr),
    "kernels.Filter": (lambda: list(kernels.Filter), repr),
    "kernels.History": (past, lambda history: (sampled(history=history), history.prompt_length, history.mu)),
    "kernels.NGram": (lambda: index(kernels.NGram()), looked_up),
    "kernels.NativeModel": (
        lambda: native()._core,
        lambda core: repr(core.open(1, 8, 0, 2).forward(IDS[0, :1], None, False)),
    ),
    "kernels.Nearest": (lambda: kernels.nearest(ROW.reshape(-1, 4), ROW.reshape(-1, 4)[:3]), repr),
    "kernels.Patches": (lambda: kernels.patchify(np.zeros((4, 6, 3), np.uint8), patch=2), repr),
    "kernels.Revealed": (lambda: masked(kernels.reveal), repr),
    "kernels.Rounding": (lambda: list(kernels.Rounding), repr),
    "kernels.StopStrings": (lambda: kernels.StopStrings([b"END", b"."]), lambda stop: stop.feed(0, b"the END.")),
    "kernels.Suffix": (lambda: index(kernels.Suffix(corpus=corpus())), looked_up),
    "kernels.Tree": (lambda: kernels.lattice_tree(IDS, SCORES, nodes=4), repr),
    "kernels.Verified": (verified, repr),
}


def test_everything_public_is_here() -> None:
    """What a user can be handed by `foretoken` and two of its modules, but a session, which is a process' own."""
    found = {name for name, value in vars(ft).items() if inspect.isclass(value) and not name.startswith("_")}
    own = {name: value for name, value in vars(kernels).items() if inspect.isclass(value) and name not in found}
    named = {f"kernels.{n}" for n, v in own.items() if not n.startswith("_") and v.__module__.startswith("foretoken")}
    named |= {f"kernels.{name}" for name in ("NGram", "Patches", "Suffix")}  # of the same names as other things
    named |= {f"evaluate.{name}" for name, value in vars(ft.evaluate).items() if inspect.isclass(value)}
    assert found | named == PUBLIC.keys() | ELSEWHERE | SESSIONS


@pytest.mark.parametrize("name", PUBLIC)
def test_a_copy_does_the_same(name: str) -> None:
    make, use = PUBLIC[name]
    expected = use(make())
    for copied in (pickle.loads(pickle.dumps(make())), copy.deepcopy(make()), copy.copy(make())):
        assert use(copied) == expected


def test_a_session_is_not_pickled() -> None:
    session = native().open(1, 8)
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(session._core)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Python warns of forks in a process with threads; that they do no harm here is what is tested."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def used(things: dict[str, Any]) -> dict[str, Any]:
    torch.set_num_threads(1)
    return {name: PUBLIC[name][1](thing) for name, thing in things.items()}


@pytest.mark.parametrize("way", multiprocessing.get_all_start_methods())
def test_another_process_does_the_same(way: str) -> None:
    with quiet(), ProcessPoolExecutor(1, multiprocessing.get_context(way)) as pool:
        found = pool.submit(used, {name: make() for name, (make, _) in PUBLIC.items()}).result()
    assert found == used({name: make() for name, (make, _) in PUBLIC.items()})


def in_a_fork(call: Callable[[], bytes]) -> bytes:
    """What `call` returns in a child that was forked here and now, and is killed if it hangs."""
    reading, writing = os.pipe()
    with quiet():
        child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(60)
        os.write(writing, call())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    assert os.waitpid(child, 0)[1] == 0, "the child hung or died"
    return said


class Work:
    """A loop of one's own at work: every kernel, some of them in two threads, and all that they keep between calls."""

    def __init__(self, model: kernels.NativeModel) -> None:
        rng = np.random.default_rng(0)
        self.logits = rng.normal(size=(4, 2000)).astype(np.float32)
        self.sampler = kernels.compile_sampler(Sampler(repetition_penalty=1.2, top_p=0.9), vocab_size=2000)
        self.history = [kernels.History(rng.integers(0, 2000, 50)) for _ in range(4)]
        self.corpus = kernels.SuffixCorpus(1 << 20)
        self.suffix, self.ngram = kernels.Suffix(corpus=self.corpus), kernels.NGram()
        for drafter in (self.suffix, self.ngram):
            drafter.start(0, rng.integers(0, 4, 50))
        self.session = model.open(1, 64, 0, 2)
        self.steps = 0

    def step(self) -> bytes:
        """One round, in two threads where that is possible; a digest of all it got."""
        self.steps += 1
        keys: Any = {"seeds": [self.steps] * 4, "positions": [self.steps] * 4, "threads": 2, "history": self.history}
        block, draft = np.stack([self.logits] * 3, axis=1), np.zeros((4, 2), dtype=np.int64)
        self.corpus.add([0, 1, 2, self.steps])
        found = [
            kernels.sample(self.logits, self.sampler, **keys),
            kernels.verify(block, draft, self.sampler, **keys),
            *(drafter.propose(0, 8) for drafter in (self.suffix, self.ngram)),
            (self.session.forward(np.array([[self.steps, 7]]), None, False), self.session.lengths),
            kernels.StopStrings([b"END"]).feed(0, b"the END"),
        ]
        for drafter in (self.suffix, self.ngram):
            drafter.extend(0, [self.steps % 4])
        return hashlib.sha256(pickle.dumps(found)).digest()


@pytest.fixture(scope="module")
def tales() -> kernels.NativeModel:
    """Read before any fork: PyTorch, which reads it, has locks that a child may inherit as taken."""
    return ft.Native(ft.path("tales"))._core


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_parent_and_child_go_on_from_where_they_were(tales: kernels.NativeModel) -> None:
    """Also with a session's helper threads, which a child lacks."""
    work, alone = Work(tales), Work(tales)
    expected = [alone.step() for _ in range(4)]
    assert [work.step() for _ in range(2)] == expected[:2]
    if sys.platform == "linux":
        names = [(task / "comm").read_text(encoding="utf-8") for task in Path("/proc/self/task").iterdir()]
        assert "foretoken\n" in names, "no helper stands by: then this test shows less than it says"
    assert in_a_fork(lambda: b"".join(work.step() for _ in range(2))) == b"".join(expected[2:])
    assert [work.step() for _ in range(2)] == expected[2:]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_in_the_middle_of_another_threads_calls(tales: kernels.NativeModel) -> None:
    """What the kernels share behind the scenes, whatever state it was in, holds up no object of the child's own."""
    expected, done = Work(tales).step(), threading.Event()

    def go_on() -> None:
        while not done.is_set():
            Work(tales).step()

    others = [threading.Thread(target=go_on) for _ in range(2)]
    for other in others:
        other.start()
    try:
        for _ in range(20):
            assert in_a_fork(lambda: Work(tales).step()) == expected
    finally:
        done.set()
        for other in others:
            other.join()


class Sampled(Dataset[int]):
    """Tokens that kernels choose, as a data set."""

    def __init__(self) -> None:
        self.sampler = kernels.compile_sampler(Sampler(top_p=0.9), vocab_size=48)
        self.suffix = index(kernels.Suffix(corpus=corpus()))
        self.rows = np.tile(ROW, (2, 1))

    def __len__(self) -> int:
        return 8

    def __getitem__(self, place: int) -> int:
        keys: Any = {"seeds": [place] * 2, "positions": [0] * 2, "threads": 2}
        tokens, _, _ = self.suffix.propose(0, 1 + place)
        return int(kernels.sample(self.rows, self.sampler, **keys).tokens[0]) + 100 * len(tokens)


@pytest.mark.parametrize("way", ["fork", "spawn"])
def test_workers_of_a_data_loader_call_kernels(way: str) -> None:
    if way not in multiprocessing.get_all_start_methods():
        pytest.skip(f"needs {way}")
    data = Sampled()
    expected = [data[place] for place in range(len(data))]
    with quiet():
        loader = DataLoader(data, batch_size=2, num_workers=2, multiprocessing_context=way)
        assert [token for batch in loader for token in batch.tolist()] == expected
    assert len(set(expected)) > 3
