"""Errors survive what is done to errors: caught as a built-in, pickled to another process, copied."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

from foretoken import errors

BUILTIN = {
    "InvalidArgument": ValueError,
    "ArgumentTypeError": TypeError,
    "ShapeError": ValueError,
    "LogitsError": ValueError,
    "DraftError": ValueError,
    "CheckpointError": ValueError,
    "UnknownModel": LookupError,
    "LimitExceeded": ValueError,
    "UnsupportedModel": TypeError,
    "MissingExtra": ImportError,
    "InternalError": RuntimeError,
}
CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, errors.ForetokenError)]


def test_each_class_has_its_builtin() -> None:
    """No class was added without a line here, and each is what people would catch."""
    assert {c.__name__ for c in CLASSES} - {"ForetokenError"} == BUILTIN.keys()
    for name, builtin in BUILTIN.items():
        assert issubclass(getattr(errors, name), builtin)


@pytest.mark.parametrize("error", CLASSES, ids=lambda c: c.__name__)
@pytest.mark.parametrize("copied", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy])
def test_an_error_can_be_copied(error: type[errors.ForetokenError], copied) -> None:
    """Class, message and notes stay."""
    original = error("top_p must be in (0, 1], got 7")
    original.__dict__["hint"] = "what a caller added"
    twin = copied(original)
    assert type(twin) is error
    assert str(twin) == str(original)
    assert twin.args == original.args
    assert twin.__dict__ == original.__dict__


def test_every_class_says_when_it_is_raised() -> None:
    """A docstring of one sentence, its own."""
    assert len({c.__doc__ for c in CLASSES}) == len(CLASSES)
    assert all(c.__doc__ and c.__doc__.strip().endswith(".") for c in CLASSES)
