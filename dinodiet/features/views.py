"""What a frozen encoder makes of several augmented views of each image."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dinodiet.backbones.modes import eval_mode
from dinodiet.features.embed import in_order
from dinodiet.types import Images, Runtime, Views

TOGETHER = 32  # images whose views are drawn at once; of the evaluation's batch size no number may depend


@torch.no_grad()
def embedded_views(
    encoder: nn.Module, images: Images, views: Views, number: int, runtime: Runtime, generator: torch.Generator
) -> Tensor:
    """Return float32 (N, number, D) on the CPU: the embeddings of so many first views of each image, drawn one by one.

    The encoder lies on the runtime's device; each of its modules gets the mode back that it had.

    Raises:
        MachineLimit, RuntimeError: as `in_order`.
    """

    def encoded(batch: Tensor | list[Tensor]) -> Tensor:
        view = views(batch, generator)[0]
        with runtime.autocast():
            return torch.cat([encoder(part).float().cpu() for part in view.split(runtime.batch_size)])

    found = []
    with eval_mode(encoder):
        for batch in in_order(images, TOGETHER, runtime.num_workers, pin_memory=False):
            there = batch.to(runtime.device) if isinstance(batch, Tensor) else [i.to(runtime.device) for i in batch]
            found.append(torch.stack([encoded(there) for _ in range(number)], dim=1))
    return torch.cat(found)
