"""Studies for tests: run directories as finished runs leave them, with scores that look like scores."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dinodiet.store.grid import Cell, write_grid

METHODS: dict[str, dict[str, Any]] = {
    "diet": {
        "_target_": "dinodiet.methods.diet.DIET",
        "trainable": "last_2_blocks",
        "views": {"_target_": "dinodiet.data.views.SingleView", "_partial_": True, "strength": 2},
        "targets": {"_target_": "dinodiet.methods.parts.targets.IndexTargets", "num_classes": None, "seed": None},
        "loss": {"_target_": "dinodiet.methods.parts.losses.CrossEntropy", "label_smoothing": 0.2},
    },
    "dino": {
        "_target_": "dinodiet.methods.dino.DINO",
        "trainable": "last_2_blocks",
        "views": {"_target_": "dinodiet.data.views.MultiCrop", "crops": "2+8", "global_scale": [0.4, 1.0]},
        "head": {"_target_": "dinodiet.methods.parts.heads.DINOHead", "out_dim": 65536},
        "loss": {
            "_target_": "dinodiet.methods.parts.losses.Distillation",
            "student_temp": 0.1,
            "teacher_temp": None,
        },
    },
}
SCORES = ("knn/accuracy", "knn/f1", "knn/auroc", "kmeans/ari", "kmeans/nmi", "linear/accuracy")


def results(
    model: str = "dinov2-base",
    dataset: str = "pathmnist",
    method: str = "diet",
    seed: int = 0,
    initial: float = 0.8,
    final: float = 0.85,
    overrides: Mapping[str, Any] | None = None,
    epochs: int = 2,
) -> dict[str, Any]:
    """Return the content of a results.json; all scores are `initial` and `final`, on validation 0.01 less."""
    choices = {"model": model.partition("-")[0], "dataset": dataset, "method": method, "schedule": method}
    config = _config(model, dataset, method, seed)
    for key, value in (overrides or {}).items():
        *parents, last = key.split(".")
        node = config
        for parent in parents:
            node = node[parent]
        node[last] = value
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:8]
    settings = {"knn/k": float(config["eval"]["knn"]["k"]), "knn/temperature": 0.07, "linear/C": 0.1 * (seed + 1)}
    test = {phase: dict.fromkeys(SCORES, value) for phase, value in _ends(initial, final).items()}
    val = {phase: dict.fromkeys(SCORES, value - 0.01) for phase, value in _ends(initial, final).items()}
    between = [initial + (final - initial) * epoch / (epochs + 1) for epoch in range(1, epochs + 1)]
    rows = [
        {"step": 10 * i, "epoch": float(i), **{f"val/{name}": score for name in SCORES}}
        for i, score in enumerate(between, 1)
    ]
    return {
        "format": 2,
        "run_id": f"{model}_{dataset}_{method}_seed{seed}_{digest}",
        "choices": choices | {"tuned": "none", "tracker": "none", "hydra/launcher": "basic", "hydra/callbacks": None},
        "seed": seed,
        **test,
        "validation": val,
        "better": dict.fromkeys(SCORES, "higher"),
        "settings": {"initial": settings, "final": dict(settings)},
        "skipped": {},
        "epochs": rows,
        "steps": 10 * (epochs + 1),
        "train_seconds": 61.5,
        "spent": {"seconds": 90.0, "device_seconds": 90.0, "joules": 36_000.0, "starts": 1},
        "images_per_second": 125.0,
        "parameters": 86_580_480,
        "trainable_parameters": 14_175_744,
        "embed_dim": 768,
        "peak_memory_mb": 1072.9,
        "device": "cpu (2 threads)",
        "host": f"node{seed}",
        "versions": {"python": "3.11.7", "torch": "2.14.1", "dinodiet": "0.1.0"},
        "git_commit": "f685cbc07bb456a709bcff258d32adc87a9bbe34",
        "config": config,
        "finished": 1795308534.6,
    }


def _ends(initial: float, final: float) -> dict[str, float]:
    return {"initial": initial, "final": final}


def _config(model: str, dataset: str, method: str, seed: int) -> dict[str, Any]:
    lr = {"_target_": "dinodiet.schedules.Cosine", "value": 1e-4, "final": 1e-5, "warmup_fraction": 0.1}
    name, _, size = model.partition("-")
    knn = {"_target_": "dinodiet.evals.knn.KNN", "k": 20, "temperature": 0.07, "device": f"cuda:{seed}"}
    linear = {"_target_": "dinodiet.evals.linear.Linear", "C": [0.1, 0.2, 0.3]}
    return {
        **{"name": "study", "mode": "train", "seed": seed, "device": f"cuda:{seed}", "precision": "fp32"},
        **{"num_workers": seed, "data_dir": f"/scratch/{seed}", "outputs_dir": "outputs", "log_every": 10},
        "model": {"_target_": "dinodiet.backbones.timm_backbone", "size": size or None, "names": {"x": name}},
        "dataset": {"limit": None, "image_size": 32, "source": {"name": dataset, "root": f"/scratch/{seed}/x"}},
        "method": _method(method, seed),
        "schedule": {"epochs": 3.0, "batch_size": 32, "lr": lr, "weight_decay": 0.05},
        "eval": {"knn": knn, "linear": linear, "every_epochs": None, "batch_size": 256},
        "tracker": {"_target_": "dinodiet.run.trackers.NoTracker"},
    }


def _method(name: str, seed: int) -> dict[str, Any]:
    node: dict[str, Any] = json.loads(json.dumps(METHODS[name]))
    if "targets" in node:
        node["targets"]["seed"] = seed  # ${seed}
    return node


def write(study: Path, content: Mapping[str, Any]) -> Path:
    """Write the run directory of a finished run and return it."""
    directory = study / str(content["run_id"])
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "results.json").write_text(json.dumps(content, indent=1))
    return directory


def write_status(study: Path, run_id: str, **status: Any) -> Path:
    """Write the run directory of a run that is not finished and return it."""
    directory = study / run_id
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "status.json").write_text(json.dumps({"heartbeat": 0.0, **status}))
    return directory


def cell(content: Mapping[str, Any], *overrides: str) -> Cell:
    """Return the cell of a grid that wants this run."""
    choices = {group: content["choices"][group] for group in ("model", "dataset", "method")}
    given = tuple(f"{group}={choice}" for group, choice in choices.items())
    return Cell(content["run_id"], (*given, f"seed={content['seed']}", *overrides), choices, content["seed"])


def grid(
    study: Path,
    models: Iterable[str] = ("dinov2-base", "mae", "resnet50"),
    datasets: Iterable[str] = ("dermamnist", "pathmnist"),
    methods: Iterable[str] = ("diet", "dino"),
    seeds: Iterable[int] = range(3),
) -> list[dict[str, Any]]:
    """Write a whole study with its grid; scores are drawn, the same ones each time."""
    draw = random.Random(0)
    contents = []
    for model, dataset, method in itertools.product(models, datasets, methods):
        initial, gain = draw.uniform(0.6, 0.8), draw.gauss(0.05, 0.05)
        for seed in seeds:
            final = round(initial + gain + draw.gauss(0, 0.01), 4)
            contents.append(results(model, dataset, method, seed, round(initial, 4), final))
    for content in contents:
        write(study, content)
    write_grid(study, [cell(content) for content in contents])
    return contents
