"""build(): the only place that instantiates what a configuration names. Imports no torch."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dinodiet.config.describe import shown
from dinodiet.config.groups import NODES, RECORD
from dinodiet.config.signature import Hints, check_arguments, hints_of_callable, parameters_of, targets
from dinodiet.errors import NotBuilt, UserError, one_line
from dinodiet.io.declare import Declaring
from dinodiet.io.limits import limit_of


def build(node: Any, key: str, contract: type | None = None) -> Callable[..., Any]:
    """Return a node's `_target_` with its values, waiting for the runtime objects: `build(node, key)(**runtime)`.

    Nested nodes with a `_target_` are built first, from the inside out; lists and dictionaries arrive as plain Python.
    Every node's keys and values are held against the target's signature and annotations before anything is called.
    What is built has the members of `contract`, a protocol.

    Raises:
        UserError: `_target_` cannot be imported, a key is not among its arguments, a value has the wrong type, the
            target refused a value (its own kind of error is kept), or a member is missing; one line with the full key.
    """
    plain = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else node
    assert isinstance(plain, dict)
    _check(plain, key)
    target, arguments = _parts(plain, key)
    given = {name: _construct(value, f"{key}.{name}") for name, value in arguments.items()}
    return _guarded(functools.partial(target, **given), key, contract)


def declared(node: Mapping[str, Any], key: str, fact: str, *, nested: bool = True) -> list[Callable[[], Any]]:
    """Return the functions that a node's target, and those of the nodes inside it, declare as `fact`.

    Of the settings, written or by default, such a function is handed those that it names. Nothing is built.

    Raises:
        UserError: as `build`.
    """
    _check(dict(node), key)
    return [
        found
        for inner, where in targets(dict(node), key)
        if (nested or where == key) and (found := _declared(*_parts(inner, where), where, fact)) is not None
    ]


def _declared(target: Any, arguments: dict[str, Any], key: str, fact: str) -> Callable[[], Any] | None:
    """Return the function that a target declares, waiting to be called with those of its settings that it names."""
    if not isinstance(target, Declaring) or (function := target.declared.get(fact)) is None:
        return None
    known = inspect.signature(typing.cast("Callable[..., Any]", target)).bind_partial(**arguments)
    known.apply_defaults()
    names = inspect.signature(function).parameters
    given = {name: known.arguments[name] for name in names if name in known.arguments}
    return _guarded(functools.partial(function, **given), key)


def _construct(value: Any, key: str) -> Any:
    if isinstance(value, list):
        return [_construct(item, f"{key}[{position}]") for position, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if "_target_" not in value:
        return {name: _construct(item, f"{key}.{name}") for name, item in value.items()}
    waiting = build(value, key)
    return waiting if value.get("_partial_") else waiting()


def _guarded(function: Callable[..., Any], key: str, contract: type | None = None) -> Callable[..., Any]:
    """Return the function with a user's mistakes told under the full key that they are in."""

    def call(**runtime: Any) -> Any:
        _check_complete(function, runtime, key)
        try:
            made = function(**runtime)
        except (ValueError, FileNotFoundError) as error:
            kind = type(error) if isinstance(error, UserError) else UserError
            raise kind(_with_key(one_line(error), key, parameters_of(function))) from error
        except Exception as error:
            raise _cannot(key, error) from error
        if contract is not None:
            _check_members(made, contract, key)
        return made

    return call


def _cannot(key: str, error: Exception) -> UserError:
    """Return that a part cannot be built, in one line: the values that it was given made something in it fail."""
    if (limit := limit_of(error)) is not None:
        return limit if isinstance(error, OSError) else type(limit)(f"{key}: {limit}")
    kind = UserError if isinstance(error, TypeError) else NotBuilt  # no part at all, or called with the wrong arguments
    return kind(f"{key}: {type(error).__name__}: {one_line(error)}; HYDRA_FULL_ERROR=1 shows where")


def _check_complete(function: Callable[..., Any], runtime: Mapping[str, Any], key: str) -> None:
    """Refuse an argument that neither YAML nor the run gives, that both give, or that the run gives in vain."""
    written = function.keywords if isinstance(function, functools.partial) else {}
    if both := [name for name in runtime if name in written]:
        raise UserError(f"{key}.{both[0]}: {shown(written[both[0]])}; leave it out, the run gives it")
    given = {*runtime, *written}
    parameters = parameters_of(function)
    any_name = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    if not any_name and (unknown := [name for name in runtime if name not in parameters]):
        raise UserError(f"{key}._target_: has no argument {', '.join(unknown)}, which a run gives it")
    for name, parameter in parameters.items():
        waits = parameter.default is parameter.empty and parameter.kind in (
            parameter.POSITIONAL_OR_KEYWORD,
            parameter.KEYWORD_ONLY,
        )
        if waits and name not in given:
            raise UserError(f"{key}.{name}: left out; {key} needs it, from its file or (_partial_: true) from the run")


def _check_members(part: object, contract: type, key: str) -> None:
    """Refuse a part that lacks a member of the protocol by which the system knows parts of its kind."""
    members = [*inspect.get_annotations(contract), *(name for name in vars(contract) if not name.startswith("_"))]
    if missing := [name for name in members if not hasattr(part, name)]:
        raise UserError(
            f"{key}._target_: {type(part).__name__} has no {', '.join(missing)}; "
            f"a {contract.__name__} needs {', '.join(members)}: see {contract.__module__}.{contract.__name__}"
        )


def _with_key(text: str, key: str, arguments: Mapping[str, Any]) -> str:
    """Return an error's text under a full key: `rate: 3; ...` of the node `method` becomes `method.rate: 3; ...`."""
    first = text.partition(":")[0].partition(".")[0]
    path = key.split(".")
    if first in path:  # it names a node above
        return ".".join([*path[: path.index(first)], text])
    if first in (*NODES, RECORD):  # it is told in full
        return text
    return f"{key}.{text}" if first in arguments else f"{key}: {text}"


def _parts(node: dict[Any, Any], key: str) -> tuple[Callable[..., Any], dict[str, Any]]:
    arguments = {name: value for name, value in node.items() if name not in ("_target_", "_partial_")}
    return _locate(node["_target_"], f"{key}._target_"), arguments


def _locate(path: str, key: str) -> Callable[..., Any]:
    from hydra._internal.utils import _locate as locate  # noqa: PLC0415 - keeps `import dinodiet.config.schema` light

    try:
        target = locate(path)
    except (ImportError, AttributeError, ValueError) as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise UserError(f"{key}: {path!r} cannot be imported: {reason}") from error
    if not callable(target):
        raise UserError(f"{key}: {path!r} is a {type(target).__name__}; a class or function is needed")
    return typing.cast("Callable[..., Any]", target)


def _check(value: Any, key: str) -> None:
    """Hold every node with a `_target_` against the target's signature."""
    for node, where in targets(value, key):
        check_arguments(*_parts(node, where), where, hints_of_part)


def hints_of_part(path: str) -> Hints:
    """Return the types of the arguments of a dotted name.

    Raises:
        UserError: it cannot be imported.
    """
    return hints_of_callable(_locate(path, "_target_"))
