"""Holds plain values from YAML against the signature of what they are for."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, TypeAlias, TypeVar

from dinodiet.config.describe import describe, shown
from dinodiet.config.fits import fits, items_of
from dinodiet.config.ranges import NODE, OUTCOME
from dinodiet.errors import UserError

T = TypeVar("T")
# An argument that changes no number, such as `download: Neutral[bool] = True`: it does not identify a run or a score.
Neutral = Annotated[T, "neutral"]
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
        for position, item in enumerate(items_of(value)) if OUTCOME in extras_of(inner) else ():
            if isinstance(item, dict) and "_target_" in item:
                place = f"{name}[{position}]" if isinstance(value, list) else name
                _check_outcomes(item, numbers, f"{key}.{place}", hints_of)
            elif isinstance(item, (int, float)) and not fits(item, numbers):
                raise UserError(f"{key}.{name}: {shown(value)}; must be {describe(numbers)}")


def _waits(hint: Any) -> bool:
    """Return whether a type takes a function that the run calls."""
    origin, choices = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return NODE in choices[1:] or _waits(choices[0])
    if origin in (typing.Union, types.UnionType):
        return any(map(_waits, choices))
    return origin is Callable or hint is Any or not isinstance(hint, type)


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
