"""What a factory tells about itself without being called: `@declares(assets=..., sizes=..., licence=...)`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar, runtime_checkable

Factory = TypeVar("Factory", bound=Callable[..., Any])


@runtime_checkable
class Declaring(Protocol):
    """A factory with `declared` facts: functions of those of its settings that they name.

    `assets` -> list[Asset]: the files that the part needs. A backbone's factory may also declare `sizes` -> the choices
    of its setting `size`, and `licence` -> that of the released weights. One that declares `assets` reads no weights
    while it builds on the meta device.
    """

    declared: Mapping[str, Callable[..., Any]]


def declares(**facts: Callable[..., Any]) -> Callable[[Factory], Factory]:
    """Mark a factory with facts, by name."""

    def mark(factory: Factory) -> Factory:
        known: dict[str, Any] = dict(getattr(factory, "declared", {}))
        setattr(factory, "declared", {**known, **facts})  # noqa: B010 - functions have no such member in their type
        return factory

    return mark
