"""A vision encoder of transformers as a backbone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from dinodiet.backbones.hf.blocks import blocks_of
from dinodiet.backbones.hf.export import transformers_target
from dinodiet.backbones.hf.readout import Arguments, Feature, read_out, run
from dinodiet.backbones.normalize import Normalize
from dinodiet.backbones.without_values import calls_on_meta
from dinodiet.types import Description, ExportTarget, InputSpec


class HFBackbone(nn.Module):
    """A model of transformers: images (B, 3, h, w) in 0..1 -> embeddings (B, embed_dim).

    `feature` is `cls`, the class token of the last hidden state; `mean_patch`, the mean of its patch tokens or
    positions; `pooler`, what the model itself pools; or `map`, the same where that is attention pooling. `prefix` is
    how many tokens in front of the patches are left out of the mean. `flipped` models take BGR.
    """

    def __init__(
        self,
        model: Any,
        *,
        feature: Feature,
        prefix: int,
        embed_dim: int,
        input: InputSpec,
        description: Description,
        flipped: bool = False,
    ) -> None:
        super().__init__()
        self.normalize = Normalize(input)
        self.model: Any = model
        self.feature: Feature = feature
        self.embed_dim = embed_dim
        self.input = input
        self.description = description
        self._prefix = prefix
        self._flipped = flipped
        self._arguments = Arguments(model)
        self._parts = blocks_of(model, calls_on_meta(self, input.size, below="model"))

    def output(self, images: Tensor) -> Any:
        """Return what the model returns for images (B, 3, h, w) in 0..1."""
        normalised = self.normalize(images)
        if self._flipped:
            normalised = normalised.flip(1)
        return run(self.model, self._arguments, normalised)

    def forward(self, images: Tensor) -> Tensor:
        """Return the embeddings (B, embed_dim) of images (B, 3, h, w) in 0..1."""
        return read_out(self.feature, self._prefix, self.output(images))

    def freezable_blocks(self) -> list[list[nn.Module]]:
        """Return the layers or stages from input to output: see `dinodiet.backbones.hf.blocks`."""
        return [[self.model.get_submodule(name) for name in block] for block in self._parts.blocks]

    def tail(self) -> list[nn.Module]:
        """Return the modules after the last block: final norm, pooler."""
        return [self.model.get_submodule(name) for name in self._parts.tail]

    def export_targets(self) -> Mapping[str, ExportTarget]:
        """Return how transformers itself loads it."""
        return {"transformers": transformers_target(self, self._prefix, self._flipped)}
