import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dinodiet.io.host_copy import HostCopy
from dinodiet.methods.base import MethodBase
from dinodiet.schedules import Cosine
from dinodiet.training import loop as train_module
from dinodiet.training.loop import NonFiniteLossError, Optimisation, fit, set_rates
from dinodiet.types import Backbone, Batch, Clock, ParamGroup, Precision, World
from tests.small import Pixels

CPU = World()


class Regression(MethodBase):
    """Regresses the index; notes what the loop calls, in order."""

    def __init__(self, backbone: Backbone, noise: float = 0.0) -> None:
        super().__init__(backbone)
        self.calls: list[str] = []
        self.noise = noise

    def forward(self, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        self.calls.append(f"forward {clock.step}.{clock.part}")
        assert isinstance(batch.images, Tensor)
        out = self.backbone(batch.images.float().flatten(1)).sum(1)
        out = out + self.noise * torch.randn(len(batch))  # as drop path would: from the global generator
        loss = ((out.float() - batch.index) ** 2).mean()
        return {"loss": loss, "mean": out.mean()}

    def before_step(self, clock: Clock) -> None:
        assert self.backbone.weight.grad is not None
        self.calls.append(f"before {clock.step}")

    def after_step(self, clock: Clock) -> None:
        self.calls.append(f"after {clock.step}")


def batches(start: int = 0) -> Iterator[Batch]:
    for step in itertools.count(start):
        generator = torch.Generator().manual_seed(step)
        images = torch.randint(2, (8, 3, 2, 2), generator=generator, dtype=torch.uint8)
        yield Batch(images, None, torch.arange(8))


def train(
    steps: int = 5, start: int = 0, method: Regression | None = None, **recipe: Any
) -> tuple[Regression, list[dict[str, float]]]:
    torch.manual_seed(0)
    method = method or Regression(Pixels())
    optimizer = torch.optim.SGD([group.as_dict() for group in method.param_groups()], lr=0.1)
    settings = Optimisation(**{"lr": 0.01, "weight_decay": 0.0, **recipe})
    logs: list[dict[str, float]] = []
    fit(
        method,
        batches(start),
        optimizer,
        torch.amp.GradScaler("cpu", enabled=False),
        settings,
        Clock(start, steps, 2),
        CPU,
        on_step=lambda clock, values: logs.append({"step": clock.step, **{k: v.item() for k, v in values.items()}}),
    )
    return method, logs


def test_the_order_of_a_step() -> None:
    method, logs = train(steps=2, accumulate=2)
    one = ["forward 0.0", "forward 0.1", "before 0", "after 0"]
    assert method.calls == one + [call.replace(" 0", " 1") for call in one]
    assert [log["step"] for log in logs] == [1, 2]


def test_the_steps_are_plain_sgd() -> None:
    method, _ = train(steps=3, weight_decay=0.1)
    torch.manual_seed(0)
    plain = Pixels()
    groups: list[dict[str, Any]] = [{"params": [plain.weight], "weight_decay": 0.1}, {"params": [plain.bias]}]
    optimizer = torch.optim.SGD(groups, lr=0.01)
    for batch in itertools.islice(batches(), 3):
        optimizer.zero_grad()
        assert isinstance(batch.images, Tensor)
        ((plain(batch.images.float().flatten(1)).sum(1) - batch.index) ** 2).mean().backward()
        optimizer.step()
    assert torch.equal(method.backbone.get_parameter("weight"), plain.weight)


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulated_gradients_are_those_of_the_whole_batch(parts: int) -> None:
    whole, whole_logs = train()
    split, split_logs = train(accumulate=parts)
    torch.testing.assert_close(split.backbone.weight, whole.backbone.weight)
    assert [log["loss"] for log in split_logs] == pytest.approx([log["loss"] for log in whole_logs], rel=1e-5)


def test_k_steps_and_then_k_more_are_2k_steps_bit_for_bit() -> None:
    torch.manual_seed(0)
    once = Regression(Pixels(), noise=1.0)
    twice = Regression(Pixels(), noise=1.0)
    twice.load_state_dict(once.state_dict())
    train(steps=6, method=once, lr=Cosine(0.01))

    class StopError(Exception):
        pass

    def stop(clock: Clock, logs: dict[str, Tensor]) -> None:
        if clock.step == 3:
            raise StopError

    optimizer = torch.optim.SGD([group.as_dict() for group in twice.param_groups()], lr=0.1)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    recipe = Optimisation(lr=Cosine(0.01), weight_decay=0.0)
    with pytest.raises(StopError):
        fit(twice, batches(), optimizer, scaler, recipe, Clock(0, 6, 2), CPU, on_step=stop)
    torch.randn(100)  # whatever happened between the two halves
    train(steps=6, start=3, method=twice, lr=Cosine(0.01))
    assert torch.equal(once.backbone.get_parameter("weight"), twice.backbone.get_parameter("weight"))


def test_rates_follow_the_schedules_and_the_groups() -> None:
    parameters = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups = [ParamGroup("a", parameters[:1], lr_scale=10.0), ParamGroup("b", parameters[1:], weight_decay_scale=0.0)]
    optimizer = torch.optim.SGD([group.as_dict() for group in groups], lr=1.0)
    set_rates(optimizer, Optimisation(lr=Cosine(0.1, final=0.0), weight_decay=0.5), Clock(5, 10, 1))
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.5, 0.05])
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5, 0.0]


