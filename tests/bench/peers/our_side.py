"""dinodiet's DINO: the parts that a run builds, its loader, loop and monitor."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from dinodiet.config.schema import RunConfig
from dinodiet.config.settings import settings_of
from dinodiet.data.dataset import RawSplits
from dinodiet.data.images import TensorImages
from dinodiet.methods.dino import DINO
from dinodiet.run.monitor import Monitor, Pace
from dinodiet.run.parts import build_parts
from dinodiet.store.rundir import RunDir
from dinodiet.store.status import Status
from dinodiet.training.loop import fit
from dinodiet.types import Batch
from tests.bench.peers import setting
from tests.bench.peers.setting import Meter, Setting
from tests.places import ROOT


def overrides(chosen: Setting) -> list[str]:
    """Return the words of the command line that make `method=dino` the training that all sides do."""
    crops = f"{setting.NUM_GLOBAL}x{chosen.size}+{chosen.num_local}x{chosen.local}"
    return [
        "model=vit_tiny",
        "dataset=digits",
        "method=dino",
        "tuned=none",
        "eval=knn",
        "device=cpu",
        f"dataset.image_size={chosen.size}",
        f"model.patch_size={chosen.patch}",
        f"method.views.crops={crops}",
        f"method.views.blur.sigma={list(setting.BLUR_SIGMA)}",
        f"method.head.out_dim={chosen.out_dim}",
        f"method.head.hidden_dims=[{setting.HIDDEN},{setting.HIDDEN}]",
        f"method.head.bottleneck_dim={setting.BOTTLENECK}",
        f"method.loss.teacher_temp={setting.TEACHER_TEMP}",
        "method.head.freeze_steps=0",
        "method.student.drop_path=0.0",
        f"schedule.batch_size={chosen.batch}",
        f"schedule.lr.value={setting.LR}",
        "schedule.lr_reference_batch=null",
        f"schedule.weight_decay={setting.WEIGHT_DECAY}",
        "schedule.clip_grad=null",
    ]


def generated(size: int, number: int) -> RawSplits:
    """Return the generated images as a dataset's source."""
    pixels = torch.from_numpy(setting.images(number, size)).permute(0, 3, 1, 2).contiguous()
    images = TensorImages(pixels, torch.from_numpy(np.arange(number) % setting.NUM_CLASSES))
    return RawSplits(name="generated", train=images, val=images, test=images, num_labels=setting.NUM_CLASSES)


@dataclasses.dataclass
class Fixed:
    """Views that are made already."""

    views: list[Tensor]
    num_global: int = setting.NUM_GLOBAL
    sides: list[int] = dataclasses.field(default_factory=list)
    draft_side: int | None = None
    fixed = False

    def __call__(self, images: Tensor | list[Tensor], generator: torch.Generator) -> list[Tensor]:
        return self.views


class Training:
    """Everything one training needs."""

    def __init__(self, chosen: Setting, batches: int = 12) -> None:
        self._folder = tempfile.TemporaryDirectory()
        words = [
            f"dataset.source._target_={__name__}.generated",
            f"+dataset.source.size={chosen.stored}",
            f"+dataset.source.number={batches * chosen.batch}",
            f"outputs_dir={self._folder.name}",
        ]
        ConfigStore.instance().store("schema", RunConfig)
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            cfg = compose("config", overrides=[*overrides(chosen), *words])
        self.settings = settings_of(cfg, {})
        self.parts = build_parts(self.settings)

    def run(self, steps: int) -> list[tuple[float, float]]:
        """Return the seconds of `steps` steps of the loop after a first one, see `Meter`."""
        meter, parts = Meter(), self.parts
        run_dir = RunDir(Path(self._folder.name))
        monitor = Monitor(
            run_dir,
            parts.state,
            parts.tracker,
            Status(run_dir),
            Pace(log_every=self.settings.log_every, checkpoint_seconds=1e9),
            batch_size=parts.loader.batch_size,
            validate=dict,
            save=lambda step, seen: None,
        )

        def on_step(*step: object) -> None:
            monitor.on_step(*step)  # type: ignore[arg-type]
            meter.step_done()

        clock = dataclasses.replace(parts.state.clock, total_steps=steps + 1)
        scaler = torch.amp.GradScaler("cpu", enabled=False)
        with monitor.watching(clock):
            batches = parts.loader.batches(0)
            fit(
                parts.method,
                batches,
                parts.state.optimizer,
                scaler,
                parts.optimisation,
                clock,
                parts.runtime.world,
                on_step=on_step,
            )
        return meter.steps

    def flops(self, views: list[Tensor]) -> int:
        """Return the operations of a step's matrix products, given its views."""
        method = self.parts.method
        assert isinstance(method, DINO)
        made, method.views = method.views, Fixed(views)
        rows = len(views[0])
        with FlopCounterMode(display=False) as counter:
            batch = Batch(torch.empty(rows, 3, 0, 0, dtype=torch.uint8), None, torch.arange(rows))
            method(batch, self.parts.state.clock)["loss"].backward()
        method.views = made
        self.parts.state.optimizer.zero_grad()
        return int(counter.get_total_flops())
