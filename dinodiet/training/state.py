"""What resumes a training: the weights, the optimiser's state and the loss scaler's, and the step they belong to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import Optimizer

from dinodiet.methods.base import MethodBase
from dinodiet.training.shards import own_method, own_optimizer, whole_method, whole_optimizer
from dinodiet.types import Clock


@dataclass
class TrainState:
    """Everything that a step changes. `method` holds all weights; `clock` tells the step that they belong to."""

    method: MethodBase
    optimizer: Optimizer
    scaler: torch.amp.GradScaler
    clock: Clock

    def content(self) -> dict[str, Any]:
        """Return the state as plain values and tensors, for a checkpoint; all processes call it, the first has all."""
        return {
            "step": self.clock.step,
            "method": whole_method(self.method),
            "optimizer": whole_optimizer(self.optimizer, self.method),
            "scaler": self.scaler.state_dict(),
        }

    def restore(self, content: dict[str, Any]) -> None:
        """Take up the state that a checkpoint holds."""
        self.method.load_state_dict(own_method(content["method"], self.method))
        self.optimizer.load_state_dict(own_optimizer(content["optimizer"], self.optimizer, self.method))
        self.scaler.load_state_dict(content["scaler"])
        self.clock = self.clock.at(content["step"])
