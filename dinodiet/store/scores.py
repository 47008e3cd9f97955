"""Scores as they are stored. Imports no torch."""

from __future__ import annotations

# Settings of a score rather than scores: tables show them below, not as a row.
SETTINGS = ("k", "temperature", "C")
