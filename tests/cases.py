"""How many random cases each property is tried on."""

from __future__ import annotations

import os


def cases(count: int) -> int:
    """This many, times the whole number in `FORETOKEN_CASES`.

    Example:
        >>> cases(100) % 100
        0
    """
    return count * int(os.environ.get("FORETOKEN_CASES", "1"))
