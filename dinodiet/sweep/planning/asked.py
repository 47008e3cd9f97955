"""Results that depend on some facts about a dataset, kept for all datasets that agree in these."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

from dinodiet.errors import UserError
from dinodiet.types import DataSpec

T = TypeVar("T")
NAMES = frozenset(field.name for field in dataclasses.fields(DataSpec))


class _Noting(DataSpec):
    """Facts about a dataset that note which of them are asked for."""

    def __getattribute__(self, name: str) -> Any:
        if name in NAMES:
            object.__getattribute__(self, "__dict__").setdefault("noted", set()).add(name)
        return object.__getattribute__(self, name)


class BySpec:
    """Keeps what functions return, or refuse, by a key and by the facts that they asked for."""

    def __init__(self) -> None:
        self._kept: dict[str, list[tuple[dict[str, Any], Any]]] = {}

    def once(self, key: str, spec: DataSpec, make: Callable[[DataSpec], T]) -> T:
        """Return what `make` returned for a specification with the same facts, as far as it looked at them.

        Raises:
            UserError: it did.
        """
        for facts, found in self._kept.get(key, []):
            if all(getattr(spec, name) == value for name, value in facts.items()):
                return _told(found)  # type: ignore[no-any-return]
        noting = _Noting(**{name: getattr(spec, name) for name in NAMES})
        object.__getattribute__(noting, "__dict__")["noted"] = set()
        made: Any
        try:
            made = make(noting)
        except UserError as error:
            made = error
        noted = object.__getattribute__(noting, "__dict__")["noted"]
        self._kept.setdefault(key, []).append(({name: getattr(spec, name) for name in sorted(noted)}, made))
        return _told(made)  # type: ignore[no-any-return]


def _told(found: Any) -> Any:
    if isinstance(found, UserError):
        raise found
    return found
