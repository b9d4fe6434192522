"""What holds for every test: few threads, fixed seeds, no luck and no network."""

from __future__ import annotations

import hypothesis
import pytest
import torch

from .cases import cases

# One is fastest for toy models: two that wait for each other on a busy machine took 25 times as long.
torch.set_num_threads(1)

# A property that fails today must fail for the next person too, so examples are a function of the test alone.
hypothesis.settings.register_profile("same", derandomize=True, deadline=None, max_examples=cases(100))
hypothesis.settings.load_profile("same")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))
