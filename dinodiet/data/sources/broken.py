"""Images that cannot be decoded: refused, or left out by an explicit choice."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from dinodiet.data.dataset import RawSplits
from dinodiet.data.decode import num_pixels
from dinodiet.data.images import FileImages, Subset
from dinodiet.data.sources.inspection import Inspection, inspect, path_of, read_inspection, report, write_inspection
from dinodiet.errors import UserError, printable
from dinodiet.io.mistaken import why_no_image
from dinodiet.types import Images

Broken = Literal["refuse", "check", "skip"]
SHOWN = 3
LOOKED_AT, THREADS = 5000, 16

log = logging.getLogger(__name__)


def handle_broken(source: RawSplits, broken: Broken, folder: Path) -> RawSplits:
    """Return the splits without broken images, or refuse them.

    Args:
        source: splits whose images are decoded on access.
        broken: `refuse`: nothing is decoded now; files that are missing or empty, and those of the `LOOKED_AT` smallest
            that are another kind of file, are refused together, and the first image that cannot be decoded ends the
            run that uses it; `check`: every image is decoded now, broken ones are refused together, and blank, copied
            and similar images are told (`report`);
            `skip`: every image is decoded now, and the broken ones are left out, so positions and indices count the
            sound ones only.
        folder: where it is kept what was seen, so that a set is looked through once; where it cannot be written, every
            run looks again.

    Raises:
        UserError: broken images were found and are not to be skipped, or no image of a split is sound.
    """
    every = {"train": source.train, "val": source.val, "test": source.test, "pretext": source.pretext}
    splits = {split: images for split, images in every.items() if images is not None and len(images)}
    if broken == "refuse":
        for split, images in splits.items():
            _sound(f"{source.name}, split {split}", images, _unreadable(images), broken)
        return source
    found = {split: _inspected(images, folder) for split, images in splits.items()}
    sound = {
        split: _sound(f"{source.name}, split {split}", images, found[split].errors, broken)
        for split, images in splits.items()
    }
    if broken == "check":
        report(source.name, splits, found)
    changed: dict[str, Any] = sound
    return replace(source, left_out=sum(len(splits[split]) - len(images) for split, images in sound.items()), **changed)


def _sound(where: str, images: Images, errors: dict[int, str], broken: Broken) -> Images:
    if not errors:
        return images
    names = printable("; ".join(list(errors.values())[:SHOWN])) + ("; ..." if len(errors) > SHOWN else "")
    found = f"{where}: {len(errors)} of {len(images)} images are broken"
    if broken != "skip" or len(errors) == len(images):
        raise UserError(f"{found}: {names}; replace them, or leave them out with broken=skip")
    log.warning("%s and left out: %s", found, names)
    return Subset(images, torch.tensor([p for p in range(len(images)) if p not in errors], dtype=torch.int64))


def _unreadable(images: Images) -> dict[int, str]:
    """Return why files hold no image at all, by position, as far as their sizes and first bytes tell.

    Pages and pointers in the place of images are small: of a large set the smallest files are looked at.
    """
    whole = images.images if isinstance(images, Subset) else images
    if not isinstance(whole, FileImages):
        return {}
    sizes = torch.from_numpy(whole.stats()[:, 0])
    sizes = sizes[images.positions] if isinstance(images, Subset) else sizes
    gone = int((sizes <= 0).sum())
    smallest = sizes.argsort(stable=True)[: gone + LOOKED_AT].tolist()
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda position: _why(path_of(images, position)), smallest))
    return {position: why for position, why in sorted(zip(smallest, found, strict=True)) if why is not None}


def _why(path: str | None) -> str | None:
    """Return the file and what it is in the place of an image; None: it may be one."""
    if path is None or (what := why_no_image(path)) is None:
        return None
    try:
        num_pixels(path, path)  # a decoder that was added may know it
    except UserError:
        return f"{path} ({what})"
    return None


def _inspected(images: Images, folder: Path) -> Inspection:
    """Return what is seen of the images, from what an earlier run kept where the files are the same ones."""
    path = folder / f".inspection-{images.fingerprint()}.npz"
    if (kept := read_inspection(path, len(images))) is not None:
        return kept
    found = inspect(images)
    try:
        write_inspection(path, found)
    except OSError as error:
        log.info("%s cannot be written (%s): the next run looks for broken images again", path, error)
    return found
