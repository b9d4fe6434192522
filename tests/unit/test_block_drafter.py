"""The block drafter: what trains is what drafts, no block sees another, nothing it says changes a token."""

from __future__ import annotations

import dataclasses
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import foretoken as ft
from foretoken import kernels
from foretoken.canvas import Canvas
from foretoken.drafter.block import BlockDrafter
from foretoken.drafter.block_fused import Fused
from foretoken.drafter.block_model import BlockConfig, BlockModule, even, load_block, save_block
from foretoken.drafter.block_native import NativeBlockDrafting, native_block
from foretoken.drafter.taps import KEPT, Taps
from foretoken.errors import ArgumentTypeError, CheckpointError, InvalidArgument, ShapeError, UnsupportedModel
from foretoken.recipes.drafter import Blocks, Distance, tapped
from tests.models import TableModel, tiny_llama, tiny_model
from tests.tiny import compiled

PROMPTS = [[5, 3, 8], [2], [9, 9, 9, 9, 1], [(3 * i) % 48 for i in range(30)]]
CONFIG = BlockConfig(
    target="tiny", vocab_size=48, hidden_size=32, taps=(0, 1), layers=1, heads=4, kv_heads=2, intermediate_size=24,
    block=5, reach=8, rank=6, order=2, latents=1, rms_norm_eps=1e-5, rope_theta=10000.0,
)  # fmt: skip
SHAPES: dict[str, dict[str, int]] = {
    "one layer": {},
    "two layers": {"layers": 2},
    "heads": {"layers": 0},
    "latents": {"latents": 3},
    "heads with latents": {"layers": 0, "latents": 3},
    "long order": {"order": 5, "reach": 3},
}


def module(seed: int = 1, **changes: Any) -> BlockModule:
    """A drafter with random weights, all of which matter."""
    made = BlockModule(dataclasses.replace(CONFIG, **changes))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in made.parameters():
            weight.normal_(std=0.3, generator=generator)
            weight += weight.ndim == 1
    return made.requires_grad_(requires_grad=False)


def blocks(made: BlockModule, ids: Tensor, anchors: list[int]) -> tuple[Blocks, Tensor]:
    """Blocks behind some units of one text, and the target's head."""
    target = tiny_llama(layers=2)
    states, _ = tapped(target, ids[None], (0, 1))
    table = even(target.model.embed_tokens.weight, 1e-5)
    unembedding = target.lm_head.weight * target.model.norm.weight
    return Blocks(made, table, ids[None], states, torch.tensor([anchors])), unembedding.detach()


def predicted(made: BlockModule, ids: Tensor, anchors: list[int], latent: Tensor | None = None) -> Tensor:
    """Logits of all places of those blocks, given the tokens before them, (blocks, k, vocab)."""
    made_of, unembedding = blocks(made, ids, anchors)
    z = None if latent is None else latent.expand(len(anchors), -1)
    with torch.no_grad():
        states = made.states(made_of.newest, made_of.positions, made_of.context, made_of.seen, made_of.places, z)
        bent = made.bend(states, made_of.past)
        sure = made.confident(states, bent)
        return torch.cat((torch.nn.functional.linear(states + made.correction(bent), unembedding), sure[..., None]), -1)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("read", [3, 20])
