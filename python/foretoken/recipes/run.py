"""What every recipe shares: a schedule, a folder, and a run that no kill at any moment changes.

Everything a step does is a function of (configuration, step): what it reads, its learning rate, its noise. A checkpoint
is one file, renamed into place, so whatever moment the run is cut it goes on from the last one and draws the same loss
curve.
"""

from __future__ import annotations

import abc
import ctypes
import dataclasses
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Generic, Protocol, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import CheckpointError, ForetokenError, InvalidArgument
from ..files import whole
from ..weights import configured, read_object

Progress = Callable[[int, int, float], None]
Config = TypeVar("Config", bound="RecipeConfig")
Module = TypeVar("Module", bound=nn.Module)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecipeConfig:
    """How long a run trains and how fast; a configuration file states every field, and `recipe`.

    Args:
        steps: rising counts of optimiser steps at which the learning rate has fallen to 0; the last is the end. From
            the others the run goes on at the full rate (WSD-S, 2410.05192): a finished run can be made longer.
        warmup: steps in which the learning rate rises from 0.
        cooldown: share of each stretch of steps, at its end, in which it falls to 0.
        rate: peak learning rate.
        save_every: steps between checkpoints.
        seed: of the weights and of everything drawn.
    """

    recipe: ClassVar[str]
    unit: ClassVar[str]
    """What a loss is measured in."""
    optional_zero: ClassVar[tuple[str, ...]] = ("warmup", "seed")
    """Integers that may be 0."""

    steps: tuple[int, ...]
    warmup: int
    cooldown: float
    rate: float
    save_every: int
    seed: int

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, lowest = getattr(self, field.name), 0 if field.name in self.optional_zero else 1
            if field.type == "int" and (type(value) is not int or not lowest <= value < 2**31):
                raise InvalidArgument(f"{field.name} must be an integer of at least {lowest}, got {value!r}")
        if (
            not self.steps
            or any(type(n) is not int or n < 1 for n in self.steps)
            or sorted({*self.steps}) != [*self.steps]
        ):
            raise InvalidArgument(f"steps must be rising integers of at least 1, got {self.steps!r}")
        for name, low, high in (("rate", 0, math.inf), ("cooldown", -1, 1 + 1e-9)):
            value = getattr(self, name)
            if type(value) not in (int, float) or not low < value < high:
                raise InvalidArgument(f"{name} is out of range: {value!r}")

    @classmethod
    def from_file(cls: type[Config], path: Path) -> Config:
        """Read a JSON configuration; unknown or missing keys are refused."""
        return cls.from_raw(read_config(path), path)

    @classmethod
    def from_raw(cls: type[Config], raw: dict, path: Path) -> Config:
        """The configuration that a file holds; `path` is for the errors."""
        fields = dict(raw)
        if (recipe := fields.pop("recipe", None)) != cls.recipe:
            raise CheckpointError(f"{path} is for the recipe {recipe!r}, not {cls.recipe!r}")
        return configured(cls, fields, path)

    def rate_at(self, step: int) -> float:
        """Learning rate of a step: linear rise, plateau, linear fall to 0 (WSD, 2404.06395)."""
        ends = (0, *self.steps)
        begun = max(n for n in ends[:-1] if n <= step)
        last = ends[ends.index(begun) + 1]
        falling = max(1.0, (last - begun) * self.cooldown)
        return self.rate * min(1.0, (step + 1) / max(1, self.warmup), (last - step) / falling)

    def continues(self, earlier: str) -> bool:
        """Whether a run of the configuration `earlier`, as JSON, is the beginning of a run of this one."""
        mine = json.loads(self.as_json())
        beginnings = [{**mine, "steps": mine["steps"][:count]} for count in range(1, len(self.steps) + 1)]
        try:
            return json.loads(earlier) in beginnings
        except ValueError:  # cut short, or no note of a run at all
            return False

    def as_json(self) -> str:
        """All fields as one line of JSON."""
        return json.dumps({"recipe": self.recipe, **dataclasses.asdict(self)}, sort_keys=True)


def read_config(path: Path) -> dict:
    """The object in a configuration file.

    Raises:
        InvalidArgument: there is no such file.
        CheckpointError: it is not JSON, or no object.
    """
    if not path.exists():
        raise InvalidArgument(f"no such configuration: {path}")
    return read_object(path)


