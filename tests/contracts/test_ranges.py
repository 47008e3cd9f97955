"""Every number that YAML can give has a range at its signature, and what lies outside it is one line with the key."""

from __future__ import annotations

import inspect
import math
import typing
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from hydra.utils import get_object
from omegaconf import OmegaConf

from dinodiet.config.fits import fits
from dinodiet.config.ranges import OUTCOME, Items, Range
from dinodiet.config.settings import Embed, Evaluation, Landscape, Schedule, Settings
from dinodiet.config.signature import _configurable, hints_of_callable
from dinodiet.sweep.launchers.slurm import Slurm
from tests.contracts.choices import names, nodes
from tests.contracts.test_refusals import GROUPS, refusal, with_file
from tests.places import CONF

EXEMPT = {
    "published": "counts and scores that an installation is held against; nothing is computed with them",
    "size": "a key of a table, which may look like a number",
    "names": "names of models",
    "label": "what a file calls its labels",
}
WRONG = (math.nan, math.inf, -math.inf, -1, 0, 2, 1e30, 10**30)


def targets(value: Any) -> set[str]:
    """Return what every node of this package below plain values names."""
    if isinstance(value, list):
        return set().union(*map(targets, value))
    return {str(node["_target_"]) for node, _ in nodes(value, "")}


NAMED = targets([OmegaConf.to_container(OmegaConf.load(path), resolve=False) for path in CONF.rglob("*.yaml")])
KINDS = ("Concatenation", "Cosine", "Exponential", "HalfCosine", "Linear", "MultiStep", "Part", "Staged")
SCHEDULES = {f"dinodiet.schedules.{name}" for name in KINDS}


def bare(hint: Any) -> bool:
    """Return whether there is a number in a type that has no range."""
    extras = typing.get_args(hint)[1:] if typing.get_origin(hint) is Annotated else ()
    if any(isinstance(extra, (Range, Items)) or extra == OUTCOME for extra in extras):
        return False
    if typing.get_origin(hint) is typing.Literal:
        return False
    return hint in (int, float) or any(map(bare, typing.get_args(hint)[: 1 if extras else None]))


@pytest.mark.parametrize("target", sorted(NAMED | SCHEDULES | {f"{Slurm.__module__}.Slurm"}))
def test_every_number_of_a_target_has_a_range(target: str) -> None:
    found = get_object(target)
    hints = hints_of_callable(found)
    given = set(_configurable(inspect.signature(found).parameters, hints)) - EXEMPT.keys()
    assert [name for name in sorted(given) if bare(hints.get(name))] == []


@pytest.mark.parametrize("kind", [Settings, Schedule, Evaluation, Embed, Landscape])
def test_every_number_of_the_settings_has_a_range(kind: type) -> None:
    hints = typing.get_type_hints(kind, include_extras=True)
    assert [name for name, hint in hints.items() if bare(hint)] == []


def test_a_number_without_a_range_is_found() -> None:
    assert all(map(bare, (int, float | None, list[int], dict[str, float], tuple[int, str])))
    assert not any(map(bare, (str, bool, Annotated[int, Range()], list[Annotated[int, Range(1)]])))


def outside(
    cfg: Any, group: str, wrong: tuple[float, ...], known: set[tuple[str, str, str]]
) -> Iterator[tuple[str, Any]]:
    """Yield the full key of every setting of every node that takes numbers, and what of these it does not take.

    Keys of a class that are known are left out, as presets share them, and others become known.
    """
    for node, key in nodes(OmegaConf.to_container(cfg[group]), group):
        hints = hints_of_callable(get_object(str(node["_target_"])))
        for name in node.keys() & hints.keys() - EXEMPT.keys():
            tried = (key, str(node["_target_"]), name)
            if tried not in known and (fits(1, hints[name]) or fits(0.5, hints[name])):
                known.add(tried)
                yield from ((f"{key}.{name}", value) for value in wrong if not fits(value, hints[name]))


@pytest.mark.parametrize(
    "wrong", [WRONG[:1], pytest.param(WRONG[1:], marks=pytest.mark.nightly)], ids=["nan", "others"]
)
@pytest.mark.parametrize("group", GROUPS)
def test_a_number_outside_its_range_is_refused_by_its_key(group: str, wrong: tuple[float, ...]) -> None:
    tried = set[tuple[str, str, str]]()
    for name in names(group):
        cfg = with_file(group, name)
        for key, value in outside(cfg, group, wrong, tried):
            line = refusal(cfg, key, value)
            assert line.startswith(f"{key}: {value!r}; must be "), f"{group}={name}: {line}"
