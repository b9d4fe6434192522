"""Signals to units and back."""

from . import presets as presets
from . import sounds as sounds
from .samples import Samples as Samples
from .sound_codes import SoundCodes as SoundCodes
