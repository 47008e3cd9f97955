"""A head over prototypes of which every piece can be exchanged."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Literal

from torch import Tensor, nn

from dinodiet.config.ranges import Fraction, NonNegative, Range
from dinodiet.methods.parts import dino_defaults
from dinodiet.methods.parts.bottleneck import Bottleneck
from dinodiet.methods.parts.prototype_head import PrototypeHead, hidden_layers, initialise
from dinodiet.types import DataSpec

ACTIVATIONS = {"gelu": nn.GELU, "relu": nn.ReLU, "selu": nn.SELU}
HiddenDim = Annotated[int | None, Range(high=2**14)]


class HiddenLayers(nn.Sequential):
    """Embeddings (B, in_dim) -> features (B, out_dim): linear layers with bias, each with BatchNorm and activation.

    Args:
        in_dim: width of the embeddings.
        hidden_dims: widths of the layers, none of them for []; 0, less or None is `in_dim`.
        activation: of every layer.
        use_bn: a BatchNorm before each activation.
    """

    def __init__(
        self,
        in_dim: int,
        *,
        hidden_dims: Sequence[HiddenDim] = (2048, 2048),
        activation: Literal["gelu", "relu", "selu"] = "gelu",
        use_bn: bool = False,
    ) -> None:
        widths = [in_dim, *(width if width is not None and width > 0 else in_dim for width in hidden_dims)]
        super().__init__(*hidden_layers(widths, ACTIVATIONS[activation], use_bn=use_bn))
        self.out_dim = widths[-1]


class BottleneckHead(PrototypeHead):
    """Embeddings (B, in_dim) -> logits (B, out_dim): hidden layers and a bottleneck, as its `layers` say.

    With its defaults it computes what `DINOHead` does with norms of the prototypes that are fixed at 1.

    Args:
        in_dim: width of the embeddings.
        spec: facts about the data, from which `out_dim` and the freeze of the last layer are chosen.
        out_dim: number of prototypes; 0 or less: `in_dim`; None: by the number of images; labels: one a label.
        mlp: the hidden layers, from `in_dim`.
        bottleneck: from `in_dim` and `out_dim`.
        init: of all linear layers; `dino`: truncated normal of deviation 0.02, biases 0; `default`: uniform within
            1 / sqrt(fan in), biases too.
        freeze_epochs, freeze_steps: how long linear layer 2 of the bottleneck is not trained; None (both): by the
            training's length. Without a bottleneck nothing is left untrained.
        warmup_fraction: first part of the training in which the head is trained alone.

    Raises:
        UserError: the freeze is given in two units, or the bottleneck refuses its settings.
    """

    def __init__(
        self,
        in_dim: int,
        spec: DataSpec,
        *,
        out_dim: Annotated[int | Literal["labels"] | None, Range(high=2**18)] = None,
        mlp: Callable[..., HiddenLayers] = HiddenLayers,
        bottleneck: Callable[..., Bottleneck] = Bottleneck,
        init: Literal["dino", "default"] = "dino",
        freeze_epochs: NonNegative[float | None] = None,
        freeze_steps: NonNegative[int | None] = None,
        warmup_fraction: Fraction[float] = 0.0,
    ) -> None:
        wanted = in_dim if isinstance(out_dim, int) and out_dim <= 0 else out_dim
        chosen = dino_defaults.outputs(wanted, spec)
        super().__init__(
            chosen, freeze_epochs=freeze_epochs, freeze_steps=freeze_steps, warmup_fraction=warmup_fraction
        )
        self.mlp = mlp(in_dim=in_dim)
        self.bottleneck = bottleneck(in_dim=self.mlp.out_dim, out_dim=chosen)
        if init == "dino":
            initialise(itertools.chain(self.mlp, self.bottleneck.children()))

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return the logits: with the default bottleneck, cosines between features and prototypes."""
        logits: Tensor = self.bottleneck(self.mlp(embeddings))
        return logits

    def prototypes(self) -> Iterable[Tensor]:
        """Return the parameters of the bottleneck's linear layer 2; none where there is no bottleneck."""
        return self.bottleneck.last.parameters() if self.bottleneck.has_width else ()
