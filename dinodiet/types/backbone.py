"""The contract of backbones, and what they are described by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from dinodiet.types.data import InputSpec


@dataclass(frozen=True)
class Description:
    """What is known about a backbone besides its modules.

    `signature` names what the forward pass depends on besides classes, weights and buffers (pooling, chosen layers):
    embeddings are kept under it. `licence` is that of the released weights. `published` holds scores to expect of the
    frozen backbone, by dataset and metric. `details` are lines that a run prints about it. `rebuilds` are plain
    settings that its node lacks and that build it again, without files that a machine may not have: a run keeps them
    with its weights. `trains_class_token` says that the loss of its pretraining reads the class token.
    """

    signature: str = ""
    family: str | None = None
    size: str | None = None
    licence: str | None = None
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    details: Mapping[str, str] = field(default_factory=dict)
    rebuilds: Mapping[str, Any] = field(default_factory=dict)
    trains_class_token: bool = False


@runtime_checkable
class Backbone(Protocol):
    """A module (B, 3, size, size) -> (B, embed_dim), built as `factory(spec=DataSpec, <settings from YAML>)`.

    Its images are in 0..1: it normalises them itself, by the mean and deviation of its `input`.
    `freezable_blocks()` lists, from input to output, the parts that `trainable: last_n_blocks` counts; `tail()` lists
    the modules after the last of them (final norm, last convolution), which are trained whenever a block is.
    """

    embed_dim: int
    input: InputSpec
    description: Description

    def __call__(self, images: Tensor) -> Tensor:
        """Return the embeddings (B, embed_dim) of images (B, 3, size, size) in 0..1."""
        ...

    def freezable_blocks(self) -> list[list[nn.Module]]:
        """Return the blocks from input to output, each a list of modules."""
        ...

    def tail(self) -> list[nn.Module]:
        """Return the modules after the last block."""
        ...


@runtime_checkable
class Classifying(Protocol):
    """A backbone that can have the classifier again which its weights were trained with."""

    def classifier(self) -> nn.Module:
        """Return the module that makes logits (B, classes) of embeddings (B, embed_dim), with its weights.

        Raises:
            UserError: the weights came without one, or it takes another embedding.
        """
        ...


@runtime_checkable
class Splittable(Protocol):
    """A backbone of which more than one tensor reaches its later blocks, and that can be split before any of them.

    Backbones whose blocks are called one after another, each with what the one before it returned, need not be one.
    """

    def trunk(self, images: Tensor, first: int) -> tuple[Tensor, ...]:
        """Return all that the blocks from number `first` on depend on: tensors with one row an image."""
        ...

    def rest(self, hidden: tuple[Tensor, ...], first: int, side: int) -> Tensor:
        """Return the embeddings from these tensors, of images of `side` pixels."""
        ...


@dataclass(frozen=True)
class Tokens:
    """What the last layer of a network makes of B images, after the final norm: what its own readout reads.

    `class_token` (B, D), None where there is none; `registers` (B, R, D), all others that are no patches; `patches`
    (B, N, D), row by row.
    """

    class_token: Tensor | None
    registers: Tensor
    patches: Tensor


@dataclass(frozen=True)
class TokenLayout:
    """The tokens of a network: their width, whether one is a class token, and how many layers can be read.

    `prefix` counts the tokens in front of the patches: the class token and registers. `patch` is the side in
    pixels of patches that can be left out, 0 where none can. `pooled` says that the embedding is made of the tokens by
    a layer that was learned for it.
    """

    width: int
    class_token: bool
    depth: int
    prefix: int = 0
    patch: int = 0
    pooled: bool = False


@runtime_checkable
class Tokened(Protocol):
    """A backbone that shows the tokens which its embedding is made of."""

    def token_layout(self) -> TokenLayout:
        """Return how its tokens look, without a forward pass.

        Raises:
            NotApplicable: this network has none, as those of convolutions.
        """
        ...

    def tokens(self, images: Tensor) -> Tokens:
        """Return the tokens of images (B, 3, h, w) in 0..1."""
        ...

    def class_tokens(self, images: Tensor, last: int) -> Tensor:
        """Return the class tokens of the last layers, from the earliest on: (B, last * D), each after the final norm.

        Raises:
            NotApplicable: there is no class token, or the network does not show its layers.
        """
        ...


@runtime_checkable
class Coverable(Protocol):
    """A backbone that shows its embedding and its patch tokens in one pass, also with patches covered by a token."""

    def token_layout(self) -> TokenLayout:
        """Return how its tokens look, without a forward pass.

        Raises:
            NotApplicable: this network has none.
        """
        ...

    def embedding_and_patches(
        self, images: Tensor, covered: Tensor | None = None, token: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the embeddings (B, embed_dim) of images (B, 3, h, w) in 0..1, and their patch tokens (B, N, D).

        Patch tokens are those after the final norm. Where `covered`, bool (B, N), row by row, `token` (D,) takes the
        place of what the network made of a patch, before its position is added.

        Raises:
            NotApplicable: this network has no patches that can be covered.
        """
        ...


@runtime_checkable
class Maskable(Protocol):
    """A backbone that can leave patches out before its first block, as a masked autoencoder needs it."""

    def token_layout(self) -> TokenLayout:
        """Return how its tokens look, without a forward pass.

        Raises:
            NotApplicable: this network has none.
        """
        ...

    def visible_tokens(self, images: Tensor, visible: Tensor) -> Tensor:
        """Return the tokens (B, prefix + V, D) of which only the patches `visible` were seen, after the final norm.

        `images` (B, 3, h, w) are in 0..1; `visible` int64 (B, V) are numbers of patches, counted row by row. Positions
        are those of the whole image.

        Raises:
            NotApplicable: this network cannot leave patches out.
        """
        ...
