"""What is predicted for tensors without memory is what real ones take."""

import gc
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dinodiet.backbones import timm_backbone
from dinodiet.backbones.meta import backbone_on_meta
from dinodiet.config.settings import Settings, settings_of
from dinodiet.evals.finetune import FineTune
from dinodiet.evals.finetuning.training import Task, prepared
from dinodiet.run.activations import Activations, Live, Pass
from dinodiet.run.copies import trained_copies
from dinodiet.run.needs import held, method_on_meta, needs
from dinodiet.run.parts import build_parts, open_data, trained_images
from dinodiet.sweep.planning.estimate import Estimator
from dinodiet.types import DataSpec
from tests.kinds import rest_nightly
from tests.running import CHOICES, composed
from tests.sweep.planning.cells import cell

FIXED = ("method.views.strength=0", "method.views.crop_scale=null")
LITE = ("model@method.teacher.model=efficientnet_lite0",)


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


def test_weights_that_are_there_are_not_counted() -> None:
    layer = nn.Linear(100, 100, bias=False)
    with Live(layer) as live:
        made = layer(torch.zeros(1, 100))
        assert (live.now, live.peak) == (800, 800)
        torch.autograd.backward(made.sum())
    assert live.peak >= 100 * 100 * 4


STEPS = [
    ["method=diet", "method.trainable=last_1_blocks", "method.head.warmup_fraction=0"],
    ["method=diet_dual", "method.trainable=all", "precision=bf16"],
    ["method=dino", "method.head.out_dim=2000", "method.head.hidden_dims=[64,64]"],
    ["method=diet", "method.trainable=head_only"],
    ["method=simclr", "method.trainable=all", "method.head.warmup_fraction=0"],
    ["method=lejepa", "method.head.hidden_dims=[64]", "method.loss.sigreg.directions=64"],
    ["method=byol", "method.trainable=all", "method.head.hidden_dims=[64]", "method.predictor.hidden_dims=[64]"],
    ["method=mae", "method.trainable=all", "method.head.width=64", "method.head.heads=4", "method.head.depth=2"],
    ["method=dino", "method.head.out_dim=64", "method.head.hidden_dims=[64,64]", "grad_checkpointing=true"],
    ["method=distill", *LITE, "method.teacher.model.image_size=32", "method.label_weight=1"],
    ["method=distill", *LITE, "method.teacher.model.image_size=96"],  # larger than the student's step
    ["method=distill", *LITE, "method.teacher.model.image_size=64", *FIXED],  # it is known before the first step
    ["method=distill_logits", *LITE, "method.teacher.model.image_size=32", "method.mix.mixup_alpha=1", *FIXED],
    ["method=dino_ibot", "method.head.out_dim=500", "method.head.hidden_dims=[64,64]"],
    ["method=dino_gram", "method.head.out_dim=64", "method.head.hidden_dims=[64,64]"],
    ["method=dino_ibot", "method.head.out_dim=64", "method.patches.ibot.own_head=true", "precision=bf16"],
]


@pytest.mark.slow
@pytest.mark.parametrize("overrides", rest_nightly(STEPS, [*STEPS[:3], STEPS[11]]), ids=str)
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
    with Live(method) as preparing:
        method.prepare(trained_images(parts.data, method), clock, parts.runtime)
    own: Any = method.views
    views = own(batch.images, clock.generator("views"))
    method.views = FixedViews(views, own.num_global)  # type: ignore[assignment]
    sizes = sum(view.numel() * view.element_size() for view in views)
    del views
    gc.collect()
    with Live(method) as live, torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bf16"):
        torch.autograd.backward(method(batch, clock)["loss"])
    gradients = sum(p.numel() * p.element_size() for p in method.parameters() if p.requires_grad)
    assert found.peak is not None
    assert found.memory is not None
    return found.peak - (found.memory - gradients), max(live.peak + sizes, preparing.peak)


WIDE = (
    *("method=dino", "method.head.out_dim=4000", "method.head.hidden_dims=[64,64]", "method.trainable=all"),
    *("schedule.batch_size=16", "eval.batch_size=8"),
)


def planned(settings: Settings) -> tuple[int, int]:
    """Return the bytes that are planned for all the time but for gradients, and for a row of the records."""
    data = open_data(settings.dataset)
    method = method_on_meta(settings, backbone_on_meta(settings.model, data.spec), data.spec)
    memory = held(settings, method, method.parameters())
    found = needs(settings, method, data.spec, memory, Activations())
    assert found is not None
    return found.without_gradients, found.recording


def recorded(settings: Settings) -> tuple[int, int]:
    """Return the bytes that are kept by the records of a run after a step, and at the worst moment of its rows."""
    parts = build_parts(settings)
    method, state = parts.method.train(), parts.state
    batch = next(parts.loader.batches(0))
    with Live() as live, torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bf16"):
        for tensor in (*method.parameters(), *method.buffers()):
            live._see(tensor)  # those that are there already come to life with their first view
        there = live.now
        for record in parts.records.values():
            record.begin()
        torch.autograd.backward(method(batch, state.clock)["loss"])
        live.peak = before = live.now  # gradients, features that are kept, and what records keep
        for record in parts.records.values():
            record.on_gradients(state.clock, batch)
            record.on_step(state.clock.at(1), {})
    gradients = sum(bytes_of(p.grad) for p in method.parameters() if p.grad is not None)
    return before - there - gradients, live.peak - there - gradients


