"""What every file of conf/method keeps to, built as a run builds it: a tiny transformer on a few digits."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.optim import Optimizer

from dinodiet.config.identity import trains
from dinodiet.config.settings import Settings
from dinodiet.run.parts import Parts, build_parts, trained_images
from dinodiet.run.train import train
from dinodiet.sweep.planning.estimate import Estimator
from dinodiet.training.loop import forward_backward
from dinodiet.training.strategy import Alone
from dinodiet.types import Batch, Clock
from tests.contracts.choices import configuration, names, nodes, settings, taught
from tests.kinds import kinds_nightly, rest_nightly

EVERY = names("method")
METHODS = [name for name in EVERY if name != "frozen"]
FEW = ("diet", "dino", "mae")  # for the default suite, of what takes long
HALF = 2  # steps before a stop, and after it
LONG_EPOCHS = 30  # of 4 steps
NARROW = {"width": 64, "heads": 4, "hidden_dims": 32, "bottleneck_dim": 16, "directions": 64}  # for speed alone


class Stop(Exception):  # noqa: N818
    """Ends a training after a step."""


@pytest.fixture(params=kinds_nightly("method", METHODS))
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def parts_of(folder: Path, method: str, *overrides: str) -> Parts:
    return build_parts(settings_for(folder, method, *overrides))


def settings_for(folder: Path, method: str, *overrides: str) -> Settings:
    words = (*narrow(method), *taught(method), *overrides)
    return settings(folder, f"method={method}", "model.drop_path=0.2", *words)


@functools.cache
def narrow(method: str) -> tuple[str, ...]:
    """Return the words that make the heads of a method as narrow as they come; every layer stays."""
    composed: Any = OmegaConf.to_container(configuration(f"method={method}", *taught(method)).method)
    found = [(f"{key}.{name}", value, name) for node, key in nodes(composed, "method") for name, value in node.items()]
    return tuple(
        f"{key}={[NARROW[name]] * len(value) if isinstance(value, list) else NARROW[name]}"
        for key, value, name in found
        if name in NARROW and value and not key.startswith("method.teacher.model.")
    )


def middle(parts: Parts) -> tuple[Batch, Clock]:
    """Return a batch and the clock in the middle of the training, when no head is trained alone any more."""
    prepare(parts)
    clock = parts.state.clock.at(parts.state.clock.total_steps // 2)
    return next(parts.loader.batches(clock.step)), clock


def prepare(parts: Parts) -> None:
    parts.method.prepare(trained_images(parts.data, parts.method), parts.state.clock, parts.runtime)


def trained(parts: Parts, until: int) -> list[float]:
    """Train from the state's step to step `until`; return the losses."""
    losses = []

    def on_step(clock: Clock, logs: dict[str, Tensor]) -> None:
        losses.append(logs["loss"].item())
        parts.state.clock = clock
        if clock.step == until:
            raise Stop

    prepare(parts)
    with pytest.raises(Stop):
        train(parts, on_step)
    return losses


