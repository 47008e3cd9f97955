"""The files that images are built from: what they copy is there, who runs in them, and that packages leave them out."""

import json
import re
import tarfile
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder

from tests.places import ROOT

FOLDER = ROOT / ".devcontainer"
INSTALLED = ("pyproject.toml", "README.md", "LICENSE", "launch.py", "dinodiet", "conf", "sweeps")


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile, each with its words; continued lines are one."""
    text = re.sub(r"(?m)^#.*\n", "", (FOLDER / "Dockerfile").read_text()).replace("\\\n", " ")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    return [(name, words.strip()) for name, words in lines]


def copied() -> list[str]:
    rows = [
        [word for word in words.split() if not word.startswith("--")]
        for name, words in instructions()
        if name == "COPY"
    ]
    return [source for *sources, _ in rows for source in sources]


def test_everything_that_is_copied_is_there() -> None:
    assert tuple(copied()) == INSTALLED
    section = re.search(r"%files\n((?:    .*\n)+)", (FOLDER / "dinodiet.def").read_text())
    assert section is not None
    pairs = [line.split() for line in section[1].splitlines()]
    assert tuple(source for source, _ in pairs) == INSTALLED
    assert all(target == f"/opt/dinodiet/{source}" for source, target in pairs)
    assert all((ROOT / name).exists() for name in INSTALLED)


def test_the_builder_sees_what_is_copied_and_nothing_of_the_machine() -> None:
    lines = (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
    assert lines[1] == "*" and {line[1:] for line in lines if line.startswith("!")} == set(INSTALLED)
    assert {"conf/site", "**/__pycache__"} <= {*lines}


def test_the_user_is_not_root_and_launch_is_the_entry_point() -> None:
    steps = instructions()
    users = [words for name, words in steps if name == "USER"]
    assert users and users[-1] not in ("root", "0")
    assert f"useradd --create-home --uid ${{USER_ID}} {users[-1]}" in dict(steps[::-1])["RUN"]
    (entry,) = [json.loads(words) for name, words in steps if name == "ENTRYPOINT"]
    program, script = entry
    assert program == "python" and script == "/opt/dinodiet/launch.py" and "launch.py" in copied()
    places = [words for name, words in steps if name == "VOLUME"]
    assert json.loads(places[0]) == ["/data", "/workspace/outputs", "/cache"]
    assert 'exec python /opt/dinodiet/launch.py "$@"' in (FOLDER / "dinodiet.def").read_text()


def test_both_images_have_one_base_and_one_environment() -> None:
    definition, steps = (FOLDER / "dinodiet.def").read_text(), instructions()
    (base,) = re.findall(r"(?m)^From: (\S+)$", definition)
    assert ("ARG", f"BASE={base}") in steps
    (values,) = [words.split() for name, words in steps if name == "ENV"]
    assert re.findall(r"export (\S+)", definition) == values


def test_the_development_container_builds_that_file_for_that_user() -> None:
    content = json.loads((FOLDER / "devcontainer.json").read_text())
    build = content["build"]
    assert (FOLDER / build["dockerfile"]).is_file() and (FOLDER / build["context"]).resolve() == ROOT
    assert content["remoteUser"] == "dinodiet"
    targets = [dict(part.split("=") for part in mount.split(","))["target"] for mount in content["mounts"]]
    assert targets == ["/data", "/cache"]


def test_packages_leave_the_folder_out(tmp_path: Path) -> None:
    (built,) = SdistBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with tarfile.open(built) as archive:
        names = {Path(*Path(name).parts[1:]).as_posix() for name in archive.getnames()}
    assert "launch.py" in names and not [name for name in names if name.startswith(".devcontainer")]


@pytest.mark.parametrize("key", ["EXTRAS", "USER_ID"])
def test_arguments_of_the_build_are_told_in_the_readme(key: str) -> None:
    assert key in [words.partition("=")[0] for name, words in instructions() if name == "ARG"]
    assert f"--build-arg {key}=" in (FOLDER / "README.md").read_text()
