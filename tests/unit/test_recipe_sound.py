"""The sound recipe: it learns, it is a function of its configuration, and no kill changes that."""

from __future__ import annotations

import dataclasses
import io
import json
import subprocess
import sys
import wave
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from foretoken.codec.sound_autoencoder import SoundAutoencoder
from foretoken.codec.sound_codes import SoundCodes
from foretoken.errors import CheckpointError, InvalidArgument
from foretoken.recipes import catalogue, digits, sound_card
from foretoken.recipes.residual_books import ResidualBooks
from foretoken.recipes.sound import Run, SoundRecipe, noise_ratio, spectral_distance

FIELDS: dict[str, Any] = {
    "recipe": "sound", "strides": [20, 8], "encoder_widths": [8, 12], "encoder_blocks": [1, 1],
    "decoder_widths": [8, 12], "decoder_blocks": [1, 1], "latent": 4, "books": 2, "codes": 16, "window": 640,
    "batch": 4, "shortened": 0.3, "decay": 0.9, "commitment": 0.25, "waveform": 0.2, "steps": [6], "warmup": 2,
    "cooldown": 0.5, "rate": 0.005, "save_every": 2, "seed": 1,
}  # fmt: skip


def config(**changes: Any) -> SoundRecipe:
    return SoundRecipe.from_raw({**FIELDS, **changes}, Path("config.json"))


def write_data(folder: Path, count: int = 30) -> Path:
    """Takes of tones, as the real archive holds them."""
    with zipfile.ZipFile(folder / digits.FILE, "w") as archive:
        labels = []
        for number in range(count):
            label = {"file": f"{number % 10}_toy_{number}.wav", "digit": number % 10, "speaker": "toy"}
            tone = np.sin(np.arange(900 + 10 * number) * (0.1 + 0.05 * (number % 10))) * 9000
            data = io.BytesIO()
            with wave.open(data, "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(8000)
                file.writeframes(tone.astype("<i2").tobytes())
            archive.writestr(label["file"], data.getvalue())
            labels.append(json.dumps(label))
        archive.writestr("labels.jsonl", "\n".join(labels))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


def train(out: Path, data: Path, **changes: Any) -> Run:
    run = Run(config(**changes), data, out)
    run.train(lambda step, steps, loss: None)
    return run


def state(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "state.safetensors")


def test_takes_are_split_by_their_name(data: Path) -> None:
    trained, held_out = digits.split(data)
    assert len(trained) + len(held_out) == 30
    assert 0 < len(held_out) < 10
    assert all(digits.held_out(take.file) for take in held_out)
    assert not any(digits.held_out(take.file) for take in trained)
    assert trained[3].digit == int(trained[3].file[0])
    assert np.abs(trained[3].samples).max() == pytest.approx(9000 / 2**15, rel=0.01)


def test_training_lowers_the_loss_and_is_a_function_of_the_seed(data: Path, tmp_path: Path) -> None:
    train(tmp_path / "long", data, steps=[150])
    losses = [json.loads(line)["loss"] for line in (tmp_path / "long" / "loss.jsonl").read_text().splitlines()]
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:3])
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(tmp_path / name, data, seed=seed)
    one, twin, other = (state(tmp_path / name) for name in "abc")
    assert all(torch.equal(one[name], twin[name]) for name in one)
    assert not torch.equal(one["model/books.books"], other["model/books.books"])


KILLS = """
import os, signal, sys
from pathlib import Path
import torch
from foretoken.recipes import run, sound

torch.set_num_threads(1)
data, root, config = Path(sys.argv[1]), Path(sys.argv[2]), sound.SoundRecipe.from_file(Path(sys.argv[3]))

def deadly(owner, name, moment, counter):
    function = getattr(owner, name)
    def call(*arguments, **keywords):
        counter[0] += 1
        if counter[0] == moment:
            if name == "save_file":
                function(*arguments, **keywords)
                os.truncate(arguments[1], os.path.getsize(arguments[1]) // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **keywords)
    setattr(owner, name, call)

def attempt(out, moment):
    child = os.fork()
    if child == 0:
        counter = [0]
        for owner, name in ((os, "replace"), (run, "save_file"), (sound.Run, "advance"),
                            (sound.ResidualBooks, "_learn")):
            deadly(owner, name, moment, counter)
        made = sound.Run(config, data, out)
        made.train(lambda *progress: None)
        made.export(out / "export")
        (out / "moments").write_text(str(counter[0]))
        os._exit(0)
    return os.waitpid(child, 0)[1]

assert attempt(root / "unbroken", -1) == 0
moments = int((root / "unbroken" / "moments").read_text())
print(moments)
for moment in range(1, moments + 1, 2):
    assert attempt(root / f"moment-{moment}", moment) == signal.SIGKILL, moment
    assert attempt(root / f"moment-{moment}", -1) == 0
"""


