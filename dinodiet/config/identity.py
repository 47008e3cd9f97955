"""What identifies a training and an evaluation. Imports no torch.

The training identity is what changes the trained weights: model, dataset, method, schedule, seed and precision. It
names the run directory. The evaluation identity is an evaluator with its settings, the dataset, the precision, the
phase, and the budget of labels where not all are used. It names a score inside that directory. In both, an argument
that equals its default is left out, so that a new argument with a neutral default keeps every name. So is an argument
that its signature marks as `Neutral`.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import re
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dinodiet.config.budgets import Budget, budgets
from dinodiet.config.groups import BUDGET, COMMAND, EVALUATION_DATASET, PHASES
from dinodiet.config.parent import by_content, whole_run
from dinodiet.config.precheck import constant_of, signature_of
from dinodiet.config.schema import EXCHANGE, LATER, Tower
from dinodiet.config.settings import Settings
from dinodiet.config.signature import Node
from dinodiet.config.teacher import teacher_of, with_teacher

DIGITS = 8  # of a digest, in hexadecimal
LENGTH = ("epochs", "steps", "minutes")  # keys of a schedule, one of which says how long a training is


def training_identity(settings: Settings) -> dict[str, Any]:
    """Return what changes the trained weights, as plain values in one form."""
    parts = {group: settings.plain[group] for group in ("model", "dataset", "method", "schedule")}
    parts["model"] = by_content(parts["model"])
    parts["schedule"] = _schedule(parts["schedule"])
    if (teacher := teacher_of(parts["method"])) is not None:
        parts["method"] = with_teacher(parts["method"], by_content(teacher))
    if not trains(settings):
        parts["schedule"] = {}
    identity = {group: canonical(_relative(node, settings.data_dir)) for group, node in parts.items()}
    return {**identity, "seed": settings.seed, "precision": settings.precision, **_exchanged(settings)}


def _exchanged(settings: Settings) -> dict[str, Any]:
    """Return what processes send each other where that changes results by more than rounding."""
    said = {key: getattr(settings, key) for key in EXCHANGE} if trains(settings) else {}
    return {key: value for key, value in said.items() if value != EXCHANGE[key]}


def _schedule(node: Node) -> Node:
    """Return what a schedule says: without what says nothing, and without epochs where steps are given instead."""
    unused = ("epochs",) if node.get("steps") is not None else ()
    return {key: value for key, value in node.items() if not (key in LATER and value is None) and key not in unused}


def trains(settings: Settings) -> bool:
    """Return whether the method takes steps, as far as its source tells; see `dinodiet.types.Method`."""
    return bool(constant_of(str(settings.method["_target_"]), "trains", True))


def scored_towers(settings: Settings) -> tuple[Tower, ...]:
    """Return the backbones that are scored; the trained one where it is asked for and a teacher is evaluated."""
    apart = constant_of(str(settings.method["_target_"]), "evaluates_teacher", False)
    return ("evaluated", "trained") if settings.evaluation.towers == "both" and apart else ("evaluated",)


def evaluation_identity(settings: Settings, name: str, phase: str, tower: Tower = "evaluated") -> dict[str, Any]:
    """Return what an evaluator's scores depend on besides the weights; `name` is its key in the group `eval`."""
    node = settings.evaluation.evaluators[name]
    parts = {"evaluator": node, "dataset": settings.evaluation_dataset}
    what = {name: canonical(_relative(part, settings.data_dir)) for name, part in parts.items()}
    apart = {} if tower == "evaluated" else {"tower": tower}
    return {**what, "precision": settings.precision, "phase": phase, **apart}


def run_id(settings: Settings) -> str:
    """Return the name of the run directory: readable, and determined by the training identity and the choices."""
    what = f"{model_label(settings)}_{dataset_label(settings)}_{settings.choices['method']}"
    return f"{what}_seed{settings.seed}_{digest(training_identity(settings))}"


