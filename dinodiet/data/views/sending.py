"""Small tensors from the CPU to where the pixels are, without waiting for them."""

from __future__ import annotations

import torch
from torch import Tensor


def send(values: Tensor, device: torch.device) -> Tensor:
    """Return a CPU tensor on `device`; a copy to a GPU is queued, and neither side waits for the other."""
    if device.type == "cuda":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)
