"""What a run can be asked for besides training: scores of a checkpoint, and scores of a frozen backbone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

from dinodiet.config.schema import resolved
from dinodiet.errors import UserError
from dinodiet.evals.scorer import Scorer, plain
from dinodiet.io import machine as environment
from dinodiet.io.files import write_json
from dinodiet.run import checkpoint
from dinodiet.run import console as report
from dinodiet.run.parts import build_scorer, decode_once, open_backbone


def evaluate(cfg: DictConfig, choices: Mapping[str, str], path: Path) -> dict[str, Any]:
    """Score the encoder in a checkpoint on the chosen dataset; writes `evaluation_<dataset>.json` beside it.

    Raises:
        UserError: the checkpoint cannot be read, or holds another backbone than `model` says.
    """
    state = checkpoint.read(path)
    theirs, ours = state["identity"]["model"], resolved(cfg)["model"]
    checkpoint.refuse_other_configuration(path, {"identity": {"model": theirs}}, {"model": ours})
    device = environment.pick_device(cfg.device)
    backbone, scorer = _backbone_and_scorer(cfg, device)
    load_encoder(backbone, state)
    scores = plain(scorer(backbone))
    results = {"checkpoint": str(path), "step": state["step"], "choices": dict(choices), **scores}
    results |= environment.facts(device)
    target = path.parent / f"evaluation_{choices['dataset']}.json"
    write_json(target, results)
    print(
        report.scores_table(
            f"{path} at step {state['step']:,}, on {choices['dataset']}", scores["test"], scores["skipped"]
        )
    )
    print(f"  results in {target}", flush=True)
    return results


def load_encoder(backbone: nn.Module, state: dict[str, Any]) -> None:
    """Put the weights of the evaluated encoder (DINO: the teacher's backbone) into a backbone of the same model."""
    prefix = state["encoder"] + "."
    weights = {key.removeprefix(prefix): value for key, value in state["method"].items() if key.startswith(prefix)}
    backbone.load_state_dict(weights)


def sanity(cfg: DictConfig, choices: Mapping[str, str]) -> dict[str, Any]:
    """Score the frozen backbone and hold it against the published thresholds of its model file.

    A wrong preprocessing or weights file shows here before it costs a study: published k-NN scores of one frozen
    backbone on one dataset have differed by 40 points because of it.

    Raises:
        UserError: a score lies below its threshold.
    """
    device = environment.pick_device(cfg.device)
    backbone, scorer = _backbone_and_scorer(cfg, device)
    scores = plain(scorer(backbone, cached=True))
    published = backbone.description.published.get(choices["dataset"], {})
    size = f"-{cfg.model.size}" if "size" in cfg.model else ""
    title = f"{choices['model']}{size}, frozen, on {choices['dataset']}"
    print(report.scores_table(title, scores["test"], scores["skipped"], published), flush=True)
    missed = {name: least for name, least in published.items() if not scores["test"].get(name, 0.0) >= least}
    results = {"choices": dict(choices), "published": published, "passed": not missed, **scores}
    results |= environment.facts(device)
    write_json(
        Path(cfg.outputs_dir).expanduser() / cfg.name / f"sanity_{choices['model']}{size}_{choices['dataset']}.json",
        results,
    )
    if missed:
        raise UserError(
            f"sanity: {title}: below the published {', '.join(missed)}; check weights, preprocessing and data"
        )
    return results


def _backbone_and_scorer(cfg: DictConfig, device: torch.device) -> tuple[Any, Scorer]:
    data, backbone = open_backbone(cfg)
    scorer = build_scorer(cfg, data, backbone, device)
    decode_once(cfg, scorer)
    assert isinstance(backbone, nn.Module)
    return backbone.to(device), scorer
