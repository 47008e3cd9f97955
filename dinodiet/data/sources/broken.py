"""Images that cannot be decoded: refused, or left out by an explicit choice."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from os import cpu_count
from pathlib import Path
from typing import Any, Literal

import torch
from tqdm import tqdm

from dinodiet.data.dataset import RawSplits
from dinodiet.data.images import Subset
from dinodiet.errors import UserError
from dinodiet.io.files import read_json, write_json
from dinodiet.types import Images

Broken = Literal["refuse", "check", "skip"]
SHOWN = 3

log = logging.getLogger(__name__)


def handle_broken(source: RawSplits, broken: Broken, folder: Path) -> RawSplits:
    """Return the splits without broken images, or refuse them.

    Args:
        source: splits whose images are decoded on access.
        broken: `refuse`: nothing is decoded now, the first broken image that is used ends the run; `check`: every image
            is decoded now, and broken ones are refused together; `skip`: every image is decoded now, and the broken
            ones are left out, so positions and indices count the sound ones only.
        folder: where the list of broken images is kept, so that a set is looked through once; where it cannot be
            written, every run looks again.

    Raises:
        UserError: broken images were found and are not to be skipped, or no image of a split is sound.
    """
    if broken == "refuse":
        return source
    found: dict[str, Any] = {}
    for split in ("train", "val", "test", "pretext"):
        images: Images | None = getattr(source, split)
        if images is not None:
            found[split] = _sound(f"{source.name}, split {split}", images, broken, folder)
    return replace(source, **found)


def _sound(where: str, images: Images, broken: Broken, folder: Path) -> Images:
    errors = _kept_errors(images, folder)
    if not errors:
        return images
    names = "; ".join(list(errors.values())[:SHOWN]) + ("; ..." if len(errors) > SHOWN else "")
    found = f"{where}: {len(errors)} of {len(images)} images are broken"
    if broken == "check" or len(errors) == len(images):
        raise UserError(f"{found}: {names}; replace them, or leave them out with broken=skip")
    log.warning("%s and left out: %s", found, names)
    return Subset(images, torch.tensor([p for p in range(len(images)) if p not in errors], dtype=torch.int64))


def _kept_errors(images: Images, folder: Path) -> dict[int, str]:
    """Return the errors by position, from the list that an earlier run kept where the files are the same ones."""
    path = folder / f".broken-{images.fingerprint()}.json"
    if (kept := read_json(path)) is not None:
        return {int(position): error for position, error in kept.items()}
    errors = _errors(images)
    try:
        write_json(path, errors)
    except OSError as error:
        log.info("%s cannot be written (%s): the next run looks for broken images again", path, error)
    return errors


def _errors(images: Images) -> dict[int, str]:
    def error(position: int) -> str | None:
        try:
            images[position]
        except UserError as broken:
            return str(broken).removesuffix("; replace or remove it")
        return None

    positions: Sequence[int] = range(len(images))
    with ThreadPoolExecutor(cpu_count()) as pool:  # Pillow decodes outside Python's lock
        found = tqdm(pool.map(error, positions), "decoding", len(images), disable=len(images) < 1000, leave=False)
        return {position: text for position, text in enumerate(found) if text is not None}
