"""What stands out in the last maps of a network of convolutions: their first principal component, place by place."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from dinodiet.errors import NotApplicable
from dinodiet.types import Backbone

ALIKE = 1e-6  # values that differ by less of themselves are equal


@torch.no_grad()
def last_maps(encoder: nn.Module, images: Tensor) -> Tensor:
    """Return the last maps (B, C, rows, columns) that a network makes of images, in its present mode.

    They are what its last block gives, or a module of its tail (the last norm or convolution): the last ones of more
    than one place.
    Channels are where the embedding has as many numbers; where neither does, they come first.

    Args:
        encoder: a backbone, on the device of the images.
        images: (B, 3, side, side) in 0..1.

    Raises:
        NotApplicable: the network has no maps of more than one place.
    """
    assert isinstance(encoder, Backbone)
    name = type(getattr(encoder, "model", encoder)).__name__
    with _outputs([*(encoder.freezable_blocks() or [[]])[-1], *encoder.tail()]) as made:
        encoder(images)
    maps = [_channels_first(one, encoder.embed_dim) for one in made if one.ndim == 4 and len(one) == len(images)]
    if not maps:
        raise NotApplicable(f"needs maps of features, as convolutions make them; {name} has none")
    wide = [one for one in maps if one.shape[2:].numel() > 1]
    if not wide:
        raise NotApplicable(f"needs maps of more than one place; the last ones of {name} have one, of these images")
    return wide[-1].float()


def _channels_first(maps: Tensor, embed_dim: int) -> Tensor:
    last = embed_dim == maps.shape[3] and embed_dim != maps.shape[1]
    return maps.permute(0, 3, 1, 2) if last else maps


@contextlib.contextmanager
def _outputs(modules: list[nn.Module]) -> Iterator[list[Tensor]]:
    """Collect what modules give inside, in the order of their calls."""
    made: list[Tensor] = []

    def keep(module: nn.Module, given: Any, output: Any) -> None:
        first = output[0] if isinstance(output, tuple) and output else output
        if isinstance(first, Tensor):
            made.append(first)

    hooks = [module.register_forward_hook(keep) for module in modules]
    try:
        yield made
    finally:
        for hook in hooks:
            hook.remove()


def first_component(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Return maps (B, C, rows, columns) along their first principal component, (B, rows, columns), and its share.

    EigenCAM (Muhammad and Yeasin 2020, arXiv:2008.00299): with the features A (places, C) = U S V', this is A v for the
    first column v of V. Features are not centred, as published. v is known up to its sign: the value of the largest
    size is positive, the first one, row by row, where several have it to a millionth. The share (B,) is S_1^2 by the
    sum of all S^2; 0 of maps that are 0. Computed in float64 on the CPU, so that a map is the same again.
    """
    features = maps.detach().cpu().double().flatten(2).transpose(1, 2)
    left, sizes, _ = torch.linalg.svd(features, full_matrices=False)
    along = left[..., 0] * sizes[..., :1]
    size = along.abs()
    largest = size >= (1 - ALIKE) * size.amax(1, keepdim=True)
    first = along.gather(1, largest.int().argmax(1, keepdim=True))
    along = torch.where(first < 0, -along, along)
    squares = sizes.square()
    share = squares[:, 0] / squares.sum(1).clamp(min=torch.finfo(torch.float64).tiny)
    return along.unflatten(1, maps.shape[2:]), share
