import pytest

from dinodiet.config.build import build
from dinodiet.errors import UserError
from dinodiet.sweep.launchers.slurm import Slurm


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"timeout_min": 2}, "signal_delay_s: 120 s before a limit"),
        ({"timeout_min": 3}, "signal_delay_s"),
        ({"cpus_per_task": 0}, "cpus_per_task: 0; must be a whole number of at least 1"),
        ({"gpus_per_node": -1}, "gpus_per_node: -1; must be a whole number of at least 0"),
        ({"array_parallelism": 0}, "array_parallelism: 0; must be a whole number of at least 1"),
        ({"runs_per_gpu": 0}, "runs_per_gpu: 0; must be a whole number"),
        ({"gpu_mem_gb": 0}, "gpu_mem_gb: 0; must be"),
        (
            {"runs_per_gpu": 2, "gpus_per_node": 4},
            "runs_per_gpu: 2 runs share a job with one GPU, and gpus_per_node is 4",
        ),
        ({"runs_per_gpu": 2, "nodes": 2}, "nodes is 2; set runs_per_gpu=1 or nodes=1"),
        ({"on_interrupt": "ignore"}, "on_interrupt: 'ignore'; must be one of: cancel, detach"),
    ],
)
def test_settings_that_would_bite_are_refused(settings: dict[str, object], says: str) -> None:
    with pytest.raises(UserError) as refused:
        build({"_target_": "dinodiet.sweep.launchers.slurm.Slurm", **settings}, "hydra.launcher")()
    assert says in str(refused.value)


def test_settings_with_time_to_train_are_taken() -> None:
    Slurm(timeout_min=4)
    Slurm(timeout_min=2, signal_delay_s=55, partition="batch", submitit_folder="unused")
