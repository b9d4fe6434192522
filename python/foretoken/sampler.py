"""How a law over tokens becomes one token: the parameters, checked, with the names the field uses."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .errors import ArgumentTypeError, InvalidArgument

Processor = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampler:
    """What is done to a row of logits before a token is drawn from it; the default draws from the model's own law.

    The order is fixed: processor; allowed tokens, bias, bad words, `min_tokens`; repetition, frequency and presence
    penalties; DRY; temperature; top-n-sigma; top-k; top-p; min-p; typical; XTC. Mirostat replaces everything after
    temperature. Under speculation each drafted position sees the tokens accepted before it, so every parameter means
    what it means without a drafter.

    Main args:
        temperature: divides the logits; 0 takes the most probable token (greedy). 0, or in [1e-30, 1e30].
        top_k: keeps the k most probable tokens, ties included; 0 is off.
        top_p: keeps the shortest set of most probable tokens whose mass reaches p, in (0, 1]; 1 is off (1904.09751).
        min_p: keeps tokens at least this fraction as probable as the best, in [0, 1]; 0 is off (2407.01082).
        repetition_penalty: divides positive and multiplies negative logits of tokens seen in prompt or output; 1 is
            off (1909.05858).
        presence_penalty: subtracted once from tokens already in the output; in [-2, 2] as a rule.
        frequency_penalty: subtracted for each time a token is already in the output.

    Other args:
        typical_p: keeps the mass p nearest to the entropy, in (0, 1]; 1 is off (2202.00666).
        top_n_sigma: keeps logits within n standard deviations of the best; 0 is off (2411.07641).
        xtc_probability: how often the tokens above `xtc_threshold`, but the least probable of them, are removed; 0 is
            off.
        xtc_threshold: probability from which XTC calls a token a top choice, in [0, 1].
        dry_multiplier: strength of the penalty on tokens that would continue a repeated sequence; 0 is off.
        dry_base: how that penalty grows with each repeated token, ≥ 1.
        dry_allowed_length: repeated sequences up to this length are free.
        dry_range: how many last tokens DRY looks at; 0 is all.
        dry_breakers: token ids over which no sequence is matched.
        mirostat_tau: target surprise in bits of Mirostat 2; 0 is off (2007.14966).
        mirostat_eta: its learning rate.
        logit_bias: token id → number added to its logit.
        bad_words: sequences of token ids that are never completed.
        allowed_tokens: the only token ids that may be drawn, or None for all.
        processor: called with (tokens so far, logits of one row, float32) → logits; runs before everything else.

    Raises:
        InvalidArgument: a value is out of range, or two contradict each other.
        ArgumentTypeError: a value has the wrong type.

    Example:
        >>> Sampler(temperature=0.8, top_p=0.95).is_greedy
        False
        >>> Sampler(temperature=-1)
        Traceback (most recent call last):
            ...
        foretoken.errors.InvalidArgument: temperature must be in [0, 1e+30], got -1
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    top_n_sigma: float = 0.0
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_range: int = 0
    dry_breakers: Sequence[int] = ()
    mirostat_tau: float = 0.0
    mirostat_eta: float = 0.1
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = dataclasses.field(default_factory=dict)
    bad_words: Sequence[Sequence[int]] = ()
    allowed_tokens: Sequence[int] | None = None
    processor: Processor | None = None

    def __post_init__(self) -> None:
        for name, (low, high, open_low) in _RANGES.items():
            _check_number(name, getattr(self, name), low, high, open_low=open_low)
        if 0 < self.temperature < 1 / _HUGE:
            raise InvalidArgument(f"temperature must be 0 (greedy) or at least {1 / _HUGE:g}, got {self.temperature}")
        for name in ("top_k", "dry_allowed_length", "dry_range"):
            _check_integer(name, getattr(self, name))
        self._set("dry_breakers", _tokens("dry_breakers", self.dry_breakers))
        if self.allowed_tokens is not None:
            self._set("allowed_tokens", _tokens("allowed_tokens", self.allowed_tokens))
            if not self.allowed_tokens:
                raise InvalidArgument("allowed_tokens is empty: nothing could be drawn; pass None to allow all")
        if not isinstance(self.logit_bias, Mapping):
            raise ArgumentTypeError(f"logit_bias maps token ids to numbers, got {type(self.logit_bias).__name__}")
        for token, bias in self.logit_bias.items():
            _check_integer("logit_bias", token)
            _check_number(f"logit_bias[{token}]", bias, -_HUGE, _HUGE, open_low=False)
        self._set("logit_bias", {int(token): float(bias) for token, bias in self.logit_bias.items()})
        self._set("bad_words", tuple(_tokens("bad_words", word) for word in _sequence("bad_words", self.bad_words)))
        if () in self.bad_words:
            raise InvalidArgument("bad_words holds an empty sequence; leave it out")
        if self.processor is not None and not callable(self.processor):
            raise ArgumentTypeError(f"processor must be callable, got {type(self.processor).__name__}")
        self._check_contradictions()

    def _set(self, name: str, value: object) -> None:
        # Copies, so that a list that is changed later does not change the sampler.
        object.__setattr__(self, name, value)

    def _check_contradictions(self) -> None:
        unlike_greedy = {
            "xtc_probability": self.xtc_probability > 0,
            "typical_p": self.typical_p < 1,
            "mirostat_tau": self.mirostat_tau > 0,
        }
        if self.temperature == 0 and any(unlike_greedy.values()):
            names = [name for name, on in unlike_greedy.items() if on]
            raise InvalidArgument(f"temperature 0 takes the most probable token and contradicts {names}")
        truncations = {
            "top_k": self.top_k > 0,
            "top_p": self.top_p < 1,
            "min_p": self.min_p > 0,
            "typical_p": self.typical_p < 1,
            "top_n_sigma": self.top_n_sigma > 0,
            "xtc_probability": self.xtc_probability > 0,
        }
        if self.mirostat_tau > 0 and any(truncations.values()):
            names = [name for name, on in truncations.items() if on]
            raise InvalidArgument(f"mirostat chooses how many tokens to keep and contradicts {names}")

    @property
    def is_greedy(self) -> bool:
        """Whether the most probable token is always taken."""
        return self.temperature == 0

    @property
    def looks_back(self) -> bool:
        """Whether the law of a token depends on the tokens before it in another way than through the logits."""
        return bool(
            self.repetition_penalty != 1
            or self.presence_penalty
            or self.frequency_penalty
            or self.dry_multiplier
            or self.mirostat_tau
            or any(len(word) > 1 for word in self.bad_words)
        )


