"""Whatever a key is set to, the command refuses it in one line that names the key, or ends with finite scores."""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from dinodiet.errors import MachineLimit
from tests.contracts.forked import Outcome, outcomes
from tests.contracts.mutations import Case, Change, is_finite, pairs, shuffled
from tests.data.sources import test_medmnist

SEED = int(os.environ.get("DINODIET_FUZZ_SEED", "0"))  # another one tries other values of the same keys
BAR = re.compile(r"\[\d\d:\d\d|img/s|step/s|it/s|run/s")  # of progress
OVERLAP = re.compile(r"images of split \w+ are also in")  # a warning about the data, before the error of another part
# What a value led to, where no range can tell it before.
OUTCOMES = ("memory is used up", "this machine has", "the loss is", "but the backbone has", "are limited")

SHORT = (
    "schedule.epochs=1",
    "schedule.batch_size=8",
    "device=cpu",
    "log_every=1",
    "tuned=none",
    "dataset.image_size=32",
)
DEPTH = "+model.model_args={depth: 2, embed_dim: 24, num_heads: 2}"
VIT = ("model=vit_tiny", "model.patch_size=8", DEPTH)
FOLDER = ("dataset=folder", "dataset.source.root=IMAGES", "dataset.source.val=null")
DIGITS = ("dataset=digits", "dataset.limit=24")
SMALL_HEAD = ("method.head.hidden_dims=[64,64]", "method.head.bottleneck_dim=16", "method.head.out_dim=128")
SMALL_LINEAR = "eval.linear.C=[1,10]"

