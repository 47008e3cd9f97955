"""Wrong inputs: one clear line, an exit code that is not 0, no traceback, and nothing written but the status."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra

from dinodiet.sweep.command import cli
from tests.kinds import rest_nightly
from tests.running import TINY, launch


def broken_file(folder: Path) -> str:
    path = folder / "broken.pth"
    path.write_bytes(b"PK\x03\x04 cut short")
    return str(path)


def other_weights(folder: Path) -> str:
    path = folder / "other.pth"
    torch.save({"layer.weight": torch.zeros(2, 2)}, path)
    return str(path)


def broken_npz(folder: Path) -> str:
    (folder / "pathmnist.npz").write_bytes(b"PK\x03\x04 cut short")
    return str(folder)


def one_class(folder: Path) -> str:
    (folder / "images" / "train" / "cat").mkdir(parents=True)
    return str(folder / "images")


# overrides, what the line must name; a callable makes a file and gives its path for {}
CASES: list[tuple[str, str, Callable[[Path], str] | None]] = [
    ("model=mea", "model: no choice 'mea'; choose from", None),
    ("dataset=cifar11", "dataset: no choice 'cifar11'; choose from", None),
    ("method=dieet", "method: no choice 'dieet'; choose from", None),
    ("schedule=fast", "schedule: no choice 'fast'", None),
    ("tuned=fast", "tuned: no choice 'fast'", None),
    ("eval=knm", "eval: no choice 'knm'; choose from", None),
    ("tracker=mlflow", "tracker: no choice 'mlflow'; choose from", None),
    ("modle=mae", "modle: no such key", None),
    ("+typo=1", "typo: no such key; choose from", None),
    ("method.typo=1", "method.typo: no such key", None),
    ("+method.typo=1", "method.typo: no such key; choose from", None),
    ("+schedule.typo=1", "schedule.typo: no such key; choose from", None),
    ("method.views.strenght=1", "method.views.strenght: no such key", None),
    ("+method.views.strenght=1", "method.views.strenght: no such key; choose from", None),
    ("x=[", "x=[", None),
    ("seed=ten", "seed: 'ten'; must be a whole number", None),
    ("seed=-1", "seed: -1; must be a whole number from 0", None),
    ("mode=trian", "mode: 'trian'; must be one of: train", None),
    ("name=../elsewhere", "name: '../elsewhere'", None),
    ("precision=fp8", "precision: 'fp8'; must be one of: fp32", None),
    ("device=gpu", "device: 'gpu'; choose from", None),
    ("device=cuda:7", "device: 'cuda:7'; this machine has", None),
    ("log_every=0", "log_every: 0; must be a whole number of at least 1", None),
    ("schedule.epochs=ten", "schedule.epochs: 'ten'; must be a finite number", None),
    ("schedule.epochs=-1", "schedule.epochs: -1.0; must be a finite number from 0", None),
    ("schedule.batch_size=0", "schedule.batch_size: 0; must be a whole number from 1", None),
    ("schedule.accumulate=3", "schedule.accumulate: 3 does not divide", None),
    ("schedule.clip_mode=norm", "schedule.clip_mode: 'norm'; must be one of: global", None),
    ("schedule.lr=fast", "schedule.lr: 'fast'; must be a finite number from 0 to 100 or a node", None),
    ("schedule.optimizer._target_=torch.optim.AdamX", "schedule.optimizer._target_: 'torch.optim.AdamX' cannot", None),
    ("+schedule.optimizer.rate=1", "schedule.optimizer.rate: no such key", None),
    ("method.trainable=some", "method.trainable: 'some'", None),
    ("method.trainable=last_9_blocks", "method.trainable: 'last_9_blocks'", None),
    ("method.loss.label_smoothing=much", "method.loss.label_smoothing: 'much'; must be a finite", None),
    ("method.loss.label_smoothing=1.5", "method.loss.label_smoothing: 1.5", None),
    ("method.targets=labels", "method.targets: 'labels'; must be a node", None),
    ("method.targets.num_classes=1", "method.targets.num_classes: 1", None),
    ("method.head.warmup_fraction=2", "method.head.warmup_fraction: 2", None),
    ("+method.views.colour.grey=1", "method.views.colour.grey: no such key; choose from", None),
    ("method.views.colour.gray=2", "method.views.colour.gray: 2", None),
    ("method.trunk.views=-1", "method.trunk.views: -1", None),
    ("method.probe.weight=7", "method.probe.weight: 7", None),
    ("method.views.strength=7", "method.views.strength: 7; must be", None),
    ("+method.views.size=33", "method.views.size: 33", None),
    ("model.size=huge", "model.size: 'huge'; choose from", None),
    ("model.weights=/no/such/file.pth", "/no/such/file.pth", None),
    ("model.weights={}", "broken.pth", broken_file),
    ("model.weights={}", "layer.weight", other_weights),
    ("dataset.image_size=33", "model.image_size: 33 (image_size of the dataset", None),
    ("dataset.limit=100000", "dataset.limit: 100000", None),
    ("dataset.val_fraction=1.5", "dataset.val_fraction: 1.5", None),
    ("dataset=cifar10 dataset.source.download=false data_dir={}", "CIFAR10", str),
    ("dataset=pathmnist dataset.source.download=false data_dir={}", "pathmnist.npz", broken_npz),
    ("dataset=folder dataset.source.root=/no/such/folder", "/no/such/folder", None),
    ("dataset=folder dataset.source.root={}", "cat", one_class),
    ("schedule.lr=nan", "schedule.lr: nan; must be a finite", None),
    ("checkpoint_minutes=inf", "checkpoint_minutes: inf; must be a finite", None),
    ("method.loss.label_smoothing=nan", "method.loss.label_smoothing: nan; must be a finite", None),
    ("+schedule.optimizer.betas=[0.9,nan]", "schedule.optimizer.betas: [0.9, nan]; must be a list", None),
    ("schedule.clip_grad=-1", "schedule.clip_grad: -1.0; must be a finite number above 0 or null", None),
    ("schedule.clip_grad=0", "schedule.clip_grad: 0.0; must be a finite number above 0 or null", None),
    ("schedule.lr=-1", "schedule.lr: -1; must be a finite number from 0", None),
    ("schedule.lr.value=-1", "schedule.lr.value: -1; must be a finite number from 0", None),
    ("schedule.lr.warmup_fraction=2", "schedule.lr.warmup_fraction: 2; must be a finite number from 0 to 1", None),
    ("+schedule.lr.warmup_steps=3", "schedule.lr: warmup_steps and warmup_fraction are all set", None),
    ("schedule.lr.per=second", "schedule.lr.per: 'second'; must be one of: step, epoch", None),
    ("schedule.weight_decay=-1", "schedule.weight_decay: -1; must be a finite number from 0", None),
    ("schedule.lr_reference_batch=0", "schedule.lr_reference_batch: 0; must be a whole number from 1", None),
    ("schedule.epochs=inf", "schedule.epochs: inf; must be a finite number from 0", None),
    ("schedule=dino_resnet schedule.optimizer.momentum=2", "schedule.optimizer.momentum: 2; must be", None),
    ("+schedule.optimizer.eps=-1", "schedule.optimizer.eps: -1; must be a finite number from 0", None),
    ("+schedule.optimizer.betas=[0.9]", "schedule.optimizer.betas: [0.9]; must be a list of 2", None),
    ("decoded_gib=nan", "decoded_gib: nan; must be a finite number of at least 0", None),
    ("num_workers=100000", "num_workers: 100000; must be a whole number from 0", None),
    ("eval.every_epochs=0", "eval.every_epochs: 0; must be a finite number above 0 or null", None),
    ("eval.batch_size=0", "eval.batch_size: 0; must be a whole number from 1", None),
    ("eval.validation=maybe", "eval.validation: 'maybe'; must be true or false", None),
    ("+eval.foo=1", "eval.foo: 1; must be a node with a _target_", None),
    ("eval.knn.k=5000", "eval.knn.k: 5000", None),
    ("+eval.knn5={_target_:dinodiet.evals.knn.KNN,k:5000}", "eval.knn5.k: 5000", None),
    ("+eval.knn5={_target_:dinodiet.evals.knn.KNN,k:0}", "eval.knn5.k: 0", None),
    ("eval.knn.temperature=nan", "eval.knn.temperature: nan", None),
    ("+eval.knn.needs=encoder", "eval.knn.needs: no such key; choose from", None),
    ("eval.knn=null", "eval.knn: None; must be a node with a _target_", None),
    ("+eval.foo=1", "eval.foo: 1; must be a node with a _target_", None),
    ("eval={a:1}", "eval: {'a': 1}; must be keys with values", None),
    ("~model", "model: one choice is needed; choose from", None),
    ("~tracker", "tracker: one choice is needed; choose from", None),
    ("+model=mae", "model: leave out the +", None),
    ("~seed", "seed: left out; a run needs it", None),
    ("~dataset.source", "dataset.source: left out; dataset needs it", None),
    ("~method.views", "method.views: left out; method needs it", None),
    ("~method.views._partial_", "method.views.input: left out; method.views needs it", None),
    ("dataset.source=null", "dataset.source: None; must be a node", None),
    ("method.loss=3", "method.loss: 3; must be a node with a _target_ or null", None),
    ("method.loss._target_=3", "method.loss._target_: 3; must be the dotted name", None),
    ("method.loss._target_=null", "method.loss._target_: None; must be the dotted name", None),
    ("method.loss._target_=nope", "method.loss._target_: 'nope' cannot be imported", None),
    ("+method.loss._partial_=3", "method.loss._partial_: 3; must be true or false", None),
    ("+method.mix._partial_=true", "method.mix._partial_: true; leave it out", None),
    ("eval.knn._target_=os.system", "eval.knn.k: no such key", None),
    ("tracker._target_=math.sqrt", "tracker: ", None),
    (
        "schedule.optimizer={_target_:torch.nn.ReLU,_partial_:true}",
        "schedule.optimizer._target_: has no argument",
        None,
    ),
    ("+schedule.optimizer.betas=[0.9]", "schedule.optimizer.betas: [0.9]; must be a list of 2 items", None),
    ("seed=${nope}", "seed: Interpolation key 'nope' not found", None),
    ("name=${oc.env:NO_SUCH_VARIABLE}", "name: ", None),
    ("eval=[knn,kmeans,knn]", "eval: knn comes twice; name each once", None),
    ("eval=[knn,'knn.yaml']", "eval: knn comes twice", None),
    ("outputs_dir=", "outputs_dir: ''; must be the path of a folder", None),
    ("data_dir=", "data_dir: ''; must be the path of a folder", None),
    ("cache_dir=", "cache_dir: ''; must be a path, or null", None),
    ("mode=evaluate checkpoint=", "checkpoint: ''; must be a path, or null", None),
    ("--nope", "unrecognized arguments: --nope", None),
    ("--cfg", "argument --cfg/-c: expected one argument", None),
    ("--config-dir=/no/such/folder", "--config-dir: /no/such/folder is no folder", None),
    ("method=dino method.views.crops=2y224", "views.crops: '2y224'", None),
    ("method=dino method.views.crops=2x30", "views.crops: ", None),
    ("method=dino method.views.crops=2x500", "views.crops: ", None),
    ("tracker=wandb tracker.mode=sometimes", "tracker.mode: 'sometimes'; must be one of", None),
    ("mode=evaluate checkpoint=/no/such/checkpoint.pt", "checkpoint: /no/such/checkpoint.pt does not exist", None),
    ("mode=evaluate checkpoint={}", "broken.pth cannot be read", broken_file),
]


def kind(case: tuple[str, str, Callable[[Path], str] | None]) -> str:
    """Return the sentence that a case is told, without its key and values."""
    return re.sub(r"'[^']*'|[\d.-]+", "", case[1].partition(": ")[2])


QUICK = list({kind(case): case for case in reversed(CASES)}.values())  # the first of each kind


def refuse(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> tuple[int, list[str]]:
    """Return the exit code of the command line and the lines it wrote to stderr."""
    monkeypatch.setattr(sys, "argv", ["launch.py", *arguments])
    capfd.readouterr()
    code = cli()
    GlobalHydra.instance().clear()
    return code, capfd.readouterr().err.splitlines()


@pytest.mark.parametrize(("overrides", "words", "make"), rest_nightly(CASES, QUICK), ids=[case[0] for case in CASES])
def test_wrong_input_is_one_line(
    overrides: str,
    words: str,
    make: Callable[[Path], str] | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    inputs, outputs = tmp_path / "inputs", tmp_path / "outputs"
    inputs.mkdir()
    monkeypatch.chdir(tmp_path)
    given = [word.replace("{}", make(inputs)) if make and "{}" in word else word for word in overrides.split(" ")]
    before = sorted(inputs.rglob("*"))
    code, lines = refuse([*TINY, f"outputs_dir={outputs}", *given], monkeypatch, capfd)
    assert code == 1
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    assert words in lines[0]
    written = [path.name for path in outputs.rglob("*") if path.is_file()]
    assert set(written) <= {"status.json", "run.lock"}
    assert sorted(inputs.rglob("*")) == before


def test_a_refusal_of_the_real_process(tmp_path: Path) -> None:
    done: subprocess.CompletedProcess[str] = launch(tmp_path, *TINY, "method.loss.label_smoothing=3", anew=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: method.loss.label_smoothing: 3; must be")
    assert done.stderr.endswith("\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_one_bad_cell_of_a_grid_costs_one_cell(tmp_path: Path) -> None:
    done = launch(tmp_path, "-m", *TINY, "schedule.epochs=0", "method.targets.num_classes=10,5000,20")
    assert done.returncode == 1
    assert "error: method.targets.num_classes: 5000" in done.stderr
    assert len(list(tmp_path.glob("*/[!.]*/results.json"))) == 2
