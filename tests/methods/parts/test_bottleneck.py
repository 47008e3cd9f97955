import copy
from typing import Any

import pytest
import torch

from dinodiet.errors import UserError
from dinodiet.methods.parts.bottleneck import Bottleneck


def filled(layers: str, *sizes: int, weight: list[list[float]] | None = None) -> Bottleneck:
    made = Bottleneck(*sizes, layers=layers)
    if weight is not None:
        assert isinstance(made.last, torch.nn.Linear)
        made.last.weight.data = torch.tensor(weight)
    return made


def test_hand_values_of_features_and_of_normalised_weights() -> None:
    torch.testing.assert_close(filled("-/-/fn/-/-/-", 2, 2)(torch.tensor([[3.0, 4.0]])), torch.tensor([[0.6, 0.8]]))
    last = filled("-/-/-/wn/l/-", 2, 1, weight=[[3.0, 4.0]])
    torch.testing.assert_close(last(torch.ones(1, 2)), torch.tensor([[1.4]]))
    torch.testing.assert_close(last.state_dict()["last.weight"], torch.tensor([[3.0, 4.0]]))  # stored as it was
    assert filled("-/-/fn/-/-/-", 2, 2)(torch.zeros(1, 2)).tolist() == [[0.0, 0.0]]


def test_the_default_gives_cosines() -> None:
    torch.manual_seed(0)
    logits = Bottleneck(6, 40, width=3)(100 * torch.randn(50, 6))
    assert logits.abs().max() <= 1 + 1e-6
    assert logits.abs().max() > 0.9


def test_a_constant_norm_changes_the_gradient_alone() -> None:
    rows = torch.tensor([[3.0, 4.0]], requires_grad=True)
    torch.autograd.backward(filled("-/-/fnd/-/-/-", 2, 2)(rows)[0, 0])
    torch.testing.assert_close(rows.grad, torch.tensor([[0.2, 0.0]]))
    rows.grad = None
    torch.autograd.backward(filled("-/-/fn/-/-/-", 2, 2)(rows)[0, 0])
    torch.testing.assert_close(rows.grad, torch.tensor([[0.2 - 9 / 125, -12 / 125]]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": "-/lb/fn/wn/l"}, "^layers: '-/lb/fn/wn/l' has 5 fields; must be 6"),
        ({"layers": "-/lb/fn/wn/l/wn"}, r"field 6 \(L2 normalisation of the output\): 'wn'; choose from: -, fn$"),
        ({"layers": "-/b/fn/wn/l/-"}, r"field 2 \(linear layer 1\): 'b'; choose from: -, l, lb$"),
        ({"layers": "wn/-/fn/wn/l/-"}, "field 1: wn normalises the weights of a layer that field 2 leaves out"),
        ({"layers": "-/lb/fn/wn/-/-"}, "field 4: wn normalises the weights of a layer that field 5 leaves out"),
        (
            {"layers": "-/-/fn/-/-/-"},
            r"no linear layer .* as many outputs as features, 4, and out_dim is 5; set it to 4",
        ),
        ({"layers": "-/l/fn/wn/l/-", "width": 0}, "width: 0 leaves one linear layer with bias; give one of them"),
    ],
)
def test_what_means_nothing_is_refused_with_its_place(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        Bottleneck(4, 5, **settings)
    assert "\n" not in str(caught.value)


def test_it_can_be_copied() -> None:
    whole = Bottleneck(4, 5)
    assert torch.equal(copy.deepcopy(whole)(torch.ones(1, 4)), whole(torch.ones(1, 4)))
