"""Modules that are left out of saved states."""

import copy

import pytest
import torch
from torch import nn

from dinodiet.methods.parts.unsaved import leave_unsaved


def holder(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    inner = nn.ModuleDict({"kept": nn.Linear(2, 2), "other": nn.Sequential(nn.BatchNorm1d(2))})
    leave_unsaved(inner, "other")
    return nn.Sequential(inner, nn.Linear(2, 1))


def test_a_state_lacks_it_and_whoever_loads_keeps_its_own() -> None:
    saved, loading = holder(0), copy.deepcopy(holder(1))  # a copy has the hooks of its own modules
    state = saved.state_dict()
    assert list(state) == ["0.kept.weight", "0.kept.bias", "1.weight", "1.bias"]
    own = loading.get_submodule("0.other.0")
    own.get_parameter("weight").data.fill_(7.0)
    loading.load_state_dict(state)
    assert own.get_parameter("weight").tolist() == [7.0, 7.0]
    assert torch.equal(loading.get_parameter("0.kept.weight"), saved.get_parameter("0.kept.weight"))


def test_what_is_missing_beside_it_is_still_told() -> None:
    state = holder(0).state_dict()
    del state["0.kept.bias"]
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "0.kept.bias"'):
        holder(0).load_state_dict(state)
