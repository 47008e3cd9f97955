"""The endings of files that the command writes. Imports no pandas."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from dinodiet.errors import UserError

Style = Literal["text", "markdown", "latex"]
FRAMES = (".csv", ".parquet")
TEXTS: dict[str, Style] = {".md": "markdown", ".tex": "latex", ".txt": "text"}
FIGURES = (".png", ".svg")


def check_suffix(path: Path, valid: Sequence[str]) -> None:
    """Refuse a file whose ending says nothing that can be written.

    Raises:
        UserError: lists the valid endings.
    """
    if path.suffix not in valid:
        raise UserError(f"{path}: ends in {path.suffix or 'nothing'!r}; choose from: {', '.join(valid)}")
