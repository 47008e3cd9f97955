"""mode=sanity: a frozen backbone against the published thresholds of its model file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from dinodiet.config.identity import dataset_label, digest, evaluation_identity, model_label
from dinodiet.config.settings import Settings
from dinodiet.errors import UserError
from dinodiet.io import machine
from dinodiet.io.files import read_json, write_json
from dinodiet.run import console
from dinodiet.run.backbone import build_backbone
from dinodiet.run.fits import check_scoring_fits
from dinodiet.run.over_k import Line, curve_lines, draw, over_k, table
from dinodiet.run.parts import build_scorer, decode_once, open_data, runtime_of
from dinodiet.run.scoring import Scoring, flat
from dinodiet.store.code import code_record
from dinodiet.store.rundir import RunDir

VERDICT, CHART = "sanity.json", "sanity.svg"


def sanity(settings: Settings) -> dict[str, Any]:
    """Score the frozen backbone and hold it against the published thresholds of its model file.

    A wrong preprocessing or weights file shows here before it costs a study: published k-NN scores of one frozen
    backbone on one dataset have differed by 40 points because of it.

    Raises:
        UserError: a score lies below its threshold or was not computed, or there is no threshold to hold it against.
    """
    folder = sanity_folder(settings)
    (folder / VERDICT).unlink(missing_ok=True)  # of another time: what is there afterwards is of this one
    runtime, data = runtime_of(settings), open_data(settings.dataset, cache=settings.cache)
    check_scoring_fits(settings, data.spec, runtime.device)
    backbone = build_backbone(settings, data.spec)
    scorer = build_scorer(settings, data, backbone, runtime)
    scorer.data = decode_once(settings, data)
    assert isinstance(backbone, nn.Module)
    encoder = backbone.to(runtime.device)
    files = Scoring(settings, RunDir(folder), scorer).ensure("initial", encoder, shared=True)
    published = backbone.description.published.get(settings.choices["dataset"], {})
    title = f"{model_label(settings)}, frozen, on {dataset_label(settings)}"
    curves = over_k(scorer, encoder, published)
    print("\n".join([console.evaluation_table(title, files, published), *curve_lines(curves)]), flush=True)
    scores = flat(files)
    lacking = [name for name in published if name not in scores]
    missed = [name for name, least in published.items() if name in scores and not scores[name] >= least]
    skipped = {file.evaluator: file.skipped for file in files if file.skipped is not None}
    verdict = {
        "published": published,
        "passed": _passed(published, missed or lacking),
        "test": scores,
        "skipped": skipped,
        "over_k": {name: {str(k): value for k, value in curve.items()} for name, curve in curves.items()},
    }
    checked = f"{model_label(settings)} on {dataset_label(settings)}"
    results = {"choices": settings.choices, "checked": checked, **verdict}
    results |= machine.facts(runtime.device) | code_record()
    write_json(folder / VERDICT, results)
    draw(lines_of(results), folder / CHART)
    _refuse(title, published, missed, lacking)
    return results


def lines_of(results: Mapping[str, Any]) -> list[Line]:
    """Return what a table and a chart show of a verdict: a line for each score by k, and for each that is published."""
    published, curves = results["published"], results["over_k"]
    return [_line(results, name, curves.get(name, {}), published.get(name)) for name in {**curves, **published}]


def _line(results: Mapping[str, Any], name: str, curve: Mapping[str, float], least: float | None) -> Line:
    value = results["test"].get(name)
    passed = None if least is None else value is not None and value >= least
    return Line(results["checked"], name, value, {int(k): score for k, score in curve.items()}, least, passed)


def compared(every: Sequence[Settings]) -> str:
    """Return one table of the verdicts of several checks, and draw it as a chart into their study.

    Checks that ended before they had scores have no row; empty where none has.
    """
    found = [read_json(sanity_folder(settings) / VERDICT) for settings in every]
    lines = [line for results in found if results is not None for line in lines_of(results)]
    if not lines:
        return ""
    draw(lines, every[0].study / CHART)
    return f"{table(lines)}\n  chart in {every[0].study / CHART}"


def _passed(published: Mapping[str, float], faults: list[str]) -> bool | None:
    """Return the verdict; None where nothing was held against anything."""
    return not faults if published else None


def _refuse(title: str, published: Mapping[str, float], missed: list[str], lacking: list[str]) -> None:
    if missed:
        raise UserError(
            f"sanity: {title}: below the published {', '.join(missed)}; check weights, preprocessing and data"
        )
    if lacking:
        evaluators = ", ".join(sorted({name.partition("/")[0] for name in lacking}))
        raise UserError(
            f"sanity: {title}: {', '.join(lacking)} was not scored, but is published; eval needs {evaluators}"
        )
    if not published:
        raise UserError(
            f"sanity: {title}: nothing was checked, no published score is known for them; the scores stand above, and "
            "`published` in the model's file takes thresholds"
        )


def sanity_folder(settings: Settings) -> Path:
    """Return a folder for the backbone and dataset at hand: others never write into it."""
    what = {"model": settings.model, "dataset": settings.dataset}
    what["scores"] = {name: evaluation_identity(settings, name, "initial") for name in settings.evaluation.evaluators}
    name = f"sanity_{model_label(settings)}_{dataset_label(settings)}_{digest(what)}"
    return settings.study / name
