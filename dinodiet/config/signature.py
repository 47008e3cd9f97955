"""Holds plain values from YAML against the signature of what they are for."""

from __future__ import annotations

import inspect
import itertools
import math
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from dinodiet.config.ranges import NODE, OUTCOME, Items, Range
from dinodiet.errors import UserError

T = TypeVar("T")
# An argument that changes no number, such as `download: Neutral[bool] = True`: it does not identify a run or a score.
Neutral = Annotated[T, "neutral"]
MOST_SHOWN = 80  # characters of a value in a message
RUNTIME = "dinodiet.types"  # the package of what parts hand each other, and YAML cannot name
# A table of which one entry counts, the one that the argument `size` names: others may come and go.
BySize = Annotated[T, "by size"]
# A node whose arguments identify a run as if they were those of the part that it is handed to: what was taken out of
# that part, or added with defaults that change nothing, leaves runs their names.
Inlined = Annotated[T, "inlined"]
# The directory of a finished run whose weights are taken: it counts by their content, wherever it lies.
OfRun = Annotated[T, "of run"]
Node: TypeAlias = Annotated[dict[str, Any], NODE]  # plain values from YAML with a `_target_`
Hints = Mapping[str, Any]  # the types of arguments by name


def targets(value: Any, key: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield every node with a `_target_` in plain values and the key that it is under, from the inside out."""
    if isinstance(value, list):
        for position, item in enumerate(value):
            yield from targets(item, f"{key}[{position}]")
    if isinstance(value, dict):
        for name, item in value.items():
            yield from targets(item, f"{key}.{name}")
        if "_target_" in value:
            _check_node(value, key)
            yield value, key


def _check_node(node: dict[str, Any], key: str) -> None:
    """Refuse a node that names nothing."""
    if not isinstance(node["_target_"], str) or not node["_target_"]:
        raise UserError(f"{key}._target_: {shown(node['_target_'])}; must be the dotted name of a class or function")
    if not isinstance(node.get("_partial_", False), bool):
        raise UserError(f"{key}._partial_: {shown(node['_partial_'])}; must be true or false")


def check_arguments(
    target: Callable[..., Any], arguments: dict[str, Any], key: str, hints_of: Callable[[str], Hints] = lambda _: {}
) -> None:
    """Refuse keys that are not among the target's arguments, and values that its annotations exclude.

    `hints_of` tells the types of the arguments of a nested `_target_`.

    Raises:
        UserError: one line that names the key, what was found and the valid choices.
    """
    parameters = parameters_of(target)
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        more = {name: inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in arguments}
        parameters = {**more, **parameters}
    check_values(parameters, hints_of_callable(target), arguments, key, hints_of)


def parameters_of(target: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Return a target's parameters; of one in C that does not tell them, those of a function that takes any."""
    try:
        return inspect.signature(target).parameters
    except ValueError:
        return {"arguments": inspect.Parameter("arguments", inspect.Parameter.VAR_KEYWORD)}


def hints_of_callable(target: Callable[..., Any]) -> Hints:
    """Return the types of a target's arguments, none where its annotations cannot be evaluated."""
    try:
        hints = typing.get_type_hints(
            inspect.getattr_static(target, "__init__") if isinstance(target, type) else target, include_extras=True
        )
    except (NameError, TypeError):  # a target from elsewhere
        return {}
    return {name: _as_written(hint) for name, hint in hints.items()}


def _as_written(hint: Any) -> Any:
    """Return an annotated type that takes null without the Optional that Python 3.10 puts around it at `= None`."""
    choices = typing.get_args(hint) if typing.get_origin(hint) is typing.Union else ()
    written = [choice for choice in choices if typing.get_origin(choice) is Annotated and fits(None, choice)]
    return written[0] if len(choices) == 2 and written and type(None) in choices else hint


def check_values(
    parameters: Mapping[str, inspect.Parameter],
    hints: Hints,
    arguments: Mapping[str, Any],
    key: str,
    hints_of: Callable[[str], Hints] = lambda _: {},
) -> None:
    """Hold arguments against parameters and their types; raises as `check_arguments`."""
    for name, value in arguments.items():
        if name not in parameters:
            choices = ", ".join(_configurable(parameters, hints))
            raise UserError(f"{key}.{name}: no such key; " + (f"choose from: {choices}" if choices else "it has none"))
        check_value(value, hints.get(name, Any), f"{key}.{name}", hints_of)


def check_value(value: Any, hint: Any, key: str, hints_of: Callable[[str], Hints] = lambda _: {}) -> None:
    """Hold a value against a type, and the numbers of a schedule against the range of what it is for.

    Raises:
        UserError: one line that names the key, what was found and what is valid.
    """
    if not fits(value, hint):
        raise UserError(f"{key}: {shown(value)}; must be {describe(hint)}")
    if isinstance(value, dict) and "_target_" in value and value.get("_partial_") is True and not _waits(hint):
        raise UserError(f"{key}._partial_: true; leave it out, as {key} waits for nothing of the run")
    if isinstance(value, dict) and "_target_" in value and (numbers := number_in(hint)) is not None:
        _check_outcomes(value, numbers, key, hints_of)


def _check_outcomes(node: dict[str, Any], numbers: Any, key: str, hints_of: Callable[[str], Hints]) -> None:
    """Hold the numbers that a schedule lies between, and those of schedules inside it, against a range."""
    for name, inner in hints_of(str(node["_target_"])).items():
        value = node.get(name)
        for position, item in enumerate(_items(value)) if OUTCOME in extras_of(inner) else ():
            if isinstance(item, dict) and "_target_" in item:
                place = f"{name}[{position}]" if isinstance(value, list) else name
                _check_outcomes(item, numbers, f"{key}.{place}", hints_of)
            elif isinstance(item, (int, float)) and not fits(item, numbers):
                raise UserError(f"{key}.{name}: {shown(value)}; must be {describe(numbers)}")


def shown(value: Any) -> str:
    """Return a value as messages show it: as Python writes it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."


def _waits(hint: Any) -> bool:
    """Return whether a type takes a function that the run calls."""
    origin, choices = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return NODE in choices[1:] or _waits(choices[0])
    if origin in (typing.Union, types.UnionType):
        return any(map(_waits, choices))
    return origin is Callable or hint is Any or not isinstance(hint, type)


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def extras_of(hint: Any) -> tuple[Any, ...]:
    """Return what an annotation says besides the type."""
    return typing.get_args(hint)[1:] if typing.get_origin(hint) is Annotated else ()


def takes_schedule(hint: Any) -> bool:
    """Return whether a type takes a number or a schedule: a function of the clock, or a node that describes one."""
    return number_in(hint) is not None and _takes_node(hint)


def _takes_node(hint: Any) -> bool:
    origin, choices = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return NODE in choices[1:] or _takes_node(choices[0])
    return origin is Callable or (origin in (typing.Union, types.UnionType) and any(map(_takes_node, choices)))


def number_in(hint: Any) -> Any:
    """Return the part of a type that takes a number; None where it takes none."""
    origin, choices = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        inner = number_in(choices[0])
        return None if inner is None else Annotated[(inner, *choices[1:])]
    if origin in (typing.Union, types.UnionType):
        return next((found for choice in choices if (found := number_in(choice)) is not None), None)
    return hint if hint in (int, float) else None


def _configurable(parameters: Mapping[str, inspect.Parameter], hints: Mapping[str, Any]) -> list[str]:
    """Return the arguments that YAML gives: the keyword-only ones where there are any.

    The others come from the run: a backbone, the facts about a dataset, an input specification.
    """
    keyword_only = [name for name, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY]
    return keyword_only or [
        name for name in parameters if not getattr(hints.get(name), "__module__", "").startswith(RUNTIME)
    ]


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
    numbers = [item for item in _items(value) if isinstance(item, (int, float)) and not isinstance(item, bool)]
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


_PLAIN = (int, float, str, bool, None, type(None))
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
