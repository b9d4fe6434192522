"""Signals to units and back."""

from . import presets as presets
from . import sounds as sounds
from .hub import load as load
from .hub import names as names
from .protocol import Codec as Codec
from .samples import Samples as Samples
from .sound_codes import SoundCodes as SoundCodes
