"""Floating-point operations are those that one counts by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from dinodiet.run.flops import Flops


def test_a_linear_layer_and_its_backward_pass() -> None:
    layer, images = nn.Linear(7, 5), torch.randn(3, 7)
    with Flops() as flops:
        out = layer(images)
        assert flops.total == 2 * 3 * 7 * 5
        out.sum().backward()
    assert flops.total == 2 * (2 * 3 * 7 * 5)  # of the weight alone: the images have no gradient


def test_a_convolution() -> None:
    with Flops() as flops:
        nn.Conv2d(3, 8, 4, stride=4)(torch.randn(2, 3, 16, 16))
    assert flops.total == 2 * 2 * 16 * 8 * (3 * 4 * 4)


@pytest.mark.parametrize("memory", [True, False])
def test_attention_with_and_without_memory(memory: bool) -> None:
    mode = torch.no_grad() if memory else FakeTensorMode()
    with mode:
        query = torch.randn(2, 3, 10, 4)
        with Flops() as flops:
            F.scaled_dot_product_attention(query, query, query)
    assert flops.total == 2 * (2 * 2 * 3 * 10 * 10 * 4)  # query and key, weights and value


def test_what_is_done_element_by_element_is_left_out() -> None:
    with Flops() as flops:
        torch.randn(4, 4).relu().softmax(dim=0).sum()
    assert flops.total == 0
