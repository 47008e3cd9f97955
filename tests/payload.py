"""An object that shows whether a file from elsewhere was run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


class Payload:
    """Makes a file named `ran` in a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.folder / "ran",)


def has_run(folder: Path) -> bool:
    """Return whether a payload in this folder was unpickled."""
    return (folder / "ran").exists()
