"""Which recipes there are: a configuration file says its own."""

from __future__ import annotations

from pathlib import Path

from ..errors import CheckpointError
from . import clip, drafter, language, patches, sound, units
from .run import RecipeConfig, Run, read_config

_RECIPES: dict[str, tuple[type[RecipeConfig], type[Run]]] = {
    "clip": (clip.ClipRecipe, clip.Run),
    "drafter": (drafter.DrafterConfig, drafter.Run),
    "language": (language.LanguageConfig, language.Run),
    "patches": (patches.PatchesConfig, patches.Run),
    "sound": (sound.SoundRecipe, sound.Run),
    "units": (units.UnitsConfig, units.Run),
}


def run(path: Path, data: Path, out: Path) -> Run:
    """The training run that a configuration file describes, at its beginning or where it stood.

    Args:
        path: the configuration.
        data: folder of the training data.
        out: folder of the run, made if missing.

    Raises:
        InvalidArgument: there is no such file, a data file is missing, or `out` belongs to another configuration.
        CheckpointError: the configuration or a file of the run is damaged, or names no recipe.
    """
    raw = read_config(path)
    name = raw.get("recipe")
    if not isinstance(name, str) or name not in _RECIPES:
        raise CheckpointError(f"{path} is for the recipe {name!r}; there are {sorted(_RECIPES)}")
    config, training = _RECIPES[name]
    return training(config.from_raw(raw, path), data, out)
