"""How long runs take and what they use, from what was measured last of the same model, method and device.

Rates are those of mode=measure, of this study, and of finished runs of all studies.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
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
from dinodiet.store.spent import spent_in

ALIKE = ("precision", "compile", "deterministic", "grad_checkpointing")  # what changes how long a step takes
KINDS = ("cuda", "cpu")


@dataclass(frozen=True)
class Pace:
    """How long runs of a kind take, and what they use.

    Attributes:
        step: seconds of a step.
        device: that this was measured on, in words.
        rest: seconds of a run beside its steps: starts, scores, what stops lost; None: unknown.
        devices: how many a run holds.
        watts: that they use; None: unknown.
    """

    step: float
    device: str
    rest: float | None = None
    devices: float = 1.0
    watts: float | None = None

    def whole(self, steps: int) -> float | None:
        """Return the seconds of a whole run of so many steps."""
        return None if self.rest is None else steps * self.step + self.rest


class Paces:
    """Finds paces; each kind of training is looked for once.

    Args:
        elsewhere: the kind of device, cuda or cpu, that runs have on other machines: what ran on any such tells. None:
            what ran on the device that they ask for here.
    """

    def __init__(self, elsewhere: str | None = None) -> None:
        self._elsewhere = elsewhere
        self._found: dict[str, Pace | None] = {}

    def of(self, settings: Settings) -> Pace | None:
        """Return the pace of runs like this; None: nothing tells."""
        device = self._elsewhere or device_here(settings)
        if device is None:
            return None
        what = repr((kind_of(settings.plain, settings.choices, division_of(settings).processes), device))
        if what not in self._found:
            ended, measured = _finished(settings, device), _measured(settings, device)
            self._found[what] = replace(ended, step=measured.step) if ended and measured else measured or ended
        return self._found[what]


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


def _fits(place: str, device: str) -> bool:
    """Return whether a place is the device that is asked about, or of that kind."""
    return place.startswith(device) if device in KINDS else _kind(place) == device


def _measured(settings: Settings, device: str) -> Pace | None:
    """Return the pace that mode=measure found, in one process."""
    rate = read_rates(settings.study).get(rate_id(settings)) if division_of(settings).processes == 1 else None
    return Pace(rate.seconds, _kind(rate.device)) if rate is not None and _fits(rate.device, device) else None


def _finished(settings: Settings, device: str) -> Pace | None:
    """Return the pace of the run of this kind that ended last."""
    wanted = kind_of(settings.plain, settings.choices, division_of(settings).processes)
    alike = (results for results in _newest(settings) if _is(results, wanted, device))
    return next((_pace_of(results, settings.schedule.batch_size) for results in alike), None)


def _pace_of(results: Mapping[str, Any], batch_size: int) -> Pace:
    pace = Pace(batch_size / float(results["images_per_second"]), _kind(str(results["device"])))
    spent, training = spent_in(results), results.get("train_seconds")
    if spent is None or not spent.seconds or training is None or not is_number(training):
        return pace
    watts = None if spent.joules is None else spent.joules / spent.seconds
    rest, devices = max(spent.seconds - training, 0.0), spent.device_seconds / spent.seconds
    return replace(pace, rest=rest, devices=devices, watts=watts)


def _is(results: Mapping[str, Any], wanted: list[Any], device: str) -> bool:
    """Return whether results are of a training of this kind on such a device; those of another form are not."""
    try:
        speed, place = results["images_per_second"], str(results["device"])
        kind = kind_of(results["config"], results["choices"], results.get("processes", 1))
    except (KeyError, AttributeError, TypeError):
        return False
    return is_number(speed) and speed > 0 and _fits(place, device) and kind == wanted


def _newest(settings: Settings) -> Iterator[dict[str, Any]]:
    """Yield the results of runs whose names say the same model and method, the last ones first."""
    name = f"{model_label(settings)}_*_{settings.choices['method']}_seed*"
    found = Path(settings.outputs_dir).expanduser().glob(f"*/{name}")
    paths = [path for folder in found if (path := RunDir(folder).results).exists()]
    for path in sorted(paths, key=lambda path: -path.stat().st_mtime):
        if (results := read_json(path)) is not None:
            yield results
