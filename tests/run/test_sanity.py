"""mode=sanity: every backbone on every dataset has a file of its own, and the same one again."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image

from dinodiet.config.settings import settings_of
from dinodiet.errors import UserError
from dinodiet.run import fits
from dinodiet.run.sanity import compared
from tests.running import TINY, composed, launch, run

CHOICES = {"model": "vit_tiny", "dataset": "folder", "method": "diet"}
SHORT = tuple(change for change in TINY if not change.startswith("dataset"))
PUBLISHED = "++model.published={{folder: {{knn/accuracy: {}}}}}"
OWN = (*SHORT, "dataset=folder", "dataset.image_size=16", "eval.knn.k=2", "mode=sanity", PUBLISHED.format(0))


def images(root: Path, shade: int) -> Path:
    for split in ("train", "val", "test"):
        for number, name in enumerate(("a", "b")):
            (root / split / name).mkdir(parents=True)
            for i in range(3):
                colour = (shade + i, 100 * number, 10 * i + len(split))
                Image.new("RGB", (16, 16), colour).save(root / split / name / f"{i}.png")
    return root


def weights(path: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    size: dict[str, Any] = {"depth": 2, "embed_dim": 24, "num_heads": 2, "patch_size": 8, "img_size": 16}
    path.parent.mkdir()
    torch.save(timm.create_model("vit_tiny_patch16_224", num_classes=0, **size).state_dict(), path)
    return path


def variants(tmp_path: Path) -> list[tuple[str, ...]]:
    """Return settings whose folders, weights, sizes or rules of scoring differ, with the same names."""
    first, second = (f"dataset.source.root={images(tmp_path / name / 'set', 9 * len(name))}" for name in ("x", "yy"))
    files = [f"model.weights={weights(tmp_path / name / 'w.pth', len(name))}" for name in ("one", "three")]
    return [
        (first,),
        (second,),
        *((first, file) for file in files),
        (first, "dataset.image_size=24"),
        (first, "model.patch_size=4"),
        (first, "dataset.source.bits=12"),
        (first, "eval.knn.k=3"),
    ]


def verdicts(root: Path) -> dict[str, Any]:
    return {str(path): json.loads(path.read_text()) for path in root.glob("*/*/sanity.json")}


@pytest.mark.slow
def test_no_check_overwrites_another(tmp_path: Path) -> None:
    every, out = variants(tmp_path), tmp_path / "out"
    for count, overrides in enumerate(every, start=1):
        before = verdicts(out)
        run(composed(out, *overrides, base=OWN), CHOICES)
        after = verdicts(out)
        assert len(after) == count and before.items() <= after.items(), overrides
    run(composed(out, *every[2], base=OWN), CHOICES)
    assert len(verdicts(out)) == len(every)


@pytest.mark.slow
def test_nor_from_the_command_line(tmp_path: Path) -> None:
    every, out = variants(tmp_path), tmp_path / "out"
    for count, overrides in enumerate(every[1:4], start=1):
        done = launch(out, *OWN, *overrides)
        assert done.returncode == 0, done.stderr
        assert len(verdicts(out)) == count, overrides


@pytest.mark.parametrize(
    ("published", "told", "passed"),
    [
        ("++model.published=null", "nothing was checked, no published score is known", None),
        (
            "++model.published={folder: {linear/accuracy: 0.1}}",
            r"linear/accuracy was not scored, .* eval needs linear",
            False,
        ),
        (PUBLISHED.format(1.1), "below the published knn/accuracy", False),
    ],
)
def test_what_was_not_checked_has_not_passed(tmp_path: Path, published: str, told: str, passed: bool | None) -> None:
    root = images(tmp_path / "set", 3)
    with pytest.raises(UserError, match=told):
        run(composed(tmp_path / "out", f"dataset.source.root={root}", published, base=OWN), CHOICES)
    (verdict,) = verdicts(tmp_path / "out").values()
    assert verdict["passed"] is passed and "knn/accuracy" in verdict["test"]


def test_a_verdict_has_scores_over_k_and_a_chart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = images(tmp_path / "set", 3)
    run(composed(tmp_path / "out", f"dataset.source.root={root}", PUBLISHED.format(0.4), base=OWN), CHOICES)
    ((path, verdict),) = verdicts(tmp_path / "out").items()
    curve = verdict["over_k"]["knn/accuracy"]
    assert list(curve) == ["1", "2", "5"] and curve["2"] == verdict["test"]["knn/accuracy"]
    assert "published: at least 0.40" in Path(path).with_name("sanity.svg").read_text()
    printed = capsys.readouterr().out
    assert "  k             1      2      5\n" in printed


@pytest.mark.slow
def test_several_checks_are_one_table(tmp_path: Path) -> None:
    root, out = f"dataset.source.root={images(tmp_path / 'set', 3)}", tmp_path / "out"
    every = [composed(out, root, change, base=OWN) for change in (PUBLISHED.format(0), "eval.knn.k=1")]
    for config in every:
        run(config, CHOICES)
    told = compared([settings_of(config, CHOICES) for config in every])
    rows = [line for line in told.splitlines() if " pass" in line]
    assert len(rows) == 2 and f"chart in {out}/default/sanity.svg" in told
    assert (out / "default" / "sanity.svg").exists()


def test_a_check_that_ends_without_scores_has_no_row_of_another_time(tmp_path: Path) -> None:
    root, out = f"dataset.source.root={images(tmp_path / 'set', 3)}", tmp_path / "out"
    config = composed(out, root, base=OWN)
    run(config, CHOICES)
    shutil.rmtree(tmp_path / "set" / "test")
    shutil.rmtree(tmp_path / "set" / "train")
    with pytest.raises(UserError):
        run(config, CHOICES)
    assert compared([settings_of(config, CHOICES)]) == ""


@pytest.mark.parametrize("mode", ["sanity", "evaluate"])
def test_what_does_not_fit_is_refused_before_it_is_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """Of an evaluation the data that it is on count, which may be another set than that of the training."""
    out, root = tmp_path / "out", f"dataset.source.root={images(tmp_path / 'set', 3)}"
    train = [change for change in OWN if not change.startswith(("mode=", "++"))]
    run(composed(out, root, base=train), CHOICES)
    monkeypatch.setattr(fits, "most_memory", lambda: 2**28)
    for change, told in (
        (
            "eval.batch_size=200000",
            r"eval\.batch_size: 200000 images of 16 px .*this machine has 256\.0 MiB",
        ),
        ("model.model_args.embed_dim=3000", r"model: its weights take 8.*this machine has 256\.0 MiB"),
    ):
        if mode == "evaluate" and change.startswith("model"):
            continue  # another model than that of the run is refused as such
        with pytest.raises(UserError, match=told):
            run(composed(out, root, change, f"mode={mode}", base=train), CHOICES)
