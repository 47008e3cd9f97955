"""Image classification sets in the forms of Hugging Face: by name from the hub, or Parquet and Arrow files on disk."""

from __future__ import annotations

import hashlib
import io
import itertools
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from dinodiet.config.ranges import Between, Range
from dinodiet.config.signature import Neutral
from dinodiet.data.dataset import RawSplits, hold_out
from dinodiet.data.decode import decode, num_pixels, read_image
from dinodiet.data.sources.broken import Broken, handle_broken
from dinodiet.data.sources.download import local_assets
from dinodiet.data.sources.planned import counted
from dinodiet.data.sources.published import check_published, require
from dinodiet.data.sources.used_bits import scale_to_used_bits
from dinodiet.errors import NotOnDisk, UserError, one_line, printable
from dinodiet.io.answers import check_hub
from dinodiet.io.assets import Asset, needs, planned
from dinodiet.io.gated import access
from dinodiet.io.limits import raise_limit
from dinodiet.io.mistaken import why_unreadable
from dinodiet.io.scratch import data_root
from dinodiet.types import Images

HOW_PATH = "give the folder of the .parquet or .arrow files"


class TableImages:
    """Images in the column of a memory-mapped table (`datasets.Dataset`), decoded on access; sizes may differ.

    `bits` is how many of 16 bits images use.
    """

    def __init__(self, table: Any, column: str, labels: Tensor, name: str) -> None:
        self._table, self._column, self._name = table, column, name
        self.labels: Tensor | None = labels
        self.bits = 16

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, position: int) -> Tensor:
        """Return one image, uint8 (3, H, W).

        Raises:
            UserError: the image is broken, or its file is missing.
        """
        stored = self._table[int(position)][self._column]
        if stored["bytes"] is None:
            return read_image(stored["path"], bits=self.bits)
        return decode(io.BytesIO(stored["bytes"]), self._named(position, stored), bits=self.bits)

    def _named(self, position: int, stored: dict[str, Any]) -> str:
        return f"{self._name}, row {position} ({stored['path'] or 'no name'})"

    def encoded(self, position: int) -> tuple[str | BinaryIO, int]:
        """Return the file of an image, and the number of its frame."""
        stored = self._table[int(position)][self._column]
        return (stored["path"] if stored["bytes"] is None else io.BytesIO(stored["bytes"])), 0

    def num_pixels(self, position: int) -> int:
        """Return height times width from the head of the encoded image; a UserError where there is none."""
        stored = self._table[int(position)][self._column]
        return num_pixels(self.encoded(position)[0], self._named(position, stored))

    def fingerprint(self) -> str:
        """Return a hash of the table's files, their sizes and modification times: the pixels are not read for it."""
        digest = hashlib.blake2b(f"{len(self)} {self._column}".encode(), digest_size=16)
        for file in self._table.cache_files:
            stat = Path(file["filename"]).stat()
            digest.update(f"{Path(file['filename']).name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
        return digest.hexdigest() if self.bits == 16 else f"{digest.hexdigest()}-{self.bits}"


def set_assets(
    *, root: str, name: str | None, path: str | None, config: str | None, revision: str | None, download: bool
) -> list[Asset]:
    """Return what `huggingface_set` will need: a set of the hub, converted, or a folder."""
    _check_one(name, path)
    if path is not None:
        return local_assets(data_root(path), data_root(path).name, HOW_PATH)
    title = "@".join(filter(None, (str(name), config, revision)))

    def find() -> Path | None:
        try:
            tables = _from_hub(str(name), config, revision, root, download=False)
        except NotOnDisk:
            return None
        files = [file["filename"] for table in tables.values() for file in table.cache_files]
        return Path(files[0]).parent if files else data_root(root)

    return [Asset(title, root, find, lambda: _from_hub(str(name), config, revision, root, download))]


def _check_one(name: str | None, path: str | None) -> None:
    if (name is None) == (path is None):
        raise UserError("give one of name=USER/SET (the hub) or path=FOLDER (files on disk)")


def _counts(*, name: str | None, published: dict[str, int] | None, test_fraction: float) -> RawSplits:
    return counted(str(name), published, test_fraction=test_fraction)


@needs(set_assets)
@planned(counts=_counts)
def huggingface_set(
    *,
    root: Neutral[str],
    name: str | None = None,
    path: str | None = None,
    config: str | None = None,
    revision: str | None = None,
    image_column: str = "image",
    label_column: str = "label",
    train: str = "train",
    val: str | None = "validation",
    test: str | None = "test",
    test_fraction: Between[float] = 0.2,
    download: Neutral[bool] = True,
    bits: Annotated[int | None, Range(8, 16)] = None,
    broken: Broken = "refuse",
    published: Neutral[dict[str, int] | None] = None,
) -> RawSplits:
    """Return the splits of a set of one image and one class a row.

    Args:
        root: where downloads, and the Arrow files that Parquet is converted to once, are kept.
        name: of the set on the hub, as `user/set`; exclusive with `path`.
        path: a folder on disk: of `save_to_disk`, or with `.parquet` or `.arrow` files at any depth that begin with the
            name of their split, or lie in a folder of that name.
        config: which of the configurations of a set on the hub.
        revision: a commit or tag of the hub, for sets that change.
        image_column: the column of encoded images.
        label_column: the column of classes: names, numbers from 0, or the hub's ClassLabel.
        train, val, test: the names of the splits in the set. Null, or the default where there is no such split: val
            is held out of train when the dataset is opened, test is `test_fraction` of train, stratified and the same
            in every run.
        test_fraction: the part of train that is held out for testing where there is no test split.
        download: get a set from the hub if it is not in `root`; false: nothing is asked of the network.
        bits: how many of their bits 16-bit images use; null: what a sample of them uses, see `used_bits`.
        broken: what is done about images that cannot be decoded, see `handle_broken`.
        published: counts to hold the set against, see `check_published`.

    Raises:
        UserError: nothing is found, a split or column is missing, or labels are.
    """
    _check_one(name, path)
    folder = data_root(path or root)
    tables = _from_hub(str(name), config, revision, root, download) if path is None else _from_disk(folder, root)
    title = name or folder.resolve().name
    wanted = {"train": train, "val": val, "test": test}
    chosen = {split: _choose(tables, split, found, title) for split, found in wanted.items()}
    classes, names = _classes(chosen["train"], label_column, title)
    images: dict[str, Images | None] = {
        split: None if table is None else _images(table, image_column, label_column, classes, f"{title}, {split}")
        for split, table in chosen.items()
    }
    train_images, test_images = images["train"], images["test"]
    assert train_images is not None
    if test_images is None:
        train_images, test_images = hold_out(train_images, test_fraction, title)
    source = RawSplits(title, train_images, test_images, len(classes), val=images["val"], classes=names)
    check_published(source, title, published, "get the published set")
    scale_to_used_bits((source.train, source.val, source.test), bits, title)
    return handle_broken(source, broken, data_root(root))


def _library() -> Any:
    try:
        import datasets  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise UserError("sets of Hugging Face need the library: pip install 'dinodiet[huggingface]'") from error
    datasets.config.HF_DATASETS_TRUST_REMOTE_CODE = False  # before 4.0 it would offer to run a set's own code
    return datasets


def _from_hub(name: str, config: str | None, revision: str | None, root: str, download: bool) -> dict[str, Any]:
    library = _library()
    settings, cache = library.config, str(data_root(root))
    offline = settings.HF_HUB_OFFLINE
    settings.HF_HUB_OFFLINE = offline or not download  # the library has no argument for it
    unreachable = ""
    try:
        if download:
            check_hub(answers=True)
    except OSError as error:  # the library would try again for half a minute: only what is on disk serves
        settings.HF_HUB_OFFLINE, unreachable = True, one_line(error)
    try:
        return dict(library.load_dataset(name, config, revision=revision, cache_dir=cache))
    except (OSError, ValueError, RuntimeError) as error:
        how = "" if download else ", set download=true"
        granted = access(error, f"https://huggingface.co/datasets/{name}")
        raise NotOnDisk(
            f"name: {name} not found on the hub or in {cache} ({unreachable or one_line(error)}){how}; "
            "mode=fetch gets it ahead of time where there is a network, or give the folder of its files as path"
            f"{granted}"
        ) from error
    finally:
        settings.HF_HUB_OFFLINE = offline


def _from_disk(folder: Path, root: str) -> dict[str, Any]:
    require(folder, "path", HOW_PATH)
    library = _library()
    try:
        if (folder / "dataset_dict.json").is_file():
            return dict(library.load_from_disk(str(folder)))
        if (folder / "state.json").is_file():
            return {"train": library.load_from_disk(str(folder))}
        for kind in ("parquet", "arrow"):
            if files := _by_split(folder, kind):
                _check_readable(files)
                cache = str(data_root(root))
                return {
                    split: library.load_dataset(kind, data_files=found, cache_dir=cache, split="train")
                    for split, found in files.items()
                }
    except (OSError, ValueError, RuntimeError, LookupError) as error:
        if isinstance(error, UserError):
            raise
        raise_limit(error, folder)
        raise UserError(f"path: {folder} cannot be read ({one_line(error)})") from error
    raise UserError(f"path: no .parquet or .arrow files in {folder}; expected is train-00000-of-00001.parquet")


def _by_split(folder: Path, kind: str) -> dict[str, list[str]]:
    """Return the files by the name of the split: the beginning of theirs, or their folder's."""
    files: dict[str, list[str]] = {}
    for path in sorted(folder.rglob(f"*.{kind}")):
        begins = path.stem.split("-")[0]
        files.setdefault(path.parent.name if begins.isdigit() else begins, []).append(str(path))
    return files


def _check_readable(files: dict[str, list[str]]) -> None:
    for path in itertools.chain.from_iterable(files.values()):
        if (reason := why_unreadable(path)) is not None:
            raise UserError(f"path: {path} cannot be read (it is {reason})")


def _choose(tables: dict[str, Any], split: str, name: str | None, title: str) -> Any:
    defaults = {"val": "validation", "test": "test"}
    if name is None or (name not in tables and defaults.get(split) == name):
        return None
    if name not in tables:
        raise UserError(f"{split}: {title} has no split {name!r}; choose from: {', '.join(tables)}")
    return tables[name]


def _column(table: Any, column: str, which: str, title: str) -> None:
    if column not in table.column_names:
        found = ", ".join(table.column_names)
        raise UserError(f"{which}_column: {title} has no column {column!r}; choose from: {found}")


def _classes(table: Any, column: str, title: str) -> tuple[list[Any], tuple[str, ...] | None]:
    """Return the values of the classes in the order of their labels, and their names; None where they are numbers."""
    _column(table, column, "label", title)
    feature = table.features[column]
    if hasattr(feature, "names"):
        return list(range(len(feature.names))), tuple(map(printable, feature.names))
    values = np.unique(np.asarray(table[column][:]))
    if values.dtype.kind in "iu":
        return list(range(int(values.max()) + 1)), None
    if values.dtype.kind not in "US":
        raise UserError(f"label_column: {column!r} of {title} holds {values.dtype}, not classes")
    classes = [str(value) for value in values]
    return classes, tuple(map(printable, classes))


def _images(table: Any, image_column: str, column: str, classes: list[Any], title: str) -> TableImages:
    _column(table, image_column, "image", title)
    _column(table, column, "label", title)
    numbers = {value: label for label, value in enumerate(classes)}
    values = table[column][:]
    if unknown := sorted({str(value) for value in values if value not in numbers}):
        raise UserError(
            f"{title}: label {unknown[0]} is not a class of train; a split without labels (-1) cannot be scored, "
            "choose another"
        )
    encoded = table.select_columns([image_column]).cast_column(image_column, _library().Image(decode=False))
    return TableImages(encoded, image_column, torch.tensor([numbers[value] for value in values]), title)
