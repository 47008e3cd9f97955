import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dinodiet.methods.parts import class_chunks, cross_entropy
from dinodiet.methods.parts.cross_entropy import ClassLogits, chunked_cross_entropy

SCALE, CLASSES, ROWS = 3.0, 53, 6


def inputs(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    features = F.normalize(torch.randn(ROWS, 7, generator=generator, dtype=dtype), dim=1).requires_grad_()
    weight = torch.randn(CLASSES, 7, generator=generator, dtype=dtype).requires_grad_()
    return features, weight, torch.tensor([0, 7, 8, 52, 51, 7])


def gradients(loss: Tensor, *of: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, of))


@pytest.mark.parametrize("chunk", [1, 8, 52, 53, 1000])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_chunks_equal_the_whole(chunk: int, smoothing: float) -> None:
    features, weight, target = inputs(torch.float64)
    logits = SCALE * features @ weight.T
    whole = F.cross_entropy(logits, target, label_smoothing=smoothing, reduction="none")
    losses, predicted = chunked_cross_entropy(
        features, weight, target, scale=SCALE, label_smoothing=smoothing, chunk=chunk
    )
    torch.testing.assert_close(losses, whole, rtol=0, atol=1e-13)
    assert predicted.equal(logits.argmax(1))
    outer = torch.arange(1.0, ROWS + 1, dtype=torch.float64)  # every row's own gradient
    torch.testing.assert_close(
        gradients((losses * outer).sum(), features, weight),
        gradients((whole * outer).sum(), features, weight),
        rtol=0,
        atol=1e-13,
    )


def test_the_gradient_is_that_of_finite_differences() -> None:
    features, weight, target = inputs(torch.float64)

    def loss(f: Tensor, w: Tensor) -> Tensor:
        return chunked_cross_entropy(f, w, target, scale=SCALE, label_smoothing=0.1, chunk=9)[0]

    assert torch.autograd.gradcheck(loss, (features, weight))


def test_large_logits_do_not_overflow() -> None:
    features, weight, target = inputs()
    losses, _ = chunked_cross_entropy(features, weight, target, scale=1e4, label_smoothing=0.0, chunk=8)
    torch.testing.assert_close(losses, F.cross_entropy(1e4 * features @ weight.T, target, reduction="none"))


def test_autocast_gives_what_it_gives_the_whole() -> None:
    features, weight, target = inputs()
    with torch.autocast("cpu", torch.bfloat16):
        whole = F.cross_entropy(SCALE * F.linear(features, weight).float(), target, label_smoothing=0.2)
        losses, _ = chunked_cross_entropy(features, weight, target, scale=SCALE, label_smoothing=0.2, chunk=8)
    torch.testing.assert_close(losses.mean(), whole, rtol=1e-6, atol=1e-6)
    ours, theirs = gradients(losses.mean(), features, weight), gradients(whole, features, weight)
    assert [gradient.dtype for gradient in ours] == [torch.float32, torch.float32]
    torch.testing.assert_close(ours, theirs, rtol=0.02, atol=2e-3)  # bf16 has eight bits


def test_a_head_is_large_from_its_size_on(monkeypatch: pytest.MonkeyPatch) -> None:
    features, weight, target = inputs(torch.float64)
    small = ClassLogits(features, weight, scale=SCALE)
    exact = small.cross_entropy(target, label_smoothing=0.2)
    monkeypatch.setattr(cross_entropy, "LARGE", ROWS * CLASSES - 1)
    monkeypatch.setattr(class_chunks, "CHUNK", 60)
    monkeypatch.setattr(F, "cross_entropy", None)  # the whole is not used
    large = ClassLogits(features, weight, scale=SCALE)
    torch.testing.assert_close(
        large.cross_entropy(target, label_smoothing=0.2), exact.float(), rtol=1e-6, atol=0, check_dtype=False
    )
    assert large.predicted().equal(small.predicted())
