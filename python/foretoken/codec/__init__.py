"""Signals to units and back."""

from . import presets as presets
from .hub import load as load
from .hub import names as names
from .protocol import Codec as Codec
