"""mode=embed: the embeddings of all images of a data set, written part by part; what is there is not done again."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import Timeout
from torch import nn
from tqdm import tqdm

import dinodiet
from dinodiet.config.identity import checkpoint_label, digest, embeddings_identity, embeddings_name, model_label
from dinodiet.config.settings import Settings
from dinodiet.data.origin import root_of
from dinodiet.errors import UserError
from dinodiet.features.embed import fingerprint
from dinodiet.features.parts import Source, parts_of, rows_of
from dinodiet.io.files import read_json, write_json
from dinodiet.io.locks import exclusive_writer
from dinodiet.io.units import duration
from dinodiet.run.backbone import build_backbone
from dinodiet.run.fits import check_scoring_fits
from dinodiet.run.parts import open_scored, runtime_of
from dinodiet.run.trained import trained_of
from dinodiet.store.embeddings.npz import NpzWriter
from dinodiet.store.embeddings.parts import FORMAT, Layout, Writer, key_of
from dinodiet.types import Backbone, Data, Images, Runtime

ABOUT = "_embeddings.json"  # who reads all Parquet files of a folder leaves out names that begin so
SPLITS = ("train", "val", "test", "pretext")
MOST_NAMED = 3


def embed_images(settings: Settings) -> dict[str, Any]:
    """Write the embeddings of all images of the data set, in its splits, and return where and how many.

    They are those that an evaluation sees: its preprocessing, precision and batches. A part (`embed.rows` images) is
    there whole or not at all, and made again only where its images, the weights or the preprocessing have changed.

    Raises:
        UserError: Parquet without pyarrow; a split without images; a folder that holds something else or that another
            process writes to; embeddings that are not finite.
        MachineLimit: the disk is full; the same command continues.
    """
    make = _writer(settings.embed.format)
    folder = folder_of(settings)
    _refuse_other_content(settings, folder)
    runtime = runtime_of(settings)
    data = open_scored(settings)
    splits = _splits(data, settings.embed.splits)
    backbone = _backbone(settings, data, runtime)
    assert isinstance(backbone, nn.Module)
    source = Source(backbone, backbone.input, runtime, splits, _root(settings, splits))
    writer = make(folder, _layout(settings, data, backbone, source))
    title = f"{checkpoint_label(settings) or model_label(settings) + ', frozen,'} on {data.spec.name}"
    with _alone(folder):
        write_json(folder / ABOUT, {**writer.layout.about, "identity": digest(embeddings_identity(settings))})
        return _written(settings, source, writer, title, data.left_out)


def folder_of(settings: Settings) -> Path:
    """Return the folder of the embeddings that the settings describe."""
    if settings.embed.out is not None:
        return Path(settings.embed.out).expanduser()
    return settings.study / "embeddings" / embeddings_name(settings)


def _writer(format: str) -> Any:
    if format == "npz":
        return NpzWriter
    try:
        from dinodiet.store.embeddings.parquet import ParquetWriter  # noqa: PLC0415 - pyarrow is an extra
    except ImportError as error:
        raise UserError(
            "embed.format: parquet needs pyarrow: pip install 'dinodiet[parquet]', or embed.format=npz"
        ) from error
    return ParquetWriter


def _backbone(settings: Settings, data: Data, runtime: Runtime) -> Backbone:
    """Return the trained backbone of the checkpoint, or else the frozen one, on its device."""
    if settings.checkpoint is not None:
        trained = trained_of(settings).backbone
        assert isinstance(trained, Backbone)
        return trained
    check_scoring_fits(settings, data.spec, runtime.device)
    frozen = build_backbone(settings, data.spec)
    assert isinstance(frozen, nn.Module)
    moved = frozen.to(runtime.device)
    assert isinstance(moved, Backbone)
    return moved


def _refuse_other_content(settings: Settings, folder: Path) -> None:
    """Refuse a folder that holds anything but these embeddings, perhaps not all of them."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"embed.out: {folder} is no folder")
    there = read_json(folder / ABOUT)
    if there is None and any(not entry.name.startswith(".") for entry in folder.iterdir()):
        raise UserError(f"embed.out: {folder} holds other files; choose a folder that is new or empty")
    if there is not None and there.get("identity") != digest(embeddings_identity(settings)):
        what = " ".join(str(there.get(key)) for key in ("encoder", "dataset", "precision", "format"))
        raise UserError(f"embed.out: {folder} holds other embeddings ({what}); choose another folder, or remove it")


