"""Which numbers a method's heads make of embeddings."""

from __future__ import annotations

import torch
from torch import nn

from dinodiet.backbones.modes import eval_mode
from dinodiet.types import Backbone, Clock, Method


@torch.no_grad()
def readouts_of(method: Method, clock: Clock) -> list[str]:
    """Return what the student's head makes of embeddings: `projections`, `logits`; none without a head."""
    encoder = method.networks()["student"]["encoder"]
    assert isinstance(encoder, Backbone) and isinstance(encoder, nn.Module) and isinstance(method, nn.Module)
    device = next(encoder.parameters(), torch.empty(0)).device
    with eval_mode(method):
        return [*method.readout("student", torch.zeros(2, encoder.embed_dim, device=device), clock)]
