from pathlib import Path

from dinodiet.store.rundir import RunDir


def test_metrics_after_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    for step in (10, 20, 30):
        run_dir.append_metrics({"step": step, "loss": step / 10})
    with run_dir.metrics.open("a") as stream:
        stream.write('{"step": 40, "lo')  # killed while writing
    run_dir.keep_metrics_until(20)
    assert list(run_dir.read_metrics()) == [{"step": 10, "loss": 1.0}, {"step": 20, "loss": 2.0}]
