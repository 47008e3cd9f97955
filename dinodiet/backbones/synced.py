"""Layers that look at a batch, or draw for it, as if one process had all of it: BatchNorm, drop path, dropout.

They keep their names, weights and buffers: only their class is replaced by one that is derived from it.
"""

from __future__ import annotations

from typing import cast

import torch
from timm.layers.drop import DropPath
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dinodiet.errors import UserError
from dinodiet.processes.gathering import averaged, is_shared, size
from dinodiet.processes.rows import draw_for_module


def sync_layers(module: nn.Module, *, own_statistics: bool = False) -> None:
    """Have the layers of a module work on the batch of all processes while they are in training mode.

    With `own_statistics` BatchNorm normalises the rows of each process by their own mean and variance, and moves its
    running ones towards the mean of those of all processes, so that all have the same.

    Raises:
        UserError: one is of a kind that cannot.
    """
    for layer in module.modules():
        if isinstance(layer, _Synced):
            continue
        if isinstance(layer, _BatchNorm) and type(layer) not in _KINDS:
            raise UserError(
                f"processes: the model has {type(layer).__name__}, whose statistics are those of one process; "
                "set processes=1"
            )
        if type(layer) in _KINDS:
            layer.__class__ = _derived(type(layer))
        if isinstance(layer, _Norm):
            layer.own_statistics = own_statistics


class _Synced(nn.Module):
    """What a layer's class is derived from besides its own."""


class _Norm(_Synced):
    own_statistics = False

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and is_shared()):
            return super().forward(x)  # type: ignore[no-any-return]
        layer = cast(_BatchNorm, self)
        made = _normalised(x, layer, own=self.own_statistics)
        return layer.act(layer.drop(made)) if isinstance(layer, BatchNormAct2d) else made


class _DroppedPath(_Synced):
    def forward(self, x: Tensor) -> Tensor:
        assert isinstance(self, DropPath)
        if not self.training or not self.drop_prob:
            return x
        kept = _kept(x, float(self.drop_prob), [1] * (x.ndim - 1))
        return x * kept if self.scale_by_keep else x * (kept > 0)


class _DroppedOut(_Synced):
    def forward(self, x: Tensor) -> Tensor:
        assert isinstance(self, nn.Dropout)
        return x * _kept(x, self.p, list(x.shape[1:])) if self.training and self.p else x  # nothing is drawn for 0


def _kept(x: Tensor, rate: float, shape: list[int]) -> Tensor:
    """Draw 0, or what keeps the mean, for each row of x, of a shape."""
    kept = draw_for_module(lambda rows: x.new_empty([rows, *shape]).bernoulli_(1 - rate), len(x))
    return kept / (1 - rate) if rate < 1 else kept


_KINDS: dict[type[nn.Module], type[_Synced]] = {
    nn.BatchNorm1d: _Norm,
    nn.BatchNorm2d: _Norm,
    BatchNormAct2d: _Norm,
    DropPath: _DroppedPath,
    nn.Dropout: _DroppedOut,
}


def _derived(kind: type[nn.Module]) -> type[nn.Module]:
    """Return a class of the same name: what is kept on disk about a network depends on the names of its classes."""
    names = {"__qualname__": kind.__qualname__, "__module__": kind.__module__}
    return type(kind.__name__, (_KINDS[kind], kind), names)


def _normalised(x: Tensor, layer: _BatchNorm, *, own: bool) -> Tensor:
    """Return x (N, C, ...) normalised in float32 by the statistics of all processes, which have equally many rows.

    `own`: by those of this process.
    """
    over = [dim for dim in range(x.ndim) if dim != 1]
    wide = x.float()
    mean = wide.mean(over) if own else averaged(wide.mean(over))
    centred = wide - _in_place(mean, x)
    variance = centred.square().mean(over) if own else averaged(centred.square().mean(over))
    _track(layer, mean.detach(), variance.detach(), x.numel() // x.shape[1], own=own)
    made = centred * _in_place((variance + layer.eps).rsqrt(), x)
    made = made if layer.weight is None else made * _in_place(layer.weight.float(), x)
    made = made if layer.bias is None else made + _in_place(layer.bias.float(), x)
    return made.to(x.dtype)


def _in_place(values: Tensor, x: Tensor) -> Tensor:
    return values.view(1, -1, *[1] * (x.ndim - 2))


@torch.no_grad()
def _track(layer: _BatchNorm, mean: Tensor, variance: Tensor, number: int, *, own: bool) -> None:
    """Move the running statistics towards those of `number` values a channel of each process, unbiased."""
    if not layer.track_running_stats or layer.running_mean is None or layer.running_var is None:
        return
    if own:
        mean, variance = averaged(torch.stack([mean, variance]))
    else:
        number *= size()
    assert layer.num_batches_tracked is not None
    layer.num_batches_tracked.add_(1)
    momentum = 1 / float(layer.num_batches_tracked) if layer.momentum is None else layer.momentum
    layer.running_mean.lerp_(mean, momentum)
    layer.running_var.lerp_(variance * number / max(number - 1, 1), momentum)
