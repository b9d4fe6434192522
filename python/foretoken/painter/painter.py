"""A sentence in, a picture out: a masked model of patches, a codec, and the words it knows."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ..canvas import UNKNOWN, Step
from ..codec.hub import load as load_codec
from ..codec.patches import Patches
from ..codec.prompts import Prompts
from ..errors import ArgumentTypeError, CheckpointError, InvalidArgument
from ..generate import check_seed, generate, stream
from ..generation import Generation
from ..model.checkpoint import TOKENIZER
from ..model.masked import MaskedLlama, MaskedModule
from ..shipped import folder_of
from ..strategy.masked import Masked
from ..strategy.watched import Watched
from ..weights import read_object
from .adapter import Adapter
from .adapters import Adapters
from .job import Job, Prompt, check_count, made
from .learning import Settings, learn
from .picture import Picture
from .preview import Preview, Previews
from .rows import Rows

PAINTER = "painter.json"
"""Beside the weights of a painter: its codec, and how many ids of a text it reads."""


class Painter:
    """Paints what a text says, all patches with attention among all of them.

    A picture is a function of weights, text, sampler, strategy and seed: not of its batch, nor of threads.

    Args:
        codec: picture ↔ patches.
        model: what predicts.
        prompts: text ↔ ids.
        name: what to call it.

    Raises:
        ShapeError: they do not belong together.

    Example:
        >>> import foretoken as ft
        >>> paint = ft.load("painter")
        >>> out = paint("red heart, flat style", strategy=ft.Masked(4), seed=7)
        >>> out.signal, out.stats.forwards
        (Picture(64 × 64), 4)
    """

    def __init__(self, codec: Patches, model: MaskedLlama, prompts: Prompts, *, name: str) -> None:
        self.codec, self.model, self.prompts, self.name = codec, model, prompts, name
        self.rows = Rows(codec, model.config, prompts)

    @classmethod
    def load(cls, source: str | os.PathLike[str]) -> Painter:
        """A shipped painter by name, or a folder that the recipe of captions wrote.

        Raises:
            UnknownModel: there is neither such a name nor such a folder.
            CheckpointError: a file is missing or broken.
            ShapeError: files do not belong together.
        """
        folder = folder_of(source)
        said = read_object(folder / PAINTER)
        codec, positions = said.get("codec"), said.get("positions")
        if not isinstance(codec, str) or type(positions) is not int or positions < 1:
            raise CheckpointError(f"{folder / PAINTER} must say codec and positions, it says {said}")
        patches = load_codec(codec)
        if not isinstance(patches, Patches):
            raise CheckpointError(f"{folder / PAINTER}: {codec} is no codec of pictures")
        prompts = Prompts.from_file(folder / TOKENIZER, positions=positions)
        return cls(patches, MaskedLlama(folder), prompts, name=folder.name)

    def __repr__(self) -> str:
        return f"Painter({self.name!r}, {self.rows.pixels[0]} × {self.rows.pixels[1]} in {self.rows.cells} patches)"

    def __call__(
        self,
        prompt: Prompt,
        *,
        callback: Callable[[Preview], None] | None = None,
        progress: bool = False,
        **options: Any,
    ) -> Generation:
        """Paint a text, or each of several.

        Main args:
            prompt: what to paint, such as "red heart, flat style" or "tan woman, black page hair, walking left"; a list
                for several; None for anything at all.
            strategy: `steps(8)` if None; `OneShot()`, `Masked(…)`, `Cascade(…)`; or one patch after another,
                `Masked(None, count=1, select=rules.Order(range))`.
            seed: of the noise, in [0, 2^64), or one for each prompt; None draws one. A picture does not depend on what
                else is painted with it.
            n: pictures of each prompt, ≥ 1, at most 256 in one call.
            sampler: parameters of the choice; a temperature of 0.7 if None, where 1 is the model's own law.
            guidance: how much the text counts: u + guidance · (c - u) of logits with and without it (2207.12598); 1 is
                the model itself, and twice as fast.
            negative: a text in the place of none, to get away from.

        Other args:
            picture: to repair: a path, a picture of Pillow or an array, of the painter's size.
            mask: (height, width) bool, true where to paint it anew; a patch is painted whole, whatever it was before.
                The rest stays, to the last bit.
            imagine: whether all patches share an imagination that is found first (for one shot).
            callback: is told each step; what it raises ends the painting.
            progress: whether to show a bar.
            logprobs: 0 to keep how probable each patch was when it was found, for `view.growth`; None not to.
            threads: of the kernels.

        Returns:
            A generation whose signal is a `Picture`, or a list of them.

        Raises:
            InvalidArgument, ArgumentTypeError, ShapeError, LimitExceeded, UnsupportedModel: see each.
        """
        job = made(prompt, self.rows, self._adapters.reading, self.name, **options)
        if callback is not None and not callable(callback):
            raise ArgumentTypeError(f"callback must be a function of a Preview, got {callback!r}")
        rows = job.rows()
        previews, total = Previews(self.rows, rows), sum(int((row == UNKNOWN).sum()) for row in rows)
        with tqdm(total=total, unit="patch", desc=self.name, disable=not progress, leave=False) as bar:

            def show(step: Step) -> None:
                bar.update(len(step.tokens))
                if callback is not None:
                    callback(previews.after(step))

            out = generate(job.model, job.canvas, Watched(job.strategy, show), **job.keys)
        return Generation([self._painted(row, job) for row in out.rows], out.stats, out.trace)

    def steps(self, count: int) -> Masked:
        """So many forwards, each of which finds patches far from each other.

        By entropy the background comes first and leaves little room: the judge liked such emoji less.
        """
        return Masked(count, select=self.rows.scattered)

    def stream(self, prompt: Prompt, **options: Any) -> Iterator[Preview]:
        """The same, a step at a time; closing the iterator cancels the rest."""
        job = made(prompt, self.rows, self._adapters.reading, self.name, **options)
        previews = Previews(self.rows, job.rows())
        steps = stream(job.model, job.canvas, job.strategy, **job.keys)
        return (previews.after(step) for step in steps)

    def vary(
        self, picture: Any, prompt: str | None = None, *, share: float = 0.5, n: int = 4, seed: int = 0, **options: Any
    ) -> Generation:
        """Paint a share of a picture's patches anew, others in each of n variations.

        Args:
            picture: as for `__call__`.
            prompt: what is on it; None if nobody knows.
            share: of the patches, in (0, 1].
            n: variations; the one of place i is that of seed + i.
            seed: of the choice of patches and of the noise.
            **options: those of `__call__`.
        """
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 1:
            raise InvalidArgument(f"share must be in (0, 1], got {share!r}")
        check_count(n, 1)
        check_seed(seed)
        seeds = [(seed + i) % 2**64 for i in range(n)]
        count = max(1, round(share * self.rows.cells))
        anew = [np.random.default_rng(each).permutation(self.rows.cells) < count for each in seeds]
        masks = [self.rows.spread(part) for part in anew]
        return self([prompt] * n, picture=picture, mask=masks, seed=seeds, **options)

    def extend(self, picture: Any, prompt: str | None, *, at: tuple[int, int], **options: Any) -> Generation:
        """Paint what is around a smaller picture.

        Args:
            picture: (height, width) smaller than what the painter paints, cut to whole patches.
            prompt: what the whole shows.
            at: (top, left) of where it lies, in pixels.
            **options: those of `__call__`.
        """
        whole, mask = self.rows.around(picture, at)
        return self(prompt, picture=whole, mask=mask, **options)

    @torch.inference_mode(mode=False)
    @torch.enable_grad()
    def learn(self, name: str, images: Any, *, class_word: str, **options: Any) -> Adapter:
        """Learn a thing from a few pictures, under a name; nothing of the painter itself changes.

        Main args:
            name: one word that is none yet, such as "S*" or "<bob>".
            images: 1 to 32 pictures of the thing: paths, pictures of Pillow or arrays, of any size; they are made as
                large as what the painter paints, on white.
            class_word: what kind of thing it is, such as "woman".
            **options: those of `painter.learning.Settings`: captions, method, others, prior, batch, seed, progress.

        Returns:
            What was learnt, of the painter without adapters, for `add` and for `Adapter.save`.

        Raises:
            InvalidArgument, ArgumentTypeError, ShapeError, LimitExceeded: see each; the name is a word or taken, or
                there is no image, too many, or a broken one.
        """
        try:
            settings = Settings(**options)
        except TypeError as error:
            raise ArgumentTypeError(f"learn takes other options: {error}") from None
        return learn(
            self._own_module(), self.rows, name, images, class_word=class_word, painter=self._adapters.painter,
            settings=settings,
        )  # fmt: skip

    def add(self, adapter: Adapter | str | os.PathLike[str], scale: float = 1.0) -> Adapter:
        """Put on what was learnt, beside what is on already; the order does not count.

        It counts only in texts that say its name: all others mean, to the last bit, what they meant before.

        Args:
            adapter: it, or the path of its file.
            scale: how much its changes of weights count; its word is there whatever the scale.

        Raises:
            CheckpointError: the file is damaged, or belongs to another painter.
            InvalidArgument: its name is taken.
            LimitExceeded: there is no room for another name.
        """
        return self._adapters.add(adapter, scale)

    def remove(self, name: str) -> None:
        """Take an adapter off; its name is then a word like any other.

        Raises:
            InvalidArgument: there is none of this name.
        """
        self._adapters.remove(name)

    @property
    def learnt(self) -> list[str]:
        """The names of the adapters that are on."""
        return self._adapters.names

    def reader(self, row: np.ndarray) -> MaskedLlama:
        """The model that reads a row of ids: with the adapters whose names stand in it."""
        reading = self._adapters.reading
        return reading.reader(reading.names(row))

    @functools.cached_property
    def _adapters(self) -> Adapters:
        return Adapters(self.model, self.prompts)

    def _own_module(self) -> MaskedModule:
        """The weights, in float32, as a module of its own."""
        # Made anew and not copied: a model in bfloat16 has rounded its tables of rotary angles, too.
        with torch.random.fork_rng(devices=[]):  # the first weights are random; the caller's randomness is not ours
            module = MaskedModule(self.model.config)
        module.load_state_dict(self.model.module.state_dict())
        return module.eval()

    def _painted(self, row: Any, job: Job) -> Any:
        pixels = self.rows.paint(row.units[self.rows.body :])
        if job.kept is not None:
            pixels = np.where(self.rows.spread(job.anew[row.prompt])[..., None], pixels, job.kept)
        return dataclasses.replace(row, signal=Picture(pixels))


def is_painter(folder: Path) -> bool:
    """Whether a checkpoint folder holds one."""
    return (folder / PAINTER).exists()
