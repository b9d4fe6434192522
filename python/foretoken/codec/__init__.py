"""Signals to units and back."""

from . import presets as presets
