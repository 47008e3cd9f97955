"""Pictures, figures and tables as files."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from dinodiet.io.files import write_atomically, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_picture(path: Path, picture: Image.Image) -> None:
    """Write a picture as a PNG."""
    write_atomically(path, lambda out: picture.save(out, "PNG"))


def write_figure(path: Path, figure: Figure) -> None:
    """Write a figure as a PNG; letters that its font lacks are boxes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        write_atomically(path, lambda out: figure.savefig(out, format="png", dpi=100))


def write_table(path: Path, heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table as CSV."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([heads, *rows])
    write_atomically(path, lambda out: write_text(out, stream.getvalue()))
