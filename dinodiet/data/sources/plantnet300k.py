"""Pl@ntNet-300K (Garcin et al. 2021): plant species, long-tailed and ambiguous, official train, val and test splits."""

from __future__ import annotations

import json
from pathlib import Path

from dinodiet.config.signature import Neutral
from dinodiet.data.dataset import RawSplits
from dinodiet.data.images import FileImages
from dinodiet.data.sources.broken import Broken, handle_broken
from dinodiet.data.sources.download import local_assets
from dinodiet.data.sources.folder import class_folders, labelled
from dinodiet.data.sources.planned import counted
from dinodiet.data.sources.published import check_published, require
from dinodiet.errors import UserError, printable
from dinodiet.io.assets import Asset, needs, planned
from dinodiet.io.mistaken import why_broken
from dinodiet.io.scratch import data_root

HOW = "get plantnet_300K.zip from https://zenodo.org/records/5645731 (some 30 GB) and unpack it in data_dir"


def _assets(*, root: str) -> list[Asset]:
    return local_assets(data_root(root) / "plantnet_300K", "plantnet300k", HOW)


def _counts(*, published: dict[str, int] | None) -> RawSplits:
    return counted("plantnet300k", published)


@needs(_assets)
@planned(counts=_counts)
def plantnet300k(
    *, root: Neutral[str], broken: Broken = "refuse", published: Neutral[dict[str, int] | None] = None
) -> RawSplits:
    """Return the official splits of `ROOT/plantnet_300K/`: `images_train/<species id>/`, `images_val/`, `images_test/`.

    The folders may also be called `images/train` and so on. Classes are the species ids in alphabetical order, as in
    the authors' code. Where `plantnet300K_metadata.json` is there, every image is held against it.

    Args:
        root: the folder that holds `plantnet_300K/`.
        broken: what is done about images that cannot be decoded, see `handle_broken`.
        published: counts to hold the set against, see `check_published`.

    Raises:
        UserError: files are missing, or are not the published ones.
    """
    folder = require(data_root(root) / "plantnet_300K", "plantnet300k", HOW)
    places = {split: _place(folder, split) for split in ("train", "val", "test")}
    classes = class_folders(places["train"])
    splits = {split: labelled(place, classes) for split, place in places.items()}
    _check_metadata(folder / "plantnet300K_metadata.json", splits)
    names = _species(folder / "plantnet300K_species_id_2_name.json", classes)
    source = RawSplits("plantnet300k", splits["train"], splits["test"], len(classes), val=splits["val"], classes=names)
    check_published(source, folder, published, HOW)
    return handle_broken(source, broken, folder)


def _species(path: Path, ids: list[str]) -> tuple[str, ...]:
    """Return the names of the species as far as the set's own table, `id: name`, is there; else their ids."""
    if not path.is_file():
        return tuple(ids)
    try:
        known = {str(key): printable(str(name)) for key, name in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"plantnet300k: {path} is broken ({why_broken(path, error)}); {HOW}") from error
    return tuple(known.get(species, species) for species in ids)


def _place(folder: Path, split: str) -> Path:
    other = folder / "images" / split
    return other if other.is_dir() else require(folder / f"images_{split}", "plantnet300k", HOW)


def _check_metadata(path: Path, splits: dict[str, FileImages]) -> None:
    """Refuse an image that lies in another split or species than the metadata says."""
    if not path.is_file():
        return
    try:
        known = {
            name: (entry["split"], str(entry["species_id"])) for name, entry in json.loads(path.read_text()).items()
        }
    except (OSError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise UserError(f"plantnet300k: {path} is broken ({why_broken(path, error)}); {HOW}") from error
    for split, images in splits.items():
        for file in map(Path, images.paths):
            found = known.get(file.stem)
            if found is not None and found != (split, file.parent.name):
                raise UserError(f"plantnet300k: {file}: {path.name} has it in {'/'.join(found)}; {HOW}")