def test_a_loss_that_is_not_finite_stops_and_names_step_and_rate() -> None:
    with pytest.raises(NonFiniteLossError, match=r"step \d+ of 500 .*decay 1e\+03"):
        train(steps=500, lr=1e3)


def test_a_loss_that_is_not_finite_changes_nothing() -> None:
    method = Regression(Pixels(), noise=float("inf"))
    before = {name: value.clone() for name, value in method.state_dict().items()}
    with pytest.raises(NonFiniteLossError, match=r"^(?!.*learning rate).*before anything was trained"):
        train(method=method)
    assert method.calls == ["forward 0.0"]
    for name, value in method.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_low_precision_trains(precision: Precision, fused: bool) -> None:
    torch.manual_seed(0)
    method = Regression(Pixels())
    groups = [group.as_dict() for group in method.param_groups()]
    losses: list[float] = []
    fit(
        method,
        batches(),
        torch.optim.SGD(groups, lr=0.1, fused=fused),
        torch.amp.GradScaler("cpu", enabled=precision == "fp16", init_scale=8.0),
        Optimisation(lr=0.01, weight_decay=0.0, clip_grad=100.0, precision=precision),
        Clock(0, 60, 2),
        CPU,
        on_step=lambda clock, logs: losses.append(logs["loss"].item()),
    )
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    assert method.backbone.weight.dtype == torch.float32


@pytest.mark.parametrize(("mode", "norm"), [("global", 1.0), ("per_tensor", 2**0.5)])
def test_clipping_bounds_the_update(mode: Any, norm: float) -> None:
    torch.manual_seed(0)
    before = Pixels()
    method, _ = train(steps=1, clip_grad=1e-3, clip_mode=mode, lr=1.0)
    moved = torch.cat(
        [(a - b).flatten() for a, b in zip(before.parameters(), method.backbone.parameters(), strict=True)]
    )
    assert moved.norm().item() == pytest.approx(1e-3 * norm, rel=1e-3)


@pytest.mark.parametrize("fused", [False, True])
def test_a_step_whose_scaled_gradients_overflow_is_skipped(fused: bool) -> None:
    method = Regression(Pixels())
    before = [parameter.detach().clone() for parameter in method.parameters()]
    optimizer = torch.optim.AdamW([group.as_dict() for group in method.param_groups()], lr=0.1, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=3e38)  # the loss times that is infinite
    settings = Optimisation(lr=0.1, weight_decay=0.1, precision="fp16")
    fit(method, batches(), optimizer, scaler, settings, Clock(0, 1, 2), CPU, on_step=lambda clock, logs: None)
    for parameter, old in zip(method.parameters(), before, strict=True):
        assert torch.equal(parameter, old)
    assert scaler.get_scale() < 3e38


@pytest.mark.parametrize("accumulate", [1, 4])
def test_the_loss_that_is_checked_is_the_one_that_is_logged(accumulate: int, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[float] = []

    class Noting(HostCopy):
        def item(self) -> float:
            read.append(super().item())
            return read[-1]

    monkeypatch.setattr(train_module, "HostCopy", Noting)
    _, logs = train(steps=3, accumulate=accumulate)
    assert read == [log["loss"] for log in logs]
