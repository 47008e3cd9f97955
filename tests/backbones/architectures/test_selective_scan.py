import importlib
import importlib.util
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dinodiet.backbones.architectures import selective_scan as module
from dinodiet.backbones.architectures.selective_scan import selective_scan
from tests.backbones.plain_scan import plain_scan
from tests.places import REFERENCES

REFERENCE = np.load(REFERENCES / "selective_scan.npz")
HAS_KERNEL = torch.cuda.is_available() and importlib.util.find_spec("mamba_ssm") is not None


def reference(name: str) -> Tensor:
    return torch.from_numpy(REFERENCE[name])


def inputs(steps: int, *, batch: int = 2, channels: int = 3, states: int = 4, **options: Any) -> dict[str, Any]:
    """Return random arguments; step sizes after the softplus lie around 0.1, rates between 0 and -8."""
    generator = torch.Generator().manual_seed(steps)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    tensors = {
        "u": normal(batch, channels, steps),
        "delta": normal(batch, channels, steps) - 2,
        "A": -torch.rand(channels, states, generator=generator, dtype=torch.float64) * 8,
        "B": normal(batch, states, steps),
        "C": normal(batch, states, steps),
        "D": normal(channels),
        "delta_bias": normal(channels),
    }
    return {name: tensor.to(**options) for name, tensor in tensors.items()}


def gradients(scan: Any, tensors: dict[str, Tensor]) -> tuple[Tensor, ...]:
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in tensors.items()}
    y = scan(**leaves, delta_softplus=True)
    direction = torch.randn(y.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(y)
    return y, *torch.autograd.grad((y * direction).sum(), list(leaves.values()))


# --- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("segment", [1, 4, 64])
@pytest.mark.parametrize("kind", ["plain", "full"])
def test_outputs_are_the_published_ones(kind: str, segment: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEGMENT", segment)
    arguments: dict[str, Any] = {name: reference(f"{kind}_{name}") for name in ("u", "delta", "A", "B", "C")}
    options: dict[str, Any] = {}
    if kind == "full":
        options = {"D": reference("full_D"), "delta_bias": reference("full_delta_bias"), "delta_softplus": True}
    torch.testing.assert_close(selective_scan(**arguments, **options), reference(f"{kind}_y"), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["plain", "full"])
def test_the_last_state_is_the_published_one(kind: str) -> None:
    arguments: dict[str, Any] = {name: reference(f"{kind}_{name}") for name in ("u", "delta", "A", "B")}
    options: dict[str, Any] = {}
    if kind == "full":
        options = {"delta_bias": reference("full_delta_bias"), "delta_softplus": True}
    expected = reference(f"{kind}_last_state")
    for state in range(4):
        chosen = torch.zeros_like(arguments["B"])
        chosen[:, state] = 1  # y is this state
        last = selective_scan(**arguments, C=chosen, **options)[..., -1]
        torch.testing.assert_close(last, expected[..., state], atol=1e-5, rtol=0)


@pytest.mark.parametrize("steps", [1, 2, 3, 49, 63, 64, 65, 130, 196])
def test_outputs_and_gradients_are_those_of_the_definition(steps: int) -> None:
    tensors = inputs(steps)
    for found, expected in zip(gradients(selective_scan, tensors), gradients(plain_scan, tensors), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("segment", [5, 64])
def test_gradients_agree_with_finite_differences(segment: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEGMENT", segment)
    leaves = [tensor.requires_grad_() for tensor in inputs(11, batch=1, channels=2, states=3).values()]

    def scan(*tensors: Tensor) -> Tensor:
        return selective_scan(*tensors[:6], delta_bias=tensors[6], delta_softplus=True)

    assert torch.autograd.gradcheck(scan, leaves)


def test_only_the_gradients_that_are_asked_for() -> None:
    tensors = inputs(11)
    tensors["u"].requires_grad_()
    selective_scan(**tensors, delta_softplus=True).sum().backward()
    assert tensors["u"].grad is not None
    assert tensors["A"].grad is None


def test_long_and_steep_sequences_stay_exact_in_float32() -> None:
    """Decays from 1 to exp(-400): a closed form with quotients of decays would overflow."""
    tensors = inputs(1024)
    tensors["delta"] = tensors["delta"] * 20
    expected = gradients(plain_scan, tensors)
    single = {name: tensor.float() for name, tensor in tensors.items()}
    for found, exact in zip(gradients(selective_scan, single), expected, strict=True):
        assert found.isfinite().all()
        assert (found - exact).abs().max() < 1e-5 * exact.abs().max()


# --- precision, memory, devices ---------------------------------------------------------------------------------------


def test_autocast_leaves_it_in_float32() -> None:
    tensors = inputs(70, dtype=torch.float32)
    expected = gradients(selective_scan, tensors)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = gradients(selective_scan, tensors)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_half_precision_inputs_are_computed_in_float32() -> None:
    tensors = inputs(70, dtype=torch.bfloat16)
    found = selective_scan(**tensors, delta_softplus=True)
    exact = selective_scan(**{name: tensor.double() for name, tensor in tensors.items()}, delta_softplus=True)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, exact.bfloat16())


def test_backward_keeps_no_states() -> None:
    tensors = {name: tensor.requires_grad_() for name, tensor in inputs(256, channels=32, states=8).items()}
    kept: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        selective_scan(**tensors, delta_softplus=True)
    states = 2 * 32 * 8 * 256
    assert 0 < sum(kept) < states


def test_it_runs_on_the_meta_device() -> None:
    assert selective_scan(**inputs(70, device="meta")).shape == (2, 3, 70)


def test_a_broken_kernel_is_told_and_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ImportError("undefined symbol")

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: SimpleNamespace(name=name))
    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.warns(UserWarning, match=r"mamba_ssm .* broken, .*undefined symbol"):
        assert module._cuda_kernel.__wrapped__() is None


@pytest.mark.skipif(not HAS_KERNEL, reason="needs CUDA and the package mamba_ssm")
def test_the_kernel_and_pytorch_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = inputs(196, channels=32, states=8, device="cuda", dtype=torch.float32)
    assert module._cuda_kernel() is not None
    kernel = gradients(selective_scan, tensors)
    monkeypatch.setattr(module, "_cuda_kernel", lambda: None)
    for found, expected in zip(kernel, gradients(selective_scan, tensors), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_agrees_with_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_cuda_kernel", lambda: None)
    tensors = inputs(196, channels=32, states=8)
    on_cuda = gradients(selective_scan, {name: tensor.cuda() for name, tensor in tensors.items()})
    for found, expected in zip(on_cuda, gradients(selective_scan, tensors), strict=True):
        torch.testing.assert_close(found.cpu(), expected, rtol=1e-8, atol=1e-10)