RECORDS = [
    ("parameters", []),
    ("parameters", ["method.student.init=random"]),
    ("features", []),
    ("saved_features", []),
    ("losses", ["precision=bf16"]),
    ("gradient_variance", ["schedule.accumulate=2"]),
]


@pytest.mark.slow
@pytest.mark.parametrize(("record", "more"), rest_nightly(RECORDS, RECORDS[2:3]))
def test_the_memory_of_records_is_counted(tmp_path: Path, record: str, more: list[str]) -> None:
    words = [*WIDE, *more]
    settings = settings_of(composed(tmp_path, *words, f"record={record}"), {**CHOICES, "method": "dino"})
    without = settings_of(composed(tmp_path, *words), {**CHOICES, "method": "dino"})
    kept, most = (a - b for a, b in zip(recorded(settings), recorded(without), strict=True))
    least, limit = (a - b for a, b in zip(planned(settings), planned(without), strict=True))
    assert kept <= least <= 1.05 * kept + 2**13
    assert most <= limit <= 2.5 * most + 2**13


TUNED = [
    ["eval=finetune"],
    ["eval=finetune", "eval.finetune.batch_size=4", "model.model_args.embed_dim=96", "precision=bf16"],
    ["eval=finetune_cpr", "eval.finetune_cpr.batch_size=64"],
    ["method=dino", "method.head.out_dim=64", "method.head.hidden_dims=[64,64]", "eval=finetune"],
]


@pytest.mark.slow
@pytest.mark.parametrize("overrides", rest_nightly(TUNED, TUNED[:1]), ids=str)
def test_the_peak_of_fine_tuning_is_that_of_a_real_step(tmp_path: Path, overrides: list[str]) -> None:
    settings = settings_of(composed(tmp_path, *overrides), {**CHOICES, "method": chosen(overrides)})
    parts = build_parts(settings)
    (evaluator,) = parts.scorer.asked.evaluators.values()
    assert isinstance(evaluator, FineTune)
    data, input = parts.data, parts.backbone.input
    task = Task(
        *(parts.method.encoder, input, data.spec, parts.runtime, data.train, data.val, data.test, evaluator.recipe)
    )
    state, loader, _ = prepared(task, seed=0)
    method: Any = state.method
    batch, held = next(loader.batches(0)), sum(map(bytes_of, (*method.parameters(), *method.buffers())))
    views = method.views(batch.images, state.clock.generator("views"))
    method.views = FixedViews(views, 1)
    with Live() as live, torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bf16"):
        torch.autograd.backward(method.train()(batch, state.clock.at(1))["loss"])
    state.optimizer.step()
    kept = sum(
        bytes_of(value) for of_one in state.optimizer.state.values() for value in of_one.values() if value.ndim > 0
    )
    planned = method_on_meta(settings, backbone_on_meta(settings.model, data.spec), data.spec).encoder
    (copy,) = trained_copies(settings, planned, data.spec, len(data.train))
    assert (copy.images, copy.held) == (loader.batch_size, held + kept)
    peak = copy.peak(settings.precision, Activations())
    assert peak is not None and peak - copy.held == pytest.approx(live.peak + sum(map(bytes_of, views)), rel=0.15)
    found = Estimator()(settings).peak
    assert found is not None and found > peak


def chosen(overrides: list[str]) -> str:
    return next((word.removeprefix("method=") for word in overrides if word.startswith("method=")), "diet")


def bytes_of(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


class FixedViews:
    """Views that were made before."""

    def __init__(self, views: list[torch.Tensor], num_global: int) -> None:
        self.views, self.num_global = views, num_global

    def __call__(self, *_: Any) -> list[torch.Tensor]:
        return self.views


def test_a_backbone_is_run_once_for_a_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []
    measured = Activations._cost

    def counted(
        self: Activations, name: str, backbone: nn.Module, one: Pass, precision: str, gradients: bool = True
    ) -> Any:
        if (name, one, precision, gradients) not in self._costs:
            shapes.append(one)
        return measured(self, name, backbone, one, precision, gradients)

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


def test_patches_that_are_left_out_hold_nothing() -> None:
    spec = DataSpec("test", num_images=8, num_labels=2, image_size=32)
    small = {"depth": 2, "embed_dim": 48, "num_heads": 3}
    with torch.device("meta"):
        backbone = timm_backbone(
            spec,
            size="a",
            names={"a": "vit_tiny_patch16_224"},
            feature="mean_patch",
            weights="none",
            patch_size=4,
            model_args=small,
        )
    shape = torch.Size((64, 3, 32, 32))
    whole, part = (Activations()._cost("a", backbone, Pass(shape, True, seen), "fp32").kept for seen in (None, 15))
    patches = 64 * 64 * 48 * 4  # the patch embedding, which is made of all
    assert (part - 2 * patches) / whole < 0.3
    assert part / whole > 16 / 65
