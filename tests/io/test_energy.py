"""NVML's place is taken by a library of its functions, compiled here, in which each reading adds 1.5 joules."""

import shutil
import subprocess
from pathlib import Path

import pytest

from dinodiet.io.energy import EnergyCounters

COMPILER = shutil.which("cc") or shutil.which("gcc")
SOURCE = """
#include <string.h>
static unsigned long long used[2] = {1000, 500000};
int nvmlInit_v2(void) { return INIT; }
int nvmlDeviceGetHandleByUUID(const char *id, void **device) {
    if (!strcmp(id, "GPU-one")) { *device = &used[0]; return 0; }
    if (!strcmp(id, "GPU-two")) { *device = &used[1]; return 0; }
    if (!strcmp(id, "GPU-old")) { *device = (void *)&strcmp; return 0; }
    return 6;
}
int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *energy) {
    if (device == (void *)&strcmp) return 3;
    *(unsigned long long *)device += 1500;
    *energy = *(unsigned long long *)device;
    return 0;
}
"""


def compiled(folder: Path, source: str = SOURCE, init: int = 0) -> str:
    if COMPILER is None:
        pytest.skip("no C compiler: neither cc nor gcc")
    code, library = folder / "nvml.c", folder / f"libnvml{init}.so"
    code.write_text(source)
    subprocess.run([COMPILER, "-shared", "-fPIC", f"-DINIT={init}", "-o", library, code], check=True)
    return str(library)


def test_the_counters_of_all_gpus_are_added_in_joules(tmp_path: Path) -> None:
    library = compiled(tmp_path)
    alone, both = EnergyCounters(["one"], library), EnergyCounters(["one", "two"], library)
    assert alone() == 2.5
    assert alone() == 4.0
    assert both() == 5.5 + 501.5


@pytest.mark.parametrize("ids", [[], ["none"], ["old"], ["one", "old"], ["one", "none"]])
def test_unknown_where_one_gpu_is_not_there_or_does_not_count(ids: list[str], tmp_path: Path) -> None:
    assert EnergyCounters(ids, compiled(tmp_path))() is None


def test_unknown_without_a_library_a_driver_or_the_function(tmp_path: Path) -> None:
    assert EnergyCounters(["one"], str(tmp_path / "nvml.so"))() is None
    assert EnergyCounters(["one"], compiled(tmp_path, init=9))() is None
    assert EnergyCounters(["one"], compiled(tmp_path, "int nvmlInit_v2(void) { return 0; }", init=1))() is None
