"""What the loop and the parts of SimCLR, BYOL, LeJEPA and MAE cost over a bare loop that spells the same step out."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dinodiet.config.settings import settings_of
from dinodiet.run.monitor import Monitor, Pace
from dinodiet.run.parts import Parts, build_parts
from dinodiet.run.train import train
from dinodiet.store.rundir import RunDir
from dinodiet.store.status import Status
from dinodiet.types import Batch, Clock
from tests.bench.rows import Note
from tests.bench.test_loop import ratios, report
from tests.running import CHOICES, composed

STEPS, PAIRS, BATCH = 4, 4, 32
MODEL = (
    "model=vit_tiny",
    "model.patch_size=8",
    "+model.model_args={depth: 2}",
    "dataset=digits",
    "dataset.image_size=32",
)
WORDS = {
    "simclr": ("method.head.hidden_dims=[512]",),
    "byol": ("method.head.hidden_dims=[512]", "method.predictor.hidden_dims=[512]"),
    "lejepa": ("method.views.crops=2+2x16", "method.head.hidden_dims=[512]"),
    "mae": ("method.head.width=192", "method.head.heads=3"),
}
Step = Callable[[Any, Batch, torch.Generator, Clock], Tensor]


def build(folder: Path, name: str) -> Parts:
    torch.manual_seed(0)
    whole = ("method.trainable=all", "method.head.warmup_fraction=0", f"schedule.batch_size={BATCH}", "tuned=none")
    words = (*MODEL, f"method={name}", "device=cpu", "eval=knn", *whole, *WORDS.get(name, ()))
    return build_parts(settings_of(composed(folder, *words, base=()), {**CHOICES, "method": name}))


def simclr(method: Any, batch: Batch, generator: torch.Generator, clock: Clock) -> Tensor:
    views = method.views(batch.images, generator)
    rows = F.normalize(method.head(method.backbone(torch.cat(views))), dim=1)
    logits = (rows @ rows.T / 0.5).fill_diagonal_(-torch.inf)
    return F.cross_entropy(logits, torch.arange(2 * BATCH).roll(BATCH))


def byol(method: Any, batch: Batch, generator: torch.Generator, clock: Clock) -> Tensor:
    views, predictions, targets = method.views(batch.images, generator), [], []
    for view in views:
        predictions.append(method.predictor(method.head(method.backbone(view))))
        with torch.no_grad():
            targets.append(method.teacher.head(method.teacher.backbone(view)))
    cosines = [F.cosine_similarity(p, t, dim=1).mean() for p, t in zip(predictions, targets[::-1], strict=True)]
    return 4 - 2 * (cosines[0] + cosines[1])


def lejepa(method: Any, batch: Batch, generator: torch.Generator, clock: Clock) -> Tensor:
    """The loss is that of the published minimal code, with all knots at once."""
    views = method.views(batch.images, generator)
    embeddings = torch.cat([method.backbone(torch.cat(views[:2])), method.backbone(torch.cat(views[2:]))])
    rows = method.head(embeddings).view(len(views), BATCH, -1)
    knots = torch.linspace(0, 3, 17)
    gauss = (-knots.square() / 2).exp()
    weights = torch.full((17,), 2 * 3 / 16)
    weights[[0, -1]] = 3 / 16
    directions = F.normalize(torch.randn(rows.shape[-1], 1024), dim=0)
    angles = (rows @ directions)[..., None] * knots
    errors = (angles.cos().mean(1) - gauss).square() + angles.sin().mean(1).square()
    sigreg = (errors @ (weights * gauss)).mean() * BATCH
    loss: Tensor = 0.98 * (rows.mean(0) - rows).square().mean() + 0.02 * sigreg
    return loss


def mae(method: Any, batch: Batch, generator: torch.Generator, clock: Clock) -> Tensor:
    (images,) = method.views(batch.images, generator)
    order = torch.rand(BATCH, 16, generator=generator).argsort(dim=1)
    visible, hidden = order[:, :4], order[:, 4:]
    tokens = method.backbone.visible_tokens(images, visible)
    pixels = method.normalize(images).view(BATCH, 3, 4, 8, 4, 8).permute(0, 2, 4, 3, 5, 1).reshape(BATCH, 16, -1)
    targets = pixels.gather(1, hidden[:, :, None].expand(-1, -1, pixels.shape[-1]))
    targets = (targets - targets.mean(-1, keepdim=True)) / (targets.var(-1, keepdim=True) + 1e-6).sqrt()
    loss: Tensor = (method.head(tokens, visible, hidden) - targets).square().mean()
    return loss


BARE: dict[str, Step] = {"simclr": simclr, "byol": byol, "lejepa": lejepa, "mae": mae}


def bare_loop(parts: Parts, name: str) -> Callable[[], None]:
    method: Any = parts.method.train()
    optimizer, generator = parts.state.optimizer, torch.Generator().manual_seed(0)
    batches, clock = _batches(parts), parts.state.clock
    teacher = list(method.teacher.parameters()) if name == "byol" else []
    student = [*method.backbone.parameters(), *method.head.parameters()] if name == "byol" else []

    def run() -> None:
        for batch in itertools.islice(batches, STEPS):
            loss = BARE[name](method, batch, generator, clock)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if teacher:
                with torch.no_grad():
                    torch._foreach_lerp_(teacher, student, 0.004)

    return run


def our_loop(folder: Path, parts: Parts) -> Callable[[], None]:
    run_dir, clock, batches = RunDir(folder), Clock(0, STEPS, parts.loader.steps_per_epoch), _batches(parts)
    monitor = Monitor(
        run_dir,
        parts.state,
        parts.tracker,
        Status(run_dir),
        Pace(log_every=10, checkpoint_seconds=1e9),
        batch_size=BATCH,
        validate=dict,
        save=lambda step, seen: None,
    )

    def run() -> None:
        with monitor.watching(clock):
            train(parts, monitor.on_step, clock=clock, batches=batches)

    return run


def _batches(parts: Parts) -> Iterator[Batch]:
    return parts.loader.batches(0)


@pytest.mark.bench
@pytest.mark.parametrize("name", BARE)
def test_a_step_costs_at_most_three_percent(name: str, tmp_path: Path, note: Note) -> None:
    ours, bare = our_loop(tmp_path, build(tmp_path, name)), bare_loop(build(tmp_path, name), name)
    found = ratios(ours, bare, PAIRS)
    assert report(note, f"{name}, {STEPS} steps, loop / bare loop", found) <= 1.03


@pytest.mark.bench
@pytest.mark.parametrize("name", ["simclr", "byol", "mae"])
def test_the_bare_loop_spells_the_same_loss_out(name: str, tmp_path: Path) -> None:
    """LeJEPA's differs in the directions that it draws."""
    parts = build(tmp_path, name)
    method, clock = parts.method.train(), parts.state.clock
    batch = next(_batches(parts))
    with torch.no_grad():
        bare = BARE[name](method, batch, clock.generator("views"), clock)
        assert bare.item() == pytest.approx(method(batch, clock)["loss"].item(), rel=0.05 if name == "mae" else 1e-5)
