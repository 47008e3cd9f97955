import json

import pytest
import torch
from torch import nn

from dinodiet.methods.parts.param_groups import weight_decay_groups
from tests.places import REFERENCES

REFERENCE = json.loads((REFERENCES / "param_groups.json").read_text())


@pytest.mark.parametrize("case", REFERENCE)
def test_groups_are_the_published_ones(case: str) -> None:
    expected = REFERENCE[case]
    named = [
        (name, nn.Parameter(torch.zeros(shape), requires_grad=name not in expected["not_optimised"]))
        for name, shape in expected["shapes"].items()
    ]
    names = {id(parameter): name for name, parameter in named}
    decay, no_decay = weight_decay_groups(named)
    assert [names[id(parameter)] for parameter in decay.params] == expected["decay"]
    assert [names[id(parameter)] for parameter in no_decay.params] == expected["no_decay"]
    assert (decay.weight_decay_scale, no_decay.weight_decay_scale) == (1.0, 0.0)


def test_an_empty_group_is_left_out() -> None:
    groups = weight_decay_groups(nn.Linear(2, 2, bias=False).named_parameters())
    assert [group.name for group in groups] == ["decay"]


def test_the_rates_of_a_state_space_do_not_decay() -> None:
    named = [("mixer.A_log", nn.Parameter(torch.zeros(4, 8))), ("mixer.weight", nn.Parameter(torch.zeros(4, 8)))]
    decay, no_decay = weight_decay_groups(named)
    assert decay.params == [named[1][1]]
    assert no_decay.params == [named[0][1]]
