"""The report as one file: complete without a network, with pictures as far as there is room."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from dinodiet.results.__main__ import main
from dinodiet.results.report.write import Pictures, inlined
from tests.places import ROOT
from tests.results import studies
from tests.results.report.hostile import picture


def test_a_file_holds_all_that_it_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (0, 1):
        run = studies.write(tmp_path / "study", studies.results(seed=seed))
        (run / "artefacts" / "final" / "map").mkdir(parents=True)
        picture(run / "artefacts" / "final" / "map" / "map.png")
    file = tmp_path / "a report.html"
    assert main([str(tmp_path / "study"), "--html", str(file)]) == 0
    assert capsys.readouterr().out.startswith(f"wrote {file}: 2 runs, 4.9 MB\n")
    text = file.read_text()
    body = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert body.count('src="data:image/png;base64,') == 2
    assert not re.search(r"""(src|href)="(?!data:|#)""", body)
    assert "connect-src" not in body and "default-src 'none'" in body


def test_pictures_that_do_not_fit_are_left_out_and_counted(tmp_path: Path) -> None:
    first, second = picture(tmp_path / "a.png"), picture(tmp_path / "b.png", (600, 400))
    pictures = Pictures(room=len(inlined(first) or "") + 10)
    assert pictures(first) == pictures(first) == inlined(first)
    assert pictures(second) is None and pictures(tmp_path / "none.png") is None
    assert pictures.left_out == 2


def test_large_pictures_are_made_smaller(tmp_path: Path) -> None:
    large, tiles = picture(tmp_path / "large.png", (4000, 40)), picture(tmp_path / "thumbnails.png", (4000, 40))
    assert str(inlined(large)).startswith("data:image/webp;base64,")
    assert str(inlined(tiles)).startswith("data:image/png;base64,")  # the places of its images count
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    assert inlined(tmp_path / "broken.png") is None


@pytest.mark.slow
def test_a_missing_library_is_one_line_before_any_work(tmp_path: Path) -> None:
    studies.write(tmp_path / "study", studies.results())
    code = "import sys; sys.modules['plotly'] = None\nfrom dinodiet.results.__main__ import main\nsys.exit(main())"
    arguments = [str(tmp_path / "study"), "--html", str(tmp_path / "a.html")]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and done.stderr == "error: a report needs plotly: pip install 'dinodiet[report]'\n"


def test_a_folder_in_the_way_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    studies.write(tmp_path / "study", studies.results())
    assert main([str(tmp_path / "study"), "--html", str(tmp_path / "none" / "a.html")]) == 0  # which is made
    (tmp_path / "b.html").mkdir()
    assert main([str(tmp_path / "study"), "--html", str(tmp_path / "b.html")]) == 1
    assert str(tmp_path / "b.html") in capsys.readouterr().err


@pytest.mark.slow
def test_a_study_of_220_runs_is_a_file_of_25_mb_in_15_seconds(tmp_path: Path) -> None:
    study = large_study(tmp_path)
    since = time.monotonic()
    assert main([str(study), "--html", str(tmp_path / "study.html")]) == 0
    assert time.monotonic() - since < 30  # 15 on an idle machine, see tests/bench
    assert (tmp_path / "study.html").stat().st_size < 25e6


def large_study(folder: Path) -> Path:
    """Write 200 finished runs with curves and pictures, and 20 that failed or run."""
    models = [f"model{at}" for at in range(5)]
    contents = studies.grid(folder / "study", models=models, datasets=[f"set{at}" for at in range(5)], seeds=range(4))
    noise = Image.effect_noise((700, 500), 60)
    for place, content in enumerate(contents):
        run = folder / "study" / content["run_id"]
        rows = [f'{{"step": {at}, "epoch": {at / 100}, "loss": {5 - at / 200}}}\n' for at in range(300)]
        (run / "metrics.jsonl").write_text("".join(rows))
        for phase in ("initial", "final"):
            for name in ("map", "neighbours"):
                (run / "artefacts" / phase / name).mkdir(parents=True)
                noise.rotate(place).save(run / "artefacts" / phase / name / f"{name}.png", compress_level=1)
    for at in range(20):
        state = ("failed", "running")[at % 2]
        broken = studies.write_status(
            folder / "study", f"open{at}", state=state, reason="no memory", step=at, total_steps=30
        )
        (broken / "log.txt").write_text("Traceback\n  line\nMemoryError\n")
    return folder / "study"
