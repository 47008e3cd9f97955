"""Scores of trained weights, without training: what a finished run lacks, and any checkpoint."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dinodiet.config.build import build
from dinodiet.config.groups import PHASES
from dinodiet.config.identity import canonical, model_label, scored_towers, trains
from dinodiet.config.parent import TEACHER_START, begun_elsewhere
from dinodiet.config.settings import Settings
from dinodiet.config.signature import Node
from dinodiet.config.teacher import teacher_of, with_teacher
from dinodiet.errors import UserError
from dinodiet.evals.classifier import has_classifier
from dinodiet.methods.base import MethodBase
from dinodiet.run import checkpoint, console
from dinodiet.run.backbone import build_backbone, input_of, rebuilding, rebuilt_for
from dinodiet.run.before_after import put_beside
from dinodiet.run.fits import check_scoring_fits
from dinodiet.run.guarded import Guarded
from dinodiet.run.origins import start
from dinodiet.run.parts import build_scorer, decode_once, open_data, open_scored, runtime_of
from dinodiet.run.scoring import Scoring, missing_scores, towers_of
from dinodiet.run.tracked import tracked_config
from dinodiet.run.tracked_budgets import write_budget_table
from dinodiet.run.trackers import final_scores, show_artefacts
from dinodiet.run.trained import directory_of, place_of, read_stored
from dinodiet.run.training_artefacts import write_training_artefacts
from dinodiet.run.weights import Stored, read_encoder, read_whole
from dinodiet.store.rundir import RunDir
from dinodiet.store.scores import ScoreFile, budget_rows, read_results, write_results
from dinodiet.store.spent import KEY as SPENT
from dinodiet.types import Backbone, Data, Method, Statistics, Tracker


def score_what_is_missing(
    settings: Settings, run_dir: RunDir, spent: Callable[[], dict[str, Any] | None]
) -> dict[str, Any]:
    """Score the initial and the final encoder of a finished run where scores are missing; return its results.

    A tracker continues its record of the run with them. `spent` returns what the run has spent, this work included.

    Raises:
        UserError: the weights or the data are missing or do not fit, or the settings of the tracker are refused.
    """
    tracker = Guarded(build(settings.tracker, "tracker", Tracker))
    print(f"{run_dir.path.name} is trained already: scoring what is missing", flush=True)
    encoder = read_encoder(run_dir.encoder)
    initial, final = (missing_scores(settings, run_dir, phase) for phase in PHASES)
    scoring, backbone = _scoring(settings, run_dir, encoder, initial=bool(initial))
    _score_initial(scoring, backbone)
    if trains(settings):
        for tower in scored_towers(settings):
            backbone.load_state_dict(read_stored(run_dir.path, tower)[0].state)
            scoring.of(tower).ensure("final", backbone)
        backbone.load_state_dict(encoder.state)
        _score_classifier(scoring, backbone)
    else:
        scoring.repeat("final", of="initial")
    results = _rewritten(settings, run_dir, {SPENT: spent()})
    tracker.start(run_dir.path.name, tracked_config(results["config"], results["choices"]), run_dir.path)
    write_budget_table(run_dir)
    write_training_artefacts(run_dir, trained=results["steps"] != 0, figures=settings.figures)
    put_beside(run_dir.artefacts, {*initial, *final})
    show_artefacts(tracker, run_dir.artefacts)
    tracker.finish(final_scores(results))
    return results


def evaluate(settings: Settings) -> dict[str, Any]:
    """Score the encoder of a run directory or checkpoint; each evaluation has a file of its own below `scores/`.

    Raises:
        UserError: the weights cannot be read, or belong to another backbone than `model` says.
    """
    place = place_of(settings)
    run_dir = directory_of(place)
    encoder, step = read_stored(place)
    _refuse_other_model(place, encoder.model, settings.model)
    scoring, backbone = _scoring(settings, run_dir, encoder, initial=False)
    if followed := scoring.followed:  # what they choose before the training is used after it
        if encoder.rebuilds and {*followed} & {*missing_scores(settings, run_dir, "initial")}:
            scoring, backbone = _scoring(settings, run_dir, encoder, initial=True)
        _score_initial(scoring, backbone, only=followed)
    phase, files = "final" if step is None else f"step{step}", list[ScoreFile]()
    new = missing_scores(settings, run_dir, phase)
    for tower in scored_towers(settings):
        backbone.load_state_dict(read_stored(place, tower)[0].state)
        files += scoring.of(tower).ensure(phase, backbone)
    backbone.load_state_dict(encoder.state)
    if step is None and run_dir.results.exists():
        _score_classifier(scoring, backbone)
        results = _rewritten(settings, run_dir)
        write_training_artefacts(run_dir, trained=results["steps"] != 0, figures=False)
        put_beside(run_dir.artefacts, {*new} - {*missing_scores(settings, run_dir, "initial")})
    where = f"{model_label(settings)} of {place}" + ("" if step is None else f" at step {step:,}")
    print(console.evaluation_table(f"{where}, on {scoring.scorer.data.spec.name}", files), flush=True)
    print(f"  scores in {run_dir.scores}", flush=True)
    scores = {file.name: file for file in files if file.labels is None}
    return {"checkpoint": str(place), "step": step, "scores": scores, "budgets": budget_rows(files)}


def _scoring(settings: Settings, run_dir: RunDir, encoder: Stored, *, initial: bool) -> tuple[Scoring, nn.Module]:
    """Return what scores encoders on the wanted dataset, and a backbone; `initial`: as it was before the training."""
    runtime = runtime_of(settings)
    other, input = settings.evaluation.dataset, input_of(encoder, run_dir.path)
    data = open_scored(settings)
    spec = data.spec
    if other is not None:  # the training saw none of another source's images; which of the same one's is not known here
        data = replace(data, unseen=None if other["source"] == settings.dataset["source"] else data.train)
    if other is not None and spec.image_size is None:  # the side that the encoder was trained for
        spec = replace(spec, image_size=input.size)
    if other is not None or spec.statistics is None:  # what it was trained with, whatever is the dataset's
        spec = replace(spec, statistics=Statistics(input.mean, input.std, "the run's"))
    whole = rebuilding(settings, encoder)
    check_scoring_fits(whole, spec, runtime.device, len(data.train))
    if encoder.rebuilds and not initial:  # the weights that the run began with may be gone
        backbone = rebuilt_for(whole.model, spec, run_dir.path)
    else:
        backbone = build_backbone(whole, spec)
    scorer = build_scorer(settings, data, backbone, runtime)
    scorer.data = decode_once(settings, data)
    assert isinstance(backbone, nn.Module)
    return Scoring(settings, run_dir, scorer), backbone.to(runtime.device)


def _score_initial(scoring: Scoring, backbone: nn.Module, only: Collection[str] | None = None) -> None:
    """Score the backbones of a run as they were before its training, of which `backbone` is the one that was given."""
    settings, towers = scoring.settings, scored_towers(scoring.settings)
    elsewhere = f"{TEACHER_START}.init" in begun_elsewhere(settings.method)
    if elsewhere and not missing_scores(settings, scoring.run_dir, "initial"):
        return
    if towers == ("evaluated",) and not elsewhere:
        scoring.ensure("initial", backbone, shared=True, only=only)
        return
    data = _trained_data(scoring)
    method: MethodBase = build(settings.method, "method", Method)(
        backbone=copy.deepcopy(backbone).cpu(), spec=data.spec
    )
    assert isinstance(backbone, Backbone)
    start(method, settings, backbone, data.spec)
    for tower, encoder in towers_of(settings, method.to(scoring.scorer.runtime.device)).items():
        scoring.of(tower).ensure("initial", encoder, shared=True, only=only)


def _trained_data(scoring: Scoring) -> Data:
    """Return the data that a run was trained on."""
    settings = scoring.settings
    if settings.evaluation.dataset is None:
        return scoring.scorer.data
    return open_data(settings.dataset, cache=settings.cache)


def _score_classifier(scoring: Scoring, backbone: nn.Module) -> None:
    """Score the classifier that a finished run has trained and keeps, on the data that it was trained on.

    Runs that are older than its scores have none.
    """
    settings, run_dir, scorer = scoring.settings, scoring.run_dir, scoring.scorer
    if scoring.has_classifier_scores("final") or not run_dir.weights.exists():
        return
    data = _trained_data(scoring)
    teacher = teacher_of(settings.method)  # plays no role here, and its weights may be gone
    node = with_teacher(settings.method, teacher and {**teacher, "weights": "none"})
    method: MethodBase = build(node, "method", Method)(backbone=copy.deepcopy(backbone).cpu(), spec=data.spec)
    if has_classifier(method, scorer.input, torch.device("cpu")):
        method.load_state_dict(read_whole(run_dir.weights))
        scoring.ensure_classifier("final", method.to(scorer.runtime.device), decode_once(settings, data))


def _refuse_other_model(place: Path, theirs: Node, ours: Node) -> None:
    there, here = ({k: v for k, v in canonical(node).items() if k != "weights"} for node in (theirs, ours))
    checkpoint.refuse_other_configuration(place, {"model": there}, {"model": here})


def _rewritten(settings: Settings, run_dir: RunDir, more: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Write the summary of a finished run anew; the configuration names the evaluators whose scores are there.

    `more` replaces what it said of other things.
    """
    results = read_results(run_dir)
    if results is None:
        raise UserError(f"checkpoint: {run_dir.results} cannot be read")
    config = dict(results["config"])
    config["eval"] = {**settings.evaluation.evaluators, **config["eval"]}
    return write_results(run_dir, {**results, **(more or {}), "config": config})
