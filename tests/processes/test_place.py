import pytest

from dinodiet.processes.place import SHARING, runs_per_gpu


@pytest.mark.parametrize(("told", "runs"), [("4", 4), ("1", 1), ("0", 1), ("", 1), ("many", 1)])
def test_how_many_runs_share_a_gpu_is_what_the_launcher_says(told: str, runs: int) -> None:
    assert runs_per_gpu({SHARING: told}) == runs
    assert runs_per_gpu({}) == 1
