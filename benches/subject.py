"""A name learnt from four pictures: is it the same character in directions that were not shown, and what else moved?

    python benches/subject.py --data DATA --painter runs/painter/checkpoint

Characters are of combinations that nobody was trained on. Each is shown in four pictures of two directions under
captions that say only what it does ("a S* woman walking left"), beside pictures that the painter makes of "a woman
walking" in all directions, which are to stay as they are; painted are the two other directions in five animations, two
of which were not shown at all. A judge of attributes that learnt from other characters, which went through the codec,
sees how many are right; beside it, the same painter told the class alone ("a woman walking up"), told every attribute
in words, and the real pictures. Features compare each picture with the truth and with other held-out characters that do
the same. What "a woman walking left" looks like without the name is painted before and after by the same seeds.
"""

from __future__ import annotations

import dataclasses
import io
import json
import sys
import zipfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np

import foretoken as ft
from benches import _common
from foretoken.codec.pictures import read
from foretoken.codec.png import png
from foretoken.evaluate.characters import CharacterJudge
from foretoken.evaluate.clip import Clip
from foretoken.evaluate.report import Report, Table, joined
from foretoken.painter.adapter import Adapter
from foretoken.painter.stages import METHODS, Inversion, LowRank
from foretoken.recipes import captions
from foretoken.recipes.captions import Caption
from foretoken.recipes.sprites import ANIMATIONS, DIRECTIONS, Character, Sprites

NAME = "S*"
SHOWN = (("Walk", "down", 1), ("Idle", "down", 0), ("Walk", "left", 3), ("Run", "left", 2))
"""Animation, direction and frame of the four pictures."""

