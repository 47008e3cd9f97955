"""Packings against the predicted memory of real runs."""

import re
from pathlib import Path

import pytest

from dinodiet.errors import UserError
from dinodiet.io.files import write_json
from dinodiet.io.units import byte_size
from dinodiet.sweep.launchers.slurm import Slurm
from dinodiet.sweep.packing import GIB, Packing
from dinodiet.sweep.planning.estimate import Estimator
from dinodiet.sweep.planning.packed import CONTEXT, check_packing
from dinodiet.sweep.planning.plan import plan
from dinodiet.sweep.run_grid import run_grid
from dinodiet.sweep.task import Task

from .cells import cell


def grid(tmp_path: Path) -> list[Task]:
    """Return two runs that need more than the two others."""
    cells = [("seed=0", "model.patch_size=4"), ("seed=1", "model.patch_size=4"), ("seed=2",), ("seed=3",)]
    return [cell(tmp_path, *overrides) for overrides in cells]


def need(task: Task) -> int:
    found = Estimator()(task.settings())
    assert found.peak is not None
    return found.peak + CONTEXT


@pytest.mark.slow
def test_a_packing_fits_where_the_largest_runs_do(tmp_path: Path) -> None:
    tasks = grid(tmp_path)
    large, small = need(tasks[0]), need(tasks[2])
    assert large > small
    for runs, memory in ((2, 2 * large), (3, 2 * large + small), (4, 2 * (large + small)), (9, 2 * (large + small))):
        check_packing(tasks, Packing(runs, memory))
        with pytest.raises(UserError, match=r"^hydra\.launcher\.runs_per_gpu: ") as refused:
            check_packing(tasks, Packing(runs, memory - 1))
        together = min(runs, 4)
        said = str(refused.value)
        assert said.startswith(f"hydra.launcher.runs_per_gpu: {together} runs at a time take about {byte_size(memory)}")
        assert said.endswith(f"set runs_per_gpu={together - 1}")
        assert re.findall(r"seed(\d)_\w+ \(", said) == ["0", "1", "2"][: min(runs, 3)]
    with pytest.raises(UserError, match=r"not even the largest fits alone"):
        check_packing(tasks, Packing(2, large - 1))


@pytest.mark.slow
def test_what_is_done_or_alone_or_on_unknown_gpus_is_not_counted(tmp_path: Path) -> None:
    tasks = grid(tmp_path)
    large, small = need(tasks[0]), need(tasks[2])
    check_packing(tasks, Packing(2, None))
    check_packing(tasks, Packing(1, 1))
    for task in tasks[:2]:
        write_json(task.run_dir.results, {"evaluations": dict.fromkeys(task.wanted, True)})
    check_packing(tasks, Packing(2, 2 * small))
    with pytest.raises(UserError, match=r"2 runs at a time"):
        check_packing(tasks, Packing(2, 2 * small - 1))
    assert small < large


@pytest.mark.slow
def test_the_plan_tells_allocations_and_refuses_what_cannot_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = grid(tmp_path)[:3]
    *_, shared, _ = plan(tasks, packing=Packing(2, 80 * GIB)).splitlines()
    most = f"the 2 that need most take {byte_size(2 * need(tasks[0]))} of 80.0 GiB, with 512.0 MiB each for CUDA itself"
    assert shared == f"2 runs per GPU: 2 allocations for 3 runs to do; {most}"
    assert "3 allocations for 3 runs to do" in plan(tasks, packing=Packing(1)).splitlines()
    with pytest.raises(UserError, match=r"set runs_per_gpu=1$"):
        plan(tasks, packing=Packing(2, GIB))
    assert f"of 1.0 GiB, with {byte_size(CONTEXT)} each" in capsys.readouterr().out


@pytest.mark.slow
def test_nothing_is_submitted_that_cannot_fit(tmp_path: Path) -> None:
    tasks = grid(tmp_path)
    with pytest.raises(UserError, match=r"4 runs at a time take about 2\.\d GiB of a GPU with 1\.0 GiB"):
        run_grid(tasks, Slurm(runs_per_gpu=4, gpu_mem_gb=1))
    assert not tasks[0].study.exists()
