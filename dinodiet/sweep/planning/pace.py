"""How long a training takes, from the last rate that was measured of the same model, method and device.

Rates are those of mode=measure, of this study, and of finished runs of all studies.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dinodiet.config.identity import canonical, model_label, rate_id, without_seed
from dinodiet.config.rates import read_rates
from dinodiet.config.schema import EXCHANGE
from dinodiet.config.settings import Settings
from dinodiet.errors import UserError
from dinodiet.io.files import is_number, read_json
from dinodiet.io.machine import describe_device, pick_device
from dinodiet.run.division import division_of
from dinodiet.store.rundir import RunDir

ALIKE = ("precision", "compile", "deterministic", "grad_checkpointing")  # what changes how long a step takes


class Paces:
    """Finds rates; each kind of training is looked for once."""

    def __init__(self) -> None:
        self._found: dict[str, float | None] = {}

    def seconds(self, settings: Settings, steps: int | None) -> float | None:
        """Return how long so many steps of a run take on the device that it asks for here; None: nothing tells."""
        if not steps or (device := device_here(settings)) is None:
            return 0.0 if steps == 0 else None
        what = repr((kind_of(settings.plain, settings.choices, division_of(settings).processes), device))
        if what not in self._found:
            self._found[what] = _measured(settings, device) or _finished(settings, device)
        step = self._found[what]
        return None if step is None else steps * step


def device_here(settings: Settings) -> str | None:
    """Return the device of a run in words, as results have it; None: it is not on this machine."""
    try:
        return _kind(describe_device(pick_device(settings.device)))
    except UserError:
        return None


def kind_of(plain: Mapping[str, Any], choices: Mapping[str, str], processes: int) -> list[Any]:
    """Return what a configuration says that decides how long a step takes, apart from the device."""
    model = {key: value for key, value in plain["model"].items() if key != "weights"}
    schedule, dataset = plain["schedule"], plain["dataset"]
    side = dataset.get("image_size") or choices.get("dataset")
    batch = [schedule.get("batch_size"), schedule.get("accumulate", 1)]
    shared = {"strategy": "ddp", **EXCHANGE} if processes > 1 else {}
    together = [processes, *(plain.get(key, usual) for key, usual in shared.items())]
    parts = [without_seed(canonical(node), plain["seed"]) for node in (model, plain["method"])]
    return [*parts, side, batch, together, [plain.get(key, False) for key in ALIKE]]


def _kind(device: str) -> str:
    """Return a device without its number: GPUs of one name are alike."""
    return re.sub(r"^cuda(:\d+)?", "cuda", device)


def _measured(settings: Settings, device: str) -> float | None:
    """Return the seconds of a step that mode=measure found, in one process."""
    rate = read_rates(settings.study).get(rate_id(settings)) if division_of(settings).processes == 1 else None
    return rate.seconds if rate is not None and _kind(rate.device) == device else None


def _finished(settings: Settings, device: str) -> float | None:
    """Return the seconds of a step of the run of this kind that ended last."""
    wanted = kind_of(settings.plain, settings.choices, division_of(settings).processes)
    alike = (results for results in _newest(settings) if _is(results, wanted, device))
    return next((settings.schedule.batch_size / float(results["images_per_second"]) for results in alike), None)


def _is(results: Mapping[str, Any], wanted: list[Any], device: str) -> bool:
    """Return whether results are of a training of this kind on such a device; those of another form are not."""
    try:
        speed, place = results["images_per_second"], str(results["device"])
        kind = kind_of(results["config"], results["choices"], results.get("processes", 1))
    except (KeyError, AttributeError, TypeError):
        return False
    return is_number(speed) and speed > 0 and _kind(place) == device and kind == wanted


def _newest(settings: Settings) -> Iterator[dict[str, Any]]:
    """Yield the results of runs whose names say the same model and method, the last ones first."""
    name = f"{model_label(settings)}_*_{settings.choices['method']}_seed*"
    found = Path(settings.outputs_dir).expanduser().glob(f"*/{name}")
    paths = [path for folder in found if (path := RunDir(folder).results).exists()]
    for path in sorted(paths, key=lambda path: -path.stat().st_mtime):
        if (results := read_json(path)) is not None:
            yield results
