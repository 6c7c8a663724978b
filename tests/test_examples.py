"""Every example runs in its small version and prints numbers with errors."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("[0-9]*.py"))
LONG = ("08", "09")


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=pytest.mark.slow if path.name.startswith(LONG) else ())
        for path in EXAMPLES
    ],
    ids=lambda path: path.stem,
)
def test_example(path, tmp_path):
    environment = os.environ | {"SMOKE": "1", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), *sys.path])
    done = subprocess.run(
        [sys.executable, str(path)],
        cwd=tmp_path,
        env=environment,
        text=True,
        timeout=300,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"= -?\d+\.\d+\(\d+\)", done.stdout), done.stdout
    assert "Warning" not in done.stderr
    assert not list(tmp_path.iterdir())  # whatever an example writes goes to a temporary folder


def test_there_are_examples_and_they_are_short():
    assert len(EXAMPLES) >= 3
    for path in EXAMPLES:
        text = path.read_text()
        assert text.startswith('"""'), f"{path.name} says what is learnt"
        assert "SMOKE" in text
        assert len(text.splitlines()) <= 60, path.name
