"""What people type: every command line works, or is refused in one line that names the word that is wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dinodiet.errors import printable
from tests.contracts.forked import Outcome, outcomes
from tests.contracts.test_fuzz import DIGITS, SHORT, VIT
from tests.results import studies

PLAN = (*VIT, *DIGITS, *SHORT, "eval=knn", "mode=plan")
GRID = ("-m", *PLAN)
LONG = "n" * 5000

# Words that follow PLAN, and what the line that refuses them says: "": the word's key; None: it works.
WORDS: list[tuple[str, str | None]] = [
    ("", "cannot be read"),
    ("=", ""),
    ("=3", ""),
    ("~", ""),
    ("~=3", ""),
    ("seed", ""),
    ("seed=", ""),
    ("seed==3", ""),
    ("seed=[1", ""),
    ("seed={a:1", ""),
    ("seed='1", ""),
    ('seed="1', ""),
    ("seed=1'", ""),
    ("seed=${nope}", ""),
    ("seed=${oc.env:NO_SUCH_VARIABLE}", ""),
    ("seed=${nope:1}", ""),
    ("seed=${seed}", ""),
    ("seed=$(date)", ""),
    ("seed=1\n", ""),
    ("seed\n=1", ""),
    ("seed=a\nb", ""),
    ("sëed=1", ""),
    ("seed=" + "9" * 5000, ""),
    (f"seed={LONG}", ""),
    (f"{LONG}=1", ""),
    ("name=ünï", None),
    ("name='a b'", None),
    (f"name={LONG[:300]}", ""),
    ("name=..", ""),
    ("name=/tmp", ""),
    ("name=", ""),
    ("outputs_dir=", ""),
    ("~seed", ""),
    ("~seed=0", ""),
    ("~seed=5", ""),
    ("~nope", ""),
    ("~method", ""),
    ("~eval", None),
    ("~eval.knn", None),
    ("~method.loss", None),
    ("+seed=1", ""),
    ("++seed=1", None),
    ("+nope=1", ""),
    ("++nope=1", ""),
    ("+model=mae", ""),
    ("++model=mae", ""),
    ("+method.loss=3", ""),
    ("+method.backbone={_target_: builtins.dict}", ""),
    ("+method.head.in_dim=1", ""),
    ("+method.spec.num_images=1", ""),
    ("+schedule.optimizer.params=[1]", ""),
    ("method.head._target_=builtins.dict", "method: "),
    ("model=", ""),
    ("model=[vit,mae]", ""),
    ("model=vit,mae", ""),
    ("model@x=mae", ""),
    ("schedule=nope", ""),
    ("tuned=nope", ""),
    ("dataset@eval.dataset=nope", ""),
    ("dataset@eval.data=cifar10", ""),
    ("eval=[]", None),
    ("eval=[knn,knn]", "comes twice"),
    ("eval=[knn,nope]", ""),
    ("eval=[[knn]]", ""),
    ("eval=[null]", ""),
    ("eval=knn,linear", ""),
    ("eval=3", ""),
    ("eval={knn:1}", ""),
    ("eval.knn={}", None),
    ("eval.linear.C=[1]", ""),
    ("tracker=nope", ""),
    ("tracker=[none,wandb]", ""),
    ("tracker=null", ""),
    ("tracker.mode=offline", ""),
    ("mode=nope", ""),
    ("mode=", ""),
    ("mode=PLAN", ""),
    ("mode=[plan]", ""),
    ("mode=null", ""),
    ("mode=evaluate", "checkpoint"),
    ("mode=sanity", "nothing was checked"),
    ("mode=embed", None),
    ("mode=views", None),
    ("mode=fetch", None),
    ("plan=nope", ""),
    ("plan=full", None),
    ("retry=all", ""),
    ("sweeps=smoke", ""),
    ("sweeps=nope", ""),
    ("+sweeps=smoke", ""),
    ("sweeps=[smoke]", ""),
    ("hydra/launcher=slurm", ""),
    ("hydra/launcher=nope", ""),
    ("hydra/job_logging=nope", ""),
    ("hydra.mode=MULTIRUN", None),
    ("hydra.mode=nope", ""),
    ("hydra=null", ""),
    ("hydra.searchpath=3", ""),
    ("hydra.searchpath=[nope]", ""),
    ("hydra.run=null", ""),
    ("hydra.run.dir=3", None),
    ("hydra.job=null", ""),
    ("--seed=1", ""),
    ("-seed=1", ""),
    ("--nope", ""),
    ("--cfg", ""),
    ("--cfg=nope", ""),
    ("--info=nope", ""),
    ("--resolve", ""),
    ("--package=x", None),
    ("--config-name=nope", ""),
    ("--config-path=/nope", ""),
    ("--config-dir=/nope", ""),
    ("--config-dir", ""),
]
CELLS: list[tuple[str, str | None]] = [
    ("seed=0,1", None),
    ("seed=0,x", ""),
    ("seed=1,", ""),
    ("seed=1,,2", ""),
    ("seed=range(0,3,0)", ""),
    ("seed=range(0,0)", ""),
    ("seed=range(3)", None),
    ("seed=choice()", ""),
    ("seed=choice(1,2)", None),
    ("seed=interval(0,1)", ""),
    ("seed=glob(*)", ""),
    ("seed=nope(1)", ""),
    ("seed=sort(2,1)", None),
    ("model=mae,nope", ""),
    ("eval=knn,[knn,linear]", None),
    ("eval=knn,nope", ""),
    ("mode=train,plan", ""),
    ("name=a,b", ""),
    ("~seed", ""),
    ("~eval.knn,x", ""),
    ("+nope=1,2", ""),
    ("sweeps=nope", ""),
    ("sweeps=smoke,vit_sizes", "one study"),
    ("sweeps=[smoke,vit_sizes]", ""),
    ("sweeps=", ""),
    ("sweeps=../sweeps/smoke", None),
    ("hydra/launcher=nope", ""),
    ("hydra/launcher=", ""),
    ("hydra/launcher=null", ""),
    ("hydra/launcher=[local,slurm]", ""),
    ("hydra/launcher=basic", ""),
    ("hydra/launcher=submitit_slurm", ""),
    ("hydra/launcher=local,slurm", ""),
    ("hydra.launcher=null", ""),
    ("hydra.launcher=3", ""),
    ("~hydra.launcher", ""),
    ("hydra.launcher.processes=2", ""),
    ("hydra.launcher._target_=os.system", "hydra.launcher"),
    ("hydra/sweeper=basic", ""),
    ("hydra/sweeper=nope", ""),
    ("hydra.sweeper=null", ""),
    ("hydra.sweeper.params=3", ""),
    ("hydra.sweeper.params={seed: 0}", "hydra.sweeper.params"),
    ("+hydra.sweeper.params.seed='0,1'", None),
    ("+hydra.sweeper.params.nope=1", ""),
    ("hydra.sweeper.nope=1", ""),
    ("hydra.sweep=null", ""),
    ("hydra.sweep.dir=3", None),
]
WHOLE: list[tuple[tuple[str, ...], str | None]] = [
    ((*PLAN[:-1], "mode=evaluate", "checkpoint=/nope"), ""),
    ((*PLAN[:-1], "mode=evaluate", "checkpoint=."), ""),
    ((*PLAN[:-1], "mode=evaluate", "checkpoint=/dev/null"), ""),
    ((*PLAN[:-1], "mode=evaluate", "checkpoint=''"), ""),
    ((*PLAN[:-1], "mode=evaluate", "checkpoint=3"), ""),
    ((*PLAN, "tracker=wandb", "tracker.mode=maybe"), ""),
    ((*PLAN, "tracker=wandb", "tracker.project=a/b"), ""),
    ((*PLAN, "tracker=wandb", "tracker.tags=x"), ""),
    ((*PLAN, "tracker=wandb", f"tracker.tags=[{LONG[:80]}]"), ""),
    ((*PLAN, "tracker=wandb", "tracker.nope=1"), ""),
    ((*GRID, "hydra/launcher=parallel", "hydra.launcher.processes=0"), ""),
    ((*GRID, "hydra/launcher=slurm", "hydra.launcher.timeout_min=soon"), ""),
    ((*GRID[:-1], "mode=sanity", "hydra/launcher=parallel"), ""),
    (("-m", "--cfg"), ""),
]
RESULTS: list[tuple[tuple[str, ...], str | None]] = [
    ((), "PATH"),
    (("nope",), ""),
    (("STUDY",), None),
    (("STUDY", "--status"), None),
    (("STUDY", "--nope"), ""),
    (("STUDY/runs",), ""),
    (("/dev/null",), ""),
    ((".",), ""),
    (("",), "no runs there"),
    ((LONG[:300],), ""),
    (("a\n",), ""),
    (("STUDY", "--metric", "nope"), ""),
    (("STUDY", "--metric", ""), None),
    (("STUDY", "--metric", "knn(k=5"), ""),
    (("STUDY", "--metric"), ""),
    (("STUDY", "--rows", "nope"), ""),
    (("STUDY", "--rows", "model", "--cols", "model"), ""),
    (("STUDY", "--cols", "ünï"), ""),
    (("STUDY", "--over", "nope"), ""),
    (("STUDY", "--over", ""), None),
    (("STUDY", "--phase", "nope"), ""),
    (("STUDY", "--where", "x"), ""),
    (("STUDY", "--where", "="), ""),
    (("STUDY", "--where", "model="), ""),
    (("STUDY", "--where", "=mae"), ""),
    (("STUDY", "--where", "model=nope"), ""),
    (("STUDY", "--where", "nope=1"), ""),
    (("STUDY", "--compare", "nope"), ""),
    (("STUDY", "--compare", "="), ""),
    (("STUDY", "--compare", ""), ""),
    (("STUDY", "--compare", "method=diet"), ""),
    (("STUDY", "--compare", "method=diet,nope"), ""),
    (("STUDY", "--compare", "seed"), ""),
    (("STUDY", "--out", "table.xyz"), ""),
    (("STUDY", "--out", "table"), ""),
    (("STUDY", "--out", ""), "ends in"),
    (("STUDY", "--out", "/proc/nope/x.csv"), "/proc/nope"),
    (("STUDY", "--out", "."), ""),
    (("STUDY", "--curves", "x.nope"), ""),
    (("STUDY", "--curves", "x.csv", "--metric", "nope"), ""),
    (("STUDY", "--heatmap", "x.csv"), ""),
    (("STUDY", "--tidy", "x.png"), ""),
    (("STUDY", "--tidy", "/proc/nope/x.csv"), "/proc/nope"),
    (("nope", "--disk"), "nope"),
    (("nope", "--clean", "--yes"), "nope"),
    (("STUDY", "--clean"), None),
    (("STUDY", "--disk"), None),
]
CATALOGUE: list[tuple[tuple[str, ...], str | None]] = [
    (("nope",), ""),
    (("",), "no choice ''"),
    (("datasets", "nope"), ""),
    (("methods",), None),
    (("evaluators", "knn"), None),
    (("mae", "nope"), ""),
    (("models", "vit_tiny"), None),
    (("methods", "--families"), None),
    (("methods", "--out", "x.xyz"), ""),
    (("methods", "--out", "/proc/nope/x.md"), "/proc/nope"),
    (("methods", "--config-dir", "/nope"), ""),
    (("--config-dir",), ""),
    (("--nope",), ""),
    ((LONG[:300],), ""),
    (("ünï",), ""),
]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write finished runs of two methods and three seeds."""
    folder = tmp_path_factory.mktemp("outputs") / "study"
    for method in ("diet", "dino"):
        for seed in range(3):
            studies.write(folder, studies.results(method=method, seed=seed))
    return folder