def tensors(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every leaf of nested state under its path."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from tensors(item, f"{key}/{name}")
    elif isinstance(value, list):
        for position, item in enumerate(value):
            yield from tensors(item, f"{key}/{position}")
    else:
        yield key, value


def differences(one: Any, other: Any) -> list[str]:
    there, here = dict(tensors(one)), dict(tensors(other))
    assert there.keys() == here.keys()
    return [
        key
        for key, value in there.items()
        if not (torch.equal(value, here[key]) if isinstance(value, Tensor) else value == here[key])
    ]


def test_the_loss_is_finite_and_gradients_are_exactly_where_something_is_trained(method: str, tmp_path: Path) -> None:
    parts = parts_of(tmp_path, method)
    batch, clock = middle(parts)
    parts.method.train()
    logs, _ = forward_backward(
        Alone(parts.method), batch, parts.state.scaler, parts.optimisation, clock, parts.runtime.world
    )
    assert logs["loss"].isfinite()
    assert all(value.ndim == 0 and not value.requires_grad for value in logs.values())
    expected = {name for name, parameter in parts.method.named_parameters() if parameter.requires_grad}
    assert {name for name, parameter in parts.method.named_parameters() if parameter.grad is not None} == expected
    optimised = [id(parameter) for group in parts.state.optimizer.param_groups for parameter in group["params"]]
    named = {id(parameter): name for name, parameter in parts.method.named_parameters()}
    assert sorted(named[key] for key in optimised) == sorted(expected)
    assert all(isinstance(value, float) for value in parts.method.diagnostics().values())


def test_a_method_keeps_to_its_protocol(method: str, tmp_path: Path) -> None:
    parts = parts_of(tmp_path, method)
    built, (batch, _) = parts.method, middle(parts)
    towers = built.towers()
    assert all(isinstance(tower, nn.Module) for tower in towers)
    assert {id(tower) for tower in towers} <= {id(module) for module in built.modules()}
    assert id(built.encoder) in {id(tower) for tower in towers}
    assert built.trains
    assert any(parameter.requires_grad for parameter in built.parameters())
    assert built.split in ("pretext", "train")
    assert built.draft_side is None or built.draft_side > 0
    assert not built.reads_images or all(image.dtype == torch.uint8 for image in batch.images)
    assert all(str(value) for value in built.describe().values())
    built.eval()
    side = parts.backbone.input.size
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert built.encoder(images).shape == (2, parts.backbone.embed_dim)
        logits = built.logits(images)
    assert logits is None or logits.shape == (2, parts.data.spec.num_labels)


def test_a_restored_state_gives_the_same_embeddings_and_loss(method: str, tmp_path: Path) -> None:
    one, other = parts_of(tmp_path, method), parts_of(tmp_path, method)
    kept = other.method.state_dict()
    with torch.no_grad():
        for name, parameter in other.method.named_parameters():
            if name in kept:  # what is not comes from the settings, as it does when a run goes on
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    batch, clock = middle(one)

    def seen(parts: Parts) -> dict[str, Tensor]:
        parts.method.eval()
        prepare(parts)
        side = parts.backbone.input.size
        images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            return {"loss": parts.method(batch, clock)["loss"], "embeddings": parts.method.encoder(images)}

    assert differences(seen(one), seen(other)) == ["/loss", "/embeddings"]
    other.method.load_state_dict(one.method.state_dict())
    assert differences(seen(one), seen(other)) == []


def test_k_steps_and_k_more_are_2k_steps(method: str, tmp_path: Path) -> None:
    whole, first, second = (parts_of(tmp_path, method) for _ in range(3))
    start = {name: value.clone() for name, value in whole.method.state_dict().items()}
    trained(whole, 2 * HALF)
    assert differences(start, whole.method.state_dict())
    trained(first, HALF)
    second.state.restore(first.state.content())
    assert second.state.clock.step == HALF
    trained(second, 2 * HALF)
    assert differences(second.state.content(), whole.state.content()) == []


@pytest.mark.parametrize("method", rest_nightly(METHODS, FEW))
def test_a_training_goes_on_where_what_was_frozen_is_trained(method: str, tmp_path: Path) -> None:
    parts = parts_of(tmp_path, method, f"schedule.epochs={LONG_EPOCHS}")
    moved: set[int] = set()

    def note(optimizer: Optimizer, *_: Any) -> None:
        given = (parameter for group in optimizer.param_groups for parameter in group["params"])
        moved.update(id(parameter) for parameter in given if parameter.grad is not None)

    parts.state.optimizer.register_step_pre_hook(note)
    assert np.isfinite(trained(parts, LONG_EPOCHS)).all()  # warm-ups are up to a tenth of the training
    assert moved == {id(parameter) for parameter in parts.method.parameters() if parameter.requires_grad}


@pytest.mark.parametrize("method", rest_nightly(METHODS, FEW))
def test_half_precision_trains_with_finite_losses_and_repeats_itself_bit_for_bit(method: str, tmp_path: Path) -> None:
    one, other, full = (parts_of(tmp_path, method, f"precision={word}") for word in ("bf16", "bf16", "fp32"))
    losses, wide = trained(one, HALF), trained(full, HALF)
    assert np.isfinite(losses).all()
    assert losses != wide
    np.testing.assert_allclose(losses, wide, rtol=0.1)
    assert trained(other, HALF) == losses
    assert differences(one.state.content(), other.state.content()) == []
    assert all(value.isfinite().all() for value in one.method.state_dict().values())


@pytest.mark.parametrize("method", kinds_nightly("method", EVERY))
def test_the_plan_is_the_run(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dinodiet.sweep.planning.built.needs", lambda *_, **__: None)  # tests/run/test_activations.py
    words = (f"method={method}", "schedule.epochs=2.5", *taught(method))
    planned = Estimator()(settings(tmp_path, *words))
    parts = build_parts(settings(tmp_path, *words))
    backbone = list(parts.method.towers()[0].parameters())
    assert planned.parameters == sum(parameter.numel() for parameter in backbone)
    assert planned.trained == sum(parameter.numel() for parameter in backbone if parameter.requires_grad)
    assert planned.steps == parts.state.clock.total_steps
    assert planned.note is None


def test_frozen_trains_nothing(tmp_path: Path) -> None:
    parts = parts_of(tmp_path, "frozen")
    assert not parts.method.trains
    assert not trains(settings(tmp_path, "method=frozen"))
    assert parts.state.clock.total_steps == 0
    assert not any(parameter.requires_grad for parameter in parts.method.parameters())
    assert parts.method.param_groups() == []
