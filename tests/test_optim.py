from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from timm.optim.lars import Lars
from torch import Tensor, nn

from dinodiet.optim import clip_gradients_, clip_per_tensor_
from dinodiet.types import ParamGroup

REFERENCE = np.load(Path(__file__).parent / "reference" / "clip.npz")
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