_HUGE = 1e30  # more than this would let the largest float32 logit overflow float64 in the kernels

# name → (lowest, highest, whether the lowest itself is refused)
_RANGES: dict[str, tuple[float, float, bool]] = {
    "temperature": (0, _HUGE, False),
    "top_p": (0, 1, True),
    "min_p": (0, 1, False),
    "typical_p": (0, 1, True),
    "top_n_sigma": (0, _HUGE, False),
    "xtc_probability": (0, 1, False),
    "xtc_threshold": (0, 1, False),
    "dry_multiplier": (0, _HUGE, False),
    "dry_base": (1, 1e4, False),
    "mirostat_tau": (0, _HUGE, False),
    "mirostat_eta": (0, 1, True),
    "repetition_penalty": (1 / _HUGE, _HUGE, False),
    "presence_penalty": (-_HUGE, _HUGE, False),
    "frequency_penalty": (-_HUGE, _HUGE, False),
}


def _check_number(name: str, value: object, low: float, high: float, *, open_low: bool) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.floating, np.integer)):
        raise ArgumentTypeError(f"{name} must be a number, got {type(value).__name__}")
    if not (low < value if open_low else low <= value) or not value <= high:  # NaN fails every comparison
        raise InvalidArgument(f"{name} must be in {'(' if open_low else '['}{low:g}, {high:g}], got {value}")


def _sequence(name: str, values: object) -> Iterable[Any]:
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise ArgumentTypeError(f"{name} takes a sequence, got {values!r}")
    return values


def _tokens(name: str, values: object) -> tuple[int, ...]:
    tokens = tuple(_sequence(name, values))
    for token in tokens:
        _check_integer(name, token)
    return tuple(int(token) for token in tokens)


def _check_integer(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise ArgumentTypeError(f"{name} takes integers, got {value!r}")
    if not 0 <= value < 2**31:
        raise InvalidArgument(f"{name} takes integers in [0, 2^31), got {value}")
