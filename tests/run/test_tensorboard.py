"""TensorBoard as a tracker: real event files, read back by TensorBoard's own accumulator."""

import io
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.util.tensor_util import make_ndarray

from dinodiet.config.build import build
from dinodiet.errors import UserError
from dinodiet.run.guarded import Guarded
from dinodiet.run.tensorboard import TensorBoard
from dinodiet.store.rundir import RunDir
from dinodiet.types import Tracker
from tests.running import composed, killed_after, results_in, run

WORDS = ("tracker=tensorboard", "figures=true", "schedule.epochs=2", "eval.every_epochs=1")


def read(run_dir: Path) -> EventAccumulator:
    return EventAccumulator(str(run_dir / "tensorboard"), size_guidance={"images": 0, "scalars": 0}).Reload()


def steps(events: EventAccumulator, name: str) -> list[int]:
    return [event.step for event in events.Scalars(name)]


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a run of 8 steps that was killed after step 6, without a checkpoint, and begun anew."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch, killed_after(6, patch):
        run(composed(folder, *WORDS))
    run(composed(folder, *WORDS))
    (results,) = folder.glob("*/*/results.json")
    return results.parent


def test_a_resumed_run_has_every_step_once(resumed: Path) -> None:
    events, logged = read(resumed), [*RunDir(resumed).read_metrics()]
    assert steps(events, "loss") == [row["step"] for row in logged if "loss" in row] == [2, 4, 6, 8]
    losses = [row["loss"] for row in logged if "loss" in row]
    assert [event.value for event in events.Scalars("loss")] == pytest.approx(losses)
    assert steps(events, "val/knn/accuracy") == [4]


def test_a_run_that_resumes_in_the_middle_keeps_what_came_before(tmp_path: Path) -> None:
    for begins in (1, 4):  # the first start is killed after step 5, of which there is no checkpoint
        tracker = TensorBoard()
        tracker.start("run-1", {"name": "study"}, tmp_path)
        for step in range(begins, begins + 5):
            tracker.log({"loss": 10.0 * begins + step}, step)
    found = {event.step: event.value for event in read(tmp_path).Scalars("loss")}
    assert found == {1: 11, 2: 12, 3: 13, 4: 44, 5: 45, 6: 46, 7: 47, 8: 48}
    assert len(steps(read(tmp_path), "loss")) == 8


def test_scores_figures_tables_and_hyper_parameters_are_there(resumed: Path) -> None:
    events, results = read(resumed), results_in(resumed.parents[1])
    (final,) = events.Scalars("final/knn/accuracy")
    assert (final.step, final.value) == (8, pytest.approx(results["final"]["knn/accuracy"]))
    assert steps(events, "initial/knn/accuracy") == [0]
    (shown,) = events.Images("progress")
    drawn = np.asarray(Image.open(resumed / "artefacts" / "progress.png").convert("RGB"))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(shown.encoded_image_string)).convert("RGB")), drawn)
    (table,) = events.Tensors("initial_vs_final/text_summary")
    lines = make_ndarray(table.tensor_proto).item().decode().splitlines()
    assert lines[0].startswith("| metric | initial | final | change | relative_change_percent |")
    assert lines[2].split(" | ")[1] == str(results["initial"]["knn/accuracy"])


def test_hyper_parameters_are_the_settings_of_the_run(resumed: Path) -> None:
    content = read(resumed).SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    told = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert told["schedule.epochs"].number_value == 2 and told["method"].string_value == "diet"
    assert told["model"].string_value == "vit-tiny" and told["study"].string_value == "default"


def test_scores_that_are_added_later_take_the_place_of_those_before(resumed: Path) -> None:
    folder = resumed.parents[1]
    run(composed(folder, *WORDS, "eval=[knn,kmeans]"))
    events = read(resumed)
    assert steps(events, "loss") == [2, 4, 6, 8]
    for name in ("final/knn/accuracy", "final/kmeans/ari"):
        assert len(events.Scalars(name)) == 1
    assert len(events.Images("progress")) == 1


def test_without_the_package_it_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    node = {"_target_": "dinodiet.run.trackers.TensorBoard"}
    with pytest.raises(UserError, match=r"^tracker: .*pip install 'dinodiet\[tensorboard\]'") as refused:
        Guarded(build(node, "tracker", Tracker))
    assert "\n" not in str(refused.value)


def test_a_folder_that_cannot_be_written_costs_one_warning(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").write_text("a file")
    tracker = Guarded(TensorBoard)
    tracker.start("run-1", {"name": "study"}, tmp_path)
    with pytest.warns(UserWarning, match="TensorBoard failed"):
        tracker.log({"loss": 1.0}, 1)
    tracker.finish({"final/knn/accuracy": math.nan})
