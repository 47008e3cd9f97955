"""What every method keeps to on several processes: the losses, weights and statistics of one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

from tests.contracts.choices import configuration, nodes, taught
from tests.contracts.test_methods import METHODS, narrow, tensors
from tests.kinds import after_nightly
from tests.processes.started import on_processes
from tests.processes.training import Cases, each_case

Found: TypeAlias = dict[str, Any]
Compared: TypeAlias = dict[str, tuple[Found, Found]]  # of one process and of several, by the name of a case
STEPS, LONG = 6, 30
BATCH = ("schedule.batch_size=8", "schedule.epochs=4", "model.drop_path=0.2")
LARS = ("byol_scratch", "simclr_scratch")  # cannot train weights in parts
# LARS takes whole steps along gradients that are rounding alone: after the second step one training is two.
STEADY_STEPS = {"byol_scratch": 2}
RESNET = ("model=resnet_tiny", "model.size=20", "dataset.image_size=32", "schedule.batch_size=8", "schedule.epochs=4")


def every_method() -> Cases:
    """Return the words of a case for each method. It takes seconds: not where this file is read."""
    return {name: (f"method={name}", *narrow(name), *taught(name), *BATCH) for name in of_other_parts()}


def of_other_parts() -> list[str]:
    """Return methods, without those whose parts and optimiser others have: they differ in numbers alone."""
    parts, optimisers, found = set[frozenset[tuple[str, str]]](), set[str](), []
    for name in METHODS:
        cfg: Any = OmegaConf.to_container(configuration(f"method={name}", *taught(name)))
        own = frozenset((key, str(node["_target_"])) for node, key in nodes(cfg["method"], "method"))
        optimiser = str(cfg["schedule"]["optimizer"]["_target_"])
        if own not in parts or optimiser not in optimisers:
            found.append(name)
        parts.add(own)
        optimisers.add(optimiser)
    return found


def special() -> Cases:
    """Return options that divide the work otherwise, each with its method."""
    return {
        "accumulation and clipping": (
            *("method=dino", *narrow("dino"), "schedule.accumulate=2", "schedule.clip_grad=0.1", *BATCH),
            "schedule.clip_mode=per_tensor",
        ),
        "BatchNorm": ("method=dino", *narrow("dino"), *RESNET),
        "blocks computed again": ("method=diet", "method.trainable=all", "grad_checkpointing=true", *BATCH),
        "frozen blocks": ("method=diet", "method.trainable=last_1_blocks", *BATCH),
        "mixing": ("method=diet", "method.mix.mixup_alpha=0.8", "method.mix.cutmix_alpha=1.0", *BATCH),
        "a spread head": ("method=diet", "method.head.sharded=true", "schedule.clip_grad=0.05", *BATCH),
        "a trunk cache": (
            *("method=diet", "method.trainable=last_1_blocks", "method.trunk.views=2", "method.trunk.noise=0.1"),
            *("schedule.batch_size=8", "schedule.epochs=4"),
        ),
    }


def agreed(folder: Path, cases: Cases, steps: int, ways: Sequence[tuple[int, str]]) -> Iterator[Compared]:
    """Yield, for each number of processes and strategy, what each case comes to in one process and in these."""
    one = each_case(cases, folder / "runs", steps)
    for processes, strategy in ways:
        words = {name: (*given, f"strategy={strategy}") for name, given in cases.items()}
        group = folder / f"{strategy}{processes}"
        many = on_processes(processes, group, each_case, words, folder / "runs", steps)[0]
        yield {f"{name}, {strategy} on {processes}": (one[name], many[name]) for name in cases}


def differing(one: Found, many: Found, steps: int) -> str | None:
    """Return in what several processes differ from one, if in anything."""
    if "error" in one or "error" in many:
        return str(one.get("error") or many["error"])
    ours, theirs = torch.tensor(one["losses"][:steps]), torch.tensor(many["losses"][:steps])
    return None if torch.allclose(theirs, ours, rtol=1e-5, atol=1e-6) else f"{ours.tolist()}, {theirs.tolist()}"


def differing_states(one: Found, many: Found) -> str | None:
    """Return in which weights, statistics or diagnostics several processes differ from one, if in any."""
    theirs, ours = dict(tensors(many["state"])), dict(tensors(one["state"]))
    if theirs.keys() != ours.keys():
        return f"{theirs.keys() ^ ours.keys()}"
    far = {key: float((theirs[key] - value).abs().max()) for key, value in ours.items() if isinstance(value, Tensor)}
    if max(far.values(), default=0) > 3e-3:  # AdamW moves a bias of no effect by its rate
        return f"{far}"
    alike = many["diagnostics"] == pytest.approx(one["diagnostics"], rel=1e-3)
    return None if alike else f"{one['diagnostics']}, {many['diagnostics']}"


def is_refused(name: str, many: Found) -> bool:
    """Return whether FSDP refuses a method for its optimiser."""
    return name in LARS and "looks at whole weights, and all weights are spread" in many.get("error", "")


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("strategy", after_nightly(1, ["ddp", "fsdp"]))
def test_two_processes_train_every_method_as_one(tmp_path: Path, strategy: str) -> None:
    for compared in agreed(tmp_path, every_method(), STEPS, [(2, strategy)]):
        wrong = {}
        for case, (one, two) in compared.items():
            method = case.split(",")[0]
            if not ("fsdp" in case and is_refused(method, two)):
                wrong[case] = differing(one, two, STEADY_STEPS.get(method, STEPS))
                if wrong[case] is None and method not in STEADY_STEPS:
                    wrong[case] = differing_states(one, two)
        assert {case: told for case, told in wrong.items() if told} == {}


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize(("number", "strategy"), after_nightly(1, [(2, "fsdp"), (2, "ddp"), (4, "ddp")]))
def test_thirty_steps_are_those_of_one_process(tmp_path: Path, number: int, strategy: str) -> None:
    for compared in agreed(tmp_path, special(), LONG, [(number, strategy)]):
        assert all(len(one.get("losses", ())) == LONG for one, _ in compared.values()), compared
        wrong = {case: differing(one, many, LONG) for case, (one, many) in compared.items()}
        assert {case: told for case, told in wrong.items() if told} == {}
