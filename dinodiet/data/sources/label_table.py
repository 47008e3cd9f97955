"""Labels of images in a CSV file with the columns `file`, `label` and, optionally, `split`."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dinodiet.data.dataset import RawSplits, hold_out, unlabelled
from dinodiet.data.images import FileImages
from dinodiet.data.sources.walk import is_file_or_gone
from dinodiet.errors import UserError, printable
from dinodiet.io.mistaken import why_broken, why_unreadable
from dinodiet.types import Images

SPLITS = ("train", "val", "test", "pretext")
COLUMNS = ("file", "label", "split")
MakeImages = Callable[[Sequence[str], Tensor | None], FileImages]


@dataclass(frozen=True)
class Row:
    """An image's file below the root, its labels (one, or several of a multi-label set), and its split."""

    file: str
    labels: tuple[str, ...]
    split: str


def table_splits(root: Path, table: Path, test_fraction: float, make: MakeImages) -> RawSplits:
    """Return the splits that a table describes.

    Labels are classes, in numerical order where all are whole numbers, else in alphabetical order. Where a label holds
    `|`, the set is multi-label: `a|b` are two labels, and an empty field is none. A row without a split is in train;
    images of `pretext` need no label. Where no row is in test, `test_fraction` of train is held out.

    Args:
        root: the folder that files are relative to.
        table: the CSV file, in UTF-8.
        test_fraction: the part of train that is held out.
        make: makes a split of paths and labels.

    Raises:
        UserError: columns are missing or unknown, a file is not there or listed twice, or a label or split is wrong.
    """
    rows = _rows(table)
    _check_files(table, rows, root)
    found = {split: [row for row in rows if row.split == split] for split in SPLITS}
    title = printable(root.resolve().name)
    paths = {split: [str(root / row.file) for row in listed] for split, listed in found.items()}
    pretext = make(paths["pretext"], None) if paths["pretext"] else None
    if not found["train"] and pretext is not None and not found["val"] and not found["test"]:
        return unlabelled(title, pretext)
    classes = _classes([label for row in found["train"] for label in row.labels])
    multilabel = any(len(row.labels) != 1 for split in SPLITS[:3] for row in found[split])
    made: dict[str, Images] = {
        split: make(paths[split], _labels(table, found[split], classes, multilabel))
        for split in SPLITS[:3]
        if found[split] or split == "train"
    }
    if "test" not in made:
        made["train"], made["test"] = hold_out(made["train"], test_fraction, str(root))
    return RawSplits(
        title,
        made["train"],
        made["test"],
        len(classes),
        val=made.get("val"),
        pretext=pretext,
        multilabel=multilabel,
        classes=tuple(map(printable, classes)),
    )


def _rows(table: Path) -> list[Row]:
    if table.exists() and (what := why_unreadable(table)) is not None:
        raise UserError(f"labels: {table} is {what}")
    try:
        # Names that are no UTF-8 are read as Python reads those of the file system.
        with table.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            reader = csv.DictReader(file, strict=True)
            _check_columns(table, list(reader.fieldnames or ()))
            read = [(reader.line_num, row) for row in reader]
    except FileNotFoundError as error:
        raise UserError(f"labels: no file {table}; give a CSV file with the columns file, label[, split]") from error
    except (OSError, ValueError, csv.Error) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"labels: {table} cannot be read ({why_broken(table, error)})") from error
    several = any("|" in (row["label"] or "") for _, row in read)
    return [_row(f"labels: {table}, line {line}", row, several) for line, row in read]


def _check_columns(table: Path, columns: list[str]) -> None:
    missing, unknown = [name for name in COLUMNS[:2] if name not in columns], set(columns) - set(COLUMNS)
    if missing or unknown or len(set(columns)) < len(columns):
        raise UserError(f"labels: {table} has the columns {', '.join(columns)}; it needs file, label and maybe split")


def _row(where: str, row: dict[str, str | None], several: bool) -> Row:
    if None in row or row["file"] is None or row["label"] is None:
        raise UserError(f"{where}: another number of fields than the first line has; quote fields with commas")
    split = (row.get("split") or "").strip() or "train"
    if split not in SPLITS:
        raise UserError(f"{where}: split {split!r}; choose from: {', '.join(SPLITS)}")
    label = row["label"].strip()
    labels = tuple(filter(None, (part.strip() for part in label.split("|")))) if several else (label,)
    if split != "pretext" and not several and not label:
        raise UserError(f"{where}: no label; only images of split pretext need none")
    return Row(row["file"].strip(), labels, split)


def _check_files(table: Path, rows: list[Row], root: Path) -> None:
    seen: set[str] = set()
    for row in rows:
        if os.path.normpath(row.file) in seen:
            raise UserError(f"labels: {table}: {row.file} is listed twice; several labels of an image are written a|b")
        seen.add(os.path.normpath(row.file))
    missing = [row.file for row in rows if not is_file_or_gone(str(root / row.file))]
    if missing:
        raise UserError(f"labels: {table}: {len(missing)} of {len(rows)} files not found in {root}, first {missing[0]}")


def _classes(labels: list[str]) -> list[str]:
    names = set(labels)
    return sorted(names, key=int) if all(name.isdecimal() for name in names) else sorted(names)


def _labels(table: Path, rows: list[Row], classes: list[str], multilabel: bool) -> Tensor:
    """Return int64 (N,), or (N, L) of 0/1."""
    position = {name: number for number, name in enumerate(classes)}
    if unknown := sorted({label for row in rows for label in row.labels} - set(classes)):
        raise UserError(
            f"labels: {table}: label {unknown[0]!r} is in no row of train; choose from: {', '.join(classes)}"
        )
    if not multilabel:
        return torch.tensor([position[row.labels[0]] for row in rows], dtype=torch.int64)
    labels = torch.zeros(len(rows), len(classes), dtype=torch.int64)
    for number, row in enumerate(rows):
        labels[number, [position[label] for label in row.labels]] = 1
    return labels
