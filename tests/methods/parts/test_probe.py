from dataclasses import replace

import pytest
import torch

from dinodiet.errors import UserError
from dinodiet.methods.parts.probe import label_probe
from dinodiet.schedules import Staged
from dinodiet.types import Clock
from tests.small import SPEC


def test_without_weight_there_is_no_probe() -> None:
    state = torch.get_rng_state()
    assert label_probe(3, SPEC) is None
    assert torch.equal(torch.get_rng_state(), state)


def test_the_weight_follows_its_schedule() -> None:
    probe = label_probe(3, SPEC, weight=Staged([0.25, 0.75]))
    assert probe is not None
    shares = [probe.share(torch.tensor(0.0), torch.tensor(4.0), Clock(step, 10, 1)).item() for step in (0, 9)]
    assert shares == [1.0, 3.0]


@pytest.mark.parametrize(("weight", "labelled"), [(1.5, True), (-0.1, True), (0.5, False), (Staged([0.1]), False)])
def test_weights_that_cannot_be_are_refused(weight: float, labelled: bool) -> None:
    with pytest.raises(UserError, match=r"^weight: "):
        label_probe(3, replace(SPEC, pretext_labelled=labelled), weight=weight)
