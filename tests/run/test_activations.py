"""What is predicted for tensors without memory is what real ones take."""

import gc
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dinodiet.config.settings import Settings
from dinodiet.run.activations import Activations, Live
from dinodiet.run.parts import build_parts
from dinodiet.sweep.planning.estimate import Estimator
from tests.sweep.planning.test_plan import cell


def test_live_tensors_are_counted_once_and_until_they_go() -> None:
    with Live() as live:
        matrix = torch.zeros(100, 10)
        view = matrix.t()[:5]
        assert live.now == live.peak == 4000
        double = matrix * 2
        del matrix
        assert live.now == 8000  # the view holds it
        del view, double
        torch.ones(10)
    assert (live.now, live.peak) == (0, 8000)


@pytest.mark.parametrize(
    "overrides",
    [
        ["method=diet", "method.trainable=last_1_blocks", "method.head.warmup_fraction=0"],
        ["method=diet_dual", "method.trainable=all", "precision=bf16"],
        ["method=dino", "method.head.out_dim=2000", "method.head.hidden_dims=[64,64]"],
        ["method=diet", "method.trainable=head_only"],
        ["method=dino", "method.head.out_dim=64", "method.head.hidden_dims=[64,64]", "grad_checkpointing=true"],
    ],
)
def test_the_peak_is_that_of_a_real_step(tmp_path: Path, overrides: list[str]) -> None:
    wide = [*overrides, "schedule.batch_size=64", "eval.batch_size=8"]
    settings = cell(tmp_path, *wide).settings()
    planned, taken = peaks(settings)
    assert planned == pytest.approx(taken, rel=0.15)


def peaks(settings: Settings) -> tuple[int, int]:
    """Return how many bytes are planned for the activations of a step, and what a real one takes."""
    found = Estimator()(settings)
    parts = build_parts(settings)
    method, clock = parts.method.train(), parts.state.clock.at(parts.state.clock.total_steps - 1)
    batch = next(parts.loader.batches(0))
    own: Any = method.views
    views = own(batch.images, clock.generator("views"))
    method.views = FixedViews(views, own.num_global)  # type: ignore[assignment]
    sizes = sum(view.numel() * view.element_size() for view in views)
    del views
    gc.collect()
    with Live() as live, torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bf16"):
        torch.autograd.backward(method(batch, clock)["loss"])
    gradients = sum(p.numel() * p.element_size() for p in method.parameters() if p.requires_grad)
    assert found.peak is not None
    assert found.memory is not None
    return found.peak - (found.memory - gradients), live.peak + sizes


class FixedViews:
    """Views that were made before."""

    def __init__(self, views: list[torch.Tensor], num_global: int) -> None:
        self.views, self.num_global = views, num_global

    def __call__(self, *_: Any) -> list[torch.Tensor]:
        return self.views


def test_a_backbone_is_run_once_for_a_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []
    measured = Activations._cost

    def counted(self: Activations, key: Any, backbone: nn.Module, *rest: Any) -> Any:
        if key not in self._costs:
            shapes.append(key[1:])
        return measured(self, key, backbone, *rest)

    monkeypatch.setattr(Activations, "_cost", counted)
    estimator = Estimator()
    few, many = (estimator(cell(tmp_path, f"dataset.limit={limit}").settings()) for limit in (64, 1000))
    assert len(shapes) == 2  # a step's and an evaluation's
    assert few.peak is not None
    assert many.peak is not None
    assert many.peak > few.peak  # more classes


def test_what_cannot_be_run_without_values_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dinodiet.methods.diet.DIET.forward", lambda *_: {"loss": torch.zeros(1).item()})
    found = Estimator()(cell(tmp_path).settings())
    assert found.peak is None
    assert found.memory is not None