BASES: dict[str, tuple[str, ...]] = {
    "diet": (*VIT, *FOLDER, *SHORT, "method=diet", "eval=[knn,linear,kmeans]", SMALL_LINEAR, "eval.kmeans.n_init=2"),
    "dino": (*VIT, *FOLDER, *SHORT, "method=dino", "eval=knn", *SMALL_HEAD),
    "digits": (*VIT, *DIGITS, *SHORT, "method=diet_dual", "eval=knn"),
    "convolutional": (
        "model=resnet5m",
        *DIGITS,
        *SHORT,
        "method=lowdino",
        "eval=knn",
        *SMALL_HEAD,
        "method.views.crops=2+2",
    ),
    "taught": (
        *("model=resnet5m", *DIGITS, *SHORT, "method=distill", "method.label_weight=1", "eval=knn"),
        *("model@method.teacher.model=efficientnet_lite0", "method.teacher.model.image_size=32"),
    ),
    "released": ("model=dinov2", DEPTH, *DIGITS, *SHORT, "eval=knn", "dataset.image_size=28", "model.weights=none"),
    "medmnist": (*VIT, "dataset=pathmnist", "dataset.source.published=null", *SHORT, "data_dir=IMAGES", "eval=knn"),
    "tracker": (*VIT, *DIGITS, *SHORT, "eval=knn", "tracker=wandb", "tracker.mode=disabled"),
    "grid": ("-m", *VIT, *DIGITS, *SHORT, "eval=knn", "mode=plan", "hydra/launcher=parallel"),
    "slurm": ("-m", *VIT, *DIGITS, *SHORT, "eval=knn", "mode=plan", "hydra/launcher=slurm"),
}
PARTS = {  # the keys that a base adds to those of the others
    "dino": ("method", "schedule", "eval"),
    "digits": ("dataset", "method", "schedule"),
    "convolutional": ("model", "method"),
    "taught": ("method",),
    "released": ("model",),
    "medmnist": ("dataset",),
    "tracker": ("tracker",),
    "grid": ("hydra", "mode", "plan", "retry", "seed"),
    "slurm": ("hydra",),
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 3 classes of 8 images of 32 pixels, in train and test, and a small PathMNIST."""
    root = tmp_path_factory.mktemp("images")
    generator = random.Random(0)
    for split, count in (("train", 8), ("test", 3)):
        for label in ("ant", "bee", "cat"):
            (root / split / label).mkdir(parents=True)
            for number in range(count):
                pixels = bytes(generator.randrange(256) for _ in range(32 * 32 * 3))
                Image.frombytes("RGB", (32, 32), pixels).save(root / split / label / f"{number}.png")
    test_medmnist.write(root, "pathmnist")
    return root


def fault(outcome: Outcome, tried: Sequence[Change]) -> str | None:
    """Return what is wrong with how a command ended, or None."""
    if outcome.code is None:
        return "did not end"
    if "Traceback" in outcome.printed + outcome.errors or outcome.code not in (0, 1, MachineLimit.EXIT_CODE):
        return f"exit code {outcome.code}: {outcome.errors[-600:]}"
    if outcome.code == 0:
        return _nonsense(outcome, tried)
    told = (line for line in outcome.errors.splitlines() if line.strip() and not BAR.search(line))
    lines = [line for line in told if not OVERLAP.search(line)]
    if len(lines) != 1 or not lines[0].startswith("error: ") or len(lines[0]) < len("error: ") + 10:
        return f"{len(lines)} lines: {outcome.errors[-600:]}"
    names = [name for change in tried for name in _names(change.key)]
    return None if any(name in lines[0] for name in (*names, *OUTCOMES)) else f"does not name its key: {lines[0]}"


def _names(key: str) -> list[str]:
    """Return what names a key in a line: its last part, or the node that it is in."""
    parent, _, last = key.rpartition(".")
    return [last, parent] if parent else [last]


def _nonsense(outcome: Outcome, tried: Sequence[Change]) -> str | None:
    if any(change.is_nonsense for change in tried):
        return "accepted"
    for path in Path(outcome.folder).rglob("results.json"):
        results = json.loads(path.read_text())
        if not all(is_finite(results[phase]) for phase in ("initial", "final")):
            return f"scores {results['initial']} {results['final']}"
        if not results["final"] and not any(change.key.startswith("eval") for change in tried):
            return "no scores"
    return None


def check(folder: Path, images: Path, cases: Sequence[Case]) -> None:
    """Try changes on their bases; fail with a line for each that ends wrongly."""
    commands = [
        [word.replace("IMAGES", str(images)) for word in (*BASES[base], *(change.word for change in tried))]
        for base, tried in cases
    ]
    ended = outcomes(folder, commands)
    found = [(fault(outcome, tried), base, tried) for outcome, (base, tried) in zip(ended, cases, strict=True)]
    lines = [f"{base}: {' '.join(change.word for change in tried)}: {wrong}" for wrong, base, tried in found if wrong]
    if lines:
        pytest.fail("\n".join([f"{len(lines)} of {len(cases)}, DINODIET_FUZZ_SEED={SEED}:", *lines]), pytrace=False)


@pytest.mark.fuzz
@pytest.mark.timeout(1800)
def test_what_is_wrong_is_seen(tmp_path: Path, images: Path) -> None:
    """The judge itself: a base alone ends well, and the same end is wrong for what nothing can mean."""
    nothing, nonsense = Change("seed=0", "seed", 0), Change("seed=nan", "seed", 0)
    (outcome,) = outcomes(tmp_path / "runs", [[word.replace("IMAGES", str(images)) for word in BASES["dino"]]])
    assert outcome.code == 0, outcome.errors
    assert fault(outcome, [nothing]) is None
    assert fault(outcome, [nonsense]) == "accepted"
    empty = replace(outcome, code=1, errors="error: \n")
    assert "1 lines" in str(fault(empty, [nothing]))
    assert "name its key" in str(fault(replace(empty, errors="error: something is wrong\n"), [nothing]))
    assert "exit code" in str(fault(replace(empty, errors="Traceback\nerror: seed: wrong\n"), [nothing]))
    assert fault(replace(empty, code=None), [nothing]) == "did not end"


@pytest.mark.fuzz
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(2))
def test_single_changes(part: int, tmp_path: Path, images: Path) -> None:
    cases = shuffled(BASES, PARTS, SEED)[200 * part : 200 * (part + 1)]
    check(tmp_path / "runs", images, cases)


@pytest.mark.fuzz
@pytest.mark.timeout(1800)
def test_pairs_of_changes(tmp_path: Path, images: Path) -> None:
    check(tmp_path / "runs", images, pairs(shuffled(BASES, PARTS, SEED), 100, SEED))
