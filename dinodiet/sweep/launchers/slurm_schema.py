"""The keys of `hydra/launcher=slurm`: hydra-submitit-launcher's own, and what dinodiet adds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hydra_plugins.hydra_submitit_launcher.config import SlurmQueueConf


@dataclass
class SlurmConfig(SlurmQueueConf):  # type: ignore[misc]  # the plugin carries no types
    """See `conf/hydra/launcher/slurm.yaml` and `dinodiet.sweep.launchers.slurm.Slurm`."""

    _target_: str = "dinodiet.sweep.launchers.slurm.Slurm"
    name: str = "dinodiet"
    on_interrupt: str = "cancel"
    detach: bool = False
    poll_seconds: float = 5.0
    timeout_min: Any = 240  # auto, too
    tasks_per_node: int | None = None
    runs_per_gpu: int = 1
    gpu_mem_gb: float | None = None
