"""A model that goes further where its condition points."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import foretoken as ft
from foretoken.errors import ArgumentTypeError, InvalidArgument, ShapeError

from ..parallel import Joint

LAW = np.random.default_rng(1).dirichlet([0.6] * 27).reshape(3, 3, 3)


def untold(canvas: np.ndarray) -> np.ndarray:
    return np.where(np.arange(canvas.shape[1]) == 0, -1, canvas)


def test_scale_one_is_the_model_and_scale_zero_is_it_without_its_condition() -> None:
    canvas, lengths = np.array([[1, -1, -1]]), np.array([3])
    model = Joint(LAW)
    told, bare = model.predict(canvas, lengths), model.predict(untold(canvas), lengths)
    for scale, expected in ((1, told), (0, bare), (2.5, bare + 2.5 * (told - bare))):
        made = ft.Guided(model, scale, without=untold).predict(canvas, lengths)
        assert torch.allclose(made[:, 1:], expected[:, 1:], atol=1e-5)


def test_what_cannot_stand_still_cannot() -> None:
    law = LAW.copy()
    law[:, 2] = 0
    guided = ft.Guided(Joint(law), 3.0, without=untold)
    logits = guided.predict(np.array([[1, -1, -1]]), np.array([3]))
    assert (logits[:, 1, 2] == -torch.inf).all()
    assert not logits.isnan().any()
    out = ft.generate(guided, ft.Canvas([[1, -1, -1]]), ft.Masked(2), n=50)
    assert 2 not in np.array(out.units)[:, 1]


def test_refusals() -> None:
    with pytest.raises(ArgumentTypeError):
        ft.Guided(3, 1.0, without=untold)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument):
        ft.Guided(Joint(LAW), float("nan"), without=untold)
    with pytest.raises(ShapeError, match="shape"):
        ft.Guided(Joint(LAW), 1.0, without=lambda canvas: canvas[:, 1:]).predict(np.array([[1, -1]]), np.array([2]))
