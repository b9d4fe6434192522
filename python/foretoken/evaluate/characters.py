"""Which hair, garments and direction has a character on a picture? One small network, taught on real ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ArgumentTypeError, InvalidArgument, ShapeError

Labels = Mapping[str, Sequence[str]]
"""What is on each of some pictures, by attribute, such as "direction" → ("left", "up", …)."""

_WIDTHS = (24, 48, 96, 128)  # channels behind each halving of the side
_BATCH, _RATE, _SHIFT = 64, 0.003, 2
_AT_ONCE = 256


class CharacterJudge:
    """A convolutional network that tells every attribute of a picture at once, each by a head of its own.

    Args:
        pictures: (n, height, width, 3) uint8, to learn from, sides multiples of 16; they should have been through the
            codec whose pictures are to be judged, or its errors are taken for mistakes.
        labels: of them; each attribute has two values or more.
        epochs: how often it sees each picture.
        seed: of the first weights and of the order of learning.

    Raises:
        ShapeError: the sides do not fit.
        InvalidArgument: labels are too few, too many, or all alike.

    Example:
        >>> random = np.random.default_rng(0)
        >>> sides = np.array(["left", "right"] * 32)
        >>> pictures = np.full((64, 16, 16, 3), 255, dtype=np.uint8)
        >>> pictures[::2, :, :8] = pictures[1::2, :, 8:] = 0
        >>> CharacterJudge(pictures, {"side": sides}, epochs=20).right(pictures, {"side": sides})
        {'side': 1.0}
    """

    def __init__(self, pictures: np.ndarray, labels: Labels, *, epochs: int = 20, seed: int = 0) -> None:
        self.values = {name: tuple(sorted({str(value) for value in told})) for name, told in labels.items()}
        alike = [name for name, known in self.values.items() if len(known) < 2]
        if alike or not self.values:
            raise InvalidArgument(f"nothing is to be told apart in {alike if self.values else 'no labels at all'}")
        whole, wanted = _pixels(pictures), self._indices(labels, len(pictures))
        self._box = _drawn(whole)
        inputs = self._cut(whole)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.size = (whole.shape[2], whole.shape[3])
            self._trunk = _trunk(*inputs.shape[2:])
            width = self._trunk(inputs[:1]).shape[1]
            self._heads = nn.ModuleDict({name: nn.Linear(width, len(known)) for name, known in self.values.items()})
            self._learn(inputs, wanted, epochs)
        self._trunk.eval()

    def _learn(self, inputs: Tensor, wanted: dict[str, Tensor], epochs: int) -> None:
        steps = max(1, epochs * len(inputs) // _BATCH)
        weights = [*self._trunk.parameters(), *self._heads.parameters()]
        optimizer = torch.optim.AdamW(weights, weight_decay=0.05, betas=(0.9, 0.98))
        order = torch.randperm(len(inputs))
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = _RATE * min(1.0, 10 * (step + 1) / steps) * (1 - step / steps)
            if len(order) < _BATCH:
                order = torch.cat((order, torch.randperm(len(inputs))))
            chosen, order = order[:_BATCH], order[_BATCH:]
            found = self._trunk(_shifted(inputs[chosen]))
            losses = [F.cross_entropy(head(found), wanted[name][chosen]) for name, head in self._heads.items()]
            optimizer.zero_grad()
            torch.stack(losses).sum().backward()
            optimizer.step()

    def features(self, pictures: np.ndarray) -> np.ndarray:
        """What its heads see of each picture: (pictures, numbers) float32, of length one."""
        return F.normalize(self._states(pictures), dim=1).numpy()

    @torch.inference_mode()
    def told(self, pictures: np.ndarray) -> dict[str, list[str]]:
        """What it takes each picture for, by attribute."""
        states = self._states(pictures)
        return {
            name: [self.values[name][best] for best in head(states).argmax(dim=1).tolist()]
            for name, head in self._heads.items()
        }

    @torch.inference_mode()
    def _states(self, pictures: np.ndarray) -> Tensor:
        inputs = _pixels(pictures)
        if (found := (inputs.shape[2], inputs.shape[3])) != self.size:
            raise ShapeError(f"pictures are {found[0]} × {found[1]}: where it learnt, they are {self.size}")
        inputs = self._cut(inputs)
        return torch.cat([self._trunk(inputs[start : start + _AT_ONCE]) for start in range(0, len(inputs), _AT_ONCE)])

    def _cut(self, inputs: Tensor) -> Tensor:
        down, across = self._box
        return inputs[:, :, down, across].contiguous(memory_format=torch.channels_last)

    def right(self, pictures: np.ndarray, labels: Labels) -> dict[str, float]:
        """The share of the pictures that it takes for what they should be, by attribute.

        Args:
            pictures: as above.
            labels: of them; attributes that are left out are not judged.

        Raises:
            InvalidArgument: an attribute or a value was never seen, or there is not one for each picture.
        """
        wanted, told = self._indices(labels, len(pictures)), self.told(pictures)
        found = {name: np.array([self.values[name].index(each) for each in told[name]]) for name in wanted}
        return {name: float((found[name] == each.numpy()).mean()) for name, each in wanted.items()}

    def error(self, pictures: np.ndarray, labels: Labels) -> dict[str, float]:
        """The share of real pictures that it gets wrong, by attribute: below this, nothing can be said."""
        return {name: 1 - share for name, share in self.right(pictures, labels).items()}

    def _indices(self, labels: Labels, count: int) -> dict[str, Tensor]:
        found = {}
        for name, told in labels.items():
            if len(told) != count or not count:
                raise InvalidArgument(f"{count} pictures have {len(told)} labels of {name!r}: give one for each")
            known = {value: place for place, value in enumerate(self.values.get(name, ()))}
            told = [str(value) for value in told]
            if unknown := sorted(set(told) - known.keys()):
                raise InvalidArgument(f"{name!r} was never {unknown} where it was learnt; it was {[*known]}")
            found[name] = torch.tensor([known[value] for value in told])
        return found


def _trunk(height: int, width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in zip((3, *_WIDTHS), _WIDTHS, strict=False):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.GroupNorm(8, after), nn.ReLU()]
    cells = height // 16 * (width // 16)
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Dropout(0.2), nn.Linear(_WIDTHS[-1] * cells, 256), nn.ReLU(), nn.Dropout(0.2)
    )


def _pixels(pictures: np.ndarray) -> Tensor:
    """(pictures, 3, height, width) float32, white is 0: what is drawn stands out."""
    if not isinstance(pictures, np.ndarray) or pictures.dtype != np.uint8:
        raise ArgumentTypeError(f"pictures must be an array of uint8, got {getattr(pictures, 'dtype', type(pictures))}")
    shape = pictures.shape
    if len(shape) != 4 or shape[3] != 3 or not pictures.size or shape[1] % 16 or shape[2] % 16:
        raise ShapeError(f"pictures have shape {shape}: give (n, height, width, 3), sides multiples of 16")
    scaled = torch.from_numpy(255 - pictures).permute(0, 3, 1, 2).float() / 127.5
    return scaled.contiguous(memory_format=torch.channels_last)


def _drawn(inputs: Tensor) -> tuple[slice, slice]:
    """The rows and the columns in which one picture in ten is not white, widened to multiples of 16."""
    found = []
    for axis in (3, 2):
        often = (inputs.abs() > 0.1).any(dim=1).any(dim=axis - 1).float().mean(dim=0) > 0.1
        places = often.nonzero()[:, 0].tolist() or [0, len(often) - 1]
        first, last = places[0], places[-1] + 1
        size = min(len(often), -(-(last - first) // 16) * 16)
        first = max(0, min(first - (size - (last - first)) // 2, len(often) - size))
        found.append(slice(first, first + size))
    return found[0], found[1]


def _shifted(inputs: Tensor) -> Tensor:
    """Each picture moved by up to `_SHIFT` pixels either way, as a painter's are."""
    moves = torch.randint(-_SHIFT, _SHIFT + 1, (len(inputs), 2)).tolist()
    rolled = [torch.roll(one, move, (1, 2)) for one, move in zip(inputs, moves, strict=True)]
    return torch.stack(rolled).contiguous(memory_format=torch.channels_last)
