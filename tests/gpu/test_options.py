"""What makes a training faster or smaller leaves its losses: on a GPU, and in the slow suite on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dinodiet.backbones.timm import timm_backbone
from dinodiet.errors import UserError
from dinodiet.run import fits
from dinodiet.run.parts import open_data
from dinodiet.types import DataSpec
from tests.contracts.choices import settings

from .training import losses, on_cpu

DRAWN = 2e-2  # of what is drawn on the device
CONVOLUTIONS = ("model=resnet_tiny", "model.size=20", "dataset.image_size=32", "method.trainable=all")


@pytest.mark.parametrize(
    ("words", "tolerance"),
    [
        (["grad_checkpointing=true", "method.trainable=all"], 2e-3),
        (["schedule.accumulate=2"], 2e-3),
        (["method.trainable=last_1_blocks", "method.trunk.views=2"], 2e-3),
        (["method.trainable=last_1_blocks", "method.trunk.views=2", "method.trunk.noise=0.1"], DRAWN),
        (["schedule.clip_grad=0.05", "schedule.clip_mode=per_tensor"], 2e-3),
        ([*CONVOLUTIONS], 5e-3),
    ],
)
def test_losses_are_those_of_the_cpu(words: list[str], tolerance: float, device: torch.device, tmp_path: Path) -> None:
    found = losses(tmp_path / "device", "diet", device, *words)
    assert found == pytest.approx(on_cpu(tmp_path / "cpu", "diet", *words), rel=tolerance)


@pytest.mark.parametrize("words", [["method.trainable=all"], [*CONVOLUTIONS]])
def test_what_is_compiled_trains_alike(words: list[str], device: torch.device, tmp_path: Path) -> None:
    if device.type == "cpu":
        pytest.skip("compiling for a CPU takes minutes")
    eager, compiled = (losses(tmp_path, "diet", device, *words, *more) for more in ([], ["compile=true"]))
    assert compiled == pytest.approx(eager, rel=2e-3)


def test_channels_last_gives_the_same_embeddings_and_gradients(device: torch.device) -> None:
    spec = DataSpec("test", num_images=8, num_labels=2, image_size=32)
    torch.manual_seed(0)
    names: dict[str, str | None] = {"18": "resnet18.tv_in1k"}
    network = timm_backbone(spec, size="18", names=names, feature="pooled", weights="none").to(device).train()
    images, found = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0)).to(device), []
    for layout in (torch.contiguous_format, torch.channels_last):
        network.to(memory_format=layout)
        network.zero_grad()
        embeddings = network(images.contiguous(memory_format=layout))
        torch.autograd.backward(embeddings.square().mean())
        gradient = torch.cat([one.grad.flatten() for one in network.parameters() if one.grad is not None])
        found.append((embeddings.detach(), gradient))
    torch.testing.assert_close(found[1][0], found[0][0], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found[1][1], found[0][1], rtol=1e-2, atol=1e-3)


def test_what_does_not_fit_into_the_device_is_refused(device: torch.device, tmp_path: Path) -> None:
    most = fits.memory_of(device)
    assert most is not None
    if device.type == "cuda":
        assert most == torch.cuda.mem_get_info(device)[1] == torch.cuda.get_device_properties(device).total_memory
    there = "the GPU" if device.type == "cuda" else "this machine"
    blocks = 2 + most // (16 * 12 * 8192**2)  # each has 12 squares of weights, 16 bytes a weight with AdamW's state
    wide = f"+model.model_args={{depth: {blocks}, embed_dim: 8192, num_heads: 64}}"
    small, large = (
        settings(tmp_path, f"device={device.type}", "method.trainable=all", *words) for words in ([], [wide])
    )
    spec = open_data(small.dataset).spec
    fits.check_fits(small, spec, device)
    with pytest.raises(UserError, match=rf"^model: weights, gradients and optimiser state take .*, {there} has "):
        fits.check_fits(large, spec, device)