def keep_pages() -> None:
    """Ask glibc to keep freed memory: mapping 64 MB of logits anew each step held 2,100 tokens/s down to 1,500."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        for option, size in ((-1, 2**31 - 1), (-3, 2**30), (-2, 2**28)):  # trim threshold, mmap threshold, top pad
            libc.mallopt(option, size)


class Optimizer(Protocol):
    """What moves the weights: all it remembers lies in `state` and `step_count`."""

    state: dict[str, Tensor]

    @property
    def step_count(self) -> int:
        """Steps taken."""
        ...

    @step_count.setter
    def step_count(self, count: int) -> None: ...

    def step(self, rate: float) -> None:
        """Apply the gradients in place with this learning rate."""
        ...


class Run(abc.ABC, Generic[Config, Module]):
    """A training run in a folder: weights, optimiser, step and loss curve.

    Args:
        config: what to train, how long.
        data: folder of the training data.
        out: folder of the run, made if missing.
    """

    config: Config
    module: Module
    optimizer: Optimizer

    def __init__(self, config: Config, data: Path, out: Path) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.config, self.out, self.step = config, out, 0
        self._claim(out / "run.json")
        self.prepare(data)
        self.losses = out / "loss.jsonl"
        self.state_file = out / "state.safetensors"
        if self.state_file.exists():
            self._restore()
        else:
            self.losses.write_text("")

    @abc.abstractmethod
    def prepare(self, data: Path) -> None:
        """Read the data; make `module`, as it is at step 0, and `optimizer`."""

    @abc.abstractmethod
    def loss(self) -> Tensor:
        """The loss of this step, whose gradient the optimiser follows."""

    @abc.abstractmethod
    def export(self, folder: Path) -> None:
        """Write what was trained as a checkpoint folder that foretoken loads."""

    def _claim(self, note: Path) -> None:
        """Write down whose folder this is before anything is put there: data of another run must not be taken."""
        if note.exists() and not self.config.continues(note.read_text(encoding="utf-8")):
            raise InvalidArgument(f"{self.out} belongs to another configuration; choose another --out")
        with whole(note) as part:
            part.write_text(self.config.as_json(), encoding="utf-8")

    def _restore(self) -> None:
        try:
            self._read_state()
        except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
            if isinstance(error, ForetokenError):
                raise
            raise CheckpointError(f"{self.state_file} is damaged: {error}; delete it to start anew") from None
        # What was logged after the checkpoint is about to be computed again, bit for bit.
        kept = self.losses.read_text().splitlines(keepends=True)[: self.step]
        with whole(self.losses) as part:
            part.write_text("".join(kept))

    def _read_state(self) -> None:
        with safe_open(self.state_file, "pt") as file:
            metadata = file.metadata() or {}
            if not self.config.continues(metadata["config"]):
                raise InvalidArgument(f"{self.out} was trained with another configuration; choose another --out")
            self.step = self.optimizer.step_count = int(metadata["step"])
            with torch.no_grad():
                for name, value in self._state().items():
                    value.copy_(file.get_tensor(name))

    def _state(self) -> dict[str, Tensor]:
        """All that a step changes, by name; the tensors themselves."""
        kept = self.module.state_dict().keys()  # without the buffers that are made anew
        tensors = {f"model/{name}": weight.detach() for name, weight in self.module.named_parameters()}
        tensors |= {f"model/{name}": buffer for name, buffer in self.module.named_buffers() if name in kept}
        return tensors | {f"optimizer/{name}": value for name, value in self.optimizer.state.items()}

    def save(self) -> None:
        """Write weights, optimiser and step as one file; the old one stays until the new one is whole."""
        with whole(self.state_file) as part:
            save_file(self._state(), part, metadata={"step": str(self.step), "config": self.config.as_json()})
            with part.open("rb") as written:
                os.fsync(written.fileno())

    def advance(self) -> float:
        """One optimiser step; returns its loss."""
        loss = self.loss()
        self.module.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        self.optimizer.step(self.config.rate_at(self.step))
        self.step += 1
        return loss.item()

    def train(self, progress: Progress) -> None:
        """Go on from where the run stands until its last step."""
        keep_pages()
        last = self.config.steps[-1]
        with self.losses.open("a", encoding="utf-8") as log:
            while self.step < last:
                loss = self.advance()
                if not np.isfinite(loss):
                    raise InvalidArgument(f"loss is {loss} at step {self.step}; lower the learning rate")
                log.write(json.dumps({"step": self.step, "loss": loss}) + "\n")
                log.flush()
                progress(self.step, last, loss)
                if self.step % self.config.save_every == 0 or self.step == last:
                    os.fsync(log.fileno())
                    self.save()
