"""mode=views: a picture of what a method would train on in its first step, made before any training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dinodiet.backbones.meta import backbone_on_meta, without_weights
from dinodiet.config.build import build
from dinodiet.config.settings import Settings
from dinodiet.data.loader import TrainLoader
from dinodiet.errors import NotOnDisk, UserError
from dinodiet.evals.pictures.sheet import Row, pixels, rows_of_pictures, stored, write_picture
from dinodiet.methods.base import MethodBase
from dinodiet.run.backbone import build_backbone
from dinodiet.run.finished import run_dir_of
from dinodiet.run.needs import method_on_meta
from dinodiet.run.parts import clock_of, images_for_views, open_data, runtime_of, trained_images
from dinodiet.types import Batch, Data, DataSpec, Method, ShownView

GREY = 0.5  # of patches that a network does not see
FOLDER = "views"  # of a study


def show_views(settings: Settings) -> dict[str, Any]:
    """Write a picture of the first images of the first batch, a row each: as loaded, and every view made of them.

    The views are those of the run that the settings describe, bit for bit: its seed, step 0, its batch. Nothing is
    trained, and no weights are loaded, unless the model cannot be built without them.

    Raises:
        UserError: a setting is refused, or the method makes no views.
    """
    runtime, data = runtime_of(settings), open_data(settings.dataset, cache=settings.cache)
    method = method_of(settings, data.spec)
    if not method.trains:
        raise UserError(f"method: {settings.choices['method']} makes no views; choose a method that trains")
    images = trained_images(data, method)
    with torch.no_grad(), runtime.autocast():
        rows = list(_rows(settings, data, method, runtime.device))
    path = settings.study / FOLDER / f"{run_dir_of(settings).path.name}.png"
    write_picture(path, rows_of_pictures(rows))
    names = list(dict.fromkeys(name for row in rows for name in row.names))
    print(f"{len(rows)} of {len(images):,} images: {', '.join(names)}\n  views in {path}", flush=True)
    return {"file": str(path), "images": len(rows), "views": names[1:]}


def first_views(
    settings: Settings, data: Data, method: MethodBase, device: torch.device
) -> Iterator[tuple[Batch, list[ShownView]]]:
    """Yield the parts of the first step's batch, each with the views that the method makes of it.

    A batch has one part, unless gradients are accumulated.

    Raises:
        UserError: the schedule makes no step, or the images cannot be read.
    """
    drafts = images_for_views(data, method)
    images = trained_images(data, method) if drafts is None else drafts
    schedule = settings.schedule
    loader = TrainLoader(images, schedule.batch_size, settings.seed, settings.num_workers, parts=schedule.accumulate)
    clock = clock_of(settings, loader, trains=True)
    for part, batch in enumerate(next(loader.batches(0)).split(schedule.accumulate)):
        moved = batch.to(device)
        if not method.reads_images:  # views that were kept depend on no other image of a batch
            moved = _first(moved, settings.views.images)
        yield moved, method.shown_views(moved, replace(clock, part=part), images)


def _first(batch: Batch, number: int) -> Batch:
    label = None if batch.label is None else batch.label[:number]
    return Batch(batch.images[:number], label, batch.index[:number])


def _rows(settings: Settings, data: Data, method: MethodBase, device: torch.device) -> Iterator[Row]:
    wanted = settings.views.images
    for batch, shown in first_views(settings, data, method, device):
        if not shown:
            raise UserError(f"method: {settings.choices['method']} does not show its views; give it shown_views")
        for place in range(min(wanted, len(batch))):
            names = ["image", *(view.name for view in shown)]
            yield Row(names, [stored(batch.images[place].cpu()), *(pixels(seen(view, place)) for view in shown)])
        wanted -= len(batch)
        if wanted <= 0:
            return


def seen(view: ShownView, place: int) -> Tensor:
    """Return the view (3, s, s) of one image on the CPU; patches that the network does not see are grey."""
    image = view.images[place].float().cpu()
    if view.hidden is None:
        return image
    hidden = view.hidden[place].cpu()[None, None].float()
    whole = torch.nn.functional.interpolate(hidden, size=image.shape[-2:], mode="nearest")[0]
    return torch.where(whole.bool(), GREY, image)


def method_of(settings: Settings, spec: DataSpec) -> MethodBase:
    """Return the method, without values where its model can be built so, and expects what it would with weights."""
    if without_weights(settings.model) == settings.model:
        try:
            return method_on_meta(settings, backbone_on_meta(settings.model, spec), spec)
        except (NotOnDisk, NotImplementedError, RuntimeError):  # parts that look at values
            pass
    backbone = build_backbone(settings, spec)
    method: MethodBase = build(settings.method, "method", Method)(backbone=backbone, spec=spec)
    return method
