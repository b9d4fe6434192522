"""The judge of characters on figures whose attributes are plain."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from foretoken.errors import ArgumentTypeError, InvalidArgument, ShapeError
from foretoken.evaluate.characters import CharacterJudge
from foretoken.recipes.captions import Caption, labels

COLOURS = {"black": (20, 20, 20), "blue": (40, 60, 200), "red": (200, 30, 40)}
SIDES = ("left", "right")


def figures(count: int, seed: int) -> tuple[np.ndarray, dict[str, list[str]]]:
    """(count, 32, 32, 3): hair above a garment, a nose on one side, somewhere about the middle; and what they are."""
    random = np.random.default_rng(seed)
    hair, garment = ([list(COLOURS)[place] for place in random.integers(3, size=count)] for _ in range(2))
    sides = [SIDES[place] for place in random.integers(2, size=count)]
    made = np.full((count, 32, 32, 3), 255, dtype=np.uint8)
    for picture, top, body, side in zip(made, hair, garment, sides, strict=True):
        down = 6 + int(random.integers(3))
        picture[down : down + 5, 12:20] = COLOURS[top]
        picture[down + 5 : down + 9, 12:20] = (230, 190, 150)
        picture[down + 6 : down + 8, slice(9, 12) if side == "left" else slice(20, 23)] = (230, 190, 150)
        picture[down + 9 : down + 18, 11:21] = COLOURS[body]
    noise = random.integers(-12, 13, made.shape)
    return (made.astype(int) + noise).clip(0, 255).astype(np.uint8), {"hair": hair, "garment": garment, "side": sides}


@pytest.fixture(scope="module")
def judge() -> CharacterJudge:
    return CharacterJudge(*figures(600, 0), epochs=40)


def test_every_attribute_is_told(judge: CharacterJudge) -> None:
    pictures, told = figures(200, 1)
    right = judge.right(pictures, told)
    assert right.keys() == told.keys()
    assert min(right.values()) > 0.95
    assert judge.error(pictures, told) == {name: 1 - share for name, share in right.items()}
    swapped = {**told, "hair": told["garment"], "garment": told["hair"]}
    alike = float(np.mean(np.array(told["hair"]) == np.array(told["garment"])))
    wrong = judge.right(pictures, swapped)
    assert abs(wrong["hair"] - alike) < 0.06
    assert wrong["side"] == right["side"]
    assert judge.told(pictures[:3])["side"] == told["side"][:3]
    assert judge.right(pictures, {"side": told["side"]}) == {"side": right["side"]}


def test_features_tell_figures_apart(judge: CharacterJudge) -> None:
    pictures, told = figures(120, 2)
    found = judge.features(pictures)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    alike = np.array(
        [[one == other for other in zip(*told.values(), strict=True)] for one in zip(*told.values(), strict=True)]
    )
    cosines = found @ found.T
    apart = ~np.eye(len(found), dtype=bool)
    assert cosines[alike & apart].mean() > cosines[~alike].mean() + 0.2


def test_learning_is_a_function_of_the_seed_and_leaves_that_of_others_alone() -> None:
    pictures, told = figures(40, 0)
    before = torch.get_rng_state()
    one, other = (CharacterJudge(pictures, told, seed=3, epochs=2).features(pictures) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert torch.equal(before, torch.get_rng_state())
    assert (CharacterJudge(pictures, told, seed=4, epochs=2).features(pictures) != one).any()


def test_what_cannot_be_judged_is_refused(judge: CharacterJudge) -> None:
    pictures, told = figures(4, 0)
    with pytest.raises(InvalidArgument, match="no labels"):
        CharacterJudge(pictures, {})
    with pytest.raises(InvalidArgument, match=r"told apart in \['hair'\]"):
        CharacterJudge(pictures, {"side": ["left", "right"] * 2, "hair": ["red"] * 4})
    with pytest.raises(InvalidArgument, match="give one for each"):
        judge.right(pictures, {"hair": told["hair"][:3]})
    with pytest.raises(InvalidArgument, match=r"was never \['green'\]"):
        judge.right(pictures, {"hair": ["green"] * 4})
    with pytest.raises(InvalidArgument, match="never"):
        judge.right(pictures, {"shoes": ["red"] * 4})
    with pytest.raises(ShapeError, match="multiples of 16"):
        judge.told(pictures[:, :20])
    with pytest.raises(ShapeError, match="they are"):
        judge.told(np.concatenate([pictures, pictures], axis=1))
    with pytest.raises(ArgumentTypeError, match="uint8"):
        judge.told(pictures.astype(float))


def test_a_caption_says_what_is_to_be_judged() -> None:
    parts = ("old tan man", "black flat top, fade hair", "red polo", "gray cardigan", "navy pants", "pink boots")
    first = Caption(parts, "walking left")
    second = Caption(("peach woman", "blonde page hair", "red polo", "white shorts", "pink boots"), "slashing up")
    assert labels([first, second]) == {
        "hair colour": ["black", "blonde"], "hair style": ["flat top, fade", "page"],
        "garment colour": ["gray", "red"], "legs colour": ["navy", "white"], "skin": ["tan", "peach"],
        "kind": ["old", "woman"], "direction": ["left", "up"],
    }  # fmt: skip
    assert labels([]) == {}
