"""The layer of LoRA, made of peft's; imported only where it is used, as peft takes seconds to load."""

from __future__ import annotations

from typing import Any

from peft.tuners import lora
from torch import Tensor


class Adapted(lora.Linear):
    """A linear layer with an adapter, whose `weight` is what it computes with: some attentions multiply by it directly.

    timm's of BEiT, EVA and Swin V2 do, since their biases are kept apart.
    """

    @property
    def weight(self) -> Tensor:
        """Return the weight (out, in) with what the adapter adds to it."""
        base: Any = self.get_base_layer()
        weight: Tensor = base.weight + sum(self.get_delta_weight(name) for name in self.active_adapters)
        return weight
