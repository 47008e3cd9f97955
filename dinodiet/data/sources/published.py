"""Whether a dataset on disk is the published one: its counts, and who to ask for what is missing."""

from __future__ import annotations

from pathlib import Path

from dinodiet.data.dataset import RawSplits
from dinodiet.errors import NotOnDisk, UserError


def check_published(source: RawSplits, place: Path | str, published: dict[str, int] | None, how: str) -> None:
    """Hold a source against what was published of it; None: a set or subset of one's own, nothing is checked.

    Args:
        source: the splits as they were found.
        place: where they were found.
        published: `classes`, and the number of images of `train`, `val`, `test` or of `all` of them.
        how: how the published files are got, for the error.

    Raises:
        UserError: a count differs.
    """
    if published is None:
        return
    found = {"classes": source.num_labels, "train": len(source.train), "test": len(source.test)}
    found["val"] = 0 if source.val is None else len(source.val)
    found["all"] = found["train"] + found["val"] + found["test"]
    if unknown := sorted(set(published) - set(found)):
        raise UserError(f"published: no key {unknown[0]!r}; choose from: {', '.join(sorted(found))}")
    wrong = [f"{key} {found[key]:,} instead of {count:,}" for key, count in published.items() if found[key] != count]
    if wrong:
        raise UserError(
            f"{source.name}: {place} is not the published set ({', '.join(wrong)}); {how}, "
            "or set published=null for a subset of your own"
        )


def require(place: Path, name: str, how: str) -> Path:
    """Return a file or folder that has to be there.

    Raises:
        NotOnDisk: it is not; the line says how to get it.
    """
    if not place.exists():
        raise NotOnDisk(f"{name}: {place} not found; {how}")
    return place


def listed_files(name: str, folder: Path, relative: list[str], how: str) -> list[Path]:
    """Return the files that a dataset's list names, which all have to be there.

    Raises:
        NotOnDisk: some are missing.
    """
    paths = [folder / item for item in relative]
    present = {parent: _names(parent) for parent in {path.parent for path in paths}}
    missing = [path for path in paths if path.name not in present[path.parent]]
    if missing:
        raise NotOnDisk(f"{name}: {len(missing)} of {len(paths)} listed images not found, first {missing[0]}; {how}")
    return paths


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()
