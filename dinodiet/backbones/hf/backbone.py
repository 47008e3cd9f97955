"""A vision encoder of transformers as a backbone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from dinodiet.backbones.hf.blocks import blocks_of
from dinodiet.backbones.hf.export import transformers_target
from dinodiet.backbones.hf.readout import Arguments, Feature, Output, read_out, run
from dinodiet.backbones.hf.tokens import class_tokens, parted
from dinodiet.backbones.normalize import Normalize
from dinodiet.backbones.without_values import calls_on_meta
from dinodiet.errors import NotApplicable
from dinodiet.types import Description, ExportTarget, InputSpec, TokenLayout, Tokens


class HFBackbone(nn.Module):
    """A model of transformers: images (B, 3, h, w) in 0..1 -> embeddings (B, embed_dim).

    `feature` is `cls`, the class token of the last hidden state; `mean_patch`, the mean of its patch tokens or
    positions; `pooler`, what the model itself pools; or `map`, the same where that is attention pooling. `output` says
    what the model returns, such as how many tokens are left out of the mean. `flipped` models take BGR.
    """

    def __init__(
        self,
        model: Any,
        *,
        feature: Feature,
        output: Output,
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
        self._output = output
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
        return read_out(self.feature, self._output.prefix, self.output(images))

    def token_layout(self) -> TokenLayout:
        """Return how its tokens look: those of its last hidden state.

        Raises:
            NotApplicable: it returns a map or a pooled vector, as networks of convolutions do.
        """
        shape = self._output.tokens
        if shape is None or not self._output.attends:
            raise NotApplicable(f"needs the tokens of a transformer; {type(self.model).__name__} has none")
        return TokenLayout(shape[-1], self._output.class_token, len(self._parts.blocks))

    def tokens(self, images: Tensor) -> Tokens:
        """Return the tokens of images (B, 3, h, w) in 0..1."""
        layout = self.token_layout()
        return parted(self.output(images).last_hidden_state, self._output.prefix, layout.class_token)

    def class_tokens(self, images: Tensor, last: int) -> Tensor:
        """Return the class tokens (B, last * D) of the last layers: see `dinodiet.backbones.hf.tokens`.

        Raises:
            NotApplicable: there is no class token, or there are fewer layers.
        """
        if not self.token_layout().class_token:
            raise NotApplicable(f"needs a class token; {type(self.model).__name__} has none")
        blocks = [block[-1] for block in self.freezable_blocks()]
        return class_tokens(blocks, self.tail(), lambda: self.output(images), last)

    def freezable_blocks(self) -> list[list[nn.Module]]:
        """Return the layers or stages from input to output: see `dinodiet.backbones.hf.blocks`."""
        return [[self.model.get_submodule(name) for name in block] for block in self._parts.blocks]

    def tail(self) -> list[nn.Module]:
        """Return the modules after the last block: final norm, pooler."""
        return [self.model.get_submodule(name) for name in self._parts.tail]

    def export_targets(self) -> Mapping[str, ExportTarget]:
        """Return how transformers itself loads it."""
        return {"transformers": transformers_target(self, self._output.prefix, self._flipped)}
