"""What the training loop costs over a bare one: the same model, images, augmentation, loss and optimiser."""

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from dinodiet.backbones import timm_backbone
from dinodiet.data.dataset import open_dataset
from dinodiet.data.loader import TrainLoader
from dinodiet.data.sources.digits import digits
from dinodiet.data.views.views import SingleView
from dinodiet.methods.diet import DIET
from dinodiet.run.monitor import Monitor, Pace
from dinodiet.run.trackers import NoTracker
from dinodiet.schedules import Cosine
from dinodiet.store.rundir import RunDir
from dinodiet.store.status import Status
from dinodiet.training.loop import Optimisation, fit
from dinodiet.training.optim import build_fused
from dinodiet.training.state import TrainState
from dinodiet.types import Batch, Clock, World
from tests.bench.rows import Note
from tests.methods import assemble

STEPS, PAIRS = 10, 4


def build(fused: bool = True) -> tuple[DIET, torch.optim.Optimizer, TrainLoader]:
    torch.manual_seed(0)
    data = open_dataset(digits(), image_size=32)
    names: dict[str, str | None] = {"lite0": "tf_efficientnet_lite0.in1k"}
    backbone = timm_backbone(data.spec, size="lite0", names=names, feature="pooled", weights="none")
    method = assemble.diet(backbone, data.spec, views=partial(SingleView, strength=2), head__warmup_fraction=0.0)
    method.to(memory_format=torch.channels_last)
    make = partial(torch.optim.AdamW, lr=1e-4) if fused else partial(torch.optim.AdamW, lr=1e-4, fused=False)
    optimizer = build_fused(make, [group.as_dict() for group in method.param_groups()])
    return method, optimizer, TrainLoader(data.pretext, 32, seed=0)


def bare_loop(batches: Iterator[Batch], fused: bool) -> Callable[[], None]:
    method, optimizer, _ = build(fused)
    generator = torch.Generator().manual_seed(0)
    method.train()

    def run() -> None:
        for batch in itertools.islice(batches, STEPS):
            (view,) = method.views(batch.images, generator)
            logits = method.head.linear(F.normalize(method.backbone(view), dim=1))
            loss = F.cross_entropy(logits, batch.index, label_smoothing=0.2)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return run


def our_loop(folder: Path, batches: Iterator[Batch], loader: TrainLoader) -> Callable[[], None]:
    method, optimizer, _ = build()
    status = Status(RunDir(folder))
    clock = Clock(0, STEPS, loader.steps_per_epoch)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    monitor = Monitor(
        RunDir(folder),
        TrainState(method, optimizer, scaler, clock),
        NoTracker(),
        status,
        Pace(log_every=10, checkpoint_seconds=1e9),
        batch_size=32,
        validate=dict,
        save=lambda step, seen: None,
    )
    settings = Optimisation(lr=Cosine(1e-4, warmup_fraction=0.1), weight_decay=0.05)

    def run() -> None:
        with monitor.watching(clock):
            fit(method, batches, optimizer, scaler, settings, clock, World(), on_step=monitor.on_step)

    return run


def ratios(first: Callable[[], None], second: Callable[[], None], pairs: int) -> list[float]:
    """Return first / second in CPU seconds, pair by pair, in order; they alternate, after a pair that warms up."""
    found = []
    for pair in range(pairs + 1):
        seconds = {}
        for run in (first, second) if pair % 2 else (second, first):
            begun = time.process_time()  # not disturbed by what else the machine does
            run()
            seconds[run] = time.process_time() - begun
        found.append(seconds[first] / seconds[second])
    return sorted(found[1:])


def report(note: Note, what: str, found: list[float]) -> float:
    """Print the median and the quartiles, and return the lower one: what is slower is slower beyond noise."""
    note(what, found, ".3f")
    lower, median, upper = statistics.quantiles(found, n=4)
    print(f"\n{what}, CPU seconds, {len(found)} pairs: median {median:.3f}, quartiles {lower:.3f} to {upper:.3f}")
    return lower


@pytest.mark.bench
def test_the_loop_costs_at_most_three_percent(tmp_path: Path, note: Note) -> None:
    _, _, loader = build()
    ours = our_loop(tmp_path, loader.batches(0), loader)
    same, plain = (bare_loop(loader.batches(0), fused) for fused in (True, False))
    report(note, f"{STEPS} steps, loop / bare loop with AdamW as it comes", ratios(ours, plain, PAIRS // 2))
    assert report(note, f"{STEPS} steps, loop / bare loop with the same AdamW", ratios(ours, same, PAIRS)) <= 1.03


@pytest.mark.bench
def test_one_pass_for_the_optimiser_is_faster_than_one_for_each_tensor(note: Note) -> None:
    steps = []
    for fused in (True, False):
        method, optimizer, _ = build(fused)
        for parameter in method.parameters():
            parameter.grad = torch.ones_like(parameter)
        steps.append(optimizer.step)
    assert (
        report(note, "AdamW on EfficientNet-Lite0 and 1,000 classes, fused / loop", ratios(steps[0], steps[1], 12)) < 1
    )
