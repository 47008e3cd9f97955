"""Nodes of `dinodiet.schedules` as the short text that `config.schedule_text` reads. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from dinodiet.config.schedule_text import MODULE, RAMPS, UNITS

NEUTRAL = {"max_fraction": 1.0, "per": "step"}  # values of arguments that a text does not name
LISTS = {"epochs": "epochs", "steps": "steps", "fractions": "fraction"}  # of milestones, and their units
WHOLE = {"fraction": 1.0}
_WORDS = {target: name for name, (target, _) in RAMPS.items()}
_SUFFIXES = {unit: suffix for suffix, unit in UNITS.items()}


class _NoTextError(ValueError):
    """A node that has no short text."""


def short_text(node: Any) -> str | None:
    """Return the text that means a node; None where it is no schedule, or one that cannot be written so."""
    if not isinstance(node, Mapping) or not str(node.get("_target_")).startswith(f"{MODULE}."):
        return None
    try:
        return _text(node)
    except (_NoTextError, KeyError, TypeError, ValueError):
        return None


def _text(value: Any, lasting: Mapping[str, Any] | None = None) -> str:
    """Return a number or schedule as text; `lasting` is the duration of the part of a `cat` that it is."""
    target, given = _taken_apart(value)
    ends = [] if lasting is None else [_duration(lasting)]
    if target is None:
        return f"constant({_number(value)},{ends[0]})" if ends else _number(value)
    if target == "Concatenation" and given.keys() == {"parts"}:
        return f"cat({','.join([*map(_part, given['parts']), *ends])})"
    if target == "MultiStep" and not ends:
        return _multistep(given)
    if target not in _WORDS:
        raise _NoTextError
    start, final, whole = given.pop("start"), given.pop("final"), RAMPS[_WORDS[target]][1]
    if given != whole:
        if ends or given in ({}, WHOLE):
            raise _NoTextError
        ends = [_duration(given)]
    return f"{_WORDS[target]}({','.join([_number(start), _number(final), *ends])})"


def _part(value: Any) -> str:
    target, given = _taken_apart(value)
    return _text(given.pop("value"), given) if target == "Part" else _text(value)


def _taken_apart(value: Any) -> tuple[str | None, dict[str, Any]]:
    """Return the class of a node and the arguments that say something; None of what is no node."""
    if not isinstance(value, Mapping):
        return None, {}
    module, _, target = str(value.get("_target_")).rpartition(".")
    if module != MODULE:
        raise _NoTextError
    given = {name: one for name, one in value.items() if name != "_target_" and one is not None}
    return target, {name: one for name, one in given.items() if NEUTRAL.get(name) != one}


def _multistep(given: Mapping[str, Any]) -> str:
    milestones = [_duration({LISTS[name]: one}) for name in given if name in LISTS for one in given[name]]
    if given.keys() - {"value", "factor", *LISTS} or not milestones:
        raise _NoTextError
    return f"multistep({','.join([_number(given['value']), _number(given['factor']), *milestones])})"


def _duration(given: Mapping[str, Any]) -> str:
    """Return a duration with its unit; a part of the training in percents."""
    ((unit, amount),) = given.items()
    exact = Decimal(str(amount)) * 100 if unit == "fraction" else amount
    return _number(float(exact)) + _SUFFIXES[unit]


def _number(value: Any) -> str:
    """Return the shortest text of a number that reads back as the same one: 5e-4, 0.04, 16."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _NoTextError
    plain = repr(value).removesuffix(".0")
    digits, _, exponent = f"{Decimal(repr(value)).normalize():e}".partition("e")
    scientific = f"{digits}e{int(exponent)}"
    short = len(plain) <= len(scientific) or abs(value) >= 1
    return plain if short and "e" not in plain else scientific
