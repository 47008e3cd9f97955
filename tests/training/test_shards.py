"""DIET with a spread head, under DDP on real processes (gloo), trains as on one; its state goes to any number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dinodiet.methods.diet import DIET
from dinodiet.processes.gathering import rank, size
from dinodiet.training.exchange import Exchange
from dinodiet.training.loop import Optimisation, forward_backward, set_rates
from dinodiet.training.optim import ClipMode, build_fused, clip_gradients_
from dinodiet.training.shards import own_optimizer, sharded_parameters, whole_method, whole_optimizer
from dinodiet.training.strategy import strategy_of
from dinodiet.types import Batch, Clock, DataSpec, World
from tests.backbones.toy import Toy
from tests.methods import assemble
from tests.processes.started import on_processes
from tests.small import Plain

IMAGES, BATCH, MAX_NORM = 11, 12, 0.02  # of which two processes have six images each, in two parts, three have four
SCALER = torch.amp.GradScaler("cpu", enabled=False)
Found = dict[str, Any]


class Flat(Toy):
    """A linear layer on the pixels of 2 x 2 images; no BatchNorm, whose statistics would be those of a part."""

    def __init__(self) -> None:
        super().__init__(6, side=2)
        self.linear = nn.Linear(12, 6)

    def forward(self, images: Tensor) -> Tensor:
        embeddings: Tensor = self.linear(images.flatten(1))
        return embeddings

    def freezable_blocks(self) -> list[list[nn.Module]]:
        return [[self.linear]]


def diet(sharded: bool) -> DIET:
    torch.manual_seed(0)
    head = {"head__projection_dim": 5, "head__logit_scale": 4.0, "head__sharded": sharded, "head__warmup_fraction": 0.0}
    return assemble.diet(Flat(), DataSpec("toy", IMAGES, 3), views=Plain, trainable="all", **head)


def batch_of(step: int) -> Batch:
    """Return what this process has of the batch of a step."""
    drawn = torch.Generator().manual_seed(step)
    images = torch.randint(256, (BATCH, 3, 2, 2), generator=drawn, dtype=torch.uint8)
    index = torch.randint(IMAGES, (BATCH,), generator=drawn)
    own = slice(rank() * BATCH // size(), (rank() + 1) * BATCH // size())
    return Batch(images[own], None, index[own])


def trained(first: int, last: int, mode: ClipMode = "global", kept: Path | None = None, sharded: bool = True) -> Found:
    """Return losses, norms and the whole states after steps; on the processes but the first no spread parameters."""
    method = diet(sharded)
    settings = Optimisation(lr=1e-2, weight_decay=0.1, clip_grad=MAX_NORM, accumulate=2)
    optimizer = build_fused(torch.optim.AdamW, [group.as_dict() for group in method.param_groups()])
    if kept is not None:
        content = torch.load(kept, weights_only=True)
        method.load_state_dict(content["method"])
        optimizer.load_state_dict(own_optimizer(content["optimizer"], optimizer, method))
    strategy = strategy_of("ddp", method, optimizer, torch.device("cpu"), Exchange(), accumulate=2)
    losses, norms = [], []
    strategy.begin()
    for step in range(first, last):
        clock = Clock(step, 100, 10)
        set_rates(optimizer, settings, clock)
        logs, _ = forward_backward(strategy, batch_of(step), SCALER, settings, clock, World())
        losses.append(logs["loss"])
        norms.append(clip_gradients_(method.parameters(), MAX_NORM, mode, sharded_parameters(method)))
        optimizer.step()
        optimizer.zero_grad()
    return {
        "told": torch.stack([*losses, *norms]),
        "method": dict(whole_method(method)),
        "optimizer": whole_optimizer(optimizer, method),
    }


def kept(content: Found, folder: Path) -> Path:
    """Return the file of a checkpoint."""
    torch.save(content, folder / "checkpoint.pt")
    return folder / "checkpoint.pt"


def compare(found: Found, expected: Found) -> None:
    assert found["optimizer"]["param_groups"] == expected["optimizer"]["param_groups"]
    ours, theirs = ([one["told"], one["method"], one["optimizer"]["state"]] for one in (found, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def check(found: list[Found], expected: Found) -> None:
    compare(found[0], expected)
    assert all(one["told"].equal(found[0]["told"]) for one in found)
    assert all("head.linear.weight" not in one["method"] for one in found[1:])


@pytest.mark.slow
def test_a_training_goes_from_two_processes_to_one_to_three(tmp_path: Path) -> None:
    two = on_processes(2, tmp_path / "two", trained, 0, 3)
    check(two, trained(0, 3))
    one = trained(3, 6, kept=kept(two[0], tmp_path))
    three = on_processes(3, tmp_path / "three", trained, 6, 9, "global", kept(one, tmp_path))
    whole = trained(0, 9)
    whole["told"] = torch.cat([whole["told"][6:9], whole["told"][15:]])
    check(three, whole)


@pytest.mark.slow
def test_each_tensor_is_clipped_by_its_norm_over_all_rows(tmp_path: Path) -> None:
    expected = trained(0, 3, "per_tensor")
    assert expected["told"][3:].min() > 2 * MAX_NORM  # all is clipped
    check(on_processes(3, tmp_path / "three", trained, 0, 3, "per_tensor"), expected)


@pytest.mark.slow
def test_a_whole_head_on_two_processes_is_that_of_one(tmp_path: Path) -> None:
    found = on_processes(2, tmp_path / "two", trained, 0, 3, "global", None, False)
    for one in found:
        compare(one, trained(0, 3))
