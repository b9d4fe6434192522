"""Calls of a look-up drafter, and its answers in a form that compares."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from foretoken.errors import InvalidArgument

ROWS = st.integers(-1, 1)
# Few letters, so that everything repeats; the largest id, so that nothing is cut to 31 bits.
TOKENS = st.lists(st.sampled_from([0, 1, 2, 2**31 - 1]), max_size=12)
_CALLS = (
    st.tuples(st.just("start"), ROWS, TOKENS),
    st.tuples(st.just("extend"), ROWS, TOKENS),
    st.tuples(st.just("extend"), ROWS, st.just([1, -1])),
    st.tuples(st.just("propose"), ROWS, st.integers(-1, 6)),
    st.tuples(st.just("stop"), ROWS),
)


def calls(*more: st.SearchStrategy[Any]) -> st.SearchStrategy[list[tuple[Any, ...]]]:
    """Sequences of calls, right and wrong ones, with `more` kinds of them."""
    return st.lists(st.one_of(*_CALLS, *more), max_size=40)


def answer(drafter: Any, name: str, *arguments: Any) -> Any:
    """What a call returned, its arrays as lists, or the class of what it raised."""
    try:
        result = getattr(drafter, name)(*arguments)
    except InvalidArgument:
        return InvalidArgument
    if result is None:
        return None
    return tuple(part.tolist() if isinstance(part, np.ndarray) else part for part in result)
