"""A masked model that goes on from another one, which met the same units under other conditions."""

from __future__ import annotations

from pathlib import Path

import torch

from ..errors import InvalidArgument
from ..model.masked import MaskedModule


def named(start: str, out: Path) -> str:
    """The name or folder that a configuration means; `{out}` is the folder in which the run's folder lies."""
    return start.replace("{out}", str(out.parent))


def take(module: MaskedModule, source: MaskedModule, body: int) -> None:
    """Copy the weights that mean the same: those of units, blocks, imaginations, and of the last `body` places.

    Raises:
        InvalidArgument: the shapes or the units differ.
    """
    mine, theirs = module.config, source.config
    same = ("units", "latents", "imagination", "hidden_size", "intermediate_size", "layers", "heads")
    if wrong := [name for name in same if getattr(mine, name) != getattr(theirs, name)]:
        told = ", ".join(f"{name} {getattr(theirs, name)}, not {getattr(mine, name)}" for name in wrong)
        raise InvalidArgument(f"start has {told}: it is of another shape")
    if theirs.context - (theirs.latents > 0) < body or (mine.end >= 0) != (theirs.end >= 0):
        raise InvalidArgument(f"start reads {theirs.context} places, end {theirs.end}: bodies of {body} do not fit")
    own, other = dict(module.named_parameters()), dict(source.named_parameters())
    apart = {"embed_tokens.weight", "embed_places", "lengths_head.weight", "lengths_head.bias"}
    with torch.no_grad():
        for name in own.keys() - apart:
            own[name].copy_(other[name])
        ids, places = own["embed_tokens.weight"], own["embed_places"]
        ids[: mine.units] = other["embed_tokens.weight"][: mine.units]
        if mine.imaginations:
            ids[mine.first_latent :] = other["embed_tokens.weight"][theirs.first_latent :]
            places[0] = other["embed_places"][0]
        places[-body:] = other["embed_places"][-body:]
