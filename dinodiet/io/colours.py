"""Colours, on terminals alone; where NO_COLOR is set (https://no-color.org) there are none. Imports no torch."""

from __future__ import annotations

import os
import sys
from typing import Literal, TextIO

Colour = Literal["red", "green", "yellow", "bold"]
CODES: dict[Colour, int] = {"red": 31, "green": 32, "yellow": 33, "bold": 1}


def painted(text: str, colour: Colour | None, stream: TextIO | None = None) -> str:
    """Return text in a colour where `stream` (None: standard output) is a terminal that shows colours."""
    if colour is None or not shows_colours(sys.stdout if stream is None else stream):
        return text
    return f"\x1b[{CODES[colour]}m{text}\x1b[0m"


def shows_colours(stream: TextIO) -> bool:
    """Return whether a stream is a terminal, and its user wants colours."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and stream.isatty()
