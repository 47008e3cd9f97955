"""Writes the trained backbone of a run as another program loads it, and sees that it gives the same embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dinodiet.config.settings import Settings
from dinodiet.errors import UserError, one_line
from dinodiet.features.embed import fingerprint
from dinodiet.io.files import read_json, write_atomically, write_json, write_text
from dinodiet.io.scratch import scratch_folder
from dinodiet.run.export.adapters import apart
from dinodiet.run.export.card import card
from dinodiet.run.export.programs import programs, quiet
from dinodiet.run.trained import Trained, trained_of
from dinodiet.types import Exportable, ExportTarget, Unexportable

CARD, STAMP = "README.md", "export.json"
FORMAT = 1  # of what is written; raise it when that changes


def export(settings: Settings) -> dict[str, Any]:
    """Write the trained backbone of a run into a folder, for the program that `export` names.

    What is there already, of the same weights, is left as it is.

    Raises:
        UserError: there is no such run or target, the folder holds something else, or what was written gives other
            embeddings than the run.
    """
    found = trained_of(replace(settings, device="cpu"))
    found.backbone.to(memory_format=torch.contiguous_format)
    name, target = _target(found, settings.export)
    folder, text = _folder(settings, found, name), card(found, target, name)
    what = {"format": FORMAT, "target": name, "tower": found.tower, "step": found.step}
    stamp = {**what, "weights": fingerprint(found.backbone)}
    _refuse_strange(folder)
    there = _is_there(folder, stamp, text)
    if not there:
        with _others_told(found, name):
            _write(found, target, folder, stamp, text)
    print(_told(found, name, folder, there), flush=True)
    return {"folder": str(folder), **what}


def targets(found: Trained) -> Mapping[str, ExportTarget | Unexportable]:
    """Return what the backbone of a run can be written for, and why not for others."""
    own = found.backbone.export_targets() if isinstance(found.backbone, Exportable) else {}
    return {**own, **programs(found.backbone, found.input), "peft": apart(found)}


def _target(found: Trained, name: str | None) -> tuple[str, ExportTarget]:
    chosen = targets(found).get(name or "")
    if isinstance(chosen, ExportTarget):
        return str(name), chosen
    model = str(found.model.get("family") or str(found.model["_target_"]).rpartition(".")[2])
    why = "" if chosen is None else f", and not for {name}: {chosen.why}"
    able = ", ".join(_able(found))
    raise UserError(f"export: {name}; the {model} of {found.place} can be written for: {able}{why}")


def _able(found: Trained) -> list[str]:
    """Return the targets that the backbone of a run can be written for."""
    return sorted(name for name, target in targets(found).items() if isinstance(target, ExportTarget))


@contextmanager
def _others_told(found: Trained, name: str) -> Iterator[None]:
    """Add to what keeps a backbone from being written which other targets there are."""
    try:
        yield
    except UserError as error:
        if type(error) is not UserError:  # a limit of this machine, which no other target helps with
            raise
        others = ", ".join(other for other in _able(found) if other != name)
        raise UserError(f"{error}; others to choose from: {others}") from error


def _folder(settings: Settings, found: Trained, name: str) -> Path:
    if settings.export_dir is not None:
        return Path(settings.export_dir).expanduser()
    return found.run_dir.exports / (name if found.tower == "evaluated" else f"{name}_{found.tower}")


def _refuse_strange(folder: Path) -> None:
    """Refuse a place with something that an export would replace and did not write."""
    if folder.exists() and not (folder / STAMP).is_file() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"export_dir: {folder} holds something else; choose a new or an empty folder")


def _is_there(folder: Path, stamp: Mapping[str, Any], text: str) -> bool:
    there = read_json(folder / STAMP) or {}
    files = there.pop("files", None)
    whole = isinstance(files, list) and all((folder / str(file)).is_file() for file in files)
    return whole and there == stamp and (folder / CARD).is_file() and (folder / CARD).read_text("utf-8") == text


def _write(found: Trained, target: ExportTarget, folder: Path, stamp: Mapping[str, Any], text: str) -> None:
    """Write a folder whole, or not at all."""
    with scratch_folder(folder.parent, folder.name) as scratch:
        new = scratch / folder.name
        new.mkdir()
        target.write(new)
        _check(found, target, new, str(stamp["target"]))
        write_atomically(new / CARD, lambda stream: write_text(stream, text))
        write_json(new / STAMP, {**stamp, "files": sorted(path.name for path in new.iterdir())})
        if folder.exists():
            folder.rename(scratch / "before")
        new.rename(folder)


@torch.no_grad()
def _check(found: Trained, target: ExportTarget, folder: Path, name: str) -> None:
    """Hold the embeddings of what was written against the backbone's own, for one image and for several."""
    side = found.input.size
    batches = [torch.rand(number, 3, side, side, generator=torch.Generator().manual_seed(number)) for number in (1, 3)]
    for images, theirs in zip(batches, _embedded(target, folder, name, batches), strict=True):
        own = found.backbone(images).float()
        if own.shape != theirs.shape:
            raise UserError(f"export: {name} gives {tuple(theirs.shape)} where the run gives {tuple(own.shape)}")
        off = float((own - theirs).abs().max() / own.abs().max().clamp(min=1e-30))
        if not off <= target.tolerance:
            raise UserError(f"export: {name} cannot give the embeddings of this run: they would be {off:.1g} off")


def _embedded(target: ExportTarget, folder: Path, name: str, batches: Sequence[Tensor]) -> list[Tensor]:
    """Return the embeddings of what was written, as the program that it is for makes them.

    Raises:
        UserError: that program does not take it.
    """
    try:
        with quiet():
            embed = target.read(folder)
            return [embed(images).float() for images in batches]
    except (UserError, OSError, MemoryError):
        raise
    except Exception as error:  # of whatever class the program raises
        raise UserError(f"export: {name} does not take what was written of this model: {one_line(error)}") from error


def _told(found: Trained, name: str, folder: Path, there: bool) -> str:
    kind = "" if found.step is None else f" at step {found.step:,} of an unfinished training"
    lines = [f"{found.place}{kind}, {found.tower} weights, for {name}{': is there already' if there else ''}"]
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    return "\n".join([*lines, *(f"  {size:>13,} bytes  {folder / file}" for file, size in sizes.items())])
