"""The variance of gradients against dinopl's tracker, and that a training is left alone by it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from dinodiet.errors import UserError
from dinodiet.run.parts import build_parts
from dinodiet.run.records.gradient_variance import variance
from dinodiet.run.records.parameters import named
from dinodiet.run.records.restoring import restoring
from tests.contracts.choices import settings
from tests.run.records.published import network, tensor, value


def test_the_variance_is_the_published_one() -> None:
    parts = network("student")
    model = nn.Sequential(parts["encoder"], nn.Tanh(), parts["head"])
    inputs, targets = tensor("gradient_variance.inputs"), tensor("gradient_variance.targets")
    losses = ((model(one) - target).square().mean() for one, target in zip(inputs, targets, strict=True))
    found = variance(losses, named(parts))
    for ours, theirs in {"model": "", "encoder": "enc/", "head": "head/"}.items():
        assert found[f"{ours}/variance"] == pytest.approx(value(f"gradient_variance:{theirs}var(grad)"), rel=2e-7)
    (model(inputs) - targets).square().mean().backward()
    whole = torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])
    assert found["model/norm"] == pytest.approx(whole.norm().item(), rel=1e-12)


def test_what_computes_in_between_leaves_no_trace() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))
    before = {name: own.clone() for name, own in model.state_dict().items()}
    random = torch.get_rng_state()
    with restoring(model):
        model[1].note = "left"  # type: ignore[assignment]
        model[0].eval()
        model(torch.randn(4, 3))
        model[1].running_mean = torch.ones(3)
    assert all(torch.equal(own, before[name]) for name, own in model.state_dict().items())
    assert model[0].training and not hasattr(model[1], "note")
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("method=simclr",), "record.gradient_variance: the loss of SimCLR compares images"),
        (("method.trunk.views=2", "method.trainable=last_1_blocks"), "record.gradient_variance: the training reads no"),
    ],
)
def test_methods_whose_images_have_no_gradient_are_refused(tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    with pytest.raises(UserError, match=f"^{told}"):
        build_parts(settings(tmp_path, *words, "record=gradient_variance"))
