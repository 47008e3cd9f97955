"""What heads over prototypes have in common: hidden layers, and a last layer that is not trained at first."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence

from torch import Tensor, nn

from dinodiet.methods.parts import dino_defaults
from dinodiet.schedules import duration
from dinodiet.types import Clock


class PrototypeHead(nn.Module):
    """Embeddings (B, in_dim) -> logits (B, out_dim).

    Args:
        out_dim: number of prototypes.
        freeze_epochs, freeze_steps: how long the last layer is not trained; None (both): by the training's length.
        warmup_fraction: first part of the training in which the head is trained alone.

    Raises:
        UserError: the freeze is given in two units.
    """

    def __init__(
        self, out_dim: int, *, freeze_epochs: float | None, freeze_steps: int | None, warmup_fraction: float
    ) -> None:
        super().__init__()
        self.out_dim, self.warmup_fraction = out_dim, warmup_fraction
        self.freeze_epochs, self.freeze_steps = freeze_epochs, freeze_steps
        self.frozen_steps(Clock(0, 1, 1))  # refuses two durations

    def frozen_steps(self, clock: Clock) -> int:
        """Return for how many steps of this training the last layer is not trained."""
        if self.freeze_epochs is None and self.freeze_steps is None:
            return dino_defaults.freeze_last_layer_steps(clock)
        return duration(clock, steps=self.freeze_steps, epochs=self.freeze_epochs, fraction=None, name="freeze")

    def prototypes(self) -> Iterable[Tensor]:
        """Return the parameters of the last layer."""
        raise NotImplementedError

    def drop_frozen_gradients(self, clock: Clock) -> None:
        """Drop the last layer's gradients at the start of the training: absent, AdamW neither decays nor counts."""
        if clock.step < self.frozen_steps(clock):
            for parameter in self.prototypes():
                parameter.grad = None


def hidden_layers(widths: Sequence[int], activation: Callable[[], nn.Module], *, use_bn: bool) -> list[nn.Module]:
    """Return linear layers from each width to the next, each with its activation, and BatchNorm before that."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), *([nn.BatchNorm1d(after)] if use_bn else []), activation()]
    return layers


def initialise(layers: Iterable[nn.Module]) -> None:
    """Draw the weights of linear layers as DINO does: truncated normal of deviation 0.02; biases are 0."""
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
