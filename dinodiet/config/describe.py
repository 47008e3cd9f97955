"""Annotations and values in the words of messages: `a number from 0 to 1`, `one of: ce, kl`."""

from __future__ import annotations

import types
import typing
from typing import Annotated, Any, Literal

from dinodiet.config.ranges import NODE, Items, Range

MOST_SHOWN = 80  # characters of a value in a message
_NAMES: dict[Any, str] = {
    float: "a finite number",
    int: "a whole number",
    str: "text",
    bool: "true or false",
    type(None): "null",
}


def describe(hint: Any) -> str:
    """Return an annotation in words for an error message."""
    origin, choices = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _describe_extras(choices[0], choices[1:])
    if hint in _NAMES:
        return _NAMES[hint]
    if origin in (typing.Union, types.UnionType):
        return " or ".join(describe(choice) for choice in choices)
    if origin is Literal:
        return f"one of: {', '.join(map(str, choices))}"
    if origin is tuple and ... not in choices:
        return f"a list of {len(choices)} items: {', '.join(map(describe, choices))}"
    if origin in (list, tuple) or getattr(origin, "__name__", "") in ("Sequence", "Iterable"):
        return f"a list of {describe(choices[0])}"
    if origin is dict:
        return f"keys with {describe(choices[1])}"
    return "finite" if hint is Any else "a node with a _target_"


def _describe_extras(hint: Any, extras: tuple[Any, ...]) -> str:
    for extra in extras:
        if isinstance(extra, Items):
            order = ", the smaller first" if extra.rising else ""
            return f"a list of {len(extra.hints)} items: {', '.join(map(describe, extra.hints))}{order}"
        if isinstance(extra, Range):
            return _with_range(hint, str(extra))
    return "a node with a _target_" if NODE in extras else describe(hint)


def _with_range(hint: Any, words: str) -> str:
    """Return a type in words with the range at the numbers in it."""
    choices = typing.get_args(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(_with_range(choice, words) for choice in choices)
    numbers = hint in (int, float) or (typing.get_origin(hint) is list and choices[0] in (int, float))
    return f"{describe(hint)} {words}".rstrip() if numbers else describe(hint)


def shown(value: Any) -> str:
    """Return a value as messages show it: as Python writes it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."