def test_no_kill_changes_a_weight_or_a_book(data: Path, tmp_path: Path) -> None:
    """At every other of some thirty moments: the end is that of the unbroken run."""
    (tmp_path / "config.json").write_text(json.dumps(FIELDS), encoding="utf-8")
    arguments = [str(data), str(tmp_path), str(tmp_path / "config.json")]
    run = subprocess.run([sys.executable, "-c", KILLS, *arguments], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) > 20
    whole = state(tmp_path / "unbroken")
    folders = sorted(path for path in tmp_path.iterdir() if path.is_dir())
    assert len(folders) > 10
    for folder in folders:
        found = state(folder)
        assert found.keys() == whole.keys()
        assert all(torch.equal(found[name], whole[name]) for name in whole), folder
        for name in ("loss.jsonl", "export/model.safetensors", "export/config.json"):
            assert (folder / name).read_bytes() == (tmp_path / "unbroken" / name).read_bytes(), (folder, name)


def test_a_finished_run_can_be_made_longer(data: Path, tmp_path: Path) -> None:
    train(tmp_path / "at once", data, steps=[4, 7])
    train(tmp_path / "longer", data, steps=[4])
    train(tmp_path / "longer", data, steps=[4, 7])
    one, other = state(tmp_path / "at once"), state(tmp_path / "longer")
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_what_is_exported_is_what_was_trained(data: Path, tmp_path: Path) -> None:
    run = train(tmp_path / "run", data)
    run.export(tmp_path / "codec")
    codec = SoundCodes.from_folder(tmp_path / "codec")
    assert codec.config == run.config.model()
    books = run.module.books.books
    steps = books.abs().amax(dim=(1, 2), keepdim=True) / 127  # of the eight bits that books are kept in
    assert ((torch.from_numpy(codec.codebooks) - books).abs() <= 0.51 * steps).all()
    signal = run.samples[:3200]
    ids = codec.encode(signal)
    assert len(np.unique(ids)) > 2
    assert codec.decode(ids).shape == (3200,)
    assert run.advance() > 0  # a codec takes nothing from the run: it can go on


def test_the_catalogue_knows_the_recipe_and_the_shipped_configuration(data: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(FIELDS), encoding="utf-8")
    assert isinstance(catalogue.run(tmp_path / "config.json", data, tmp_path / "out"), Run)
    shipped = Path(catalogue.__file__).parent / "configs" / "digits-sound.json"
    model = SoundRecipe.from_file(shipped).model()
    assert (model.hop, model.books, model.codes, model.rate) == (160, 4, 1024, 8000)


@pytest.mark.parametrize(
    "changes", [{"window": 641}, {"shortened": 1.5}, {"decay": -1}, {"codes": 0}, {"latent": 2.0}, {"strides": [3, 8]}]
)
def test_a_configuration_out_of_range_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=next(iter(changes))):
        config(**changes)


