"""LeJEPA as a whole: the views that it compares."""

import functools
from typing import Any

import torch

from dinodiet.methods.lejepa import LeJEPA
from dinodiet.methods.parts.projector import Projector
from dinodiet.methods.parts.sigreg import LeJEPALoss
from dinodiet.types import Clock
from tests.small import SPEC, Encoder, FixedViews, batch

CLOCK = Clock(50, 100, 10)


def lejepa(**settings: Any) -> LeJEPA:
    torch.manual_seed(0)
    head = functools.partial(Projector, hidden_dims=[8], out_dim=6)
    return LeJEPA(Encoder(), SPEC, views=FixedViews, head=head, loss=LeJEPALoss(**settings))


def test_global_and_local_views_have_a_pass_each_and_make_one_loss() -> None:
    method = lejepa()
    assert isinstance(method.encoder, Encoder)
    method.encoder.inputs.clear()  # it was asked whether it takes the views
    logs = method(batch(), CLOCK)
    assert method.encoder.inputs == [(8, 3, 16, 16), (8, 3, 8, 8)]
    torch.testing.assert_close(logs["loss"].detach(), 0.98 * logs["distance"] + 0.02 * logs["sigreg"])
    assert method.diagnostics()["effective_rank"] > 1


def test_the_centre_may_be_that_of_the_global_views() -> None:
    distances = [lejepa(centre=centre)(batch(), CLOCK)["distance"].item() for centre in ("all", "global")]
    assert distances[1] > distances[0]  # of all points the mean has the smallest sum of squares
