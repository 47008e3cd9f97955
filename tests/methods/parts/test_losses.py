import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dinodiet.methods.parts.losses import Distillation, accuracy
from dinodiet.types import Batch, Clock
from tests.places import REFERENCES
from tests.small import SPEC

REFERENCE = np.load(REFERENCES / "dino_loss.npz")
SETTINGS = json.loads(str(REFERENCE["settings_json"]))


def reference(key: str, call: int) -> Tensor:
    return torch.from_numpy(REFERENCE[key][call])


def run(loss: Distillation, student: Tensor, teacher: Tensor, step: int = 0, part: int = 0) -> dict[str, Tensor]:
    clock = Clock(step, 100, 1, part=part)
    return loss(student, teacher, num_global=2, clock=clock)  # type: ignore[no-any-return]


def test_losses_gradients_and_centres_are_the_published_ones() -> None:
    temps = REFERENCE["teacher_temps"]
    loss = Distillation(SETTINGS["out"], SPEC, teacher_temp=lambda clock: float(temps[clock.epoch]))
    for call, epoch in enumerate(SETTINGS["calls"]):
        student = reference("student_logits", call).requires_grad_()
        logs = run(loss, student, reference("teacher_logits", call), step=epoch)
        torch.autograd.backward(logs["loss"])
        loss.update_center(Clock(0, 1, 1))
        assert student.grad is not None
        torch.testing.assert_close(logs["loss"].detach(), torch.tensor(REFERENCE["losses"][call]), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(student.grad, reference("student_grads", call), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(loss.center, reference("centers", call), rtol=1e-5, atol=1e-6)


def test_the_centre_moves_once_towards_the_mean_over_all_parts() -> None:
    student, teacher = torch.randn(2, 12, 5), torch.randn(2, 6, 5)
    loss = Distillation(5, SPEC, teacher_temp=0.04)
    run(loss, torch.randn(12, 5), torch.randn(6, 5))  # a step that was never finished leaves nothing
    for part in range(2):
        run(loss, student[part], teacher[part], part=part)
        assert not loss.center.any()
    loss.update_center(Clock(0, 1, 1))
    torch.testing.assert_close(loss.center, 0.1 * teacher.mean((0, 1))[None])


def test_entropy_and_kl_are_the_parts_of_the_cross_entropy() -> None:
    student, teacher = torch.randn(8, 5), torch.randn(4, 5)
    logs = run(Distillation(5, SPEC, teacher_temp=0.5), student, teacher)
    log_t = F.log_softmax(teacher / 0.5, -1).view(2, 2, 5)
    log_s = F.log_softmax(student / 0.1, -1).view(4, 2, 5)
    kl = torch.stack(
        [
            F.kl_div(log_s[v], log_t[g], log_target=True, reduction="batchmean")
            for g in (0, 1)
            for v in range(4)
            if v != g
        ]
    )
    torch.testing.assert_close(logs["kl"], kl.mean())
    torch.testing.assert_close(logs["teacher_entropy"], -(log_t.exp() * log_t).sum(-1).mean())


@pytest.mark.parametrize(
    ("teacher", "entropy", "marginal"),
    [
        (torch.zeros(10, 5), math.log(5), math.log(5)),  # uniform
        (torch.eye(5)[0].repeat(10, 1), 0.0, 0.0),  # one prototype for all
        (torch.eye(5).repeat(2, 1), 0.0, math.log(5)),  # one prototype each
    ],
)
def test_the_two_entropies_tell_the_kinds_of_collapse_apart(teacher: Tensor, entropy: float, marginal: float) -> None:
    logs = run(Distillation(5, SPEC, teacher_temp=0.04), torch.zeros(20, 5), teacher)
    assert logs["teacher_entropy"].item() == pytest.approx(entropy, abs=1e-4)
    assert logs["marginal_entropy"].item() == pytest.approx(marginal, abs=1e-4)


def test_the_loss_is_computed_in_float32_whatever_the_logits_are() -> None:
    student, teacher = torch.randn(12, 64, dtype=torch.bfloat16), torch.randn(6, 64, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        logs = run(Distillation(64, SPEC, teacher_temp=0.04), student, teacher)
    expected = run(Distillation(64, SPEC, teacher_temp=0.04), student.float(), teacher.float())
    assert logs["loss"].dtype == torch.float32
    torch.testing.assert_close(logs["loss"], expected["loss"], rtol=1e-6, atol=1e-6)


def test_with_sinkhorn_targets_it_is_the_swapped_loss_of_dinov2() -> None:
    reference = np.load(REFERENCES / "dinov2_losses.npz")
    teacher = torch.from_numpy(reference["sinkhorn.teacher"])
    student = torch.randn(12, 16, generator=torch.Generator().manual_seed(0))
    loss = Distillation(16, SPEC, teacher_temp=0.07, centring="sinkhorn")
    found = run(loss, student, teacher)["loss"].item()
    targets = torch.from_numpy(reference["sinkhorn.assignment_0.07"])
    expected = -(targets.roll(6, 0) * F.log_softmax(student / 0.1, dim=1)).sum(1).mean().item()
    assert found == pytest.approx(expected, rel=1e-5)


def test_the_accuracy_is_of_the_probabilities_averaged_over_views() -> None:
    views = torch.tensor([[[9.0, 0.0], [0.0, 1.0], [3.0, 0.0]], [[0.0, 0.1], [0.0, 1.0], [0.0, 9.0]]])
    rows = Batch(torch.zeros(3, 3, 1, 1, dtype=torch.uint8), torch.tensor([0, 1, 0]), torch.arange(3))
    found = accuracy(views, rows)["train_accuracy"]  # 0, 1 and, by 0.95 against 0.9999, 1
    assert found.item() == pytest.approx(2 / 3)
