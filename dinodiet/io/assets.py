"""What a part of a run needs on disk, told without building the part: for `mode=fetch`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

Factory = TypeVar("Factory", bound=Callable[..., Any])
ATTRIBUTE = "assets"


@dataclass(frozen=True)
class Asset:
    """A file or folder that a part needs.

    Attributes:
        name: what it is called; assets of the same name and place are one.
        place: where it lies or will lie; or, where there is nothing to fetch, why.
        find: returns where it is, None where it is not there.
        get: has it there, from the network where that can be done, and raises `UserError` otherwise; None: nothing
            is to be done.
    """

    name: str
    place: str
    find: Callable[[], Path | None] = lambda: None
    get: Callable[[], Any] | None = None


def needs(assets: Callable[..., list[Asset]]) -> Callable[[Factory], Factory]:
    """Mark a factory with a function that tells what it needs, from those of the factory's settings that it names."""

    def mark(factory: Factory) -> Factory:
        setattr(factory, ATTRIBUTE, assets)
        return factory

    return mark


def present(path: Path) -> Path | None:
    """Return the path if something is there."""
    return path if path.exists() else None
