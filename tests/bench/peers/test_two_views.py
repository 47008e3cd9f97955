"""dinodiet's SimCLR and BYOL against lightly's own, as its documentation writes them: one step on the same two views.

`pip install -e ".[dev,peers]"` brings lightly. Both sides have ViT-tiny of timm, the same heads, batch and AdamW, in
float32 on one thread, and are handed views that are made already. They take turns; seconds are the CPU's.
"""

from __future__ import annotations

import copy
import importlib.util
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from dinodiet.config.settings import settings_of
from dinodiet.run.parts import build_parts
from dinodiet.training.loop import fit
from dinodiet.types import Batch, Clock
from tests.bench.peers.our_side import Fixed
from tests.bench.rows import Note
from tests.running import CHOICES, composed

pytestmark = [
    pytest.mark.bench,
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(importlib.util.find_spec("lightly") is None, reason='pip install -e ".[dev,peers]" brings it'),
]

SIDE, PATCH, BATCH, LR, STEPS, PAIRS = 32, 8, 64, 1e-4, 3, 8
HEADS = {
    "simclr": ("method.head.hidden_dims=[2048]", "method.head.bias=false"),
    "byol": ("method.head.hidden_dims=[4096]", "method.predictor.hidden_dims=[4096]"),
}


def two_views() -> list[Tensor]:
    return list(torch.rand(2, BATCH, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)))


def vit() -> Any:
    return timm.create_model("vit_tiny_patch16_224", img_size=SIDE, patch_size=PATCH, num_classes=0)


def ours(folder: Path, name: str) -> Callable[[], None]:
    """Return `STEPS` steps of the loop of a run."""
    model = ("model=vit_tiny", f"model.patch_size={PATCH}", "model.feature=cls", f"dataset.image_size={SIDE}")
    training = ("method.trainable=all", "method.head.warmup_fraction=0", f"schedule.batch_size={BATCH}", "tuned=none")
    words = ("dataset=digits", f"method={name}", "device=cpu", "eval=knn", *model, *training, *HEADS[name])
    parts = build_parts(settings_of(composed(folder, *words, base=()), {**CHOICES, "method": name}))
    method: Any = parts.method
    method.views = Fixed(two_views())
    batch = Batch(torch.empty(BATCH, 3, 0, 0, dtype=torch.uint8), None, torch.arange(BATCH))
    clock, scaler = Clock(0, STEPS, STEPS), torch.amp.GradScaler("cpu", enabled=False)

    def run() -> None:
        batches = iter([batch] * STEPS)
        fit(
            method,
            batches,
            parts.state.optimizer,
            scaler,
            parts.optimisation,
            clock,
            parts.runtime.world,
            on_step=lambda *_: None,
        )

    return run


class LightlySimCLR(nn.Module):
    """As lightly's example."""

    def __init__(self) -> None:
        super().__init__()
        from lightly.loss import NTXentLoss
        from lightly.models.modules import SimCLRProjectionHead

        self.backbone = vit()
        self.projection_head = SimCLRProjectionHead(self.backbone.num_features, 2048, 128)
        self.criterion = NTXentLoss(temperature=0.5)

    def forward(self, views: list[Tensor]) -> Tensor:
        """Return the loss of two views."""
        first, second = (self.projection_head(self.backbone(view).flatten(start_dim=1)) for view in views)
        loss: Tensor = self.criterion(first, second)
        return loss

    def before(self) -> None:
        """Do nothing."""


class LightlyBYOL(nn.Module):
    """As lightly's example: the momentum copies are updated before the step."""

    def __init__(self) -> None:
        super().__init__()
        from lightly.loss import NegativeCosineSimilarity
        from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead
        from lightly.models.utils import deactivate_requires_grad

        self.backbone = vit()
        self.projection_head = BYOLProjectionHead(self.backbone.num_features, 4096, 256)
        self.prediction_head = BYOLPredictionHead(256, 4096, 256)
        self.backbone_momentum = copy.deepcopy(self.backbone)
        self.projection_head_momentum = copy.deepcopy(self.projection_head)
        deactivate_requires_grad(self.backbone_momentum)
        deactivate_requires_grad(self.projection_head_momentum)
        self.criterion = NegativeCosineSimilarity()

    def forward(self, views: list[Tensor]) -> Tensor:
        """Return the loss of two views."""
        predictions = [self.prediction_head(self.projection_head(self.backbone(view).flatten(1))) for view in views]
        targets = [self._momentum(view) for view in views]
        loss: Tensor = 0.5 * (self.criterion(predictions[0], targets[1]) + self.criterion(predictions[1], targets[0]))
        return loss

    def _momentum(self, view: Tensor) -> Tensor:
        projected: Tensor = self.projection_head_momentum(self.backbone_momentum(view).flatten(start_dim=1))
        return projected.detach()

    def before(self) -> None:
        """Move the momentum copies."""
        from lightly.models.utils import update_momentum

        update_momentum(self.backbone, self.backbone_momentum, m=0.996)
        update_momentum(self.projection_head, self.projection_head_momentum, m=0.996)


def theirs(network: LightlySimCLR | LightlyBYOL) -> Callable[[], None]:
    """Return `STEPS` steps of the loop of lightly's example."""
    views = two_views()
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LR, weight_decay=0.05)

    def run() -> None:
        for _ in range(STEPS):
            network.before()
            loss = network(views)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    return run


def cpu_seconds(run: Callable[[], None]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


@pytest.mark.parametrize("name", HEADS)
def test_a_step_costs_no_more_than_that_of_lightly(name: str, tmp_path: Path, note: Note) -> None:
    sides = {"ours": ours(tmp_path, name), "theirs": theirs(LightlySimCLR() if name == "simclr" else LightlyBYOL())}
    for run in sides.values():
        run()
    pairs = []
    for turn in range(PAIRS):
        spent = {side: cpu_seconds(sides[side]) for side in (sides if turn % 2 else reversed(sides))}
        pairs.append((spent["ours"], spent["theirs"]))
    ratios = [other / own for own, other in pairs]
    low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
    speeds = [STEPS * BATCH / statistics.median(side) for side in zip(*pairs, strict=True)]
    print(f"\n{name}, ViT-tiny/{PATCH}, {SIDE} px, batch {BATCH}: {speeds[0]:.0f} against {speeds[1]:.0f} images")
    print(f"  per CPU second, {median:.2f} ({low:.2f} to {high:.2f}) times as fast, {PAIRS} pairs")
    note(f"{name}'s step, ViT-tiny/{PATCH} at {SIDE} px, batch {BATCH}, CPU time of lightly over ours", ratios)
    assert high >= 1  # fails where the measurement contradicts the claim, not where it is noise
