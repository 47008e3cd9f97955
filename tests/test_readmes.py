"""READMEs: their command lines are accepted, the files that they name exist, their generated tables are current."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest
import yaml
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from dinodiet.catalogue import __main__ as catalogue
from dinodiet.catalogue.choices import GROUPS
from dinodiet.catalogue.models import describe
from dinodiet.config.calls import quote_calls
from dinodiet.config.explain import explain
from dinodiet.config.groups import SWEEPS
from dinodiet.config.places import CONF, ROOT
from dinodiet.config.words import as_choice
from dinodiet.errors import UserError
from dinodiet.results import options
from dinodiet.sweep.command import PROGRAMS
from dinodiet.sweep.compose import Composer
from dinodiet.sweep.main import check_alone, register
from dinodiet.sweep.sweeper import GridSweeper
from tests import readmes
from tests.kinds import rest_nightly
from tests.readmes import Command
from tests.test_layers import ORDER

OWN = "--config-dir"  # a folder of the reader's: tests/test_extension.py does that
PLACES = re.compile(r"(?<![\w.])/(?:home|root|work|tmp|mnt|scratch|Users|usr|opt|var)/\w")
FILES = re.compile(r"tests/[\w/.-]+|(?:[\w-]+/)*[\w-]+\.(?:py|md)")
NOT_OURS = "my_parts.py"


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture(scope="module")
def sweepers() -> Iterator[Sweepers]:
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield Sweepers()


class Sweepers:
    """A sweeper for each sweep file, which keeps what it has composed for all READMEs."""

    def __init__(self) -> None:
        self.of = cache(self._made)

    def _made(self, sweep: str | None) -> GridSweeper:
        loader = GlobalHydra.instance().config_loader()
        words = [f"hydra.searchpath=[file://{ROOT}]", *([] if sweep is None else [f"{SWEEPS}={sweep}"])]
        config = loader.load_configuration("config", words, RunMode.MULTIRUN, from_shell=False)
        sweeper = GridSweeper(**{key: value for key, value in config.hydra.sweeper.items() if key != "_target_"})
        sweeper.loader, sweeper.composer = loader, Composer(loader, config)
        return sweeper

    def check(self, words: Sequence[str]) -> None:
        """Compose the first and the last run of a command line, and build its launcher."""
        named = [word.partition("=")[2] for word in words if word.startswith(f"{SWEEPS}=")]
        sweeper = self.of(named[0] if named else None)
        overrides = [
            as_choice(quote_calls(word)) for word in words if "=" in word and not word.startswith(f"{SWEEPS}=")
        ]
        if any(word.startswith("schedule.minutes=") for word in words):  # else a rate is asked for
            overrides = [*(word for word in overrides if not word.startswith("mode=")), "mode=measure"]
        parts = [word.partition("=")[2] for word in words if word.startswith("hydra.sweeper.part=")]
        sweeper.part = yaml.safe_load(parts[0]) if parts else sweeper.part
        grid = sweeper.expand([word for word in overrides if not word.startswith("hydra.sweeper.part=")])
        sweeper.tasks([grid[0], grid[-1]])
        if "-m" in words:
            sweeper._launcher(grid[0])
        else:
            assert len(grid) == 1
            assert sweeper.composer is not None
            check_alone(
                {SWEEPS: named[0] if named else None, **sweeper.composer.compose(grid[0]).hydra.runtime.choices}
            )


def accept(command: Command, sweepers: Sweepers) -> None:
    """Do what a command line does up to where it begins to work."""
    words = list(command.words)
    program = words.pop(0) if words and words[0] in PROGRAMS else command.program.rpartition(".")[2]
    if "--help" in words or OWN in words:
        return
    if program == "results":
        options.check_options(options.parser().parse_args(words))
    elif program == "catalogue":
        names = catalogue.parser().parse_args(words).names
        assert not names or names[0] in GROUPS
    else:
        sweepers.check(words)


@pytest.mark.parametrize("path", rest_nightly(readmes.ALL, [ROOT / "README.md"]), ids=ids)
def test_commands_are_accepted(path: Path, sweepers: Sweepers, capsys: pytest.CaptureFixture[str]) -> None:
    for command in readmes.commands(path):
        try:
            accept(command, sweepers)
        except UserError as error:
            shown = f"error: {explain(error, command.words)}"
            assert command.error is not None, f"{command}: {shown}"
            assert command.error.removeprefix("error: ") in shown
        else:
            assert command.error is None, f"{command} is accepted"


def test_the_run_that_is_shown_is_the_default_one(sweepers: Sweepers) -> None:
    (task,) = sweepers.of(None).tasks([[]])
    assert re.findall(r"outputs/default/(\S+)", readmes.README.read_text()) == [task.cell.run_id]


@pytest.mark.parametrize("path", readmes.ALL, ids=ids)
def test_files_that_are_named_exist(path: Path) -> None:
    places = (path.parent, ROOT, ROOT / "dinodiet", ROOT / "tests")
    for span in readmes.lines_of_code(path.read_text()):
        words = span.split() if span.startswith(("pytest", "python -m tests")) else [span]
        for name in words:
            if FILES.fullmatch(name) and name != NOT_OURS:
                assert any((place / name).exists() for place in places), f"{path}: {name}"


@pytest.mark.parametrize("path", readmes.ALL, ids=ids)
def test_no_path_of_a_machine_is_named(path: Path) -> None:
    assert not PLACES.findall(path.read_text())


def test_the_first_readme_is_short() -> None:
    assert len(readmes.README.read_text().splitlines()) <= 120


def test_the_folders_are_told_in_the_order_of_their_imports() -> None:
    told = re.findall(r"^\| (`.*?`) \|", (ROOT / "dinodiet" / "README.md").read_text(), flags=re.MULTILINE)
    folders = [{Path(name).stem for name in re.findall(r"`([\w.]+)/?`", cell)} for cell in told]
    assert [names for names in folders if names & set().union(*ORDER)] == ORDER


def tables() -> dict[str, str]:
    """Return the generated tables of all READMEs by the words that the catalogue is given."""
    return {found[2]: found[3] for path in readmes.ALL for found in readmes.TABLE.finditer(path.read_text())}


@pytest.mark.parametrize("kind", sorted({*GROUPS} - {"models"}))
def test_tables_of_choices_are_current(kind: str) -> None:
    assert tables()[kind] == readmes.generated(kind), "python -m tests.readmes writes them anew"


def test_the_table_of_models_has_every_size() -> None:
    rows = {row.split(" | ")[0].strip("| "): row for row in tables()["models --families"].splitlines()[2:]}
    families = readmes.families()
    assert [*rows] == [model.name for model in families], "python -m tests.readmes writes it anew"
    for model in families:
        missing = [size for size in model.sizes if f"{size} (" not in rows[model.name]]
        assert all(describe(model, size).weights == "unreleased" for size in missing), f"{model.name}: {missing}"


@pytest.mark.slow
def test_the_table_of_models_is_current() -> None:
    assert tables()["models --families"] == readmes.generated("models --families")
