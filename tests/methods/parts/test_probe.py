from dataclasses import replace

import pytest
import torch

from dinodiet.errors import UserError
from dinodiet.methods.parts.probe import label_probe
from dinodiet.schedules import Scalar, Staged
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


@pytest.mark.parametrize("weight", [0.5, Staged([0.1])])
def test_a_probe_without_labels_is_refused(weight: Scalar) -> None:
    with pytest.raises(UserError, match=r"^weight: "):
        label_probe(3, replace(SPEC, pretext_labelled=False), weight=weight)
