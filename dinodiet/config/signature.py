"""Holds plain values from YAML against the signature of what they are for."""

from __future__ import annotations

import inspect
import math
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal, TypeVar

from dinodiet.errors import UserError

T = TypeVar("T")
# An argument that changes no number, such as `download: Neutral[bool] = True`: it does not identify a run or a score.
Neutral = Annotated[T, "neutral"]
RUNTIME = "dinodiet.types"  # the package of what parts hand each other, and YAML cannot name
# A table of which one entry counts, the one that the argument `size` names: others may come and go.
BySize = Annotated[T, "by size"]


def targets(value: Any, key: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield every node with a `_target_` in plain values and the key that it is under, from the inside out."""
    if isinstance(value, list):
        for position, item in enumerate(value):
            yield from targets(item, f"{key}[{position}]")
    if isinstance(value, dict):
        for name, item in value.items():
            yield from targets(item, f"{key}.{name}")
        if "_target_" in value:
            yield value, key


def check_arguments(target: Callable[..., Any], arguments: dict[str, Any], key: str) -> None:
    """Refuse keys that are not among the target's arguments, and values that its annotations exclude.

    Raises:
        UserError: one line that names the key, what was found and the valid choices.
    """
    parameters = inspect.signature(target).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    try:
        hints = typing.get_type_hints(
            inspect.getattr_static(target, "__init__") if isinstance(target, type) else target
        )
    except (NameError, TypeError):  # a target from elsewhere whose annotations cannot be evaluated
        hints = {}
    check_values(parameters, hints, arguments, key)


def check_values(
    parameters: Mapping[str, inspect.Parameter], hints: Mapping[str, Any], arguments: Mapping[str, Any], key: str
) -> None:
    """Hold arguments against parameters and their types; raises as `check_arguments`."""
    for name, value in arguments.items():
        if name not in parameters:
            choices = ", ".join(_configurable(parameters, hints))
            raise UserError(f"{key}.{name}: no such key; " + (f"choose from: {choices}" if choices else "it has none"))
        if name in hints and not fits(value, hints[name]):
            raise UserError(f"{key}.{name}: {value!r}; must be {describe(hints[name])}")


def _configurable(parameters: Mapping[str, inspect.Parameter], hints: Mapping[str, Any]) -> list[str]:
    """Return the arguments that YAML gives: the keyword-only ones where there are any.

    The others come from the run: a backbone, the facts about a dataset, an input specification.
    """
    keyword_only = [name for name, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY]
    return keyword_only or [
        name for name in parameters if not getattr(hints.get(name), "__module__", "").startswith(RUNTIME)
    ]


def fits(value: Any, hint: Any) -> bool:
    """Return whether a plain value from YAML can be what the annotation says; a nested `_target_` always can."""
    origin, choices = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return fits(value, choices[0])
    if hint is Any or (isinstance(value, dict) and "_target_" in value):
        return True
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, choice) for choice in choices)
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in choices)
    if origin in (list, tuple) or getattr(origin, "__name__", "") in ("Sequence", "Iterable"):
        return isinstance(value, list) and all(
            any(fits(item, choice) for choice in choices if choice is not ...) for item in value
        )
    if origin is dict or getattr(origin, "__name__", "") == "Mapping":
        return isinstance(value, dict) and all(fits(item, choices[1]) for item in value.values())
    if hint in (None, type(None)):
        return value is None
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (str, bool, list, dict):
        return isinstance(value, hint)
    return getattr(hint, "__name__", "") in ("Path", "PathLike") and isinstance(value, str)


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
        return describe(choices[0])
    if hint in _NAMES:
        return _NAMES[hint]
    if origin in (typing.Union, types.UnionType):
        return " or ".join(describe(choice) for choice in choices)
    if origin is Literal:
        return f"one of: {', '.join(map(str, choices))}"
    if origin in (list, tuple):
        return f"a list of {describe(choices[0])}"
    if origin is dict:
        return f"keys with {describe(choices[1])}"
    return "a node with a _target_"
