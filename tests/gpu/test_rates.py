"""Rates on a GPU against bare loops, and shares of the card's peak; in the slow suite the CPU runs the same, small."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dinodiet.backbones.timm import timm_backbone
from dinodiet.data.images import TensorImages
from dinodiet.data.loader import TrainLoader
from dinodiet.data.views.views import MultiCrop, SingleView
from dinodiet.evals.knn import COLUMNS, ROWS, nearest
from dinodiet.features.embed import embed
from dinodiet.training.loop import Optimisation, fit
from dinodiet.training.optim import build_fused
from dinodiet.types import Clock, DataSpec, Runtime, World
from tests.bench.rows import Note
from tests.methods import assemble

from .peaks import operations, peak_of, share_of_peak

PAIRS, STEPS = 5, 10
NAMES: dict[str, str | None] = {"base": "vit_base_patch16_224", "tiny": "vit_tiny_patch16_224"}


class Sizes:
    """Sizes that fill a GPU, or that a CPU does in seconds."""

    def __init__(self, device: torch.device) -> None:
        large = device.type == "cuda"
        self.model, self.side, self.batch, self.images = ("base", 224, 64, 512) if large else ("tiny", 32, 8, 24)
        self.args: dict[str, Any] = {} if large else {"depth": 2, "patch_size": 8}
        self.crops = "2x224+8x96" if large else "2x32+2x16"
        self.rows, self.columns, self.width = (ROWS * 16, COLUMNS * 4, 768) if large else (64, 256, 32)
        self.precision: Any = "bf16" if large else "fp32"
        self.pairs, self.steps = (PAIRS, STEPS) if large else (1, 2)

    def backbone(self) -> Any:
        spec = DataSpec("bench", num_images=self.images, num_labels=10, image_size=self.side)
        torch.manual_seed(0)
        arguments: Any = {"size": self.model, "names": NAMES, "feature": "cls", "weights": "none"}
        return spec, timm_backbone(spec, **arguments, model_args=self.args)

    def pixels(self) -> Tensor:
        shape = (self.images, 3, self.side, self.side)
        return torch.randint(256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)

    def labelled(self) -> TensorImages:
        return TensorImages(self.pixels(), torch.arange(self.images) % 10)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(run: Callable[[], object], device: torch.device) -> float:
    wait(device)
    begun = time.perf_counter()
    run()
    wait(device)
    return time.perf_counter() - begun


def pairs(ours: Callable[[], object], bare: Callable[[], object], device: torch.device, count: int) -> list[Any]:
    """Return the seconds of ours and of the bare loop, pair by pair in turn, after one that warms up."""
    found = [
        {run: seconds(run, device) for run in ((ours, bare) if turn % 2 else (bare, ours))} for turn in range(count + 1)
    ]
    return [(pair[ours], pair[bare]) for pair in found[1:]]


def told(note: Note, what: str, found: list[Any], device: torch.device, most: float) -> None:
    """Note ratios; on a GPU, hold them against what is claimed."""
    ratios = [ours / bare for ours, bare in found]
    note(f"{what}, time over a bare loop", ratios)
    print(f"\n{what}, time over a bare loop: {statistics.median(ratios):.3f}")
    if device.type == "cuda":
        assert statistics.median(ratios) < most


def test_a_training_step_over_a_bare_loop(device: torch.device, note: Note) -> None:
    sizes = Sizes(device)
    spec, backbone = sizes.backbone()
    views = partial(SingleView, strength=1)
    method: Any = assemble.diet(backbone, spec, views=views, head__warmup_fraction=0.0, trainable="all").to(device)
    method.train()
    make = partial(torch.optim.AdamW, lr=1e-4)
    optimizer = build_fused(make, [group.as_dict() for group in method.param_groups()])
    loader, world = TrainLoader(sizes.labelled(), sizes.batch, seed=0), World(0, 1, device)
    runtime, settings = Runtime(world, sizes.precision), Optimisation(1e-4, 0.05, precision=sizes.precision)
    scaler = torch.amp.GradScaler(device.type, enabled=False)
    clock = Clock(0, sizes.steps, loader.steps_per_epoch)

    def ours() -> None:
        batches = loader.batches(0)
        fit(method, batches, optimizer, scaler, settings, clock, world, on_step=lambda *_: None)

    def step(images: Any, index: Tensor) -> None:
        (view,) = method.views(images, torch.Generator().manual_seed(0))
        with runtime.autocast():
            logits = method.head.linear(F.normalize(method.backbone(view), dim=1))
            loss = F.cross_entropy(logits.float(), index, label_smoothing=0.2)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    def bare() -> None:
        for batch in itertools.islice(loader.batches(0), sizes.steps):
            here = batch.to(device)
            step(here.images, here.index)

    found = pairs(ours, bare, device, sizes.pairs)
    batch = next(loader.batches(0)).to(device)
    done = sizes.steps * operations(lambda: step(batch.images, batch.index))
    speed = share_of_peak(done, statistics.median(mine for mine, _ in found), device, sizes.precision)
    what = f"DIET's step, ViT-{sizes.model} at {sizes.side} px, batch {sizes.batch}, {sizes.precision}"
    print(f"\n{what}: {speed}")
    note(what, speed)
    told(note, what, found, device, 1.1)


def test_crops_over_bare_resizing(device: torch.device, note: Note) -> None:
    """The bare loop resizes the whole batch once for each crop, and draws and changes nothing."""
    sizes = Sizes(device)
    _, backbone = sizes.backbone()
    views, images = MultiCrop(backbone.input, sizes.crops), sizes.pixels().to(device)
    sides = [view.shape[-1] for view in views(images[:2], torch.Generator())]

    def bare() -> None:
        for side in sides:
            F.interpolate(images.float() / 255, size=(side, side), mode="bicubic", antialias=True).clamp_(0, 1)

    found = pairs(lambda: views(images, torch.Generator().manual_seed(0)), bare, device, sizes.pairs)
    rate = len(images) / statistics.median(ours for ours, _ in found)
    note(f"crops {sizes.crops}", f"{rate:,.0f} images/s")
    told(note, f"crops {sizes.crops} of {len(images)} images of {sizes.side} px", found, device, 6)


def test_embedding_over_a_bare_loop(device: torch.device, note: Note) -> None:
    sizes = Sizes(device)
    _, backbone = sizes.backbone()
    network, images, pixels = backbone.to(device).eval(), sizes.labelled(), sizes.pixels()
    runtime = Runtime(World(0, 1, device), sizes.precision, 0, sizes.batch)

    def ours() -> None:
        embed(network, images, network.input, runtime, num_labels=10, multilabel=False)

    @torch.inference_mode()
    def bare() -> None:
        with runtime.autocast():
            for part in pixels.split(sizes.batch):
                network(part.to(device).float() / 255).float().cpu()

    found = pairs(ours, bare, device, sizes.pairs)
    speed = share_of_peak(operations(bare), statistics.median(mine for mine, _ in found), device, sizes.precision)
    note(f"embedding, ViT-{sizes.model} at {sizes.side} px, {sizes.precision}", speed)
    told(note, f"embedding, ViT-{sizes.model} at {sizes.side} px", found, device, 1.2)


def test_neighbours_over_their_matrix_products(device: torch.device, note: Note) -> None:
    sizes = Sizes(device)
    drawn = torch.Generator().manual_seed(0)
    columns, rows = (
        F.normalize(torch.randn(count, sizes.width, generator=drawn), dim=1).to(device)
        for count in (sizes.columns, sizes.rows)
    )

    def bare() -> None:
        for part in columns.split(COLUMNS):
            for few in rows.split(ROWS):
                torch.mm(few, part.T)

    found = pairs(lambda: nearest(columns, rows, 20, device), bare, device, sizes.pairs)
    speed = share_of_peak(operations(bare), statistics.median(mine for mine, _ in found), device, "fp32")
    what = f"k-NN, {sizes.columns:,} x {sizes.rows:,} x {sizes.width}, k=20"
    note(what, speed)
    told(note, what, found, device, 3)


@pytest.mark.slow
def test_peaks_are_found_by_the_name_of_a_card() -> None:
    assert peak_of("NVIDIA H100 80GB HBM3", "bf16") == 989e12
    assert peak_of("NVIDIA H100 PCIe", "bf16") == 756e12
    assert peak_of("NVIDIA L40S", "fp32") == 91.6e12
    assert peak_of("NVIDIA A100-SXM4-80GB", "fp32") == 19.5e12
    assert peak_of("another", "fp32") is None and peak_of("NVIDIA L4", "fp64") is None
    assert operations(lambda: torch.ones(3, 4) @ torch.ones(4, 5)) == 2 * 3 * 4 * 5
    assert share_of_peak(3 * 10**12, 2.0, torch.device("cpu"), "fp32") == "1.5 TFLOP/s"
