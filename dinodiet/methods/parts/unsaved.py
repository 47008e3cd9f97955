"""Modules that are no part of a saved state, since they come from elsewhere again."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn


def leave_unsaved(holder: nn.Module, name: str) -> None:
    """Leave a child of a module out of its state dict; where a state is loaded the child keeps the tensors it has."""
    hooks: Any = holder  # torch types them in some versions only
    hooks.register_state_dict_post_hook(partial(_left_out, name))
    hooks.register_load_state_dict_pre_hook(partial(_its_own, name))


def _left_out(name: str, _: nn.Module, state: dict[str, Any], prefix: str, __: Any) -> None:
    for key in [key for key in state if key.startswith(f"{prefix}{name}.")]:
        del state[key]


def _its_own(name: str, holder: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    state.update(holder.get_submodule(name).state_dict(prefix=f"{prefix}{name}."))
