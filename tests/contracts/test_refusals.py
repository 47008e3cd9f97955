"""Mistakes in any node of any file are told by their full key, before anything is imported or built."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
CHOICES = [(group, name) for group in GROUPS for name in names(group)]
TRIED: set[tuple[str, str, str]] = set()  # arguments of a class at a key, in this process: presets share them
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


def untried(cfg: DictConfig) -> Callable[[tuple[str, Any]], bool]:
    """Return what says of a key and a value whether they are new in this process, as arguments of their class."""

    def new(given: tuple[str, Any]) -> bool:
        key, value = given
        node = key.rpartition(".")[0]
        tried = (key, str(OmegaConf.select(cfg, f"{node}._target_")), repr(value))
        known = tried in TRIED
        TRIED.add(tried)
        return not known

    return new


@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_an_unknown_key_is_named_in_full_with_its_neighbours(group: str, name: str) -> None:
    cfg = with_file(group, name)
    new = untried(cfg)
    for found, key in nodes(OmegaConf.to_container(cfg[group]), group):
        if signature_of(str(found["_target_"])) is not None and new((f"{key}.no_such_key", 1)):
            line = refusal(cfg, f"{key}.no_such_key", 1)
            told = f"{key}.no_such_key: no such key; "
            assert line.startswith((f"{told}choose from: ", f"{told}it has none"))


@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_a_value_of_the_wrong_type_is_named_in_full(group: str, name: str) -> None:
    cfg = with_file(group, name)
    found = list(wrong_values(cfg, group))
    assert found or name in ("none", "frozen")  # which take nothing
    for key, value in filter(untried(cfg), found):
        line = refusal(cfg, key, value)
        assert line.startswith(f"{key}: ") or line.startswith(f"{key}["), line


@pytest.mark.parametrize("name", names("schedule"))
def test_a_schedule_refuses_by_key(name: str) -> None:
    cfg = configuration(f"schedule={name}")
    assert refusal(cfg, "schedule.no_such_key", 1).startswith("schedule.no_such_key: ")
    for key in ("epochs", "batch_size", "accumulate", "clip_grad", "clip_mode", "lr_reference_batch"):
        assert refusal(cfg, f"schedule.{key}", ["nonsense"]).startswith(f"schedule.{key}: ")
    for key, value in filter(untried(cfg), wrong_values(cfg, "schedule")):
        assert refusal(cfg, key, value).startswith(f"{key}: ")
