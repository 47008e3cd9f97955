"""Overrides to try: every key of what a command composes, with values that it is not meant for."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from dinodiet.config.schema import RunConfig
from dinodiet.sweep.launchers.slurm_schema import SlurmConfig
from tests.places import CONF

NODE = "{a:{b:2}}"
VALUES = (
    *("nan", "inf", "-inf", "-1", "-0.5", "0", "1e30", str(10**12), "2.5"),
    *("2048", "100000", "[16384,16384]"),  # what a machine may have no memory for
    *("null", "true", "''", "nonsense", "a/b", "[]", "{}", "[1]", "[nonsense,2]", "[[1],[2]]", "{a:1}", NODE),
)
OPEN = ("published", "model_args", "additional_parameters")  # may hold keys of any name


@dataclass(frozen=True)
class Change:
    """An override, the key it is about, and what stands there without it."""

    word: str
    key: str
    before: Any

    @property
    def value(self) -> str:
        """Return what is set; nothing for a deletion."""
        return self.word.partition("=")[2]

    @property
    def is_nonsense(self) -> bool:
        """Return whether no part can mean anything by it: it is to be refused, whatever the key."""
        if self.word.startswith("+"):
            return not any(part in OPEN for part in self.key.split("."))
        number = isinstance(self.before, (int, float)) and not isinstance(self.before, bool)
        return number and self.value in ("nan", "inf", "-inf", "true", "''", "nonsense", "a/b", "{a:1}", NODE)


Case = tuple[str, tuple[Change, ...]]  # the name of a base, and what is changed in it


@cache
def composed(base: tuple[str, ...]) -> dict[str, Any]:
    """Return what a command line composes, with Hydra's launcher, as plain values; interpolations are left."""
    store = ConfigStore.instance()
    store.store("schema", RunConfig)
    store.store("slurm_schema", SlurmConfig, group="hydra/launcher")
    words = [word for word in base if word != "-m"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=words, return_hydra_config=True)
    OmegaConf.set_readonly(config, False)
    plain: Any = OmegaConf.to_container(config, resolve=False)
    launcher = plain.pop("hydra")["launcher"]
    return {**plain, **({"hydra": {"launcher": launcher}} if "-m" in base else {})}


def keys(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every dotted key, of nodes too, and what it holds."""
    for name, item in value.items():
        yield f"{prefix}{name}", item
        if isinstance(item, dict):
            yield from keys(item, f"{prefix}{name}.")


def changes(base: Sequence[str], only: Sequence[str] = ()) -> list[Change]:
    """Return all changes of all keys of a command, of those below `only` where it says any."""
    found = []
    for key, before in keys(composed(tuple(base))):
        if (only and not key.startswith(tuple(only))) or "/" in key or key == "hydra":  # no keys of the command line
            continue
        found += [Change(f"{key}={value}", key, before) for value in VALUES]
        found.append(Change(f"~{key}", key, before))
        if isinstance(before, dict):
            found.append(Change(f"+{key}.no_such_key=1", key, before))
        if key.endswith("_target_"):
            found += [Change(f"{key}={value}", key, before) for value in ("os.system", "math.pi", "dinodiet.nope.Nope")]
    return found


def shuffled(bases: Mapping[str, Sequence[str]], parts: Mapping[str, Sequence[str]], seed: int) -> list[Case]:
    """Return every change of every base in an order that depends on the seed: each key comes before any comes twice."""
    generator = random.Random(seed)
    by_key: dict[tuple[str, str], list[Case]] = {}
    for base, words in bases.items():
        for change in changes(words, parts.get(base, ())):
            by_key.setdefault((base, change.key), []).append((base, (change,)))
    orders = [generator.sample(own, len(own)) for _, own in sorted(by_key.items())]
    generator.shuffle(orders)
    return [case for turn in itertools.zip_longest(*orders) for case in turn if case is not None]


def pairs(cases: Sequence[Case], count: int, seed: int) -> list[Case]:
    """Return so many pairs of changes of two keys of one base, neither below the other."""
    generator = random.Random(seed)
    found: list[Case] = []
    while len(found) < count:
        base, (first,) = generator.choice(cases)
        second = generator.choice([change for other, (change,) in cases if other == base])
        if not (first.key + ".").startswith(second.key + ".") and not (second.key + ".").startswith(first.key + "."):
            found.append((base, (first, second)))
    return found


def is_finite(scores: Any) -> bool:
    """Return whether all scores are finite numbers."""
    return all(isinstance(value, (int, float)) and math.isfinite(value) for value in scores.values())
