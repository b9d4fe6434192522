"""Signals to units and back."""

from . import presets as presets
from .load import load as load
from .protocol import Codec as Codec
