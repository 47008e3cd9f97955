"""Where exported weights are from: what their run says of its parts, and its scores with those of other seeds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dinodiet.config.build import declared
from dinodiet.config.identity import canonical, without_seed
from dinodiet.config.saved import read_settings
from dinodiet.errors import UserError
from dinodiet.io.assets import ASSETS
from dinodiet.io.files import is_number, read_json
from dinodiet.run.trained import Trained
from dinodiet.store.rundir import RunDir

TRAINED = ("model", "dataset", "method", "schedule", "precision")  # what runs of one experiment share, but for the seed
HUB = re.compile(r"[\w.-]+/[\w.-]+")  # a name on the hub


@dataclass(frozen=True)
class Provenance:
    """What is known of the run of a trained backbone; None and empty where its files do not lie beside it."""

    found: Trained

    @cached_property
    def config(self) -> Mapping[str, Any] | None:
        """The configuration of the run."""
        saved = read_settings(self.found.run_dir.config)
        return None if saved is None else saved[0]

    @cached_property
    def choices(self) -> Mapping[str, str]:
        """The group files that the run was composed of."""
        saved = read_settings(self.found.run_dir.config)
        return {} if saved is None else saved[1]

    @cached_property
    def results(self) -> Mapping[str, Any] | None:
        """The results of the run; None where it is not finished."""
        return None if self.found.step is not None else read_json(self.found.run_dir.results)

    @cached_property
    def repeats(self) -> list[tuple[int, Mapping[str, Any]]]:
        """The seeds and results of finished runs that differ from this one in the seed alone, this one included."""
        if self.results is None or self.config is None:
            return []
        own = _experiment(self.config)
        beside = (path.parent for path in self.found.run_dir.path.parent.glob("*/results.json"))
        known = [(config["seed"], results) for config, results in _finished(beside) if _experiment(config) == own]
        return sorted(known, key=lambda pair: pair[0])

    def parent(self) -> str:
        """Return the weights that the training began with: a name on the hub, a file's name, or none."""
        node = {**self.found.model}
        weights = str(node.get("weights", "none"))
        if weights != "hub":
            return weights if weights in ("none", "package") else Path(weights).name
        try:
            names = [asset.name for tell in declared(node, "model", ASSETS) for asset in tell()]
        except UserError:  # a part of one's own, another version, or a folder that is gone
            return self._repository or weights
        return names[-1] if names else weights

    @property
    def _repository(self) -> str | None:
        """What the backbone says of where it is from, with a commit if that is on the hub; None: it says nothing."""
        return self.found.description.details.get("repository")

    def base_model(self) -> str | None:
        """Return the repository of the parent weights on the hub; None where they are not from there."""
        name = "/".join(self.parent().split("/")[:2])
        is_folder = Path(self.parent()).exists() or self._repository == self.found.model.get("name", "")
        from_hub = self.found.model.get("weights", "hub") == "hub" and not is_folder
        return name if from_hub and HUB.fullmatch(name) else None

    def dataset(self) -> str | None:
        """Return the name of the dataset on the hub; None where it is not from there."""
        name = str(((self.config or {}).get("dataset") or {}).get("source", {}).get("name", ""))
        return name if HUB.fullmatch(name) else None


def _experiment(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what runs of one experiment share: all but their seed, which parts of them know too."""
    return {key: canonical(without_seed(config.get(key), config["seed"])) for key in TRAINED}


def _finished(folders: Iterator[Path]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Yield the configuration and the results of finished runs."""
    for folder in folders:
        results = read_json(RunDir(folder).results) or {}
        config = results.get("config")
        if isinstance(config, dict) and is_number(config.get("seed")) and _has_scores(results):
            yield config, results


def _has_scores(results: Mapping[str, Any]) -> bool:
    return all(isinstance(results.get(phase), dict) for phase in ("initial", "final"))
