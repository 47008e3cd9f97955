"""A study whose names try to be more than text: tags, quotes, line breaks, letters of all kinds, great length."""

from pathlib import Path
from typing import Any

from PIL import Image

from tests.results import studies

TAG = "<img src=x onerror=window.hacked=1>"
NAMES = (
    TAG,
    "\"'><svg onload=window.hacked=1>",
    "a & b <b>bold</b> $x^2$",
    "line\nbreak \u202e\u0000 猫 é",
    "long" * 75,
)
STUDY = "<script>window.hacked=1<" + "\u2028猫"
POINTS = "image,file,label,x,y\n"


def hostile_study(folder: Path) -> Path:
    """Write a study with hostile names in its datasets, classes, files, notes, logs and its own name."""
    study = folder / STUDY
    for place, name in enumerate(NAMES):
        for seed in (0, 1):
            content = studies.results(
                dataset=name, seed=seed, initial=0.5 + place / 50, final=0.6 + place / 40 + seed / 100
            )
            content |= {"run_id": f"run{place}{seed}", "skipped": {"linear": name}, "device": name}
            _artefacts(studies.write(study, content))
    failed = studies.write_status(study, "failed", state="failed", reason=TAG, traceback=TAG)
    (failed / "log.txt").write_text(f"first\n{TAG}\n</script><script>window.hacked=1</script>\n")
    return study


def _artefacts(run: Path) -> None:
    folder = run / "artefacts" / "final" / "map" / "test"
    folder.mkdir(parents=True)
    quoted = ['"' + name.replace('"', '""').replace("\0", "") + '"' for name in NAMES]
    rows = [f"{at},{name},{name},{at % 3},{at % 2}\n" for at, name in enumerate(quoted)]
    (folder / "map.csv").write_text(POINTS + "".join(rows))
    picture(folder / "map.png")
    picture(folder / "thumbnails.png", (50 * 40, 40))
    (run / "config.yaml").write_text(f"x: '</pre></script>{TAG}'\n")


def picture(path: Path, size: tuple[int, int] = (60, 40), **saved: Any) -> Path:
    """Write a picture whose 40-pixel tiles differ in colour."""
    image = Image.new("RGB", size)
    for at in range(0, size[0], 40):
        image.paste((at % 256, 80, 160), (at, 0, at + 40, size[1]))
    image.save(path, **saved)
    return path
