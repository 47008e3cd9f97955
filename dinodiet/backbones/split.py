"""A backbone in two parts: the frozen trunk, and the rest from the first trained block on.

`rest(trunk(images))` is `backbone(images)` exactly, for any backbone whose blocks are called one after another, each
with what the one before it returned. A backbone of which more than that reaches the rest is `Splittable`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from dinodiet.backbones.modes import eval_mode
from dinodiet.backbones.without_values import forward_on_meta
from dinodiet.errors import UserError
from dinodiet.types import Backbone, Splittable


class Split:
    """The trunk and the rest of a backbone whose blocks before number `first` are frozen.

    With `first` equal to the number of blocks all of it is trunk: the embedding itself.
    """

    def __init__(self, backbone: Backbone, first: int) -> None:
        assert isinstance(backbone, nn.Module)
        self.backbone: Any = backbone
        self.first = first
        self._blocks = backbone.freezable_blocks()
        self.all_frozen = first == len(self._blocks)
        self._bypass = self.all_frozen or self._pass_tensors()

    def trained(self) -> list[nn.Module]:
        """Return the modules of the rest that may have changed since the trunk's output was computed."""
        if self.all_frozen:
            return []
        return [module for block in self._blocks[self.first :] for module in block] + list(self.backbone.tail())

    def trunk(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return what the first trained block depends on, of images (B, 3, s, s) in 0..1: tensors (B, ...)."""
        if self.all_frozen:
            return (self.backbone(images),)
        if isinstance(self.backbone, Splittable):
            return self.backbone.trunk(images, self.first)
        return (_input_of(self._blocks[self.first][0], self.backbone, images),)

    def rest(self, hidden: tuple[Tensor, ...], side: int) -> Tensor:
        """Return the embeddings (B, embed_dim) of images of `side` x `side` pixels from the trunk's output."""
        embeddings: Tensor
        if self.all_frozen:
            (embeddings,) = hidden
        elif isinstance(self.backbone, Splittable):
            embeddings = self.backbone.rest(hidden, self.first, side)
        else:
            # The backbone's own forward pass on one blank image, which costs little more than the stem: the frozen
            # blocks let it through, and in its place the first trained one gets the batch. So nothing that a model
            # does around its blocks (positions, rotary embeddings, pooling) is written down twice.
            blank = torch.zeros(1, 3, side, side, device=hidden[0].device)
            frozen = [module for block in self._blocks[: self.first] for module in block]
            with _bypassed(frozen if self._bypass else []), _given(self._blocks[self.first][0], hidden[0]):
                embeddings = self.backbone.forward(blank)
        return embeddings

    def _pass_tensors(self) -> bool:
        """Return whether each block returns a tensor alone; else what comes with it is computed too (Swin)."""
        kinds: list[bool] = []
        chosen = [module for block in self._blocks for module in block]
        handles = [
            part.register_forward_hook(lambda _, __, found: kinds.append(isinstance(found, Tensor))) for part in chosen
        ]
        try:
            with contextlib.suppress(Exception):  # models that look at values
                forward_on_meta(self.backbone, self.backbone.input.size)
        finally:
            for handle in handles:
                handle.remove()
        return all(kinds)

    @torch.no_grad()
    def checked(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return `trunk(images)`, having seen that the rest makes of it what the whole backbone makes of the images.

        Raises:
            UserError: it does not.
        """
        problem = UserError(
            "trunk: this backbone's blocks are no chain, so it cannot be split before the first trained one; "
            "give it methods trunk and rest (see dinodiet.backbones.split), or cache no views"
        )
        try:
            with eval_mode(self.backbone):
                hidden = self.trunk(images)
                found, expected = self.rest(hidden, images.shape[-1]), self.backbone.forward(images)
        except Exception as error:  # whatever a model raises whose blocks pass on more than one tensor
            raise problem from error
        if not torch.allclose(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max())):
            raise problem
        return hidden


class _ReachedError(Exception):
    """Ends a forward pass at the module whose input is wanted."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self.hidden = hidden


def _input_of(module: nn.Module, backbone: Any, images: Tensor) -> Tensor:
    """Return what `module` is given when the backbone sees these images; what follows is not computed."""

    def stop(_: nn.Module, arguments: tuple[Any, ...]) -> None:
        raise _ReachedError(arguments[0])

    handle = module.register_forward_pre_hook(stop)
    try:
        backbone.forward(images)
    except _ReachedError as reached:
        return reached.hidden
    finally:
        handle.remove()
    raise RuntimeError("the forward pass never reaches the first trained block")


@contextlib.contextmanager
def _given(module: nn.Module, hidden: Tensor) -> Iterator[None]:
    """Give `module` the tensor `hidden` as its first argument, whatever it is called with."""
    handle = module.register_forward_pre_hook(lambda _, arguments: (hidden, *arguments[1:]))
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def _bypassed(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Let modules return their first argument as it is."""
    chosen = list(modules)
    for module in chosen:
        setattr(module, "forward", _first_argument)  # noqa: B010 - a method is shadowed on purpose
    try:
        yield
    finally:
        for module in chosen:
            del module.forward


def _first_argument(hidden: Tensor, *_: Any, **__: Any) -> Tensor:
    return hidden
