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
    with its weights.
    """

    signature: str = ""
    family: str | None = None
    size: str | None = None
    licence: str | None = None
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    details: Mapping[str, str] = field(default_factory=dict)
    rebuilds: Mapping[str, Any] = field(default_factory=dict)


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
