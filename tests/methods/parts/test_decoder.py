"""The decoder sees visible tokens at their positions, and predicts hidden patches alone."""

from typing import Any

import pytest
import torch

from dinodiet.errors import UserError
from dinodiet.methods.parts.decoder import Decoder


def decoder(**settings: Any) -> Decoder:
    torch.manual_seed(0)
    small: dict[str, Any] = {"width": 16, "depth": 2, "heads": 2, **settings}
    return Decoder(12, prefix=2, grid=4, pixels=27, **small).eval()


def test_it_predicts_the_pixels_of_hidden_patches() -> None:
    visible, hidden = torch.tensor([[0, 5, 9]]), torch.tensor([[1, 2, 3, 15]])
    assert decoder()(torch.randn(1, 5, 12), visible, hidden).shape == (1, 4, 27)


@torch.no_grad()
def test_predictions_depend_on_positions_and_not_on_the_order() -> None:
    network, tokens = decoder(), torch.randn(1, 5, 12)
    visible, hidden = torch.tensor([[0, 5, 9]]), torch.tensor([[1, 2, 15]])
    found = network(tokens, visible, hidden)
    turned = network(tokens[:, [0, 1, 4, 3, 2]], visible.flip(1), hidden.flip(1))
    torch.testing.assert_close(turned, found.flip(1))
    assert not torch.allclose(network(tokens, visible + 1, hidden), found, atol=1e-3)


@torch.no_grad()
def test_positions_are_sines_and_cosines_of_rows_and_columns() -> None:
    table = decoder().positions
    assert table.shape == (16, 16)
    # The first frequency is 1: sin and cos of the row and of the column themselves.
    assert {round(float(value), 4) for value in table[6]} >= {
        round(v, 4) for v in (0.841471, 0.540302, 0.909297, -0.416147)
    }


def test_a_width_that_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(UserError, match=r"^method.head.width: 20; must be a multiple of 4 and of heads \(3\)"):
        decoder(width=20, heads=3)
