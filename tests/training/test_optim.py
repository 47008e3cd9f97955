from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from timm.optim.lars import Lars
from timm.optim.muon import Muon
from torch import Tensor, nn
from torch.optim import Optimizer

from dinodiet.training.optim import build_fused, clip_gradients_, clip_per_tensor_, moves_rows_apart
from dinodiet.types import ParamGroup
from tests.places import REFERENCES

REFERENCE = np.load(REFERENCES / "clip.npz")
NAMES = [key.removeprefix("before.") for key in REFERENCE.files if key.startswith("before.")]


def parameters() -> list[nn.Parameter]:
    found = []
    for name in NAMES:
        gradient = torch.from_numpy(REFERENCE[f"before.{name}"])
        parameter = nn.Parameter(torch.zeros_like(gradient))
        parameter.grad = gradient.clone()
        found.append(parameter)
    return found


def gradients(of: list[nn.Parameter]) -> list[Tensor]:
    return [parameter.grad for parameter in of if parameter.grad is not None]


def test_each_tensor_is_clipped_on_its_own_as_published() -> None:
    clipped = parameters()
    norm = clip_per_tensor_(clipped, float(REFERENCE["clip"]))
    for name, gradient in zip(NAMES, gradients(clipped), strict=True):
        torch.testing.assert_close(gradient, torch.from_numpy(REFERENCE[f"after.{name}"]), rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(norm, torch.linalg.vector_norm(torch.from_numpy(REFERENCE["norms"])))


@pytest.mark.parametrize("max_norm", [3.0, 1e9])
def test_the_global_mode_is_torchs(max_norm: float) -> None:
    ours, torchs = parameters(), parameters()
    torch.testing.assert_close(
        clip_gradients_(ours, max_norm, "global"), torch.nn.utils.clip_grad_norm_(torchs, max_norm)
    )
    torch.testing.assert_close(gradients(ours), gradients(torchs))


def test_absent_gradients_stay_absent_and_a_wide_limit_changes_nothing() -> None:
    clipped = parameters()
    absent = nn.Parameter(torch.ones(3))
    norm = clip_gradients_([absent, *clipped], 1e9, "per_tensor")
    assert absent.grad is None
    assert norm > 3.0
    torch.testing.assert_close(gradients(clipped), gradients(parameters()), rtol=0, atol=0)
    assert clip_per_tensor_([absent], 1.0) == 0


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, partial(torch.optim.SGD, momentum=0.9), Lars])
def test_optimisers_take_the_groups_and_their_rates(optimizer: Callable[..., torch.optim.Optimizer]) -> None:
    trained, still = nn.Parameter(torch.ones(3, 3)), nn.Parameter(torch.ones(3))
    groups = [ParamGroup("decay", [trained]), ParamGroup("no_decay", [still], weight_decay_scale=0.0)]
    built = optimizer([group.as_dict() for group in groups])
    for group in built.param_groups:
        group["lr"], group["weight_decay"] = 0.5, 0.1 * group["weight_decay_scale"]
    trained.grad, still.grad = torch.zeros(3, 3), torch.zeros(3)
    built.step()
    assert (trained < 1).all()  # a gradient of 0: only the decay moves
    assert (still == 1).all()


def trained(make: Callable[..., Optimizer], steps: int) -> list[nn.Parameter]:
    found = parameters()
    groups = [ParamGroup("all", found).as_dict()]
    optimizer = build_fused(make, groups)
    assert optimizer.param_groups[0]["name"] == "all"
    for step in range(steps):
        for parameter in found:
            assert parameter.grad is not None
            parameter.grad = parameter.grad * (0.5 + step)
        optimizer.step()
    return found


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD, torch.optim.Adam])
def test_fused_updates_are_those_of_the_loop_over_tensors(kind: Callable[..., Optimizer]) -> None:
    fused = trained(partial(kind, lr=0.01, weight_decay=0.1), steps=3)
    loop = trained(partial(kind, lr=0.01, weight_decay=0.1, fused=False), steps=3)
    torch.testing.assert_close(fused, loop, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", [torch.optim.AdamW, partial(torch.optim.SGD, momentum=0.9), torch.optim.Adagrad])
def test_a_parameter_may_have_its_first_gradient_later(kind: Callable[..., Optimizer]) -> None:
    found = parameters()
    still = found[0]
    optimizer = build_fused(partial(kind, lr=0.1), [ParamGroup("all", found).as_dict()])
    before, gradient, still.grad = still.detach().clone(), still.grad, None
    optimizer.step()
    assert torch.equal(still, before)
    still.grad = gradient
    optimizer.step()
    assert not torch.equal(still, before)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (partial(torch.optim.AdamW), True),
        (partial(torch.optim.SGD), None),
        (partial(torch.optim.AdamW, fused=False), False),
        (partial(torch.optim.AdamW, foreach=False), None),
        (partial(Lars), None),
    ],
)
def test_what_is_set_stays_set_and_others_are_left_alone(make: Callable[..., Optimizer], expected: bool | None) -> None:
    optimizer = build_fused(partial(make, lr=0.1), [ParamGroup("all", parameters()).as_dict()])
    assert optimizer.param_groups[0].get("fused") is expected


@pytest.mark.parametrize(
    ("make", "apart"),
    [
        (torch.optim.AdamW, True),
        (partial(torch.optim.SGD, momentum=0.9), True),
        (Lars, False),
        (torch.optim.Adafactor, False),
        (Muon, False),
    ],
)
def test_an_optimiser_that_looks_at_whole_weights_is_found(make: Callable[..., Optimizer], apart: bool) -> None:
    assert moves_rows_apart(make) is apart
