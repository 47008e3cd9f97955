"""Learning rates by place: falling with depth, and of the heads apart, for every method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import open_dict

from dinodiet.config.identity import run_id, training_identity
from dinodiet.config.settings import settings_of
from dinodiet.run.parts import Parts, build_parts
from dinodiet.training.loop import set_rates
from tests.contracts.choices import configuration, settings
from tests.contracts.test_methods import differences, trained
from tests.running import CHOICES

METHODS = ("diet", "dino", "simclr", "byol", "lejepa", "mae", "supervised")


def rates(folder: Path, method: str, *words: str) -> tuple[Parts, dict[str, float]]:
    """Return the parts of a run, and each parameter's rate in the middle of its training."""
    chosen = (
        f"method={method}",
        "method.trainable=all",
        "schedule.lr=1e-3",
        "schedule.lr_reference_batch=null",
        *words,
    )
    parts = build_parts(settings(folder, *chosen))
    clock = parts.state.clock.at(parts.state.clock.total_steps // 2)
    set_rates(parts.state.optimizer, parts.optimisation, clock)
    names = {id(parameter): name for name, parameter in parts.method.named_parameters()}
    groups: Any = parts.state.optimizer.param_groups
    return parts, {names[id(p)]: group["lr"] for group in groups for p in group["params"]}


@pytest.mark.parametrize("method", METHODS)
def test_rates_of_the_backbone_fall_with_depth_and_heads_keep_theirs(method: str, tmp_path: Path) -> None:
    _, found = rates(tmp_path, method, "schedule.layer_decay=0.5")
    expected = {"patch_embed.proj.weight": 0.125, "blocks.0.norm1.weight": 0.25, "blocks.1.norm1.weight": 0.5}
    for name, factor in {**expected, "norm.weight": 1.0}.items():
        assert found[f"backbone.model.{name}"] == pytest.approx(1e-3 * factor)
    assert {rate for name, rate in found.items() if not name.startswith("backbone.")} == {1e-3}


@pytest.mark.parametrize("method", METHODS)
def test_heads_have_a_rate_of_their_own(method: str, tmp_path: Path) -> None:
    _, found = rates(tmp_path, method, "schedule.head_lr=0.02")
    assert {rate for name, rate in found.items() if name.startswith("backbone.")} == {1e-3}
    heads = {rate for name, rate in found.items() if not name.startswith("backbone.")}
    assert heads == {0.02}


def test_both_and_a_schedule_of_the_heads_rate(tmp_path: Path) -> None:
    cosine = "{_target_: dinodiet.schedules.Cosine, value: 0.02, final: 0.0}"
    _, found = rates(
        tmp_path, "diet", "schedule.layer_decay=0.5", f"schedule.head_lr={cosine}", "method.head.lr_scale=2"
    )
    assert found["backbone.model.blocks.0.norm1.weight"] == pytest.approx(1e-3 / 4)
    heads = [rate for name, rate in found.items() if not name.startswith("backbone.")]
    assert heads == pytest.approx([0.02] * len(heads))  # half of the way down, times the head's own factor of 2


def test_a_rate_for_another_batch_is_scaled_for_heads_too(tmp_path: Path) -> None:
    words = ("method=diet", "schedule.lr=1e-3", "schedule.head_lr=0.02", "schedule.lr_reference_batch=8")
    parts = build_parts(settings(tmp_path, *words))  # batches of 16
    assert (parts.optimisation.lr, parts.optimisation.head_lr) == (2e-3, 0.04)


def test_one_rate_for_all_is_the_same_training_as_none_said(tmp_path: Path) -> None:
    states = []
    for words in ((), ("schedule.layer_decay=1", "schedule.head_lr=1e-2")):
        parts, _ = rates(tmp_path, "diet", "schedule.lr=1e-2", *words)
        trained(parts, 2)
        states.append(parts.method.state_dict())
    assert differences(*states) == []


def test_adapters_have_the_rate_of_their_block(tmp_path: Path) -> None:
    _, found = rates(tmp_path, "diet", "method.trainable=lora_2", "schedule.layer_decay=0.5", "schedule.head_lr=0.02")
    inside = {name.partition("attn")[0]: rate for name, rate in found.items() if ".lora_" in name}
    assert inside == {
        "backbone.model.blocks.0.": pytest.approx(2.5e-4),
        "backbone.model.blocks.1.": pytest.approx(5e-4),
    }


def test_a_resumed_training_keeps_its_rates(tmp_path: Path) -> None:
    words = ("schedule.layer_decay=0.5", "schedule.head_lr=1e-2")
    whole, first, second = (rates(tmp_path, "diet", *words)[0] for _ in range(3))
    trained(whole, 4)
    trained(first, 2)
    second.state.restore(first.state.content())
    trained(second, 4)
    assert differences(second.state.content(), whole.state.content()) == []


def test_rates_that_are_not_said_leave_a_run_its_name(tmp_path: Path) -> None:
    identity = training_identity(settings(tmp_path, "method=diet"))
    assert not {"layer_decay", "head_lr"} & identity["schedule"].keys()
    other = training_identity(settings(tmp_path, "method=diet", "schedule.layer_decay=0.5"))
    assert other["schedule"]["layer_decay"] == 0.5


def test_a_run_of_an_older_version_knows_neither_key(tmp_path: Path) -> None:
    cfg = configuration("method=diet")
    name = run_id(settings_of(cfg, CHOICES))
    with open_dict(cfg.schedule):
        del cfg.schedule.layer_decay, cfg.schedule.head_lr
    assert run_id(settings_of(cfg, CHOICES)) == name


def test_biases_and_norms_decay_where_all_do(tmp_path: Path) -> None:
    found = []
    for word in ("null", "all"):
        parts = build_parts(settings(tmp_path, "method=dino", f"schedule.decayed={word}", "schedule.weight_decay=0.4"))
        set_rates(parts.state.optimizer, parts.optimisation, parts.state.clock)
        groups: Any = parts.state.optimizer.param_groups
        found.append({p.ndim: group["weight_decay"] for group in groups for p in group["params"]})
    assert (found[0][1], found[0][2]) == (0.0, 0.4)
    assert set(found[1].values()) == {0.4}
    assert "decayed" not in training_identity(settings(tmp_path, "method=dino"))["schedule"]
