"""Holds a configuration against the source of what it names: most mistakes show before anything is imported.

What is read are the signatures of functions and classes of this package and of the user's own modules. `build` then
checks every target by what it really is; what the source does not tell is left to it.

What this buys: a refused value (`method.loss.label_smoothing=much`) costs 0.4 s of CPU time instead of the 4.5 s that
it takes to import torch and the package first; this module takes 0.1 s of it (medians of 4, one core). The same holds
for a run that is done already: its identity, which leaves out defaults of signatures, is known without torch.
"""

from __future__ import annotations

import ast
import builtins
import collections.abc
import dataclasses
import functools
import importlib
import importlib.machinery
import inspect
import pathlib
import sysconfig
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from dinodiet.config import ranges, signature
from dinodiet.config.places import PACKAGE
from dinodiet.config.signature import Hints, check_values, targets
from dinodiet.errors import UserError

_KNOWN: dict[str, Any] = {
    **vars(builtins),
    **vars(collections.abc),
    **vars(typing),
    "Path": pathlib.Path,
    "field": dataclasses.field,
}
_LIGHT = (ranges.__name__, signature.__name__)  # modules with what annotations are made of

Signature = tuple[dict[str, inspect.Parameter], dict[str, Any]]  # the parameters and their types
Argument = tuple[str, "ast.expr | None", "ast.expr | None"]  # its name, annotation and default
Found = tuple[ast.stmt, str]  # a definition, and the module it is in


def check_nodes(value: Any, key: str) -> None:
    """Check the keys and values of every node with a `_target_` in this package, below and with `value`.

    Raises:
        UserError: one line that names the key, what was found and the valid choices.
    """
    for node, where in targets(value, key):
        known = signature_of(str(node["_target_"]))
        if known is not None:
            arguments = {name: item for name, item in node.items() if name not in ("_target_", "_partial_")}
            check_values(*known, arguments, where, hints_of)
            _check_complete(known[0], arguments, where)


def _check_complete(parameters: Mapping[str, inspect.Parameter], arguments: Mapping[str, Any], key: str) -> None:
    """Refuse a node without a value that its file alone can give."""
    for name, parameter in parameters.items():
        needed = parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty
        if needed and name not in arguments:
            raise UserError(f"{key}.{name}: left out; {key} needs it")


def hints_of(target: str) -> Hints:
    """Return the types of the arguments of a dotted name, as far as its source tells."""
    return (signature_of(target) or ({}, {}))[1]


def constant_of(target: str, name: str, default: Any) -> Any:
    """Return the constant that a class gives an attribute, as far as its source tells, or else the default."""
    module, _, found = target.rpartition(".")
    definition = _find(module, found)
    body = definition[0].body if definition is not None and isinstance(definition[0], ast.ClassDef) else []
    for statement in body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=key)], value=value) if key == name:
                return ast.literal_eval(value)
            case ast.AnnAssign(target=ast.Name(id=key), value=ast.expr() as value) if key == name:
                return ast.literal_eval(value)
    return default


def defined(target: str) -> bool:
    """Return whether a dotted name is a function or class that the source of its module defines, or a part of it does.

    Names that a module imports from other packages are not.
    """
    module, _, name = target.rpartition(".")
    found = _find(module, name)
    return found is not None and isinstance(found[0], (ast.FunctionDef, ast.ClassDef))


@functools.cache
def signature_of(target: str) -> Signature | None:
    """Return the parameters of a dotted name and their types, as far as its source tells; None where it does not."""
    module, _, name = target.rpartition(".")
    found = _find(module, name)
    if found is None:
        return None
    definition, module = found
    if isinstance(definition, ast.FunctionDef):
        arguments = definition.args
    elif isinstance(definition, ast.ClassDef):
        bodies = {item.name: item for item in definition.body if isinstance(item, ast.FunctionDef)}
        if "__init__" not in bodies:
            match definition.bases:
                case [ast.Name(id=base)] if not definition.decorator_list:  # it is made as the class that it extends
                    return signature_of(f"{module}.{base}")
            return _fields(definition, module)
        arguments = bodies["__init__"].args
        arguments.args = [argument for argument in arguments.args if argument.arg != "self"]
    else:
        return None
    if arguments.kwarg is not None:
        return None
    missing = [None] * (len(arguments.args) - len(arguments.defaults))
    entries = list(zip(arguments.args, [*missing, *arguments.defaults], strict=False))
    keyword_only = list(zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True))
    return _signature(
        [(entry.arg, entry.annotation, default) for entry, default in entries],
        [(entry.arg, entry.annotation, default) for entry, default in keyword_only],
        module,
    )


