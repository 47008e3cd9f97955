"""What the command prints, in colours where it prints to a terminal: states, and the best of each column."""

from __future__ import annotations

import re

from dinodiet.io.colours import Colour, painted

STATES: dict[str, Colour] = {"failed": "red", "unreadable": "red", "stopped": "yellow"}
STATE = re.compile(rf"(?m)^(  )({'|'.join(STATES)})\b")
BEST = re.compile(r"[+-]?[\d.,]+(?: ± [\d.,]+)? \([^()]*\) \*")
DONE = re.compile(r"(?<=runs: )\d+ done")


def in_colour(text: str) -> str:
    """Return text that is about to be printed, with colours where standard output is a terminal."""
    text = STATE.sub(lambda found: found[1] + painted(found[2], STATES[found[2]]), text)
    text = BEST.sub(lambda found: painted(found[0], "bold"), text)
    return DONE.sub(lambda found: painted(found[0], "green"), text)
