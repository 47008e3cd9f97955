"""Where the last attention of a network looks: what its class token takes from each patch."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dinodiet.backbones.attention import attentions
from dinodiet.errors import NotApplicable
from dinodiet.types import Backbone, Tokened


@torch.no_grad()
def class_attention(encoder: nn.Module, images: Tensor) -> Tensor:
    """Return the last attention of the class token over the patches, (B, heads, rows, columns), in evaluation mode.

    softmax(q k / sqrt(head dim)) in the class token's row (Caron et al. 2021, section 4.2.2); registers are left out
    and the rest is not divided by its sum, so that what is left to 1 went to the class token and to registers.

    Args:
        encoder: a backbone, on the device of the images.
        images: (B, 3, side, side) in 0..1, square.

    Raises:
        NotApplicable: the network has no class token, no attention, or computes it in a way that does not show it.
    """
    name = getattr(getattr(encoder, "model", encoder), "__class__", type(encoder)).__name__
    if not isinstance(encoder, Tokened) or not isinstance(encoder, Backbone):
        raise NotApplicable(f"needs the tokens of a transformer; {name} has none")
    if not encoder.token_layout().class_token:
        raise NotApplicable(f"needs a class token, whose attention is shown; {name} has none")
    found = attentions(encoder.freezable_blocks())
    if not found:
        raise NotApplicable(f"needs attention; {name} has none")
    patches = last_attention(encoder, found[-1].module, images)[:, :, 0]
    patches = patches[:, :, -encoder.tokens(images[:1]).patches.shape[1] :]  # behind the class token and registers
    side = math.isqrt(patches.shape[-1])
    if side * side != patches.shape[-1]:
        raise NotApplicable(f"needs patches that fill a square; the last attention of {name} has {patches.shape[-1]}")
    maps: Tensor = patches.unflatten(-1, (side, side)).float()
    return maps


def last_attention(network: Callable[[Tensor], Any], module: nn.Module, inputs: Tensor) -> Tensor:
    """Return the attention (B, heads, tokens, tokens) of a module while a network computes.

    Raises:
        NotApplicable: the module does not call torch's attention on tokens of whole images.
    """
    with _watched(module) as seen:
        network(inputs)
    if len(seen) != 1 or seen[0].ndim != 4 or len(seen[0]) != len(inputs):
        raise NotApplicable(f"needs attention over whole images; {type(module).__name__} does not show one")
    return seen[0]


@contextlib.contextmanager
def _watched(module: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the attention of a module's calls inside."""
    watch: Any = _Watch()

    def begin(*_: Any) -> None:
        watch.__enter__()

    def end(*_: Any) -> None:
        watch.__exit__(None, None, None)

    hooks = [module.register_forward_pre_hook(begin), module.register_forward_hook(end, always_call=True)]
    try:
        yield watch.seen
    finally:
        for hook in hooks:
            hook.remove()


class _Watch(TorchFunctionMode):
    """Computes the weights of each attention that torch is asked for inside, beside what it returns."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is F.scaled_dot_product_attention:
            self.seen.append(attention_weights(*args, **(kwargs or {})))
        return func(*args, **(kwargs or {}))


def attention_weights(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Return the weights (..., queries, keys) that torch's attention of the same arguments gives to values.

    Raises:
        NotApplicable: a kind of attention that no vision model here uses.
    """
    if is_causal or enable_gqa or (attn_mask is not None and attn_mask.dtype == torch.bool):
        raise NotApplicable("needs attention of all tokens to all; this one hides some, or shares keys between heads")
    products = query @ key.transpose(-2, -1) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    return (products if attn_mask is None else products + attn_mask).softmax(-1)


def largest_mass(weights: Tensor, threshold: float) -> Tensor:
    """Return where the largest weights lie that together hold a share of all, as DINO's own pictures: bool, as weights.

    Args:
        weights: (..., N), not negative.
        threshold: the share, of 0..1; 1 keeps everything.
    """
    ordered, places = weights.sort(-1)
    kept = (ordered / ordered.sum(-1, keepdim=True)).cumsum(-1) > 1 - threshold
    return torch.zeros_like(kept).scatter(-1, places, kept)