def fault(outcome: Outcome, told: str | None) -> str | None:
    """Return what is wrong with how a command ended, or None."""
    everything = outcome.printed + outcome.errors
    if "Traceback" in everything or outcome.code != int(told is not None):
        return f"exit code {outcome.code}: {everything[-800:]}"
    lines = [line for line in outcome.errors.splitlines() if line.strip()]
    if told is None:
        return f"complains: {lines}" if any(line.startswith("error") for line in lines) else None
    reasons = [line for line in lines[1:] if line.startswith("  ")]  # of a grid that is refused for several
    if len(lines) != 1 + len(reasons) or not 15 < len(lines[0].removeprefix("error: ")) < 1500:
        return f"{len(lines)} lines: {outcome.errors[-800:]}"
    named = [told] if told else names(outcome.words)
    return None if any(name in lines[0] for name in named) else f"names none of {named}: {lines[0]}"


def names(words: list[str]) -> list[str]:
    """Return what names the last of some words in a line: it or its key, the option that it is of."""
    *before, last = words
    key, _, value = last.lstrip("+~").partition("=")
    known = [last, key, key.rpartition(".")[2], *([value] if last.startswith("--") else [])]
    return [printable(name)[:40] for name in (*known, *(word for word in before[-1:] if word.startswith("--"))) if name]


