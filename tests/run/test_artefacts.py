"""An evaluator that looks at encoder and images, whose score is better when smaller, and that writes a table."""

from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import torch

from dinodiet.data.images import fetch
from dinodiet.data.preprocess import preprocess
from dinodiet.run.trackers import NoTracker
from dinodiet.store.rundir import RunDir
from dinodiet.store.scores import read_scores
from dinodiet.types import DataSpec, EncoderSplits, Score
from tests.running import composed, run


class Norms:
    """The mean norm of the embeddings of four test images."""

    needs: ClassVar[Literal["encoder"]] = "encoder"

    def applies(self, spec: DataSpec, num_train: int) -> None:
        pass

    def __call__(self, splits: EncoderSplits) -> dict[str, Score]:
        images = preprocess(fetch(splits.test_images, [0, 1, 2, 3]), splits.input)
        with torch.no_grad():
            norm = float(splits.encoder(images).norm(dim=1).mean())
        assert splits.folder is not None
        (splits.folder / "norms.csv").write_text(f"norm\n{norm}\n")
        return {"norm": Score(norm, better="lower")}


class Shown(NoTracker):
    """Remembers the tables that it is shown."""

    tables: ClassVar[list[str]] = []

    def table(self, name: str, path: Path) -> None:
        Shown.tables.append(name)


@pytest.mark.slow
def test_artefacts_lie_in_the_run_and_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Shown, "tables", [])
    own = (f"+eval.norms._target_={__name__}.Norms", f"tracker._target_={__name__}.Shown", "schedule.epochs=1")
    results: dict[str, Any] = run(composed(tmp_path, *own))
    assert results["better"]["norms/norm"] == "lower"
    assert results["better"]["knn/accuracy"] == "higher"
    run_dir = RunDir(tmp_path / "default" / results["run_id"])
    (final,) = (scores for scores in read_scores(run_dir) if (scores.evaluator, scores.phase) == ("norms", "final"))
    assert final.artefacts == ["artefacts/final/norms/test/norms.csv", "artefacts/final/norms/val/norms.csv"]
    assert all((run_dir.path / path).is_file() for path in final.artefacts)
    assert "final/norms/test/norms" in Shown.tables
