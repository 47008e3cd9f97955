"""Layers that see the batch of all processes: on two of them as on one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from timm.layers.drop import DropPath
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn

from dinodiet.backbones.synced import sync_layers
from dinodiet.errors import UserError
from dinodiet.processes.gathering import rank, size
from dinodiet.processes.rows import Share, modules_draw_for
from tests.processes.started import on_processes

VIEWS, IMAGES = 2, 4
NORMS = ("plain", "fixed", "mean", "maps", "bare")


def layers() -> nn.ModuleDict:
    torch.manual_seed(0)
    made = nn.ModuleDict(
        {
            "plain": nn.BatchNorm1d(3),
            "fixed": nn.BatchNorm1d(3, affine=False),
            "mean": nn.BatchNorm1d(3, momentum=None),
            "maps": BatchNormAct2d(3),
            "bare": nn.BatchNorm2d(3, track_running_stats=False),
            "path": DropPath(0.5),
            "whole": DropPath(0.5, scale_by_keep=False),
            "out": nn.Dropout(0.4),
            "off": nn.Dropout(0.0),
        }
    )
    for name, parameter in made.named_parameters():
        nn.init.normal_(parameter, std=0.5 if name.endswith("bias") else 1.0)
    return made.train()


def images(name: str) -> Tensor:
    shape = (VIEWS * IMAGES, 3, 2, 2) if name in ("maps", "bare") else (VIEWS * IMAGES, 3)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 2 + 1


def computed() -> dict[str, list[Tensor]]:
    """Return each layer's output, gradient of its input, gradients of its weights and buffers, of this share."""
    share, made, found = Share(rank(), size()), layers(), {}
    sync_layers(made)
    for name, layer in made.items():
        given = share.of(images(name), VIEWS).requires_grad_()
        torch.manual_seed(5)
        with modules_draw_for(IMAGES // size()):
            for _ in range(2):
                output = layer(given)
        weight = share.of(torch.linspace(-1, 1, images(name).numel()).view_as(images(name)), VIEWS)
        (output * weight).sum().backward()
        assert given.grad is not None
        weights = [parameter.grad for parameter in layer.parameters() if parameter.grad is not None]
        found[name] = [output.detach(), given.grad, *weights, *(buffer.float() for buffer in layer.buffers())]
    return found


@pytest.mark.slow
def test_two_processes_compute_what_one_does(tmp_path: Path) -> None:
    whole, parts = computed(), on_processes(2, tmp_path / "two", computed)
    for name, (output, gradient, *others) in whole.items():
        for place, part in enumerate(parts):
            share = Share(place, 2)
            torch.testing.assert_close(part[name][0], share.of(output, VIEWS))
            torch.testing.assert_close(part[name][1], share.of(gradient, VIEWS), rtol=1e-5, atol=1e-5)
        weights = len(list(layers()[name].parameters()))
        for number, other in enumerate(others):
            theirs = torch.stack([part[name][2 + number] for part in parts])
            found = theirs.sum(0) if number < weights else theirs[0]
            torch.testing.assert_close(found, other, rtol=1e-5, atol=1e-5)


def test_names_and_weights_stay_and_one_process_computes_as_before() -> None:
    plain, synced = layers(), layers()
    sync_layers(synced)
    sync_layers(synced)  # a second time changes nothing
    for name, layer in plain.items():
        assert type(synced[name]).__qualname__ == type(layer).__qualname__
        torch.manual_seed(5)
        expected = layer(images(name))
        torch.manual_seed(5)
        assert torch.equal(synced[name](images(name)), expected)
    assert all(torch.equal(value, synced.state_dict()[key]) for key, value in plain.state_dict().items())


def test_an_unknown_batchnorm_is_refused_by_name() -> None:
    class Own(nn.BatchNorm2d):
        pass

    with pytest.raises(UserError, match="processes: the model has Own"):
        sync_layers(nn.Sequential(Own(3)))


def normalised_by_own() -> dict[str, list[Tensor]]:
    """Return what each BatchNorm makes of this share by its own statistics, and its buffers after it."""
    share, made, found = Share(rank(), size()), layers(), {}
    sync_layers(made, own_statistics=True)
    for name in NORMS:
        output = made[name](share.of(images(name), VIEWS))
        found[name] = [output.detach(), *(buffer.float() for buffer in made[name].buffers())]
    return found


@pytest.mark.slow
def test_own_statistics_normalise_each_share_and_all_have_the_mean_of_them(tmp_path: Path) -> None:
    parts = on_processes(2, tmp_path / "two", normalised_by_own)
    for name in NORMS:
        expected = []
        for place, part in enumerate(parts):
            plain = layers()[name]
            torch.testing.assert_close(part[name][0], plain(Share(place, 2).of(images(name), VIEWS)).detach())
            expected.append([buffer.float() for buffer in plain.buffers()])
        for number, values in enumerate(zip(*expected, strict=True)):
            for part in parts:
                torch.testing.assert_close(part[name][1 + number], torch.stack(values).mean(0))