def check(folder: Path, table: list[tuple[tuple[str, ...], str | None]]) -> None:
    """Run command lines; fail with a line for each that ends otherwise than its table says."""
    ended = outcomes(folder, [words for words, _ in table])
    found = [(fault(outcome, told), words) for outcome, (words, told) in zip(ended, table, strict=True)]
    lines = [f"{' '.join(words)[-200:]!r}: {wrong}" for wrong, words in found if wrong]
    if lines:
        pytest.fail("\n".join([f"{len(lines)} of {len(table)}:", *lines]), pytrace=False)


@pytest.mark.fuzz
@pytest.mark.timeout(1800)
def test_words_of_a_run_and_of_a_grid(tmp_path: Path) -> None:
    single = [((*PLAN, word), told) for word, told in WORDS]
    check(tmp_path / "runs", [*single, *[((*GRID, word), told) for word, told in CELLS], *WHOLE])


def test_what_is_wrong_is_seen() -> None:
    """The judge itself."""
    good = Outcome(["results", "nope"], 1, "", "error: nope: no such folder\n", 0.1, "")
    assert fault(good, "") is None
    assert "exit code" in str(fault(good, None))
    assert "exit code" in str(fault(replace(good, printed="Traceback"), ""))
    assert "2 lines" in str(fault(replace(good, errors=good.errors * 2), ""))
    assert "1 lines" in str(fault(replace(good, errors="error: \n"), ""))
    assert "names none" in str(fault(replace(good, errors="error: something is wrong here\n"), ""))
    assert "complains" in str(fault(replace(good, code=0), None))


@pytest.mark.fuzz
@pytest.mark.timeout(1800)
def test_arguments_of_the_other_commands(tmp_path: Path, study: Path) -> None:
    table = [
        *[(("results", *words), told) for words, told in RESULTS],
        *[(("catalogue", *words), told) for words, told in CATALOGUE],
    ]
    check(
        tmp_path / "runs", [(tuple(word.replace("STUDY", str(study)) for word in words), told) for words, told in table]
    )