def _splits(data: Data, wanted: Sequence[str] | None) -> dict[str, Images]:
    """Return the splits to embed by name; images that are train and pretext at once are train."""
    every = {name: images for name in SPLITS if len(images := getattr(data, name))}
    if data.pretext is data.train:
        del every["pretext"]
    if wanted is None:
        return every
    if not wanted:
        raise UserError(f"embed.splits: []; choose from: {', '.join(every)}, or null for all")
    if lacking := [name for name in wanted if name not in every]:
        raise UserError(
            f"embed.splits: {data.spec.name} has no images in {lacking[0]}; choose from: {', '.join(every)}"
        )
    return {name: images for name, images in every.items() if name in wanted}


def _root(settings: Settings, splits: Mapping[str, Images]) -> str | None:
    given = settings.evaluation_dataset.get("source", {}).get("root")
    return root_of(list(splits.values()), given if isinstance(given, str) else None)


def _layout(settings: Settings, data: Data, backbone: Backbone, source: Source) -> Layout:
    spec, details = data.spec, backbone.description
    about = {
        "format": settings.embed.format,
        "version": FORMAT,
        "dinodiet": dinodiet.__version__,
        "encoder": checkpoint_label(settings) or model_label(settings),
        "run": checkpoint_label(settings),
        "model": settings.model,
        "weights": settings.checkpoint or details.details.get("weights", settings.model.get("weights")),
        "tower": None if settings.checkpoint is None else settings.tower,
        "licence": details.licence,
        "input": asdict(source.input),
        "precision": settings.precision,
        "embed_dim": backbone.embed_dim,
        "dataset": spec.name,
        "source": settings.evaluation_dataset,
        "root": None if source.root is None else os.path.abspath(source.root),  # noqa: PTH100 - links stay
    }
    return Layout(
        backbone.embed_dim, source.root is not None, spec.num_labels, spec.multilabel, classes=spec.classes, about=about
    )


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Be the one process that writes to a folder."""
    try:
        with exclusive_writer(folder / ABOUT, wait=False, lock=folder / ".lock"):
            yield
    except Timeout as error:
        raise UserError(f"{folder}: another process writes embeddings to it; wait for it or stop it first") from error


def _written(settings: Settings, source: Source, writer: Writer, title: str, left_out: int) -> dict[str, Any]:
    """Embed what is missing, and print what was done; the progress counts all images."""
    encoder = key_of((fingerprint(source.encoder), writer.layout.classes))
    parts = {name: parts_of(source, name, settings.embed.rows, encoder) for name in source.splits}
    missing = {name: writer.missing(found) for name, found in parts.items()}
    total, todo = (sum(map(len, _all(found))) for found in (parts, missing))
    if changed := sum(writer.exists(part) for part in _all(missing)):
        told = "1 part is" if changed == 1 else f"{changed} parts are"
        print(f"{told} of other images, weights or rows, or broken, and made again", flush=True)
    begun = time.monotonic()
    with tqdm(total=total, initial=total - todo, desc="embedding", unit="img", leave=False, delay=2) as bar:
        for name, found in missing.items():
            for part, rows in rows_of(source, name, found, bar.update):
                writer.write(part, rows)
    seconds = time.monotonic() - begun
    files = {name: writer.finish(found) for name, found in parts.items()}
    folder = folder_of(settings)
    counts = {name: (len(images), len(files[name])) for name, images in source.splits.items()}
    print(_closing(title, counts, todo, seconds), flush=True)
    if left_out:
        print(f"  {left_out:,} broken images of the data set are left out", flush=True)
    print(f"  embeddings in {folder}", flush=True)
    return {
        "folder": str(folder),
        "images": total,
        "embedded": todo,
        "left_out": left_out,
        "files": [str(f) for f in _all(files)],
    }


def _all(found: Mapping[str, Sequence[Any]]) -> list[Any]:
    return [item for items in found.values() for item in items]


def _closing(title: str, counts: Mapping[str, tuple[int, int]], done: int, seconds: float) -> str:
    """Return the last lines: images and files of each split, and how long it took."""
    width = max(map(len, counts))
    lines = [f"  {name:<{width}}  {images:,} images, {_files(files)}" for name, (images, files) in counts.items()]
    total = sum(images for images, _ in counts.values())
    speed = f"in {duration(seconds)}, {done / seconds:,.0f} images/s" if done else ""
    if done == total:
        told = f"{total:,} images embedded {speed}"
    else:
        told = f"{total - done:,} images were embedded already" + (f", {done:,} now {speed}" if done else "")
    return "\n".join([title, *lines, f"  {told}"])


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count:,} files"
