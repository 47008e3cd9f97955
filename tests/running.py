"""Runs for tests: the real command line and the real thing, tiny."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig
from torch import Tensor

from dinodiet.config.gate import gate
from dinodiet.config.groups import CHOICES as GROUPS
from dinodiet.config.schema import RunConfig
from dinodiet.run.monitor import Monitor
from dinodiet.run.run import run as run_settings
from dinodiet.types import Clock
from tests.forking import completed
from tests.places import ROOT

CHOICES = {"model": "vit_tiny", "dataset": "digits", "method": "diet"}
VALUES = {field.name for field in dataclasses.fields(RunConfig)} - set(GROUPS)  # keys that are no groups of files
# A transformer of two narrow blocks on a few digits: a step takes milliseconds.
TINY = (
    "model=vit_tiny",
    "dataset=digits",
    "dataset.limit=64",
    "+model.model_args={depth: 2, embed_dim: 24, num_heads: 2}",
    "model.patch_size=8",
    "tuned=none",
    "schedule.epochs=3",
    "schedule.batch_size=16",
    "eval=knn",
    "log_every=2",
    "figures=false",  # drawing takes longer than such a run
    "device=cpu",
)

# And a network of convolutions: ResNet-20 on digits of 32 pixels.
CONVOLUTIONS = (
    *("model=resnet_tiny", "model.size=20", "dataset=digits", "dataset.image_size=32", "dataset.limit=32"),
    *("tuned=none", "schedule.epochs=1", "schedule.batch_size=16", "device=cpu"),
)


def run(cfg: DictConfig, choices: Mapping[str, str] = CHOICES, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Do a composed run in this process."""
    return run_settings(gate(cfg, choices, overrides))


def composed(tmp_path: Path, *overrides: str, base: Sequence[str] = TINY) -> DictConfig:
    """Return the configuration of a run, a tiny one unless `base` says otherwise, that writes below tmp_path."""
    words = (*base, *overrides)
    cfg: DictConfig = pickle.loads(_chosen(tuple({_key(word): word for word in words if not _is_value(word)}.values())))
    ConfigLoaderImpl._apply_overrides_to_config([*map(_parsed, filter(_is_value, words))], cfg)
    if not any(word.startswith("outputs_dir=") for word in overrides):
        cfg.outputs_dir = str(tmp_path)
    return cfg


def _key(word: str) -> str:
    return word.lstrip("+~").partition("=")[0]


def _is_value(word: str) -> bool:
    """Return whether a word changes a value of what is composed, and chooses no file."""
    key = _key(word)
    return key in VALUES or ("." in key and not {"/", "@"} & set(key) and not key.startswith("hydra."))


@functools.cache
def _parsed(word: str) -> Override:
    return OverridesParser.create().parse_override(word)


@functools.cache
def _chosen(words: tuple[str, ...]) -> bytes:
    """Return what Hydra makes of words that choose files, pickled: each test changes a copy.

    It takes a fifth of a second, and many tests choose the same. Hydra itself sets values last, in what it composed.
    """
    ConfigStore.instance().store("schema", RunConfig)
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return pickle.dumps(compose("config", overrides=list(words)))


def command(tmp_path: Path, *overrides: str) -> list[str]:
    """Return the command line of a run that writes below tmp_path."""
    return [sys.executable, "-W", "error", str(ROOT / "launch.py"), *overrides, f"outputs_dir={tmp_path}"]


def launch(tmp_path: Path, *overrides: str, timeout: float = 300, anew: bool = False) -> CompletedProcess[str]:
    """Run launch.py with one thread to its end and return what it printed.

    `anew` starts another Python; otherwise the process is forked from one that has the libraries.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HYDRA_FULL_ERROR": "0"}
    arguments = command(tmp_path, *overrides)
    tmp_path.mkdir(parents=True, exist_ok=True)
    if not anew:
        return completed(arguments[3:], tmp_path, environment, timeout)
    return subprocess.run(
        arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=timeout
    )


def results_in(tmp_path: Path) -> dict[str, Any]:
    """Return the results of the one run below tmp_path."""
    (path,) = tmp_path.glob("*/*/results.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def scores(results: dict[str, Any]) -> dict[str, Any]:
    """Return what must not depend on interruptions, workers or time."""
    return {key: results[key] for key in ("initial", "final", "validation", "epochs", "steps", "skipped")}


@contextlib.contextmanager
def killed_after(step: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """End a run in this process after a step; of the next one nothing is written."""
    on_step = Monitor.on_step

    def killed(self: Monitor, clock: Clock, logs: dict[str, Tensor]) -> Any:
        if clock.step > step:
            raise InterruptedError
        return on_step(self, clock, logs)

    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr(Monitor, "on_step", killed)
        yield
