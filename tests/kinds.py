"""Which of many cases alike the default suite takes: one of each kind. The rest is `nightly`."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterable
from typing import Any

import pytest
from _pytest.mark import ParameterSet

from tests.places import CONF

NETWORKS = ("aim", "convnext", "hf", "mambavision", "mlp", "resnet_tiny", "swin", "vit")
_TARGET = re.compile(r"^(?:source:\n  )?_target_: (\S+)", re.MULTILINE)
_BASE = re.compile(r"^defaults: \[(?:/\w+/)?(\w+)", re.MULTILINE)


def rest_nightly(values: Iterable[Any], quick: Collection[Any]) -> list[Any]:
    """Return values of a parameter, those that are not among the quick ones marked `nightly`.

    Raises:
        ValueError: a quick one is none of the values: it has another name now.
    """
    values = list(values)
    if unknown := [value for value in quick if value not in values]:
        raise ValueError(f"{unknown[0]}: is none of {values}")
    return [value if value in quick else _nightly(value) for value in values]


def after_nightly(number: int, values: Iterable[Any]) -> list[Any]:
    """Return values of a parameter, those after the first ones marked `nightly`."""
    return [value if place < number else _nightly(value) for place, value in enumerate(values)]


def _nightly(value: Any) -> Any:
    """Return a marked value: of several parameters, where it is a tuple; marks that it has are kept."""
    if isinstance(value, ParameterSet):
        return value._replace(marks=(*value.marks, pytest.mark.nightly))
    return pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.nightly)


def kinds_nightly(group: str, names: Iterable[str]) -> list[Any]:
    """Return files of a group of `conf/`, all but the first of each class marked `nightly`."""
    names = list(names)
    return rest_nightly(names, {target(group, name): name for name in reversed(names)}.values())


def networks_nightly(names: Iterable[str]) -> list[Any]:
    """Return files of `conf/model`, all but one of each kind of network marked `nightly`."""
    names = list(names)
    return rest_nightly(names, [name for name in NETWORKS if name in names])


@functools.cache
def target(group: str, name: str) -> str:
    """Return the class of a file of `conf/`, which may be that of the file it differs from."""
    text = (CONF / group / f"{name}.yaml").read_text()
    found, base = _TARGET.search(text), _BASE.search(text)
    if found is None and base is not None and base[1] != "override":
        return target(group, base[1])
    return name if found is None else found[1]
