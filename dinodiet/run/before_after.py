"""Pictures of before and after a training beside each other, of those that evaluators wrote at both times."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from dinodiet.config.groups import BUDGET, PHASES, STUDENT
from dinodiet.evals.pictures.sheet import beside, write_picture

FOLDER = "before_after"  # among the artefacts
TITLES = ("before", "after")


def put_beside(artefacts: Path, evaluators: Collection[str] | None = None) -> list[Path]:
    """Write each picture that both phases have into `artefacts/before_after/`, at its place in a phase; return them.

    `initial/map/test/map.png` and its counterpart become `before_after/map/test/map.png`. They are the pictures as they
    lie there, wherever their scores came from. A run that trains nothing has none; files that are no PNG are left out.

    Args:
        artefacts: the folder of what evaluators wrote, by phase.
        evaluators: whose pictures are of the same settings and images in both phases; None: all.
    """
    first, last = (artefacts / phase for phase in PHASES)
    written = []
    for before in sorted(first.rglob("*.png")):
        place = before.relative_to(first)
        if evaluators is not None and _evaluator(place) not in evaluators:
            continue
        with contextlib.suppress(FileNotFoundError, UnidentifiedImageError, Image.DecompressionBombError):
            with Image.open(before) as one, Image.open(last / place) as other:
                picture = beside([one.convert("RGB"), other.convert("RGB")], TITLES)
            write_picture(artefacts / FOLDER / place, picture)
            written.append(artefacts / FOLDER / place)
    return written


def _evaluator(place: Path) -> str:
    """Return whose picture lies at a place below a phase: of the evaluated backbone or the student, on any budget."""
    folders = [part for part in place.parts if part != STUDENT.rstrip("/")]
    return folders[0].partition(BUDGET)[0]
