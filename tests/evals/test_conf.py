"""The files of the `eval` group: what they name exists, and what they say is what the code does without them."""

from __future__ import annotations

from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from dinodiet.config.signature import check_arguments
from tests.places import CONF

FILES = sorted((CONF / "eval").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_file_states_the_defaults_of_its_class(file: Path) -> None:
    assert file.read_text().startswith(f"# @package eval.{file.stem}\n")
    loaded = OmegaConf.merge({"device": "auto"}, {"node": OmegaConf.load(file)}).node  # ${device} is the run's own
    node: dict[str, Any] = OmegaConf.to_container(loaded, resolve=True)  # type: ignore[assignment]
    path, _, name = node.pop("_target_").rpartition(".")
    target = getattr(import_module(path), name)
    check_arguments(target, node, f"eval.{file.stem}")
    evaluator = target()
    assert node.items() <= {field.name: getattr(evaluator, field.name) for field in fields(target)}.items()


def test_all_evaluators_are_there() -> None:
    assert {"knn", "kmeans", "linear"} <= {file.stem for file in FILES}
