"""mode=sanity: a frozen backbone against the published thresholds of its model file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from dinodiet.config.identity import dataset_label, digest, evaluation_identity, model_label
from dinodiet.config.settings import Settings
from dinodiet.errors import UserError
from dinodiet.io import machine
from dinodiet.io.files import write_json
from dinodiet.run import console
from dinodiet.run.backbone import build_backbone
from dinodiet.run.fits import check_scoring_fits
from dinodiet.run.parts import build_scorer, decode_once, open_data, runtime_of
from dinodiet.run.scoring import Scoring, flat
from dinodiet.store.rundir import RunDir


def sanity(settings: Settings) -> dict[str, Any]:
    """Score the frozen backbone and hold it against the published thresholds of its model file.

    A wrong preprocessing or weights file shows here before it costs a study: published k-NN scores of one frozen
    backbone on one dataset have differed by 40 points because of it.

    Raises:
        UserError: a score lies below its threshold or was not computed, or there is no threshold to hold it against.
    """
    runtime, data = runtime_of(settings), open_data(settings.dataset, cache=settings.cache)
    check_scoring_fits(settings, data.spec, runtime.device)
    backbone = build_backbone(settings, data.spec)
    scorer = build_scorer(settings, data, backbone, runtime)
    scorer.data = decode_once(settings, data)
    assert isinstance(backbone, nn.Module)
    folder = _folder(settings)
    files = Scoring(settings, RunDir(folder), scorer).ensure("initial", backbone.to(runtime.device), shared=True)
    published = backbone.description.published.get(settings.choices["dataset"], {})
    title = f"{model_label(settings)}, frozen, on {dataset_label(settings)}"
    print(console.evaluation_table(title, files, published), flush=True)
    scores = flat(files)
    lacking = [name for name in published if name not in scores]
    missed = [name for name, least in published.items() if name in scores and not scores[name] >= least]
    skipped = {file.evaluator: file.skipped for file in files if file.skipped is not None}
    verdict = {
        "published": published,
        "passed": _passed(published, missed or lacking),
        "test": scores,
        "skipped": skipped,
    }
    results = {"choices": settings.choices, **verdict, **machine.facts(runtime.device)}
    write_json(folder / "sanity.json", results)
    _refuse(title, published, missed, lacking)
    return results


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


def _folder(settings: Settings) -> Path:
    """Return a folder for the backbone and dataset at hand: others never write into it."""
    what = {"model": settings.model, "dataset": settings.dataset}
    what["scores"] = {name: evaluation_identity(settings, name, "initial") for name in settings.evaluation.evaluators}
    name = f"sanity_{model_label(settings)}_{dataset_label(settings)}_{digest(what)}"
    return settings.study / name
