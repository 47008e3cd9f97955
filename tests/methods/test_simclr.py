"""SimCLR as a whole: its views, and what guessing gives."""

import functools
import math
from typing import Any

import pytest
import torch

from dinodiet.data.views import MultiCrop
from dinodiet.errors import UserError
from dinodiet.methods.parts.projector import Projector
from dinodiet.methods.simclr import SimCLR
from dinodiet.types import Clock
from tests.small import SPEC, Encoder, FixedViews, batch

CLOCK = Clock(50, 100, 10)
PAIR = functools.partial(FixedViews, local=0)


def simclr(views: Any = PAIR) -> SimCLR:
    torch.manual_seed(0)
    return SimCLR(Encoder(), SPEC, views=views, head=functools.partial(Projector, hidden_dims=[8], out_dim=6))


def test_all_views_go_through_the_network_at_once() -> None:
    method = simclr()
    logs = method(batch(), CLOCK)
    assert method.encoder.inputs == [(8, 3, 16, 16)]
    assert logs["loss"].isfinite()
    assert -1 <= logs["positive_cosine"] <= 1


def test_guessing_is_the_loss_where_all_projections_are_one() -> None:
    method = simclr()
    assert method.guessing() == {}
    for parameter in method.head.parameters():
        parameter.data.zero_()
    method.head[-1].bias.data.fill_(1.0)  # type: ignore[operator]
    loss = method(batch(), CLOCK)["loss"].item()
    assert loss == pytest.approx(math.log(7), rel=1e-6)
    assert method.guessing() == {"loss": pytest.approx(loss, rel=1e-6)}


def test_three_views_are_refused() -> None:
    with pytest.raises(UserError, match=r"two views of one size, not \[16, 16, 16\] pixels"):
        simclr(functools.partial(MultiCrop, crops=3))
