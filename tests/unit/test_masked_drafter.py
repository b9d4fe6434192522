"""A masked model as drafter: what it is asked, and that nothing it says changes a token."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import foretoken as ft
from foretoken.errors import InvalidArgument, ShapeError, UnsupportedModel
from tests.models import ParallelTable, TableModel

PROMPTS = [[5, 3, 8], [2], [9, 9, 9, 9, 1, 7, 7]]


def run(drafter: Any, **options: Any) -> ft.Generation:
    strategy = ft.Autoregressive(drafter, options.pop("verifier", ft.Coupled()), options.pop("length", 4))
    keys = {"max_tokens": 20, "seed": 3, "sampler": ft.Sampler(temperature=0.9)} | options
    return ft.generate(TableModel(), ft.Canvas(PROMPTS), strategy, **keys)


def rows(out: ft.Generation) -> list[list[int]]:
    return [row.tokens.tolist() for row in out.rows]


@pytest.mark.parametrize(
    "options",
    [{}, {"sampler": ft.Sampler(temperature=0)}, {"n": 2, "length": ft.Adaptive(4)},
     {"sampler": ft.Sampler(repetition_penalty=1.3), "min_tokens": 4}, {"end_tokens": (7,)}],
)  # fmt: skip
def test_tokens_are_those_of_plain_decoding(options: dict[str, Any]) -> None:
    drafter = ft.MaskedDrafter(ParallelTable(48), reach=5)
    plain = rows(run(None, **options))
    assert rows(run(drafter, **options)) == plain
    assert rows(run(ft.Several(drafter, ft.NGram(minimum=1), tree=True), **options)) == plain


def test_it_is_given_the_last_units_and_unknown_ones_behind_them() -> None:
    model = ParallelTable(48)
    out = run(ft.MaskedDrafter(model, reach=3), length=2)
    first = [tokens[0] for tokens in rows(out)]
    assert model.seen[0] == [[3, 8, first[0], -1, -1], [2, first[1], -1, -1], [7, 7, first[2], -1, -1]]
    for row in (row for call in model.seen[3:] for row in call):  # the last one has room for one guess alone
        assert min(row[:3]) >= 0
        assert row[3:] in ([-1, -1], [-1])


def test_a_model_that_is_the_target_is_always_right_at_once() -> None:
    class Same(ParallelTable):
        """Of the first unknown place it says what the target says."""

        def predict(self, canvas: Any, lengths: Any) -> Any:
            logits, target = super().predict(canvas, lengths), TableModel()
            for row, units in enumerate(canvas):
                known = [int(unit) for unit in units if unit >= 0]
                logits[row, len(known)] = torch.from_numpy(target.logits(known))
            return logits

    out = run(ft.MaskedDrafter(Same(48), reach=8), length=1)
    assert out.stats.accepted == out.stats.drafted > 20


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="predict"):
        ft.MaskedDrafter(TableModel())  # type: ignore[arg-type]
    for reach in (0, True, 2.0):
        with pytest.raises(InvalidArgument, match="reach"):
            ft.MaskedDrafter(ParallelTable(48), reach=reach)  # type: ignore[arg-type]
    for model in (ParallelTable(47), ParallelTable(48, context=32)):
        with pytest.raises(ShapeError, match="ids"):
            run(ft.MaskedDrafter(model))
    small = ft.MaskedDrafter(ParallelTable(60, context=34))  # more ids are no harm, room for two guesses is enough
    assert rows(run(small)) == rows(run(None))
