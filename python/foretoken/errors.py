"""Every error foretoken raises on purpose: one base class, one class a kind of mistake.

Each class is also the built-in exception people would catch, so `except ValueError` keeps working.
The message is lower-case, carries the values, and ends in what to do.
"""


class ForetokenError(Exception):
    """The base of every error raised on purpose by this package."""


class InvalidArgument(ForetokenError, ValueError):
    """A value is out of its range, or two values contradict each other."""


class ArgumentTypeError(ForetokenError, TypeError):
    """A value has the wrong type, dtype or device."""


class ShapeError(ForetokenError, ValueError):
    """Array shapes do not fit each other."""


class LogitsError(ForetokenError, ValueError):
    """A row of logits holds NaN, more than one +inf, or nothing that may be drawn."""


class DraftError(ForetokenError, ValueError):
    """A drafter returned something that no drafter may return."""


class CheckpointError(ForetokenError, ValueError):
    """A checkpoint, configuration or tokenizer file is missing, broken or does not fit."""


class UnknownModel(ForetokenError, LookupError):
    """No shipped model and no folder has this name."""


class LimitExceeded(ForetokenError, ValueError):
    """A request is larger than what the model or the machine can hold."""


class UnsupportedModel(ForetokenError, TypeError):
    """A model lacks what a strategy needs; the message names it."""


class MissingExtra(ForetokenError, ImportError):
    """An optional package is not installed; the message holds the command that installs it."""


class InternalError(ForetokenError, RuntimeError):
    """A bug in foretoken: a panic in the Rust core, caught at the border."""
