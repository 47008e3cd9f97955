"""What is wrong with weights that were read, in one line: they do not fit, are no numbers, or are none at all."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from dinodiet.backbones.weights.network import Found
from dinodiet.errors import UserError

_SHOWN = 3
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_OPTIMISER = re.compile(r"(^|\.)(exp_avg|exp_avg_sq|momentum_buffer|square_avg)$")
State = Mapping[str, Tensor]


def refuse_nothing(found: Found, source: str) -> None:
    """Refuse a file without tensors, or with those of an optimiser only.

    Raises:
        UserError: it is one.
    """
    if not found.state:
        raise UserError(f"weights: {source} holds no tensors; it is no checkpoint of a network")
    numbers = [key for key, value in found.state.items() if value.ndim]
    if numbers and all(_OPTIMISER.search(key) for key in numbers):
        raise UserError(f"weights: {source} holds the state of an optimiser only, not a network")


def refuse_misfit(expected: State, found: State, problem: str, whole: State | None = None) -> None:
    """Refuse a state dict whose keys and shapes are not exactly the expected ones; `whole` has what was left out too.

    Raises:
        UserError: `problem`, the first keys that are missing, unexpected or of another shape, and what kind of network
            it is where that tells them apart.
    """
    faults = {
        "missing": [key for key in expected if key not in found],
        "unexpected": [key for key in found if key not in expected],
        "of another shape": [
            f"{key} {tuple(value.shape)} instead of {tuple(expected[key].shape)}"
            for key, value in found.items()
            if key in expected and expected[key].shape != value.shape
        ],
    }
    if any(faults.values()):
        told = "; ".join(_summary(kind, keys) for kind, keys in faults.items() if keys)
        raise UserError(f"{problem}: {told}{unlike(found or whole or {}, expected)}")


def _summary(kind: str, keys: list[str]) -> str:
    return f"{len(keys)} {kind} ({', '.join(keys[:_SHOWN])}{', ...' if len(keys) > _SHOWN else ''})"


def unlike(found: State, expected: State) -> str:
    """Return in which way a file's network differs from the model, in words; nothing where the shapes do not tell."""
    theirs, ours = _traits(found), _traits(expected)
    if not theirs or not ours:
        kinds = _kind(found), _kind(expected)
        return f"; the file is {kinds[0]}, the model {kinds[1]}" if all(kinds) and kinds[0] != kinds[1] else ""
    differing = [trait for trait in ours | theirs if theirs.get(trait) != ours.get(trait)]
    if not differing:
        return ""
    told = [f"{trait} {theirs.get(trait, 0)} instead of {ours.get(trait, 0)}" for trait in differing]
    return f"; the file is a vision transformer with {', '.join(told)}: choose the model or size that has it"


def _kind(state: State) -> str:
    """Return what kind of network a state dict is of, by its names; nothing where they do not tell."""
    signs = {
        "a vision transformer": r"(^|\.)(blocks|layer|layers)\.\d+\.(norm1|attn|attention)\.",
        "a Swin transformer": r"relative_position_bias_table$",
        "a ResNet": r"(^|\.)layer\d\.\d+\.conv\d",
        "a ConvNeXt": r"(dwconv|conv_dw|depthwise_conv)\.weight$",
        "a text model": r"(word_embeddings|embed_tokens|wte|lm_head)\.weight$",
        "a head only": r"^(head|fc|classifier|linear)\b",
    }
    for kind in ("a text model", "a Swin transformer", "a vision transformer", "a ConvNeXt", "a ResNet"):
        if any(re.search(signs[kind], key) for key in state):
            return kind
    return "a head only" if state and all(re.search(signs["a head only"], key) for key in state) else ""


def _traits(state: State) -> dict[str, int]:
    """Return width, depth and the like of a vision transformer under timm's names; nothing of other networks."""
    patches = state.get("patch_embed.proj.weight")
    blocks = {match[1] for key in state if (match := re.match(r"blocks\.(\d+)\.\D", key))}
    if patches is None or patches.ndim != 4 or not blocks:
        return {}
    registers = next((state[key].shape[-2] for key in ("reg_token", "register_tokens") if key in state), 0)
    return {
        "width": patches.shape[0],
        "depth": len(blocks),
        "patch size": patches.shape[-1],
        "input channels": patches.shape[1],
        "class tokens": int("cls_token" in state),
        "registers": registers,
    }


def refuse_broken(expected: State, found: State, problem: str) -> None:
    """Refuse weights that are no finite floating-point numbers, where the model has such.

    Raises:
        UserError: it names the first tensors, and how many numbers are not finite.
    """
    pairs = [(key, value) for key, value in found.items() if expected[key].is_floating_point()]
    if wrong := [f"{key} ({_type(value)})" for key, value in pairs if not _plain(value)]:
        raise UserError(
            f"{problem}: {_summary('without plain floating-point numbers', wrong)}; save it in fp32 or bf16"
        )
    counts = {key: int((~torch.isfinite(value)).sum()) for key, value in pairs}
    if bad := [f"{key}: {count} of {found[key].numel()}" for key, count in counts.items() if count]:
        raise UserError(f"{problem}: {_summary('with numbers that are nan or infinite', bad)}; the training diverged?")


def _plain(value: Tensor) -> bool:
    return value.dtype in _FLOATS and value.layout == torch.strided and not value.is_meta


def _type(value: Tensor) -> str:
    return "no values" if value.is_meta else str(value.dtype).removeprefix("torch.")
