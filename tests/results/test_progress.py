"""What running runs say of themselves, aligned and with a total."""

import time
from pathlib import Path

from dinodiet.results.runs import read
from dinodiet.results.summary import status
from tests.results import studies

ALIVE = {"state": "running", "host": "node1", "phase": "training"}
SHOWN = """\
  running    vit_1   step 70 of 1,310     loss 2.346  1,234 images/s  12 min 34 s left
  running    vit_2   step 1,000 of 1,310  loss 0.5    66 images/s     2 h 0 min left    job 12_3
  running    vit_3                                                                      initial evaluation
  running    3 runs  step 1,070 of 2,620              1,300 images/s  2 h 0 min left"""


def test_running_runs_say_how_far_they_are(tmp_path: Path) -> None:
    now = {**ALIVE, "heartbeat": time.time()}
    progress = {"step": 70, "total_steps": 1310, "loss": 2.34567, "images_per_second": 1234.5, "seconds_left": 754}
    studies.write_status(tmp_path, "vit_1", **now, **progress)
    progress = {"step": 1000, "total_steps": 1310, "loss": 0.5, "images_per_second": 65.5, "seconds_left": 7200}
    studies.write_status(tmp_path, "vit_2", **now, **progress, slurm_job="12_3")
    studies.write_status(tmp_path, "vit_3", **{**now, "phase": "initial evaluation"})
    found = read([tmp_path])
    title, *lines = status(tmp_path, found).splitlines()
    assert (title, "\n".join(lines)) == (f"{tmp_path}: 3 runs: 0 done, 3 running", SHOWN)
    cut = status(tmp_path, found, most=1).splitlines()
    assert [line.split()[1:3] for line in cut[1:]] == [["vit_1", "step"], ["and", "2"], ["3", "runs"]]
