"""What a user waits for: the README's command, memory and a large crystal; ``-k command``."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from structures import CUBE, DIAMOND, ICE_DENSITY, WATER_MASS, at_density

LAUNCH = [sys.executable, "-c", "from helmflow.cli import app; app()"]
TIMED = (
    "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:]);"
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20); sys.exit(code)"
)


def run(system: str, folder: Path, cache: Path) -> tuple[float, float, str]:
    """Wall seconds, peak memory in GiB and last line of one ``helmflow run``."""
    command = [sys.executable, "-c", TIMED, *LAUNCH, "run", system, "--out", str(folder)]
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache)}
    start = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    return time.perf_counter() - start, float(lines[-1]), lines[-2]


@pytest.mark.benchmark
def test_command_line_of_the_readme(tmp_path):
    cold, _, line = run("ice/mw_cubic_64", tmp_path / "cold", tmp_path / "cache")
    warm, _, _ = run("ice/mw_cubic_64", tmp_path / "warm", tmp_path / "cache")
    print(f"\n{line}\ncold cache {cold:.1f} s, warm cache {warm:.1f} s")
    assert warm < 20.0
    assert cold < 60.0


@pytest.mark.benchmark
def test_command_line_memory_and_a_thousand_waters(tmp_path):
    wall, memory, line = run("ice/mw_cubic_512", tmp_path / "512", tmp_path / "cache")
    print(f"\n512: {line}\n{wall:.1f} s, {memory:.2f} GiB")
    assert memory < 2.0
    ice = at_density("O", DIAMOND, 5, ICE_DENSITY, CUBE, WATER_MASS)
    (tmp_path / "ice.extxyz").write_text(ice.text())
    shipped = Path(__file__).parents[2] / "systems" / "ice" / "mw_cubic_64.toml"
    text = shipped.read_text().split("[[references]]")[0]
    text = text.replace("mw_cubic_64.extxyz", "ice.extxyz").replace("ice/mw_cubic_64", "ice_1000")
    (tmp_path / "ice.toml").write_text(text)
    wall, memory, line = run(str(tmp_path / "ice.toml"), tmp_path / "1000", tmp_path / "cache")
    print(f"1000: {line}\n{wall:.1f} s, {memory:.2f} GiB")
    assert wall < 120.0
