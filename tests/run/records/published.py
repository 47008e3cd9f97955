"""Arrays of dinopl's trackers (github.com/safelix/dinopl), and small methods that show them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dinodiet.data.images import TensorImages
from dinodiet.types import Batch, Clock, InputSpec, Recorded, Runtime
from tests.places import REFERENCES

ARRAYS = np.load(REFERENCES / "dinopl" / "trackers.npz", allow_pickle=False)
CLOCK = Clock(0, 4, 2)
BATCH = Batch(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), None, torch.arange(2))
PARTS = {"enc": "encoder", "head": "head"}


def tensor(name: str) -> Tensor:
    """Return an array in float64."""
    return torch.from_numpy(ARRAYS[name]).double()


def value(name: str) -> float:
    return float(ARRAYS[name])


def network(role: str) -> dict[str, nn.Module]:
    """Return the encoder and head of a role: linear layers of float64."""
    parts = {}
    for theirs, ours in PARTS.items():
        weight, bias = tensor(f"parameters.{role}.{theirs}.weight"), tensor(f"parameters.{role}.{theirs}.bias")
        parts[ours] = nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
        parts[ours].weight.data, parts[ours].bias.data = weight, bias
    return dict(parts)


@dataclass
class Shown:
    """The member of a method that a record looks at."""

    parts: dict[str, dict[str, Any]]
    made: dict[str, Tensor] = field(default_factory=dict)

    def networks(self) -> dict[str, dict[str, Any]]:
        return self.parts


def recorded(method: Any) -> Recorded:
    images = TensorImages(torch.zeros(3, 3, 4, 4, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64))
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)])
    spec = InputSpec(4, (0.0,) * 3, (1.0,) * 3)
    return Recorded(method, optimizer, images, spec, Runtime(), CLOCK)
