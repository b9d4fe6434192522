"""Strategies that fill any position: what they leave alone, how rows end, and what they refuse."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

import foretoken as ft
from foretoken.canvas import UNKNOWN
from foretoken.errors import ArgumentTypeError, InvalidArgument, LimitExceeded, LogitsError, ShapeError
from foretoken.errors import UnsupportedModel as Unsupported
from foretoken.model.masked import MaskedConfig, MaskedLlama, MaskedModule
from foretoken.rules import EntropyBound, Margin, Order, SampledConfidence
from foretoken.schedules import counts, linear
from foretoken.strategy.cascade import Cascade, Stage, every, first, rest
from foretoken.strategy.lengths import Predicted, UntilEnd, posterior
from foretoken.strategy.masked import Masked
from foretoken.strategy.oneshot import OneShot

from .. import models
from ..parallel import Joint

RNG = np.random.default_rng(3)
JOINT = Joint(RNG.dirichlet([0.5] * 4**4).reshape(4, 4, 4, 4))
END = 3
STRATEGIES = [
    OneShot(),
    Masked(1),
    Masked(3),
    Masked(2, select=SampledConfidence(0.5), schedule=linear),
    Masked(None, select=EntropyBound(0.5)),
    Masked(None, select=Order(range), count=1),
    Masked(2, block=2, select=Margin()),
    Masked(4, remask=0.4),
    Cascade([Stage(every(2)), Stage(rest, Masked(2))]),
]


def masked_model(*, latents: int = 0, lengths: int = 6, context: int = 12, seed: int = 0) -> MaskedLlama:
    """A masked model with random weights over 8 units, of which 7 is END, and one id for conditions."""
    config = MaskedConfig(
        vocab_size=9 + (latents + 1 if latents else 0), units=8, latents=latents, imagination=0, lengths=lengths, end=7,
        hidden_size=16, intermediate_size=32, layers=2, heads=2, context=context,
    )  # fmt: skip
    module = MaskedModule(config)
    module.initialise(torch.Generator().manual_seed(seed))
    for weight in module.parameters():
        weight.data.mul_(6)  # laws that are neither flat nor certain
    return MaskedLlama(module)


def fill(strategy: object, rows: list[list[int]], model: object = JOINT, **options: object) -> ft.Generation:
    return ft.generate(model, ft.Canvas(rows), strategy, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("strategy", STRATEGIES, ids=range(len(STRATEGIES)))
def test_known_units_stay_and_all_others_are_found(strategy: object) -> None:
    rows = [[-1, 2, -1, -1], [1, -1, 0], [-1, -1, -1, -1]]
    out = fill(strategy, rows, seed=[5, 6, 7])
    for row, made in zip(rows, out.rows, strict=True):
        known = np.array(row) != UNKNOWN
        assert (made.units[known] == np.array(row)[known]).all()
        assert (made.units >= 0).all()
        assert len(made.units) == len(row)
        assert (made.tokens == made.units[~known]).all()
        assert made.finish_reason == "length"
    assert out.stats.tokens == 8
    assert out.stats.prompt_tokens == 3


@pytest.mark.parametrize("strategy", STRATEGIES, ids=range(len(STRATEGIES)))
def test_a_row_does_not_depend_on_its_neighbours(strategy: object) -> None:
    rows, seeds = [[-1, 2, -1, -1], [1, -1, 0], [-1, -1, -1, -1]], [5, 6, 7]
    together = fill(strategy, rows, seed=seeds, n=2)
    for index, (row, seed) in enumerate(zip(rows, seeds, strict=True)):
        alone = fill(strategy, [row], seed=seed, n=2)
        for sample in range(2):
            assert (alone.rows[sample].units == together.rows[2 * index + sample].units).all()


def test_one_step_is_one_shot() -> None:
    rows = [[-1] * 4] * 40
    assert (np.array(fill(Masked(1), rows, seed=range(40)).units) == fill(OneShot(), rows, seed=range(40)).units).all()


def test_a_schedule_says_how_many_units_a_step_finds() -> None:
    steps = list(ft.stream(masked_model(), ft.Canvas([[8] + [-1] * 11]), Masked(4)))
    assert [len(step.tokens) for step in steps] == counts(ft.schedules.cosine, 4, 11).tolist()
    assert sorted(place for step in steps for place in step.positions or ()) == list(range(1, 12))
    assert [step.finish_reason for step in steps] == [None, None, None, "length"]


def test_blocks_come_from_left_to_right() -> None:
    steps = list(ft.stream(masked_model(), ft.Canvas([[8] + [-1] * 9]), Masked(2, block=4)))
    spans = [(min(step.positions or ()), max(step.positions or ())) for step in steps]
    assert [(low - 1) // 4 for low, _ in spans] == [0, 0, 1, 1, 2]
    assert all((low - 1) // 4 == (high - 1) // 4 for low, high in spans)


def test_what_is_forgotten_is_found_again_and_counted_once() -> None:
    out = fill(Masked(4, remask=0.5), [[8] + [-1] * 11], masked_model())
    assert out.stats.tokens == 11
    assert sum(len(step.tokens) for step in out.trace) > 11


def ending() -> Joint:
    """Rows of which every unit may be END."""
    return Joint(RNG.dirichlet([0.6] * 4**5).reshape(4, 4, 4, 4, 4), end=END)


@pytest.mark.parametrize(
    "strategy",
    [OneShot(UntilEnd(4)), Masked(3, length=UntilEnd(4)), Masked(None, length=UntilEnd(4)),
     Cascade([Stage(every(2)), Stage(rest)], length=UntilEnd(4))],
    ids=range(4),
)  # fmt: skip
def test_what_follows_end_is_dropped(strategy: object) -> None:
    out = fill(strategy, [[0], [1], [2]], ending(), seed=4, n=30)
    assert {row.finish_reason for row in out.rows} == {"end", "length"}
    for row in out.rows:
        assert (END in row.tokens) == (row.finish_reason == "end")
        assert END not in row.tokens[:-1]
        assert len(row.tokens) == (4 if row.finish_reason == "length" else len(row.units) - 1)
    assert out.stats.tokens == sum(len(row.tokens) for row in out.rows)


def test_the_model_says_how_long() -> None:
    laws = np.array([0.0, 0.2, 0.0, 0.8, 0.0])
    law = RNG.dirichlet([0.6] * 4**5).reshape(4, 4, 4, 4, 4)
    with np.errstate(divide="ignore"):
        model = Joint(law, end=END, lengths=laws)
        out = fill(OneShot(Predicted(beam=1)), [[0]], model, seed=1, n=400)
        counted = np.bincount([len(row.tokens) for row in out.rows], minlength=5)
        assert counted[[0, 2, 4]].sum() == 0
        assert 0.7 < counted[3] / 400 < 0.9
        assert all(END not in row.tokens for row in out.rows)  # a length that was said is no END's to shorten
        greedy = ft.Sampler(temperature=0)
        assert len(fill(OneShot(Predicted(beam=1)), [[0]], model, sampler=greedy).tokens) == 3
        assert model.asked[-1].shape == (1, 4)


def test_of_several_lengths_the_best_answer_stays() -> None:
    # The first unit tells how long the answer is; under each length it is certain or a toss-up.
    law = np.full((3, 3, 3, 3), 1e-9)
    law[0, 1, 2, 1] = 1.0
    law[0, 1] += 0.05
    lengths = np.array([0.0, 0.5, 0.0, 0.5])
    with np.errstate(divide="ignore"):
        out = fill(OneShot(Predicted(beam=2)), [[0]], Joint(law, lengths=lengths), sampler=ft.Sampler(temperature=0))
    # One unit, 1, is surer on average than three.
    assert out.tokens.tolist() == [1]
    assert out.stats.row_forwards == 2


def test_a_model_that_looks_back_may_choose_among_lengths() -> None:
    target = models.tiny_model(vocab_size=9)
    model = masked_model()
    out = fill(OneShot(Predicted(beam=4, rerank=target)), [[8], [8]], model, seed=[1, 2])
    plain = fill(OneShot(Predicted(beam=4)), [[8], [8]], model, seed=[1, 2])
    assert out.stats.forwards == plain.stats.forwards + 1
    assert all(row.finish_reason == "length" for row in out.rows)


def test_end_at_every_position_is_a_law_of_lengths() -> None:
    law = posterior(torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(1)), (2, 4)).exp()
    assert law.shape == (3, 6)
    assert torch.allclose(law.sum(dim=1), torch.ones(3))
    out = fill(OneShot(Predicted(beam=3, longest=4)), [[0], [1]], ending())
    assert all(END not in row.tokens for row in out.rows)


def test_a_stage_may_be_written_from_left_to_right_by_another_model() -> None:
    causal = models.tiny_model(vocab_size=9)
    strategy = Cascade([Stage(first(3), ft.Autoregressive(), causal), Stage(rest)])
    out = fill(strategy, [[8, -1, -1, -1, -1, -1], [8, 8, -1, -1, -1, -1]], masked_model(), seed=[3, 4])
    for row, prompt in zip(out.rows, ([8], [8, 8]), strict=True):
        alone = ft.generate(causal, ft.Canvas([prompt]), max_tokens=3, seed=3 if prompt == [8] else 4, end_tokens=())
        assert (row.tokens[:3] == alone.tokens).all()
        assert len(row.tokens) == 6 - len(prompt)
        assert row.finish_reason == "length"


def test_a_stage_from_left_to_right_needs_known_units_in_front() -> None:
    causal = models.tiny_model(vocab_size=9)
    with pytest.raises(InvalidArgument, match="side by side"):
        fill(Cascade([Stage(every(2), ft.Autoregressive(), causal), Stage(rest)]), [[8, -1, -1, -1]], masked_model())
    with pytest.raises(Unsupported, match="causal"):
        fill(Cascade([Stage(rest, ft.Autoregressive())]), [[8, -1]], masked_model())


def test_imaginations_stand_in_front_and_nowhere_else() -> None:
    model = masked_model(latents=4)
    out = fill(Cascade([Stage(first(1)), Stage(rest)]), [[-1, 8] + [-1] * 8], model, n=60)
    units = np.array(out.units)
    assert set(units[:, 0]) <= {9, 10, 11, 12}
    assert len(set(units[:, 0])) > 1
    assert units[:, 2:].max() < 8


@pytest.mark.parametrize("strategy", STRATEGIES, ids=range(len(STRATEGIES)))
def test_each_unit_says_how_probable_it_was_when_it_was_found(strategy: object) -> None:
    rows = [[-1, 2, -1, -1], [1, -1, 0, -1]]
    out = fill(strategy, rows, seed=[5, 6], logprobs=0)
    for given, row in zip(rows, out.rows, strict=True):
        assert row.logprobs is not None
        assert len(row.logprobs) == given.count(-1)
        assert max(row.logprobs) < 0
        lone = [place for place in range(4) if given[place] == -1][-1]
        if isinstance(strategy, Masked) and isinstance(strategy.select, Order):  # the last one knew all others
            known = row.units.copy()
            known[lone] = UNKNOWN
            law = JOINT.predict(known[None], np.array([4]))[0, lone].log_softmax(dim=0)
            assert row.logprobs[-1] == pytest.approx(float(law[row.units[lone]]), abs=1e-6)
    assert fill(strategy, rows, seed=[5, 6]).logprobs == [None, None]


def test_refusals() -> None:
    model = masked_model()
    for strategy, rows, options, error, match in (
        (OneShot(), [[8, 1]], {}, InvalidArgument, "no unknown position"),
        (OneShot(UntilEnd(20)), [[8, 1]], {}, LimitExceeded, "context"),
        (OneShot(), [[8, -1]], {"stop_tokens": [1]}, InvalidArgument, "stop_tokens"),
        (OneShot(), [[8, -1]], {"logprobs": 1}, InvalidArgument, "logprobs"),
        (OneShot(), [[8, -1]], {"max_tokens": 1}, InvalidArgument, "max_tokens"),
        (None, [[8, -1]], {}, InvalidArgument, "unknown positions"),
        (Cascade([Stage(first(1))]), [[8, -1, -1]], {}, InvalidArgument, "leave positions unknown"),
        (Masked(2, select=Order([0, 1])), [[8, -1, -1]], {}, ShapeError, "ranks"),
    ):
        with pytest.raises(error, match=match):
            fill(strategy, rows, model, **options)  # type: ignore[arg-type]
    with np.errstate(divide="ignore"), pytest.raises(LimitExceeded, match="length"):
        fill(OneShot(Predicted()), [[0] * 4], Joint(np.ones((4, 4, 4, 4)), lengths=np.array([0, 0.5, 0.5])))
    with pytest.raises(Unsupported, match="predict"):
        fill(OneShot(), [[1, -1]], models.tiny_model(vocab_size=9))
    with pytest.raises(Unsupported, match="predict_lengths"):
        fill(OneShot(Predicted()), [[0]], ending())
    with pytest.raises(Unsupported, match="END"):
        fill(OneShot(UntilEnd(2)), [[0]], JOINT)


def test_arguments_that_are_refused() -> None:
    for make, error in (
        (lambda: OneShot(7), ArgumentTypeError),
        (lambda: UntilEnd(0), InvalidArgument),
        (lambda: Predicted(0), InvalidArgument),
        (lambda: Predicted(rerank=3), ArgumentTypeError),
        (lambda: Masked(0), InvalidArgument),
        (lambda: Masked(None, select=Margin()), InvalidArgument),
        (lambda: Masked(2, count=1), InvalidArgument),
        (lambda: Masked(None, remask=0.5), InvalidArgument),
        (lambda: Masked(select="margin"), ArgumentTypeError),
        (lambda: Cascade([]), InvalidArgument),
        (lambda: Cascade([OneShot()]), ArgumentTypeError),
        (lambda: Stage(rest, OneShot(UntilEnd(3))), InvalidArgument),
        (lambda: every(0), InvalidArgument),
        (lambda: first(0), InvalidArgument),
    ):
        with pytest.raises(error):
            make()  # type: ignore[no-untyped-call]


def test_a_model_that_breaks_its_word_is_found_out() -> None:
    class Wrong(Joint):
        def predict(self, canvas: np.ndarray, lengths: np.ndarray) -> torch.Tensor:
            return self.answer(canvas)

    model = Wrong(np.ones((2, 2)))
    for answer, error in (
        (lambda canvas: torch.zeros(1, 2, 3), ShapeError),
        (lambda canvas: np.zeros((1, 2, 2)), ArgumentTypeError),
        (lambda canvas: torch.full((1, 2, 2), torch.nan), LogitsError),
    ):
        model.answer = answer  # type: ignore[attr-defined]
        with pytest.raises(error):
            fill(OneShot(), [[-1, -1]], model)


def test_a_stream_may_be_left_and_counts_what_it_saw() -> None:
    stream = ft.stream(masked_model(), ft.Canvas([[8] + [-1] * 11]), Masked(6))
    assert next(iter(stream)).tokens
    stream.close()  # type: ignore[attr-defined]


def test_the_trace_shows_a_row_in_its_order_and_each_units_forward() -> None:
    out = fill(Masked(3), [[8, -1, 2, -1, -1]], masked_model(), seed=2)
    page = out.trace.to_html()
    shown = [part.partition("<")[0] for part in page.partition('<div class="text"')[2].split('<span class="t')[1:]]
    order = [text.rpartition(">")[2] for text in shown if text.startswith((" given", '"', " tie", " instead"))]
    assert order == [str(unit) for unit in out.units]
    forwards = {step.positions[0]: number for number, step in enumerate(out.trace, start=1) if step.positions}
    assert all(f'data-f="{number}"' in page for number in forwards.values())
    assert pickle.loads(pickle.dumps(out.trace)).to_html() == page