def rate_id(settings: Settings) -> str:
    """Return the name of the rate of a training: of all runs that differ in seed and length alone."""
    identity = without_seed(training_identity(settings), settings.seed)
    identity["schedule"] = {key: value for key, value in identity["schedule"].items() if key not in LENGTH}
    what = f"{model_label(settings)}_{dataset_label(settings)}_{settings.choices['method']}"
    return f"{what}_{digest(identity)}"


def without_seed(value: Any, seed: int) -> Any:
    """Return plain values without the run's seed, wherever parts know it too."""
    if isinstance(value, list):
        return [without_seed(item, seed) for item in value]
    if not isinstance(value, Mapping):
        return value
    return {key: without_seed(item, seed) for key, item in value.items() if (key, item) != ("seed", seed)}


def score_id(
    settings: Settings, name: str, phase: str, budget: Budget | None = None, tower: Tower = "evaluated"
) -> str:
    """Return the name of an evaluator's score within a run directory.

    A budget of labels is the last part of its identity, and is written out behind the name of the same evaluation
    on all labels.
    """
    whose = "" if tower == "evaluated" else "student_"
    whole = f"{phase}_{whose}{name}_{digest(evaluation_identity(settings, name, phase, tower))}"
    return whole if budget is None else f"{whole}{BUDGET}{budget.name}"


def classifier_id(settings: Settings, name: str, phase: str) -> str:
    """Return the name of the score of the classifier that a run trains itself, on the data that it is trained on."""
    what = {"dataset": canonical(_relative(settings.dataset, settings.data_dir)), "precision": settings.precision}
    return f"{phase}_{name}_{digest({**what, 'phase': phase})}"


def wanted_scores(settings: Settings) -> list[str]:
    """Return the names of all scores that the settings ask for, before and after the training."""
    return [
        score_id(settings, name, phase, budget, tower)
        for phase in PHASES
        for tower in scored_towers(settings)
        for name in settings.evaluation.evaluators
        for budget in budgets(settings.evaluation)
    ]


def model_label(settings: Settings) -> str:
    """Return the model with its size, such as `mobilevit-xs`, whichever choice and size it was asked by.

    One that is asked for by a name is called by the last part of it: `hf-rad-dino`.
    """
    model = settings.model
    family, size = str(model.get("family") or settings.choices["model"]), model.get("size")
    if size is None and isinstance(given := model.get("name"), str) and model.get("family") is None:
        size = re.sub(r"[^\w.-]+", "-", Path(given).name)
    return family if size is None or family.endswith(str(size)) else f"{family}-{size}"


def dataset_label(settings: Settings) -> str:
    """Return the dataset's choice, with the name of what it was told to open where that is another."""
    return _dataset_label(settings.choices["dataset"], settings.dataset)


def _dataset_label(choice: str, node: Node) -> str:
    source = node.get("source", {})
    given = source.get("name") or (Path(source["root"]).name if choice == "folder" and source.get("root") else None)
    name = re.sub(r"[^\w.-]+", "-", str(given).rpartition("/")[2]) if given else choice
    return choice if name == choice else f"{choice}-{name}"


def embeddings_identity(settings: Settings) -> dict[str, Any]:
    """Return what embeddings that mode=embed writes depend on, with their format; a checkpoint goes by its name."""
    nodes = {"model": by_content(settings.model), "dataset": settings.evaluation_dataset}
    what = {group: canonical(_relative(node, settings.data_dir)) for group, node in nodes.items()}
    how = {"seed": settings.seed, "precision": settings.precision, "format": settings.embed.format}
    return {**what, "checkpoint": checkpoint_label(settings), "tower": settings.tower, **how}


def embeddings_name(settings: Settings) -> str:
    """Return the name of the folder of embeddings: readable, and determined by their identity."""
    choice = settings.choices["dataset"]
    if settings.evaluation.dataset is not None:
        choice = settings.choices.get(EVALUATION_DATASET) or choice
    encoder = checkpoint_label(settings) or model_label(settings)
    dataset = _dataset_label(choice, settings.evaluation_dataset)
    return f"{encoder}_{dataset}_{digest(embeddings_identity(settings))}"


