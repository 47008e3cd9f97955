"""Writes the trained backbone of a run as another program loads it, and sees that it gives the same embeddings."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from dinodiet.config.settings import Settings
from dinodiet.errors import UserError
from dinodiet.io.scratch import scratch_folder
from dinodiet.run.export.programs import programs
from dinodiet.run.trained import Trained, trained_of
from dinodiet.types import Exportable, ExportTarget


def export(settings: Settings) -> dict[str, Any]:
    """Write the trained backbone of a run into a folder, for the program that `export` names.

    Raises:
        UserError: there is no such run or target, or what was written gives other embeddings.
    """
    found = trained_of(replace(settings, device="cpu"))
    found.backbone.to(memory_format=torch.contiguous_format)
    name, target = _target(found, settings.export)
    folder = _folder(settings, found, name)
    with scratch_folder(folder.parent, folder.name) as scratch:
        target.write(scratch)
        _check(found, target, scratch, name)
        _put(scratch, folder)
    print(f"{found.place} for {name}, {found.tower} weights: {folder}", flush=True)
    return {"folder": str(folder), "target": name, "tower": found.tower, "step": found.step}


def targets(found: Trained) -> Mapping[str, ExportTarget]:
    """Return what the backbone of a run can be written for."""
    own = found.backbone.export_targets() if isinstance(found.backbone, Exportable) else {}
    return {**own, **programs(found.backbone, found.input)}


def _target(found: Trained, name: str | None) -> tuple[str, ExportTarget]:
    known = targets(found)
    if name is None or name not in known:
        model = found.model.get("family") or str(found.model["_target_"]).rpartition(".")[2]
        raise UserError(f"export: {name}; the {model} of {found.place} can be written for: {', '.join(sorted(known))}")
    return name, known[name]


def _folder(settings: Settings, found: Trained, name: str) -> Path:
    if settings.export_dir is not None:
        return Path(settings.export_dir).expanduser()
    return found.run_dir.exports / (name if found.tower == "evaluated" else f"{name}_{found.tower}")


@torch.no_grad()
def _check(found: Trained, target: ExportTarget, folder: Path, name: str) -> None:
    """Hold the embeddings of what was written against the backbone's own, for one image and for several."""
    embed, side = target.read(folder), found.input.size
    for number in (1, 3):
        images = torch.rand(number, 3, side, side, generator=torch.Generator().manual_seed(number))
        own, theirs = found.backbone(images).float(), embed(images).float()
        if own.shape != theirs.shape or not (own - theirs).abs().max() <= target.tolerance * max(1, own.abs().max()):
            raise UserError(
                f"export: {name} gives other embeddings than {found.place}: {tuple(theirs.shape)} of {tuple(own.shape)}"
            )


def _put(scratch: Path, folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    scratch.rename(folder)
