"""The model card of exported weights: what they are, where they are from, what they score, and how to load them."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

import dinodiet
from dinodiet.io.units import count
from dinodiet.run.export.provenance import Provenance
from dinodiet.run.trained import Trained
from dinodiet.store.scores import number
from dinodiet.types import ExportTarget

# Licences that the hub has a name for, of those that weights of vision models are given.
LICENCES = ["apache-2.0", "mit", "bsd-3-clause", "gpl-3.0", "cc0-1.0", "openrail", "afl-3.0"]
LICENCES += [f"cc-by{more}-4.0" for more in ("", "-sa", "-nc", "-nc-sa", "-nc-nd")]
SHOWN = ("torch", "timm", "transformers")  # versions


def card(found: Trained, target: ExportTarget, name: str) -> str:
    """Return the text of README.md."""
    known = Provenance(found)
    parts = [
        f"---\n{yaml.safe_dump(_head(known, target, name), sort_keys=False, allow_unicode=True)}---",
        f"# {_title(known)}",
        _what(found),
        f"## Load\n\nIn this folder; `image.jpg` is yours.{_gives(target)}\n\n```python\n{target.usage.strip()}\n```",
        f"## Input\n\n{_input(found, target)}",
        f"## Where it is from\n\n{_table(_provenance(known), ('what', 'value'))}",
        f"## Scores before and after the training\n\n{_scores(known)}",
    ]
    return "\n\n".join(parts) + "\n"


def _gives(target: ExportTarget) -> str:
    return f" The embedding is {target.gives} of the model's output." if target.gives else ""


def _head(known: Provenance, target: ExportTarget, name: str) -> dict[str, Any]:
    """Return the front matter, as the hub reads it."""
    base, data, description = known.base_model(), known.dataset(), known.found.description
    method = [known.choices["method"]] if "method" in known.choices else []
    return {
        **({} if target.library is None else {"library_name": target.library}),
        **(_licence(description.licence) if known.parent() != "none" else {}),
        **({} if base is None else {"base_model": base, "base_model_relation": "finetune"}),
        **({} if data is None else {"datasets": [data]}),
        "pipeline_tag": "image-feature-extraction",
        "tags": ["dinodiet", *method, "continued-pretraining", name],
    }


def _licence(told: str | None) -> dict[str, str]:
    if told is None:
        return {"license": "unknown"}
    if told.lower() in LICENCES:
        return {"license": told.lower()}
    return {"license": "other", "license_name": re.sub(r"[^a-z0-9.]+", "-", told.lower()).strip("-")}


def _title(known: Provenance) -> str:
    if not known.choices:
        return known.found.place.name
    chosen, size = known.choices, known.found.model.get("size")
    model = chosen["model"] if size is None or str(chosen["model"]).endswith(str(size)) else f"{chosen['model']} {size}"
    return f"{model}, trained on {chosen['dataset']} with {chosen['method']}"


def _what(found: Trained) -> str:
    parameters = sum(parameter.numel() for parameter in found.backbone.parameters())
    width = found.embed_dim
    kind = "the encoder that was scored" if found.tower == "evaluated" else "the backbone that gradients trained"
    text = f"Gives {width} numbers (an embedding) for an image; {count(parameters)} parameters. The weights are {kind}."
    if found.step is not None:
        text += f" **The training was not finished: these are the weights at step {found.step:,}.**"
    return text


def _input(found: Trained, target: ExportTarget) -> str:
    spec = found.input
    shorter = round(spec.size / spec.crop_fraction)
    seen = (
        f"The network takes {target.takes}. For the scores, the shorter side of an image was resized to {shorter} "
        f"pixels ({spec.interpolation}, antialiased) and the middle {spec.size} x {spec.size} cut out"
    )
    small = f"; of images up to {spec.size} pixels, it was resized to {spec.size}" if shorter != spec.size else ""
    exact = "`dinodiet.load(RUN)` does exactly that; other libraries round pixels to 8 bits when they resize."
    return f"{seen}{small}. {exact}"


def _provenance(known: Provenance) -> Iterator[tuple[str, str]]:
    found, config = known.found, known.config or {}
    results: Mapping[str, Any] = known.results or {}
    schedule, method = config.get("schedule", {}), config.get("method", {})
    yield "run", found.run_dir.path.name
    yield "parent weights", known.parent()
    licence = found.description.licence
    yield "their licence", "none: trained from scratch" if known.parent() == "none" else licence or "not told"
    if config:
        yield "data", ", ".join(filter(None, (known.choices.get("dataset"), known.dataset())))
        trained = f", trainable {method['trainable']}" if method.get("trainable") else ""
        yield "method", f"{known.choices.get('method')}{trained}"
        steps = schedule.get("steps")
        length = f"{schedule.get('epochs'):g} epochs" if steps is None else f"{steps:,} steps"
        yield "schedule", f"{length}, batches of {schedule.get('batch_size')}"
        yield "seed", str(config["seed"])
    if found.step is not None:
        yield "step", f"{found.step:,}, of an unfinished training"
    versions = results.get("versions") or {}
    yield "trained with", ", ".join(f"{name} {versions[name]}" for name in SHOWN if name in versions) or "not told"
    yield "commit", str(results.get("git_commit") or "not told")
    yield "exported by", f"dinodiet {dinodiet.__version__}"


def _scores(known: Provenance) -> str:
    if not known.results or not known.results.get("final"):
        return "There are none: the training was not finished, or nothing was scored."
    seeds = [str(seed) for seed, _ in known.repeats]
    repeats = [results for _, results in known.repeats] or [known.results]
    before, after = (_rows(known.results, repeats, phase) for phase in ("initial", "final"))
    several = len(repeats) > 1
    names = ("score", "before", "after", "before, mean ± sd", "after, mean ± sd")
    rows = [(name, before[name][0], after[name][0], before[name][1], after[name][1]) for name in after]
    which = f"n = {len(repeats)} runs that differ in the seed alone ({', '.join(seeds)})" if several else "n = 1 run"
    shown = len(names) if several else 3
    table = _table([row[:shown] for row in rows], names[:shown])
    return f"On the test split, from the frozen network's embeddings; {which}.\n\n{table}"


def _rows(own: Mapping[str, Any], repeats: Sequence[Mapping[str, Any]], phase: str) -> dict[str, tuple[str, str]]:
    """Return by score that of a run, and mean and deviation over its repeats; of a phase."""
    return {
        name: (_number(number(own[phase].get(name))), _spread([number(other[phase].get(name)) for other in repeats]))
        for name in own["final"]
    }


def _number(value: float) -> str:
    return "missing" if math.isnan(value) else f"{value:.4f}"


def _spread(values: Sequence[float]) -> str:
    if len(values) < 2 or any(map(math.isnan, values)):
        return "missing"
    return f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}"


def _table(rows: Any, names: Sequence[str]) -> str:
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', '&#124;') for cell in line)} |" for line in lines)
