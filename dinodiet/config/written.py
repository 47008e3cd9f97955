"""Short text for what would be nodes or lists: schedules, and names joined by `_`. Imports no torch.

What is written short is spelled out before anything is checked, so that both ways to write it are one run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dinodiet.config.groups import NODES
from dinodiet.config.precheck import hints_of
from dinodiet.config.ranges import JOINED
from dinodiet.config.schedule_text import schedule_node
from dinodiet.config.signature import Hints, extras_of, takes_schedule, targets


def spell_out(plain: dict[str, Any], hints: Hints) -> None:
    """Replace, in place, short text in resolved settings by what it means; `hints` are the types of `schedule`'s keys.

    Raises:
        UserError: one line that names the key, what was found and what may stand there.
    """
    _spell_out_node(plain["schedule"], "schedule", hints)
    for group in NODES:
        for node, key in targets(plain[group], group):
            _spell_out_node(node, key, hints_of(str(node["_target_"])))


def _spell_out_node(node: dict[str, Any], key: str, hints: Mapping[str, Any]) -> None:
    for name, value in node.items():
        if isinstance(value, str) and name in hints:
            node[name] = _spelled_out(value, hints[name], f"{key}.{name}")


def _spelled_out(text: str, hint: Any, key: str) -> Any:
    """Return what a text means where the type has a short form; text without brackets is no schedule."""
    if JOINED in extras_of(hint):
        return text.split("_")
    return schedule_node(text, key) if "(" in text and takes_schedule(hint) else text
