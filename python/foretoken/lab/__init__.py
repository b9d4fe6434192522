"""Experiments on what several right answers do to a decoder, and what cures it."""
