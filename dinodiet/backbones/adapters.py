"""LoRA: updates of low rank beside frozen weights (Hu et al. 2022, arXiv:2106.09685), by the library peft.

An adapted layer computes W x + b + (alpha / r) B A x. A (r, in) begins random (Kaiming), B (out, r) at 0, so that
nothing changes at first. Of attention, queries and values are adapted (ExPLoRA: Khanna et al. 2025, arXiv:2406.10973);
where one fused layer makes keys too, its rows for keys stay as they are. Merged, the layer is W + (alpha / r) B A.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinodiet.errors import UserError

NAME = "default"  # of the adapter, as peft calls it
_FIRST, _SECOND = f".lora_A.{NAME}.weight", f".lora_B.{NAME}"
_BASE = ".base_layer"


class QueryValue(nn.Module):
    """The second matrix of an adapter of a fused layer: rows for queries and for values, none for keys.

    (..., 2 * rank) -> (..., 3 * dim). Queries depend on the first half of the input, values on the second: two
    adapters, each of its own rank. They begin at 0.
    """

    def __init__(self, rank: int, dim: int) -> None:
        super().__init__()
        self.query, self.value = (nn.Parameter(torch.zeros(dim, rank)) for _ in range(2))

    @property
    def weight(self) -> Tensor:
        """Return the matrix (3 * dim, 2 * rank) that it multiplies by."""
        return _fused(self.query, self.value)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return what is added to queries, keys and values."""
        for_query, for_value = hidden.chunk(2, dim=-1)
        queries, values = F.linear(for_query, self.query), F.linear(for_value, self.value)
        return torch.cat([queries, torch.zeros_like(queries), values], dim=-1)


def check_peft(word: str) -> None:
    """Refuse LoRA where peft is not installed.

    Raises:
        UserError: it is not; says how to get it.
    """
    if importlib.util.find_spec("peft") is None:
        raise UserError(f"trainable: {word!r} needs peft: pip install 'dinodiet[lora]'")


def add_adapters(
    model: nn.Module,
    rank: int,
    *,
    whole: Iterable[nn.Linear] = (),
    fused: Iterable[nn.Linear] = (),
    alpha: float | None = None,
    rank_stabilised: bool = False,
) -> None:
    """Give linear layers of a model adapters, in place; their A are drawn from torch's global generator.

    Args:
        model: holds the layers.
        rank: of the adapters.
        whole: layers that are adapted as a whole.
        fused: layers of queries, keys and values, of which queries and values are adapted, each with this rank.
        alpha: scales what is added by alpha / rank; None: the rank, so that nothing is scaled.
        rank_stabilised: scale by alpha over the root of the rank instead (Kalajdzievski 2023, arXiv:2312.03732).
    """
    from peft import LoraConfig, inject_adapter_in_model  # noqa: PLC0415 - an extra

    from dinodiet.backbones.lora_layers import Adapted  # noqa: PLC0415 - it needs peft

    fused, names = list(fused), {id(module): name for name, module in model.named_modules()}
    doubled = [re.escape(names[id(layer)]) for layer in fused]  # A of queries and A of values are one matrix
    targets = [*doubled, *(re.escape(names[id(layer)]) for layer in whole)]
    alpha = rank if alpha is None else alpha
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]
        use_rslora=rank_stabilised,
        target_modules="|".join(targets),
        rank_pattern=dict.fromkeys(doubled, 2 * rank),
        alpha_pattern=dict.fromkeys(doubled, 2 * alpha),
    )
    config._register_custom_module({nn.Linear: Adapted})  # peft's documented way to layers of one's own
    inject_adapter_in_model(config, model, NAME)
    for _, layer in adapted(model):
        if any(layer.base_layer is base for base in fused):
            layer.lora_B[NAME] = QueryValue(rank, layer.base_layer.out_features // 3).to(layer.base_layer.weight)
    for attribute in ("peft_config", "active_adapter"):  # peft's notes of what it did, which merging undoes
        model.__dict__.pop(attribute, None)


def adapted(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield the name and the module of every adapted layer."""
    for name, module in model.named_modules():
        if "base_layer" in module._modules and "lora_A" in module._modules:
            yield name, module


def matrices(model: nn.Module) -> list[nn.Module]:
    """Return the modules that hold the adapters' matrices: all that LoRA trains."""
    return [matrix[NAME] for _, layer in adapted(model) for matrix in (layer.lora_A, layer.lora_B)]


@torch.no_grad()
def merge_adapters(model: nn.Module) -> None:
    """Add what adapters have learned to the weights below them, and take them off; in place."""
    for name, layer in list(adapted(model)):
        base = layer.base_layer
        base.weight.add_(layer.get_delta_weight(NAME).to(base.weight.dtype))
        model.set_submodule(name, base)


def merged(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict under the names of the model without adapters, and with them merged; alpha is the rank.

    One without adapters is returned as it is. peft is not needed for it.
    """
    return {plain_name(key): _merged(key, tensor, state) for key, tensor in state.items() if not _is_adapter(key)}


def without_adapters(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights below adapters, as they are, under the names of the model without adapters."""
    return {plain_name(key): tensor for key, tensor in state.items() if not _is_adapter(key)}


def factors(state: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """Return A (r, in) and B (out, r) of every adapted layer by its name; B A is what merging adds to its weight.

    Of a fused layer r is twice the rank, and the rows of B for keys are 0.
    """
    layers = [key.removesuffix(_FIRST) for key in state if key.endswith(_FIRST)]
    return {layer: (state[layer + _FIRST], _second(layer + _SECOND, state)) for layer in layers}


def plain_name(key: str) -> str:
    """Return the name that a module, parameter or buffer of a base layer has in the model without adapters."""
    return re.sub(rf"{re.escape(_BASE)}(?=\.|$)", "", key)


def plain_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules that a model has without its adapters, by name."""
    layers = {name for name, _ in adapted(model)}
    return {plain_name(k): part for k, part in model.named_modules() if k not in layers and not _is_adapter(k)}


def _is_adapter(key: str) -> bool:
    return ".lora_" in key


def _merged(key: str, tensor: Tensor, state: Mapping[str, Tensor]) -> Tensor:
    layer = key.removesuffix(f"{_BASE}.weight")
    first = state.get(layer + _FIRST)
    if layer == key or first is None:
        return tensor
    second = _second(layer + _SECOND, state)
    return (tensor.detach() + (second @ first).to(tensor.dtype)).detach()


def _second(prefix: str, state: Mapping[str, Tensor]) -> Tensor:
    whole = state.get(f"{prefix}.weight")
    return _fused(state[f"{prefix}.query"], state[f"{prefix}.value"]) if whole is None else whole


def _fused(query: Tensor, value: Tensor) -> Tensor:
    """Return the matrix of `QueryValue` of its parts."""
    none = torch.zeros_like(query)
    return torch.cat([torch.cat(row, dim=1) for row in ([query, none], [none, none], [none, value])])