def test_data_that_is_not_there_or_damaged_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"digits8k\.zip"):
        digits.split(tmp_path)
    whole = (write_data(tmp_path) / digits.FILE).read_bytes()
    for part in (0, 100, len(whole) // 2):
        (tmp_path / digits.FILE).write_bytes(whole[:part])
        with pytest.raises(CheckpointError, match=r"digits8k\.zip"):
            digits.split(tmp_path)


def test_fewer_samples_than_a_window_are_refused(tmp_path: Path) -> None:
    write_data(tmp_path, count=1)
    run = Run(config(window=16000), tmp_path, tmp_path / "run")
    with pytest.raises(InvalidArgument, match="fewer than a window"):
        run.advance()


def test_books_come_to_stand_where_vectors_are() -> None:
    """Sixteen places, two books of sixteen codes: what both leave over is small."""
    rng = np.random.default_rng(0)
    places = torch.from_numpy(rng.normal(size=(16, 3)).astype(np.float32)) * 3
    books = ResidualBooks(2, 16, 3, decay=0.8)
    kept = torch.full((256,), 2)
    for step in range(60):
        vectors = places[torch.from_numpy(rng.integers(0, 16, 256))] + 0.01 * torch.randn(256, 3)
        coded, commitment = books(vectors, kept, np.random.default_rng(step))
    assert commitment < 0.1
    assert (coded - vectors).abs().max() < 0.2


def test_a_code_is_the_moving_mean_of_what_chose_it_and_a_rare_one_begins_anew() -> None:
    """By hand: one step's sums and counts, half forgotten; and a code that none chooses, until it is moved."""
    books = ResidualBooks(1, 3, 2, decay=0.5)
    books.books[0] = torch.tensor([[0.0, 0.0], [10.0, 0.0], [99.0, 99.0]])
    books.counts.fill_(4)
    books.sums.copy_(books.books * 4)
    vectors = torch.tensor([[1.0, 0.0]] * 4 + [[11.0, 0.0]] * 4)
    kept = torch.full((8,), 1)
    coded, commitment = books(vectors, kept, np.random.default_rng(0))
    assert torch.equal(coded, torch.tensor([[0.0, 0.0]] * 4 + [[10.0, 0.0]] * 4))
    assert commitment == 0.5  # of each vector, one number of two is off by 1
    assert books.books[0].tolist() == [[0.5, 0], [10.5, 0], [99, 99]]
    for step in range(3):  # its count falls from 2 to 0.25, below a tenth of a third of eight
        assert books.books[0][2].tolist() == [99, 99]
        books(vectors, kept, np.random.default_rng(step))
    assert books.books[0][2].tolist() in ([1, 0], [11, 0])
    assert books.counts[0][2] == 1


def test_what_a_window_keeps_decides_how_many_books_say_it() -> None:
    books = ResidualBooks(3, 4, 2, decay=0.9)
    vectors = torch.randn(8, 2, requires_grad=True)
    books(vectors, torch.full((8,), 3), np.random.default_rng(0))
    frozen = {name: buffer.clone() for name, buffer in books.named_buffers()}
    made = []
    for kept in (1, 3):
        for name, buffer in frozen.items():
            books.get_buffer(name).copy_(buffer)
        coded, _ = books(vectors, torch.full((8,), kept), np.random.default_rng(1))
        made.append(coded)
    first = frozen["books"][0][torch.cdist(vectors.detach(), frozen["books"][0]).argmin(dim=1)]
    torch.testing.assert_close(made[0].detach(), first)
    assert not torch.equal(made[0], made[1])
    made[1].sum().backward()  # straight through: the gradient of the vectors is that of the codes
    assert torch.equal(vectors.grad, torch.ones_like(vectors))


def test_losses_are_least_for_the_sound_itself() -> None:
    sound = torch.sin(torch.arange(2048) / 5)[None] * 0.3
    noise = sound + 0.03 * torch.randn_like(sound)
    assert spectral_distance(sound, sound) == 0
    assert noise_ratio(sound, sound) == -4
    assert spectral_distance(noise, sound) > 0.1
    assert noise_ratio(noise, sound).item() == pytest.approx(2 * np.log(0.03 / (0.3 / 2**0.5)), abs=0.2)
    silent = torch.zeros(1, 2048, requires_grad=True)
    (spectral_distance(silent, sound) + noise_ratio(silent, sound)).backward()
    assert torch.isfinite(silent.grad).all()


def test_a_run_of_another_configuration_is_refused(data: Path, tmp_path: Path) -> None:
    Run(config(), data, tmp_path)
    with pytest.raises(InvalidArgument, match="another configuration"):
        Run(dataclasses.replace(config(), seed=2), data, tmp_path)


def test_a_card_says_what_was_measured() -> None:
    """The figures of a file of the bench, and none but those."""
    whole = {"bits_a_second": 2000, "mel_distance_db": 3.21, "si_snr_db": 4.56, "accuracy": 0.977, "codes_used": [7, 9]}
    plain = {**whole, "bits_a_second": 64_000, "codes_used": None}
    results = {"SoundCodes": whole, "μ-law": plain, "original": {"accuracy": 0.989}}
    settings = {"takes": 3, "seconds": 1.5, "trained_on": 27}
    measured = {"results": {"codecs": results}, "settings": {"codecs": settings}}
    codec = SoundCodes(SoundAutoencoder(config().model()), np.zeros((2, 16, 4), dtype=np.float32))
    text = sound_card.card(config(), codec, measured)
    assert "| SoundCodes | 2,000 | 3.21 | 4.56 | 97.7 | 7, 9 |" in text
    assert "| μ-law | 64,000 | 3.21 | 4.56 | 97.7 | - |" in text
    assert "of the originals it hears 98.9 %" in text
    assert "6 steps of 4 windows of 0.08 s" in text
    assert "400 bits a second" in text
    assert "CC BY-SA 4.0" in text