def checkpoint_label(settings: Settings) -> str | None:
    """Return the name of the run that a checkpoint belongs to, with that of its file where one is given."""
    if settings.checkpoint is None:
        return None
    place = Path(settings.checkpoint).expanduser()
    return f"{place.absolute().parent.name}-{place.name}" if place.suffix else place.absolute().name


def settings_hash(settings: Settings) -> str:
    """Return a hash of all settings that a run is started with, also of those that do not identify it.

    What only says what a command does with its runs is left out.
    """
    return digest({key: value for key, value in settings.plain.items() if key not in COMMAND})


def evaluation_dataset_label(settings: Settings) -> str | None:
    """Return the name of the dataset that is scored; None: it is the one that was trained on."""
    other = settings.evaluation.dataset
    if other is None or canonical(other) == canonical(settings.dataset):
        return None
    return settings.choices.get(EVALUATION_DATASET) or settings.choices["dataset"]


def digest(identity: Mapping[str, Any]) -> str:
    """Return a hash of plain values."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:DIGITS]


def canonical(value: Any) -> Any:
    """Return plain values in one form: nodes without neutral and default arguments, whole floats as integers."""
    if isinstance(value, list):
        return [canonical(item) for item in value]
    if isinstance(value, Mapping):
        return _canonical_node(dict(value)) if "_target_" in value else _canonical_items(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _canonical_items(items: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(name): canonical(item) for name, item in items.items() if name != "_partial_"}


def _canonical_node(node: Node) -> dict[str, Any]:
    parameters, hints = signature_of(str(node["_target_"])) or ({}, {})
    kept: Node = {}
    for name, value in node.items():
        marker = _marker(hints.get(name))
        if marker == "neutral" or (name in parameters and _is_default(value, parameters[name])):
            continue
        if marker == "inlined" and _is_of(value, parameters[name]):
            kept |= _inlined(name, value, parameters)
            continue
        kept[name] = _counted(value, marker, node)
    return _canonical_items(kept)


def _counted(value: Any, marker: str, node: Node) -> Any:
    """Return what of an argument counts, by the marker of its annotation."""
    if marker.startswith("by ") and value:
        return value.get(str(node.get(marker[3:])))
    run = whole_run(value) if marker == "of run" and isinstance(value, str) else None
    return value if run is None else f"run:{run['weights']}"


def _is_of(value: Any, parameter: inspect.Parameter) -> bool:
    """Return whether a value is a node of the class that is the parameter's default."""
    default = parameter.default
    whole = f"{default.__module__}.{default.__name__}" if isinstance(default, type) else ""
    return isinstance(value, Mapping) and value.get("_target_") == whole


def _inlined(part: str, node: Node, parameters: Mapping[str, inspect.Parameter]) -> Node:
    """Return the arguments of a node as those of the part that holds it; one that this has too keeps a longer name."""
    arguments = {name: value for name, value in canonical(node).items() if name != "_target_"}
    return {f"{part}.{name}" if name in parameters else name: value for name, value in arguments.items()}


def _marker(hint: Any) -> str:
    """Return the word that `Neutral`, `BySize`, `Inlined` or `OfRun` leaves in an annotation."""
    extras = typing.get_args(hint)[1:] if typing.get_origin(hint) is typing.Annotated else ()
    return next((extra for extra in extras if isinstance(extra, str)), "")


def _is_default(value: Any, parameter: inspect.Parameter) -> bool:
    if parameter.default is parameter.empty:
        return False
    default = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
    return bool(canonical(value) == canonical(default)) and isinstance(value, bool) == isinstance(default, bool)


def _relative(value: Any, data_dir: str) -> Any:
    """Return plain values with paths below the data folder relative to it: machines keep data in different places."""
    if isinstance(value, Mapping):
        return {name: _relative(item, data_dir) for name, item in value.items()}
    if isinstance(value, list):
        return [_relative(item, data_dir) for item in value]
    if isinstance(value, str) and (value == data_dir or value.startswith(data_dir.rstrip("/") + "/")):
        return "data" + value[len(data_dir.rstrip("/")) :]
    return value
