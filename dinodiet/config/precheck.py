"""Holds a configuration against the source of what it names: most mistakes show before anything is imported.

What is read are the signatures of this package's own functions and classes; `build` then checks every target by what it
really is. What cannot be told from the source is left to it.

What this buys: a refused value (`method.loss.label_smoothing=much`) costs 0.4 s of CPU time instead of the 4.5 s that
it takes to import torch and the package first; this module takes 0.1 s of it (medians of 4, one core). The same holds
for a run that is done already: its identity, which leaves out defaults of signatures, is known without torch.
"""

from __future__ import annotations

import ast
import builtins
import collections.abc
import functools
import inspect
import pathlib
import typing
from collections.abc import Sequence
from typing import Any

from dinodiet.config.places import PACKAGE
from dinodiet.config.signature import check_values, targets

_KNOWN: dict[str, Any] = {**vars(builtins), **vars(collections.abc), **vars(typing), "Path": pathlib.Path}

Signature = tuple[dict[str, inspect.Parameter], dict[str, Any]]  # the parameters and their types
Found = tuple[ast.stmt, str]  # a definition, and the module it is in


def check_nodes(value: Any, key: str) -> None:
    """Check the keys and values of every node with a `_target_` in this package, below and with `value`.

    Raises:
        UserError: one line that names the key, what was found and the valid choices.
    """
    for node, where in targets(value, key):
        signature = signature_of(str(node["_target_"]))
        if signature is not None:
            arguments = {name: item for name, item in node.items() if name not in ("_target_", "_partial_")}
            check_values(*signature, arguments, where)


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
            return _fields(definition, module)
        arguments = bodies["__init__"].args
        arguments.args = [argument for argument in arguments.args if argument.arg != "self"]
    else:
        return None
    if arguments.kwarg is not None:
        return None
    entries = [(entry.arg, entry.annotation) for entry in arguments.args]
    keyword_only = [(entry.arg, entry.annotation) for entry in arguments.kwonlyargs]
    return _signature(entries, keyword_only, module)


def _fields(definition: ast.ClassDef, module: str) -> Signature | None:
    """Return the signature of a dataclass that inherits nothing."""
    decorators = [ast.unparse(decorator) for decorator in definition.decorator_list]
    if definition.bases or not any(text.startswith("dataclass") for text in decorators):
        return None
    fields = [
        (item.target.id, item.annotation)
        for item in definition.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    ]
    return _signature([], [field for field in fields if not ast.unparse(field[1]).startswith("ClassVar")], module)


def _signature(
    entries: Sequence[tuple[str, ast.expr | None]], keyword_only: Sequence[tuple[str, ast.expr | None]], module: str
) -> Signature:
    parameters = {name: inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name, _ in entries}
    parameters |= {name: inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name, _ in keyword_only}
    annotated = [(name, hint) for name, hint in (*entries, *keyword_only) if hint is not None]
    return parameters, {name: _evaluate(hint, module) for name, hint in annotated}


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
    """Return the statements of a module of this package; nothing of any other."""
    package, *names = module.split(".")
    path = PACKAGE.joinpath(*names)
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(path.read_text()).body if package == PACKAGE.name and path.is_file() else []