def _fields(definition: ast.ClassDef, module: str) -> Signature | None:
    """Return the signature of a dataclass that inherits nothing."""
    decorators = [ast.unparse(decorator) for decorator in definition.decorator_list]
    if definition.bases or not any(text.startswith("dataclass") for text in decorators):
        return None
    entries = [
        (item.target.id, item.annotation, item.value)
        for item in definition.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    ]
    return _signature([], [entry for entry in entries if not ast.unparse(entry[1]).startswith("ClassVar")], module)


def _signature(entries: Sequence[Argument], keyword_only: Sequence[Argument], module: str) -> Signature:
    parameters = {
        name: inspect.Parameter(name, kind, default=_default(default, module))
        for kind, arguments in (
            (inspect.Parameter.POSITIONAL_OR_KEYWORD, entries),
            (inspect.Parameter.KEYWORD_ONLY, keyword_only),
        )
        for name, _, default in arguments
    }
    annotated = [(name, hint) for name, hint, _ in (*entries, *keyword_only) if hint is not None]
    return parameters, {name: _evaluate(hint, module) for name, hint in annotated}


def _default(value: ast.expr | None, module: str) -> Any:
    """Return the value of a default; `Parameter.empty` where there is none, `...` where its source does not tell."""
    if value is None:
        return inspect.Parameter.empty
    names = {node.id for node in ast.walk(value) if isinstance(node, ast.Name)}
    try:
        found = eval(ast.unparse(value), {name: _type(name, module) for name in names})
        if isinstance(found, dataclasses.Field):
            return found.default_factory() if callable(found.default_factory) else found.default
    except (TypeError, NameError, AttributeError):
        return ...
    return found


def _evaluate(annotation: ast.expr, module: str) -> Any:
    """Return the type that an annotation means; Any where a name in it comes from another package."""
    names = {node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)}
    try:
        return eval(ast.unparse(annotation), {name: _type(name, module) for name in names})
    except (TypeError, NameError, AttributeError):
        return Any


def _type(name: str, module: str) -> Any:
    if name in _KNOWN:
        return _KNOWN[name]
    found = _find(module, name)
    if found is None:
        raise NameError(name)
    definition = found[0]
    if found[1] in _LIGHT:
        return getattr(importlib.import_module(found[1]), name)
    if isinstance(definition, (ast.Assign, ast.AnnAssign)) and definition.value is not None:
        return _evaluate(definition.value, found[1])
    return type(name, (), {"__module__": found[1]})


def _find(module: str, name: str) -> Found | None:
    """Return where a module of this package defines a name, followed through its imports."""
    for statement in _statements(module):
        match statement:
            case ast.FunctionDef(name=found) | ast.ClassDef(name=found) if found == name:
                return statement, module
            case ast.Assign(targets=[ast.Name(id=found)]) | ast.AnnAssign(target=ast.Name(id=found)) if found == name:
                return statement, module
            case ast.ImportFrom(module=str(source), level=0):
                for alias in statement.names:
                    if name == (alias.asname or alias.name):
                        return _find(source, alias.name)
    return None


@functools.cache
def _statements(module: str) -> list[ast.stmt]:
    """Return the statements of a module of this package or of a user's own; nothing of installed libraries."""
    package, *names = module.split(".")
    root = PACKAGE if package == PACKAGE.name else own_package(package)
    if root is None:
        return []
    path = root.joinpath(*names) if root.is_dir() else root
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    try:
        return ast.parse(path.read_text()).body
    except (OSError, ValueError, SyntaxError):  # building the part says what is wrong
        return []


def own_package(name: str) -> pathlib.Path | None:
    """Return the folder or file of a top-level module that is not installed, found without importing it."""
    try:
        found = importlib.machinery.PathFinder.find_spec(name)
    except (ImportError, ValueError):
        return None
    if found is None or found.origin is None or not found.origin.endswith(".py"):
        return None
    path = pathlib.Path(found.origin)
    if {"site-packages", "dist-packages"} & set(path.parts) or path.is_relative_to(sysconfig.get_path("stdlib")):
        return None
    return path.parent if path.name == "__init__.py" else path
