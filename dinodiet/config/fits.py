"""Whether a plain value from YAML can be what an annotation says."""

from __future__ import annotations

import itertools
import math
import sys
import types
import typing
from typing import Annotated, Any, Literal

from dinodiet.config.ranges import NODE, Items, Range

_PLAIN = (int, float, str, bool, None, type(None))


def fits(value: Any, hint: Any) -> bool:
    """Return whether a plain value from YAML can be what the annotation says.

    A nested `_target_` can be any object, but no number, text, choice or null.
    """
    origin, choices = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return fits(value, choices[0]) and all(_in(value, extra) for extra in choices[1:])
    if hint is Any:
        return _is_finite(value)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, choice) for choice in choices)
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in choices)
    if hint in _PLAIN:
        return _fits_plain(value, hint)
    if isinstance(value, dict) and "_target_" in value:
        return True
    if origin is tuple and ... not in choices:
        return isinstance(value, list) and len(value) == len(choices) and all(map(fits, value, choices))
    if origin in (list, tuple) or getattr(origin, "__name__", "") in ("Sequence", "Iterable"):
        return isinstance(value, list) and all(
            any(fits(item, choice) for choice in choices if choice is not ...) for item in value
        )
    if origin is dict or getattr(origin, "__name__", "") == "Mapping":
        return isinstance(value, dict) and all(fits(item, choices[1]) for item in value.values())
    if hint in (list, dict):
        return isinstance(value, hint)
    return getattr(hint, "__name__", "") in ("Path", "PathLike") and isinstance(value, str)


def _in(value: Any, extra: Any) -> bool:
    """Return whether a value is in the range that an annotation gives; lists are, where all their numbers are."""
    if isinstance(extra, Items):
        found = list(map(fits, value, extra.hints)) if isinstance(value, list) else []
        return len(found) == len(value) == len(extra.hints) and all(found) and (not extra.rising or _rises(value))
    if extra == NODE:
        return isinstance(value, dict) and "_target_" in value
    if not isinstance(extra, Range):
        return True
    numbers = [item for item in items_of(value) if isinstance(item, (int, float)) and not isinstance(item, bool)]
    return all(number in extra for number in numbers)


def _is_finite(value: Any) -> bool:
    """Return whether there is no nan and no inf in a value or below it; nodes are checked by themselves."""
    if isinstance(value, dict):
        return "_target_" in value or all(map(_is_finite, value.values()))
    if isinstance(value, list):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def _rises(values: list[Any]) -> bool:
    return all(before <= after for before, after in itertools.pairwise(values))


def is_plain(hint: Any) -> bool:
    """Return whether a type is a number, text, true or false, null, or one of several of these."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return all(map(is_plain, typing.get_args(hint)))
    return hint in _PLAIN


def _fits_plain(value: Any, hint: Any) -> bool:
    if hint in (None, type(None)):
        return value is None
    if hint in (int, float):
        kinds = int if hint is int else (int, float)
        return isinstance(value, kinds) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    return isinstance(value, hint)


def items_of(value: Any) -> list[Any]:
    """Return the items of a list; of anything else the value alone."""
    return value if isinstance(value, list) else [value]
