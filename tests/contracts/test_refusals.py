"""Mistakes in any node of any file are told by their full key, before anything is imported or built."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dinodiet.config.explain import explain
from dinodiet.config.fits import fits
from dinodiet.config.gate import gate
from dinodiet.config.precheck import signature_of
from dinodiet.errors import UserError
from tests.composing import copied
from tests.contracts.choices import configuration, names, node, nodes, taught

WRONG: list[Any] = ["nonsense", 0.123, True, ["nonsense"], {"a": "nonsense"}]
GROUPS = ("model", "dataset", "method", "eval", "record", "tracker")
RUN = {"model": "vit_tiny", "dataset": "digits", "method": "diet"}


def with_file(group: str, name: str) -> DictConfig:
    """Return the configuration of a run with one file's node in the place of its group's."""
    if group == "method":
        return configuration(f"method={name}", *taught(name))
    cfg = configuration()
    OmegaConf.set_struct(cfg, False)
    cfg[group] = node(group, name)
    if group == "dataset" and OmegaConf.is_missing(cfg.dataset.source, "root"):
        cfg.dataset.source.root = "/photographs"
    return cfg


def refusal(cfg: DictConfig, key: str, value: Any) -> str:
    """Return the line that a configuration with one other value is refused with."""
    changed = copied(cfg)
    OmegaConf.set_struct(changed, False)
    with pytest.raises((UserError, OmegaConfBaseException)) as caught:
        OmegaConf.update(changed, key, value, merge=False)
        gate(changed, RUN)
    line = explain(caught.value, [])
    assert "\n" not in line
    return line


def wrong_values(cfg: DictConfig, group: str) -> Iterator[tuple[str, Any]]:
    """Yield the full key of every argument of every node, and a value that its annotation excludes."""
    for found, key in nodes(OmegaConf.to_container(cfg[group]), group):
        parameters, hints = signature_of(str(found["_target_"])) or ({}, {})
        for name in parameters:
            excluded = [value for value in WRONG if name in hints and not fits(value, hints[name])]
            if name in found and excluded:
                yield f"{key}.{name}", excluded[0]


class Untried:
    """Says of a key and a value whether they are new as arguments of their class: presets share them."""

    def __init__(self) -> None:
        self._tried = set[tuple[str, str, str]]()

    def __call__(self, cfg: DictConfig, key: str, value: Any) -> bool:
        node = key.rpartition(".")[0]
        tried = (key, str(OmegaConf.select(cfg, f"{node}._target_")), repr(value))
        known = tried in self._tried
        self._tried.add(tried)
        return not known


@pytest.mark.parametrize("group", GROUPS)
def test_an_unknown_key_is_named_in_full_with_its_neighbours(group: str) -> None:
    new = Untried()
    for name in names(group):
        cfg = with_file(group, name)
        for found, key in nodes(OmegaConf.to_container(cfg[group]), group):
            if signature_of(str(found["_target_"])) is not None and new(cfg, f"{key}.no_such_key", 1):
                line = refusal(cfg, f"{key}.no_such_key", 1)
                told = f"{key}.no_such_key: no such key; "
                assert line.startswith((f"{told}choose from: ", f"{told}it has none")), f"{group}={name}: {line}"


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
def test_a_value_of_the_wrong_type_is_named_in_full(group: str) -> None:
    new = Untried()
    for name in names(group):
        cfg = with_file(group, name)
        found = list(wrong_values(cfg, group))
        assert found or name in ("none", "frozen", "tensorboard")  # which take nothing
        for key, value in found:
            if new(cfg, key, value):
                line = refusal(cfg, key, value)
                assert line.startswith((f"{key}: ", f"{key}[")), f"{group}={name}: {line}"


@pytest.mark.slow
def test_a_schedule_refuses_by_key() -> None:
    new = Untried()
    for name in names("schedule"):
        cfg = configuration(f"schedule={name}")
        assert refusal(cfg, "schedule.no_such_key", 1).startswith("schedule.no_such_key: "), name
        for key in ("epochs", "batch_size", "accumulate", "clip_grad", "clip_mode", "lr_reference_batch"):
            if new(cfg, f"schedule.{key}", ["nonsense"]):
                assert refusal(cfg, f"schedule.{key}", ["nonsense"]).startswith(f"schedule.{key}: "), name
        for key, value in wrong_values(cfg, "schedule"):
            if new(cfg, key, value):
                assert refusal(cfg, key, value).startswith(f"{key}: "), name