def test_what_drafts_is_what_was_trained(shape: str, read: int) -> None:
    made = module(**SHAPES[shape])
    config = made.config
    ids = torch.randint(48, (40,), generator=torch.Generator().manual_seed(0))
    latent = made.embed_latents[1:2] if config.latents > 1 else None
    expected = predicted(made, ids, [read - 1], latent)[0]
    model = tiny_model()
    session = model.open_tapped(1, 64, 0, (0, 1))
    session.forward(ids[None, :read].numpy())
    fused = Fused(made, *model.vocabulary(), 64)
    context = fused.read(session.states[0])
    newest, positions = ids[read : read + 1], torch.tensor([read])
    if config.layers:
        cache = torch.zeros(config.layers, 2, 1, config.kv_heads, config.reach + config.block, config.head_dim)
        where = torch.arange(read)[-config.reach :]
        cache[:, :, 0, :, where % config.reach] = fused.keys_values(context[-config.reach :], where).transpose(2, 3)
        mask = (torch.arange(config.reach + config.block) < read) | (
            torch.arange(config.reach + config.block) >= config.reach
        )
        found = fused.places(newest, positions, cache, mask[None, None, None], latent)
    else:
        found = fused.heads_of(context[-1:], newest, latent)
    logits, state, sure = (part.clone() for part in found)
    for place in range(config.block):
        bent = torch.nn.functional.silu(
            state[:, place] + sum(fused.past[ids[read + place - d], d] for d in range(min(config.order, place + 1)))
        )
        change = bent @ fused.bend
        torch.testing.assert_close(logits[0, place] + change[0, :48], expected[place, :48], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(sure[0, place] + change[0, 48], expected[place, 48], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", ["one layer", "two layers", "heads"])
def test_no_block_sees_another_or_what_comes_later(shape: str) -> None:
    """A block is its own row: others beside it change nothing, nor does the text that it is to predict."""
    made = module(**SHAPES[shape])
    ids = torch.randint(48, (40,), generator=torch.Generator().manual_seed(0))
    alone = predicted(made, ids, [12])[0]
    assert torch.allclose(predicted(made, ids, [12, 13, 11, 14, 30])[0], alone, atol=1e-5)
    later = ids.clone()
    later[14:] = (ids[14:] + 7) % 48  # the newest unit is 13
    changed = predicted(made, later, [12, 13, 14])[0]
    assert torch.allclose(changed[0], alone[0], atol=1e-5)
    assert not torch.allclose(changed[1], alone[1], atol=1e-2)  # the token before a place bends it
    earlier = ids.clone()
    earlier[13] = (ids[13] + 7) % 48
    assert not torch.allclose(predicted(made, earlier, [12])[0, 0], alone[0], atol=1e-2)


def test_all_places_but_the_correction_are_blind_to_the_draft() -> None:
    made = module()
    made.correction.weight.zero_()
    ids = torch.randint(48, (40,), generator=torch.Generator().manual_seed(0))
    later = ids.clone()
    later[14:] = (ids[14:] + 7) % 48
    assert torch.allclose(predicted(made, later, [12])[..., :48], predicted(made, ids, [12])[..., :48], atol=1e-5)


def test_the_distance_and_its_gradient() -> None:
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(5, 11, generator=generator, requires_grad=True)
    law = torch.randn(5, 11, generator=generator).softmax(dim=-1)
    weights = torch.rand(5, generator=generator)
    loss, variation = Distance.apply(logits, law)  # type: ignore[misc]
    own = torch.autograd.grad((loss * weights).sum(), logits)[0]
    draft = logits.softmax(dim=-1)
    half = (draft - law).abs().sum(dim=-1) / 2
    expected = 0.1 * -(law * logits.log_softmax(dim=-1)).sum(dim=-1) + 0.9 * half
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(variation, half)
    torch.testing.assert_close(own, torch.autograd.grad((expected * weights).sum(), logits)[0])


def run(model: Any, drafter: Any, *, prompts: Any = PROMPTS, **options: Any) -> ft.Generation:
    strategy = ft.Autoregressive(drafter, options.pop("verifier", ft.Coupled()), options.pop("length", 4))
    keys = {"max_tokens": 24, "seed": 3, "sampler": ft.Sampler(temperature=0.9)} | options
    return ft.generate(model, Canvas(prompts), strategy, **keys)


def rows(out: ft.Generation) -> list[list[int]]:
    return [row.tokens.tolist() for row in out.rows]


@pytest.mark.parametrize("native", [False, True], ids=["torch", "native"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "options",
    [
        {"sampler": ft.Sampler(temperature=0)},
        {"sampler": ft.Sampler(temperature=1.0, top_k=20, repetition_penalty=1.2), "n": 2},
        {"length": ft.Adaptive(4), "min_tokens": 5},
        {"verifier": ft.Coupled(width=4)},
    ],
    ids=["greedy", "sampled", "adaptive", "bits"],
)
def test_tokens_are_those_of_plain_decoding(native: bool, shape: str, options: dict[str, Any]) -> None:
    model = ft.Native(tiny_llama()) if native else tiny_model()
    made = module(**SHAPES[shape])
    plain = run(model, None, **options)
    for core in (None, False):
        assert rows(run(model, BlockDrafter(made, native=core), **options)) == rows(plain)
    if made.config.latents > 1 and "verifier" not in options:
        assert rows(run(model, BlockDrafter(made, chains=3), **options)) == rows(plain)


class Watched(BlockDrafter):
    """Keeps what it has drafted; its core has not rounded weights."""

    def __init__(self, made: BlockModule, **options: Any) -> None:
        super().__init__(made, **options)
        self.drafts: list[Any] = []

    def open(self, request: Any) -> Any:
        session = super().open(request)
        if self.native:
            embedding, unembedding = request.model.vocabulary()
            core = native_block(self.module, embedding, unembedding, 200, dtype="float32")
            session = NativeBlockDrafting(core, self.config, request, request.taps)
        propose = session.propose

        def watched(asked: Any, k: int) -> Any:
            self.drafts += (said := propose(asked, k))
            return said

        session.propose = watched  # type: ignore[method-assign]
        return session


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sampler": ft.Sampler(temperature=1.0, top_p=0.9, presence_penalty=0.5)},
        {"verifier": ft.Rejection(), "sampler": ft.Sampler(temperature=1.0, top_k=20, repetition_penalty=1.2)},
        {"verifier": ft.Rejection(), "max_tokens": 60},
    ],
)
@pytest.mark.parametrize("shape", ["one layer", "two layers", "long order"])
def test_the_core_drafts_what_pytorch_drafts(shape: str, options: dict[str, Any]) -> None:
    made = module(**SHAPES[shape])
    core, twin = Watched(made, native=True), Watched(made, native=False)
    assert rows(run(tiny_model(), core, **options)) == rows(run(tiny_model(), twin, **options))
    assert len(core.drafts) == len(twin.drafts) > 10
    for mine, other in zip(core.drafts, twin.drafts, strict=True):
        assert mine.tokens.tolist() == other.tokens.tolist()
        np.testing.assert_allclose(mine.chances, other.chances, rtol=1e-4, atol=1e-5)
        if other.probs is not None:
            np.testing.assert_allclose(mine.probs, other.probs, rtol=1e-3, atol=1e-5)


def test_the_core_refuses_what_it_cannot_do() -> None:
    for shape in ("heads", "latents"):
        with pytest.raises(InvalidArgument, match="core"):
            BlockDrafter(module(**SHAPES[shape]), native=True)
    made, model = module(), tiny_model()
    ring = native_block(made, *model.vocabulary(), 64).open()
    sampler = compiled(vocab_size=48)
    for states, first in ((np.zeros((2, 2, 31), np.float32), 0), (np.zeros((2, 2, 32), np.float32), 1)):
        with pytest.raises((ShapeError, InvalidArgument)):
            ring.read(states, first)
    ring.read(np.zeros((2, 2, 32), np.float32), 0)
    for newest, k in ((-1, 2), (48, 2), (5, 0), (5, 6)):
        with pytest.raises(InvalidArgument):
            ring.draft(newest, k, sampler, [1], 0, None, 0, None)
    with pytest.raises(ShapeError):
        ring.draft(5, 2, compiled(vocab_size=47), [1], 0, None, 0, None)
    assert len(ring.draft(5, 2, sampler, [1], 0, None, 0, None)[0]) == 2
    for name in ("mix.weight", "past.1.weight", "embedding"):
        weights = {n: w.numpy() for n, w in made.named_parameters()} | {"embedding": np.zeros((48, 32), np.float32)}
        weights["unembedding"] = weights["embedding"]
        shape = (48, 32, 24, 1, 4, 2, 8, 64), 1e-5, 10000.0
        weights[name] = weights[name][:-1]
        with pytest.raises(ShapeError):
            kernels.NativeBlock(shape, (2, 5, 8, 6, 2), weights, "float32")
        del weights[name]
        with pytest.raises(ArgumentTypeError, match=name):
            kernels.NativeBlock(shape, (2, 5, 8, 6, 2), weights, "float32")


@pytest.mark.parametrize("native", [False, True], ids=["torch", "native"])
def test_several_as_a_tree_with_others(native: bool) -> None:
    model = ft.Native(tiny_llama()) if native else tiny_model()
    drafter = ft.Several(
        BlockDrafter(module()), ft.NGram(minimum=1), BlockDrafter(module(2, taps=(1,), layers=0, latents=2), chains=2),
        tree=True,
    )  # fmt: skip
    assert drafter.taps == (0, 1)
    plain = run(model, None)
    out = run(model, drafter)
    assert rows(out) == rows(plain)
    assert {"block", "heads", "n-gram"} & set("|".join(out.stats.by_source).split("|"))
    one_after_another = ft.Several(ft.NGram(minimum=1), BlockDrafter(module()))
    assert rows(run(model, one_after_another)) == rows(plain)


def test_a_drafter_that_knows_the_target_is_always_right() -> None:
    """The head of the target over its own last state: with no layer between, greedy drafts of one token are right."""
    target = tiny_llama(layers=1)
    with torch.no_grad():  # a target that only looks at the newest unit
        target.get_parameter("model.layers.0.self_attn.o_proj.weight").zero_()
        target.get_parameter("model.layers.0.mlp.down_proj.weight").zero_()
    made = BlockModule(dataclasses.replace(CONFIG, taps=(0,), layers=1, block=2))
    with torch.no_grad():
        for weight in made.parameters():
            weight.zero_()
        made.norm.weight.fill_(1)
    out = run(ft.Llama(target), BlockDrafter(made), length=1, sampler=ft.Sampler(temperature=0), prompts=[[5, 3]])
    assert out.stats.accepted == out.stats.drafted > 5


def test_a_draft_ends_where_the_drafter_is_not_sure() -> None:
    made = module()
    made.confidence.zero_()
    made.confidence[-1] = -9.0
    for native in (True, False):
        drafter = BlockDrafter(made, native=native)
        short = run(tiny_model(), drafter, length=ft.Adaptive(4), max_tokens=60)
        assert short.stats.drafted == short.stats.drafted_at[0] > 0
        fixed = run(tiny_model(), drafter, length=4)
        assert fixed.stats.drafted > 3 * fixed.stats.drafted_at[0]


def test_it_is_saved_and_read_as_it_is(tmp_path: Path) -> None:
    made = module(latents=2)
    save_block(made, tmp_path)
    again = load_block(tmp_path)
    assert again.config == made.config
    for name, weight in made.named_parameters():
        assert torch.equal(again.get_parameter(name), weight.bfloat16().float())
    drafter = BlockDrafter(tmp_path)
    run(tiny_model(), drafter)
    copy = pickle.loads(pickle.dumps(drafter))
    assert rows(run(tiny_model(), copy)) == rows(run(tiny_model(), None))


def test_folders_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="block drafter"):
        BlockDrafter(ft.path("tales-draft"))
    with pytest.raises(ft.errors.UnknownModel):
        BlockDrafter("nowhere")
    save_block(module(), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for change in ({"block": 0}, {"taps": [1, 0]}, {"rank": 7}, {"more": 1}, {"heads": 5}):
        (tmp_path / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(CheckpointError):
            load_block(tmp_path)
    with pytest.raises(ArgumentTypeError):
        BlockDrafter(7)  # type: ignore[arg-type]
    for chains in (0, 2, True, 1.0):
        with pytest.raises(InvalidArgument, match="chains"):
            BlockDrafter(module(), chains=chains)  # type: ignore[arg-type]


def test_targets_of_another_shape_or_kind_are_refused() -> None:
    for shape in ({"vocab_size": 50}, {"hidden_size": 64}):
        with pytest.raises(ShapeError, match="tiny"):
            run(tiny_model(), BlockDrafter(module(**shape)))
    with pytest.raises(UnsupportedModel, match="open_tapped"):
        run(TableModel(48), BlockDrafter(module()))
    for native in (tiny_model(), ft.Native(tiny_llama())):
        with pytest.raises(InvalidArgument, match="taps"):
            run(native, BlockDrafter(module(taps=(0, 2))))


@pytest.mark.parametrize("kind", ["chain", "tree"])
def test_taps_are_the_same_in_torch_and_in_the_core(kind: str) -> None:
    module_ = tiny_llama()
    sessions = [
        model.open_tapped(2, 64, 8, (0, 1)) for model in (ft.Llama(module_), ft.Native(module_, dtype="float32"))
    ]
    tokens, counts = np.array([[5, 3, 8, 1], [2, 7, 0, 0]]), np.array([4, 2])
    parents = np.array([[-1, 0, 0, 1], [-1, -1, -1, -1]])
    for session in sessions:
        session.forward(np.array([[9, 9], [1, 4]]), np.array([1, 2]))
        if kind == "chain":
            session.forward(tokens, counts)
        else:
            session.forward_tree(tokens, parents, counts)
    one, other = (session.states for session in sessions)
    assert one.shape == other.shape == (2, 4, 2, 32)
    for row, count in enumerate(counts):
        torch.testing.assert_close(one[row, :count], other[row, :count], rtol=1e-4, atol=1e-4)
    if kind == "tree":
        for session in sessions:
            session.keep(np.array([[0, 1, 3], [0, 0, 0]]), np.array([3, 1]))
    for session in sessions:
        session.select(np.array([1, 1, 0]))
        assert torch.equal(session.states[0, :2], session.states[1, :2])
    torch.testing.assert_close(sessions[0].states[2], sessions[1].states[2], rtol=1e-4, atol=1e-4)
    for mine, cores in zip(
        ft.Llama(module_).vocabulary(), ft.Native(module_, dtype="float32").vocabulary(), strict=True
    ):
        torch.testing.assert_close(mine, cores, rtol=1e-6, atol=1e-6)


def test_the_states_of_a_block_are_those_of_single_steps() -> None:
    for model in (tiny_model(), ft.Native(tiny_llama())):
        whole, single = (model.open_tapped(1, 64, 0, (1,)) for _ in range(2))
        whole.forward(np.array([[5, 3, 8]]))
        for place, token in enumerate((5, 3, 8)):
            single.forward(np.array([[token]]))
            torch.testing.assert_close(single.states[0, 0], whole.states[0, place], rtol=1e-5, atol=1e-5)


def test_untapped_sessions_have_no_states() -> None:
    session = tiny_model().open(1, 8)
    session.forward(np.array([[1]]))
    with pytest.raises(InvalidArgument, match="tapped"):
        _ = session.states
    core = ft.Native(tiny_llama()).open(1, 8)
    core.forward(np.array([[1]]))
    assert core.states.numel() == 0
    for taps in ((1, 0), (0, 0), (-1,), (2,)):
        for model in (tiny_model(), ft.Native(tiny_llama())):
            with pytest.raises((InvalidArgument, ArgumentTypeError)):
                model.open_tapped(1, 8, 0, taps)


def test_taps_forget_what_is_long_ago() -> None:
    taps = Taps((1,))
    taps.put(3, torch.arange(300.0)[:, None, None])
    taps.put(3, torch.arange(300.0, 302)[:, None, None])
    first, pieces = taps.since(3, 0)
    assert (taps.end(3), first) == (302, 300 - KEPT)
    assert torch.cat(pieces).flatten().tolist() == list(range(300 - KEPT, 302))
    assert taps.since(3, 302) == (302, [])
    taps.stop(3)
    assert taps.end(3) == 0
