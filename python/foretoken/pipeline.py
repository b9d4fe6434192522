"""A codec and a model that belong together: signals in, signals out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from .canvas import Step
from .codec.text import Text
from .generate import agenerate, astream, generate, stream
from .generation import Generation
from .sampler import Sampler
from .strategy.protocol import Strategy


class Pipeline:
    """Writes text with a model and its tokenizer.

    Args:
        codec: text ↔ tokens.
        model: what predicts.
        name: what to call it.

    Example:
        >>> import foretoken as ft
        >>> tale = ft.load("tales")
        >>> out = tale("Once upon a time", max_tokens=8, seed=7)
        >>> len(out.tokens)
        8
    """

    def __init__(self, codec: Text, model: Any, *, name: str) -> None:
        self.codec, self.model, self.name = codec, model, name

    def __repr__(self) -> str:
        return f"Pipeline({self.name!r}, vocabulary {self.model.vocab_size:,}, context {self.model.context:,})"

    def __call__(
        self,
        prompt: str | Sequence[str],
        *,
        max_tokens: int | None = None,
        sampler: Sampler | None = None,
        seed: int | Sequence[int] | None = 0,
        strategy: Strategy | None = None,
        **options: Any,
    ) -> Generation:
        """Continue a text, or each of several.

        Main args:
            prompt: a text, or a list of texts of any lengths; each is continued as it would be alone.
            max_tokens: the most tokens to add; None fills the model's context.
            sampler: parameters of the choice.
            seed: of the noise; the same seed gives the same text with every drafter.
            strategy: `Autoregressive(drafter=…)` is faster and writes the same.

        Other args:
            **options: `n`, `stop`, `min_tokens`, `logprobs`, …: those of `foretoken.stream`.
        """
        keys = self._keys(max_tokens=max_tokens, sampler=sampler, seed=seed, **options)
        return generate(self.model, self._canvas(prompt), strategy, **keys)

    def stream(
        self, prompt: str | Sequence[str], *, strategy: Strategy | None = None, **options: Any
    ) -> Iterator[Step]:
        """The same, a step at a time; closing the iterator cancels the rest."""
        return stream(self.model, self._canvas(prompt), strategy, **self._keys(**options))

    async def agenerate(
        self, prompt: str | Sequence[str], *, strategy: Strategy | None = None, **options: Any
    ) -> Generation:
        """`__call__` that leaves the event loop free."""
        return await agenerate(self.model, self._canvas(prompt), strategy, **self._keys(**options))

    def astream(
        self, prompt: str | Sequence[str], *, strategy: Strategy | None = None, **options: Any
    ) -> AsyncIterator[Step]:
        """`stream` for `async for`."""
        return astream(self.model, self._canvas(prompt), strategy, **self._keys(**options))

    def _canvas(self, prompt: str | Sequence[str]):
        return self.codec.canvas([prompt] if isinstance(prompt, str) else prompt)

    def _keys(self, **options: Any) -> dict[str, Any]:
        return {"codec": self.codec, **options}