UNSEEN = ("up", "right")
Similarity = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Of pictures (n, …) with others (m, …): (n, m) float, more is more alike."""

Place = tuple[str, str]
"""An animation and a direction."""


@dataclasses.dataclass(frozen=True, eq=False)
class World:
    """What subjects are drawn from and judged with.

    Args:
        paint: the painter.
        sprites: layers of characters.
        judge: of attributes.
        similarity: of pictures.
        others: held-out characters that are no subject.
        seeds: pictures of each text.
    """

    paint: ft.Painter
    sprites: Sprites
    judge: CharacterJudge
    similarity: Similarity
    others: Sequence[Character]
    seeds: int
    _real: dict[tuple[Character, Place], np.ndarray] = dataclasses.field(default_factory=dict)

    def real(self, who: Character, place: Place) -> np.ndarray:
        """Two frames of a character, as the codec leaves them."""
        if (who, place) not in self._real:
            frames = self.sprites.clip(who, *place).frames
            codec = self.paint.codec
            self._real[who, place] = codec.decode_batch(codec.encode_batch(frames[[0, len(frames) // 2]]))
        return self._real[who, place]

    def painted(self, texts: Sequence[str]) -> np.ndarray:
        """(texts × seeds, height, width, 3), those of a text side by side."""
        made = self.paint(list(texts), n=self.seeds, seed=list(range(100, 100 + len(texts))))
        return np.stack([row.signal.pixels for row in made.rows])


def told(place: Place) -> str:
    """What a caption says of an animation and a direction."""
    return f"{ANIMATIONS[place[0]]} {place[1]}"


def kind_of(who: Character) -> str:
    """ "woman", "old man", …"""
    return Caption(who.attributes, "").kind


def named(who: Character) -> str:
    """A character as the captions and the prompts have it, such as "a S* woman"."""
    return f"a {NAME} {kind_of(who)}"


def learnt(world: World, who: Character, options: Any) -> tuple[Adapter, float, np.ndarray]:
    """The adapter of a character, the seconds that took, and the pictures it was shown."""
    shown = np.stack([world.sprites.clip(who, name, where).frames[frame] for name, where, frame in SHOWN])
    said = [f"{named(who)} {told((name, where))}" for name, where, _ in SHOWN]
    kept = [f"a {kind_of(who)} {told((name, where))}" for name in ("Walk", "Run") for where in DIRECTIONS]
    started = perf_counter()
    adapter = world.paint.learn(
        NAME, list(shown), class_word=kind_of(who), captions=said, others=kept, method=options.method, seed=options.seed
    )
    return adapter, perf_counter() - started, shown


def rights(world: World, who: Character, pictures: np.ndarray, places: Sequence[Place]) -> dict[str, float]:
    """The share of pictures with each attribute right, of equally many pictures of each place."""
    each = len(pictures) // len(places)
    wanted = captions.labels([Caption(who.attributes, told(place)) for place in places for _ in range(each)])
    return world.judge.right(pictures, {name: wanted[name] for name in world.judge.values})


def closer(world: World, who: Character, pictures: np.ndarray, places: Sequence[Place]) -> tuple[float, float]:
    """How often a picture is more like the truth than like another character: of all pairs, and than like all."""
    each, pairs, alone = len(pictures) // len(places), [], []
    for number, place in enumerate(places):
        some = pictures[number * each : (number + 1) * each]
        own = world.similarity(some, world.real(who, place)).max(axis=1)
        rest = np.stack([world.similarity(some, world.real(other, place)).max(axis=1) for other in world.others])
        pairs.append((own > rest).mean())
        alone.append((own > rest.max(axis=0)).mean())
    return float(np.mean(pairs)), float(np.mean(alone))


def moved(before: np.ndarray, after: np.ndarray, subject: np.ndarray, similarity: Similarity) -> dict[str, float]:
    """How far pictures of the class moved, as a share of the way to the subject: along that way, by mean similarity.

    The way is from how alike the class's pictures are to the subject's, to how alike the subject's are to each other.
    """
    own = similarity(subject, subject)
    same = float(own[~np.eye(len(own), dtype=bool)].mean())
    first, second = (float(similarity(made, subject).mean()) for made in (before, after))
    return {
        "share_of_the_way": (second - first) / max(1e-9, same - first),
        "same_pixels": float((before == after).all(axis=(1, 2, 3)).mean()),
    }


def one(world: World, who: Character, options: Any) -> tuple[dict[str, Any], np.ndarray]:
    """All figures of a subject, and its pictures in rows."""
    unseen = [(name, where) for where in UNSEEN for name in ANIMATIONS]
    seen = [(name, where) for where in ("down", "left") for name in ("Jump", "Combat 1h - Slash")]
    kind, many = kind_of(who), dataclasses.replace(world, seeds=options.unmoved)
    plain = [f"a {kind} walking left", "a woman walking left", "a man walking up"]
    before = many.painted(plain)
    class_only = world.painted([f"a {kind} {told(place)}" for place in unseen])
    in_words = world.painted([str(Caption(who.attributes, told(place))) for place in unseen])
    adapter, seconds, shown = learnt(world, who, options)
    world.paint.add(adapter)
    made, again = (world.painted([f"{named(who)} {told(place)}" for place in places]) for places in (unseen, seen))
    after = many.painted(plain)
    world.paint.remove(NAME)
    truth = np.concatenate([world.real(who, place) for place in unseen])
    walking = np.concatenate([world.real(who, ("Walk", "left")), world.real(who, ("Run", "left"))])
    count = len(before) // len(plain)
    found: dict[str, Any] = {"who": ", ".join(who.attributes), "seconds": seconds}
    for name, pictures, places in (
        ("learnt, unseen directions", made, unseen), ("learnt, unseen poses", again, seen),
        ("class alone", class_only, unseen), ("all told in words", in_words, unseen), ("real", truth, unseen),
    ):  # fmt: skip
        found[name] = {"right": rights(world, who, pictures, places)}
        found[name]["closer"], found[name]["closer_than_all"] = closer(world, who, pictures, places)
    for place, text in enumerate(plain):
        part = slice(place * count, (place + 1) * count)
        found[f"moved: {text}" if place else "moved: class walking left"] = moved(
            before[part], after[part], walking, world.similarity
        )
    each = world.seeds
    sheet = [shown[:4], made[::each][:10], truth[::2][:10], class_only[::each][:10], before[:10], after[:10]]
    return found, np.concatenate([_padded(row) for row in sheet])


def _padded(pictures: np.ndarray, count: int = 10) -> np.ndarray:
    row = np.full((64, count * 64, 3), 255, dtype=np.uint8)
    for place, picture in enumerate(pictures[:count]):
        row[:, place * 64 : (place + 1) * 64] = picture
    return row


def by_features(features: Callable[[np.ndarray], np.ndarray]) -> Similarity:
    """Cosines of features of length one."""
    return lambda pictures, others: features(pictures) @ features(others).T


def taught(paint: ft.Painter, data: Path, count: int, epochs: int) -> tuple[CharacterJudge, dict[str, float]]:
    """A judge that learnt from other characters through the painter's codec, and its errors on held-out ones."""

    def drawn(number: int, seed: int, *, held_out: bool) -> tuple[np.ndarray, dict[str, list[str]]]:
        pictures, said = captions.characters(data, number, seed=seed, held_out=held_out)
        return paint.codec.decode_batch(paint.codec.encode_batch(pictures)), captions.labels(said)

    judge = CharacterJudge(*drawn(count, 11, held_out=False), epochs=epochs)
    return judge, judge.error(*drawn(max(200, count // 6), 12, held_out=True))


def characters(options: Any, data: Path, paint: ft.Painter) -> Report:
    """The table of the characters."""
    started = perf_counter()
    judge, errors = taught(paint, data, options.judged, options.epochs)
    print(f"judge taught in {perf_counter() - started:.0f} s, errors {errors}", file=sys.stderr)
    similarity, name = by_features(judge.features), "the judge's features"
    if options.clip is not None:
        similarity, name = by_features(Clip(options.clip).images), "CLIP"
    sprites = Sprites(data / "walk64.zip")
    # Others than those of seed 21, on the first of which the settings were chosen.
    drawn = sprites.characters(options.subjects + options.others, seed=22, held_out=True)
    world = World(paint, sprites, judge, similarity, drawn[options.subjects :], options.seeds)
    results: dict[str, Any] = {"judge_errors": errors, "similarity": name, "subjects": []}
    for number, who in enumerate(drawn[: options.subjects]):
        found, sheet = one(world, who, options)
        results["subjects"].append(found)
        print(json.dumps(found), file=sys.stderr)
        if options.sheet:
            (options.sheet / f"subject-{number}.png").write_bytes(png(sheet.repeat(2, axis=0).repeat(2, axis=1)))
    every: list[dict[str, Any]] = results["subjects"]
    rows = []
    for which in [name for name, value in every[0].items() if isinstance(value, dict) and "right" in value]:
        right = {name: float(np.mean([each[which]["right"][name] for each in every])) for name in judge.values}
        near = [float(np.mean([each[which][name] for each in every])) for name in ("closer", "closer_than_all")]
        results[which] = {"right": right, "closer": near[0], "closer_than_all": near[1]}
        rows.append((which, *(100 * share for share in (*right.values(), *near))))
    rows.append(("judge on real ones", *(100 * (1 - errors[name]) for name in judge.values), None, None))
    tables = [Table(f"right, in % ({name})", ("pictures", *judge.values, "closer", "than all"), rows)]
    far = [name for name in every[0] if name.startswith("moved")]
    for which in far:
        results[which] = {
            name: float(np.mean([each[which][name] for each in every])) for name in ("share_of_the_way", "same_pixels")
        }
    tables.append(
        Table("without the name, after", ("text", "way to the subject %", "same pictures %"),
              [(which, *(100 * share for share in results[which].values())) for which in far])
    )  # fmt: skip
    results["seconds"] = [each["seconds"] for each in every]
    tables.append(Table("time to learn", ("", "seconds"), [("mean", float(np.mean(results["seconds"])))]))
    settings = {
        "method": str(options.method),
        "subjects": options.subjects,
        "others": options.others,
        "seeds": options.seeds,
    }
    return Report("characters", settings, tables, results)


def things(options: Any, data: Path, paint: ft.Painter) -> Report:
    """Photos of things that such a painter has seen nothing like: how alike are they to the one that was not shown?"""
    photos, kinds = defaultdict(list), {}
    with zipfile.ZipFile(data / "subjects128.zip") as archive:
        from PIL import Image

        for line in archive.read("subjects.jsonl").decode().splitlines():
            row = json.loads(line)
            photos[row["subject"]].append(read(Image.open(io.BytesIO(archive.read(row["file"])))))
            kinds[row["subject"]] = row["class_word"]
    small = {name: np.stack([_fitted(photo, paint) for photo in some]) for name, some in photos.items()}

    def colours(pictures: np.ndarray) -> np.ndarray:
        """Roots of the shares of 64 colours: what there is to be said of things that no judge here knows."""
        levels = (pictures // 64).astype(np.int64).reshape(len(pictures), -1, 3)
        codes = levels @ np.array([16, 4, 1])
        return np.sqrt(np.stack([np.bincount(row, minlength=64) / codes.shape[1] for row in codes]))

    similarity, results, rows = by_features(colours), {}, []
    for name in sorted(photos)[: options.things]:
        started = perf_counter()
        adapter = paint.learn(NAME, photos[name][:-1], class_word=kinds[name], method=options.method, seed=options.seed)
        seconds = perf_counter() - started
        before = [row.signal.pixels for row in paint(f"a {kinds[name]}", n=8, seed=1).rows]
        paint.add(adapter)
        made = [row.signal.pixels for row in paint(f"a {NAME}", n=8, seed=1).rows]
        paint.remove(NAME)
        figures = []
        for some in (np.stack(before), np.stack(made), small[name][:-1]):
            own = similarity(some, small[name][-1:]).max(axis=1)
            rest = [similarity(some, small[other]).max(axis=1) for other in photos if other != name]
            figures.append(float(np.mean([(own > each).mean() for each in rest])))
        results[name] = {"seconds": seconds, "class": figures[0], "learnt": figures[1], "photos": figures[2]}
        rows.append((name, *(100 * share for share in figures), seconds))
        if options.sheet:
            grid = np.concatenate([_padded(small[name]), _padded(np.stack(made)), _padded(np.stack(before))])
            (options.sheet / f"thing-{name}.png").write_bytes(png(grid.repeat(2, axis=0).repeat(2, axis=1)))
    head = ("closer to the photo not shown than to other things, by colours, %", "class", "learnt", "photos", "seconds")
    return Report("things", {"subjects": options.things}, [Table("subjects128", head, rows)], results)


def _fitted(photo: np.ndarray, paint: ft.Painter) -> np.ndarray:
    from foretoken.painter.shown import pictures

    small = pictures([photo], paint.rows.pixels)
    return paint.codec.decode_batch(paint.codec.encode_batch(small))[0]


def main(arguments: Sequence[str] | None = None) -> Report:
    """Measure a painter."""
    parser = _common.parser(__doc__)
    parser.add_argument("--data", type=Path, help="the folder with walk64.zip and subjects128.zip")
    parser.add_argument("--painter", default="painter", help="name or folder")
    parser.add_argument("--clip", help="name or folder of a CLIP whose pictures' vectors say what is alike")
    parser.add_argument("--method", choices=[*METHODS], default="pivotal")
    parser.add_argument("--subjects", type=int, default=4, help="characters to learn")
    parser.add_argument("--things", type=int, default=2, help="things of photos to learn")
    parser.add_argument("--others", type=int, default=20, help="characters to compare with")
    parser.add_argument("--seeds", type=int, default=2, help="pictures of each text")
    parser.add_argument("--unmoved", type=int, default=16, help="pictures of each text without the name")
    parser.add_argument("--judged", type=int, default=6000, help="characters that the judge learns from")
    parser.add_argument("--epochs", type=int, default=20, help="how often it sees each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sheet", type=Path, help="a folder for a PNG of each subject")
    options = _common.parsed(parser, arguments)
    data = _common.data_folder(options.data)
    if data is None:
        return _common.finish(Report("subject", {"skipped": "no data folder; pass --data"}, [], {}), options)
    paint = ft.Painter.load(options.painter)
    if options.quick:
        options.method = (Inversion(2), LowRank(2))
        small = {"subjects": 1, "things": 1, "others": 2, "seeds": 1, "unmoved": 2, "judged": 200, "epochs": 1}
        vars(options).update(small)
    if options.sheet:
        options.sheet.mkdir(parents=True, exist_ok=True)
    reports = [characters(options, data, paint)] if options.subjects else []
    reports += [things(options, data, paint)] if options.things else []
    return _common.finish(joined("subject", reports), options)


if __name__ == "__main__":
    main()
