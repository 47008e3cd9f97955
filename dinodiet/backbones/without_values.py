"""Forward passes on the meta device: what a module makes of images of a size, and in which order, for no arithmetic."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from dinodiet.backbones.modes import eval_mode


@contextlib.contextmanager
def refusing_empty() -> Iterator[None]:
    """Refuse convolutions of images that are smaller than the kernel: without values, torch 2.6 makes nothing of them.

    Raises:
        RuntimeError: in a forward pass, a convolution gives no pixels.
    """
    handle = nn.modules.module.register_module_forward_hook(_refuse_empty)
    try:
        yield
    finally:
        handle.remove()


def _refuse_empty(module: nn.Module, given: tuple[Any, ...], made: Any) -> None:
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) and isinstance(made, Tensor) and not made.numel():
        shape = tuple(given[0].shape) if given else ()
        raise RuntimeError(f"a kernel of {tuple(module.kernel_size)} is larger than its input {shape}")


def forward_on_meta(module: nn.Module, side: int) -> Any:
    """Return what a module makes of one image of `side` pixels, without values, wherever its own lie.

    Raises:
        Exception: what its forward pass raises, of any class.
    """
    tensors = dict(module.named_parameters()) | dict(module.named_buffers())
    values = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
    with eval_mode(module), torch.no_grad(), torch.device("meta"), refusing_empty():
        # With tie_weights, what two modules share would be swapped twice, and keep no values.
        return functional_call(module, values, (torch.empty(1, 3, side, side),), tie_weights=False)


def calls_on_meta(module: nn.Module, side: int, *, below: str) -> dict[str, int]:
    """Return the names of the modules in `below` that a forward pass calls, numbered in the order of their first call.

    What one module borrows from another, since several share it, is left out. Where a forward pass needs values, the
    order is that in which the modules were registered.
    """
    calls: dict[str, int] = {}
    active: list[str] = []

    def enter(name: str) -> None:
        if not active or ((not active[-1] or name.startswith(f"{active[-1]}.")) and active[-1] in calls):
            calls.setdefault(name, len(calls))
        active.append(name)

    handles = []
    for name, part in module.named_modules():
        handles.append(part.register_forward_pre_hook(lambda _, __, name=name: enter(name)))
        handles.append(part.register_forward_hook(lambda *_: _discard(active.pop())))
    try:
        forward_on_meta(module, side)
    except Exception:  # anything: models look at values, or at devices, in ways of their own
        calls = {name: number for number, (name, part) in enumerate(module.named_modules()) if not _holds_only(part)}
    finally:
        for handle in handles:
            handle.remove()
    prefix = f"{below}."
    return {name.removeprefix(prefix): number for name, number in calls.items() if name.startswith(prefix)}


def _discard(_: str) -> None:
    """Return nothing: what a hook returns would become the output."""


def _holds_only(module: nn.Module) -> bool:
    return isinstance(module, nn.ModuleList | nn.ModuleDict | nn.ParameterList)
