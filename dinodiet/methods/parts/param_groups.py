"""Which parameters are optimised, and which of them decay."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from dinodiet.types import ParamGroup


def weight_decay_groups(named_parameters: Iterable[tuple[str, nn.Parameter]]) -> list[ParamGroup]:
    """Return the groups `decay` and `no_decay` of the trainable parameters, in their order; an empty one is left out.

    The rule of DINO (Caron et al. 2021): biases and one-dimensional parameters (norms) do not decay. Class tokens and
    position embeddings, which have more dimensions, do; the rates of a state space (A_log), whose publishers exempt
    them (Gu & Dao 2023, arXiv:2312.00752), and the matrices of LoRA, whose product is what counts, do not.
    """
    decay, no_decay = ParamGroup("decay"), ParamGroup("no_decay", weight_decay_scale=0.0)
    for name, parameter in named_parameters:
        if parameter.requires_grad:
            exempt = name.endswith((".bias", "A_log")) or ".lora_" in name or parameter.ndim == 1
            group = no_decay if exempt else decay
            group.params.append(parameter)
    return [group for group in (decay, no_decay) if group.params]
