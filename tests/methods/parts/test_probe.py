import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from dinodiet.errors import UserError
from dinodiet.methods.parts.losses import CrossEntropy
from dinodiet.methods.parts.mix import Mixed
from dinodiet.methods.parts.probe import Probe, label_probe
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


@pytest.mark.parametrize(("own", "expected"), [(0.0, math.log(4)), (None, math.log(4)), (0.5, math.log(4))])
def test_uniform_logits_are_worth_the_log_of_the_labels_whatever_the_smoothing(
    own: float | None, expected: float
) -> None:
    probe = label_probe(3, replace(SPEC, num_labels=4), weight=0.5, label_smoothing=own)
    assert probe is not None
    torch.nn.init.zeros_(probe.linear.weight), torch.nn.init.zeros_(probe.linear.bias)
    assert probe_loss(probe).item() == pytest.approx(expected)


def probe_loss(probe: Probe) -> torch.Tensor:
    rows, label = torch.eye(4, 3), torch.arange(4)
    return probe.loss(rows, label, Mixed(rows, label, 1.0), CrossEntropy(label_smoothing=0.3))


def test_its_smoothing_is_its_own_where_it_is_given() -> None:
    torch.manual_seed(0)
    probe = label_probe(3, replace(SPEC, num_labels=4), weight=0.5, label_smoothing=0.0)
    assert probe is not None
    plain = F.cross_entropy(probe(torch.eye(4, 3)), torch.arange(4))
    torch.testing.assert_close(probe_loss(probe), plain)
    shared = label_probe(3, replace(SPEC, num_labels=4), weight=0.5)
    assert shared is not None
    shared.load_state_dict(probe.state_dict())
    smooth = F.cross_entropy(probe(torch.eye(4, 3)), torch.arange(4), label_smoothing=0.3)
    torch.testing.assert_close(probe_loss(shared), smooth)
