"""Defaults of signatures and names of runs: finished runs are found by them, so nobody changes one unawares."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from typing import Any

import pytest
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from dinodiet.config import identity
from dinodiet.config.identity import run_id, training_identity
from dinodiet.config.precheck import signature_of
from dinodiet.config.settings import settings_of
from tests.contracts.choices import configuration, names, node, nodes
from tests.contracts.golden import compare
from tests.places import CONF, ROOT

GROUPS = ("model", "dataset", "schedule")  # besides the method, what the training identity consists of
NOT_IN_SOURCE = "dinodiet.run.trackers.NoTracker"  # it has no constructor, and takes nothing


@functools.cache
def all_targets() -> list[str]:
    """Return every `_target_` of this package that a file of conf/ or sweeps/ names."""
    files = [*CONF.rglob("*.yaml"), *(ROOT / "sweeps").glob("*.yaml")]
    loaded = [OmegaConf.to_container(OmegaConf.load(path), resolve=False) for path in files]
    return sorted({str(found["_target_"]) for content in loaded for found, _ in nodes(content, "")})


def text(default: Any) -> str:
    return "required" if default is inspect.Parameter.empty else repr(default)


def defaults_of(target: str) -> dict[str, str]:
    """Return the arguments of a target and their defaults, by what Python says."""
    found: Any = get_object(target)
    made = {
        field.name: field.default_factory()
        for field in (dataclasses.fields(found) if dataclasses.is_dataclass(found) else ())
        if field.default_factory is not dataclasses.MISSING
    }
    return {
        name: text(made.get(name, parameter.default)) for name, parameter in inspect.signature(found).parameters.items()
    }


def test_no_default_of_a_signature_has_changed(request: pytest.FixtureRequest) -> None:
    found = {f"{target}.{name}": text for target in all_targets() for name, text in defaults_of(target).items()}
    meaning = (
        "Defaults of signatures changed. Arguments equal to their default are left out of a run's name: "
        "a new default gives old runs a new meaning, or loses them."
    )
    compare("defaults.json", found, request, meaning)


@pytest.mark.parametrize("target", all_targets())
def test_the_source_tells_the_defaults_that_python_knows(target: str) -> None:
    """Identities are made from the source, without importing it."""
    signature = signature_of(target)
    if signature is None:
        assert target == NOT_IN_SOURCE or target.startswith("dinodiet.sweep.")  # which identify nothing
        return
    assert {name: text(parameter.default) for name, parameter in signature[0].items()} == defaults_of(target)


TEACHERS = {  # of methods whose file names none
    "distill": ("model@method.teacher.model=dinov2",),
    "distill_logits": ("model@method.teacher.model=efficientnet_lite0",),
}
BASE = {"model": "vit_tiny", "dataset": "digits", "method": "diet", "schedule": "diet"}


def plain(**choices: str) -> DictConfig:
    """Return the configuration of a run that chooses files, and changes nothing in them."""
    chosen = {**BASE, **choices} if "method" not in choices else {**BASE, **choices, "schedule": ""}
    words = [f"{group}={name}" for group, name in chosen.items() if name]
    taught = TEACHERS.get(chosen["method"], ())
    return configuration(base=(*words, *taught, "tuned=none", "eval=knn"))


def name_of(cfg: DictConfig, **choices: str) -> str:
    return run_id(settings_of(cfg, {**BASE, **choices}))


def named(group: str, name: str) -> str:
    """Return the name of a run with one other choice; its file is merged as Hydra does it, which takes longer."""
    if group in ("method", "schedule"):
        return name_of(plain(**{group: name}), **{group: name})
    cfg = plain()
    OmegaConf.set_struct(cfg, False)
    cfg[group] = node(group, name)
    if group == "dataset" and OmegaConf.is_missing(cfg.dataset.source, "root"):
        cfg.dataset.source.root = "/photographs"
    return name_of(cfg, **{group: name})


def test_no_run_has_another_name(request: pytest.FixtureRequest) -> None:
    found = {f"{group}={name}": named(group, name) for group in (*GROUPS, "method") for name in names(group)}
    meaning = "Names of runs changed: finished runs of these choices would not be found any more."
    compare("run_ids.json", found, request, meaning)


@pytest.mark.parametrize(("group", "name"), [("model", "dinov2"), ("dataset", "bloodmnist")])
def test_a_name_is_that_of_the_whole_command(group: str, name: str) -> None:
    choice = {group: name}
    assert name_of(plain(**choice), **choice) == named(group, name)


@pytest.mark.parametrize("method", names("method"))
def test_a_new_argument_with_a_neutral_default_leaves_every_run_its_name(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = [(str(found["_target_"]), key) for found, key in nodes(OmegaConf.to_container(plain(method=method)), "")]
    grown = {target for target, key in where if key.startswith("method")}

    def identity_with(value: float) -> dict[str, Any]:
        cfg = plain(method=method)
        for _, key in where:
            if key.startswith("method"):
                OmegaConf.update(cfg, f"{key}.sharpness", value, force_add=True)
        return training_identity(settings_of(cfg, {**BASE, "method": method}))

    before = training_identity(settings_of(plain(method=method), BASE))
    new = {"sharpness": inspect.Parameter("sharpness", inspect.Parameter.KEYWORD_ONLY, default=0.5)}

    def signature(target: str) -> Any:
        known = signature_of(target)
        return (known[0] | new, known[1]) if known and target in grown else known

    monkeypatch.setattr(identity, "signature_of", signature)
    monkeypatch.setattr("dinodiet.config.precheck.signature_of", signature)
    assert training_identity(settings_of(plain(method=method), BASE)) == before
    assert identity_with(0.5) == before
    assert identity_with(0.7)["method"]["sharpness"] == 0.7
