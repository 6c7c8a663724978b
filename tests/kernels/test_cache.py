"""Kernels on disk: used again by another process, and not once a source they contain changed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import helmflow
from helmflow.kernels import cache

PACKAGE = Path(helmflow.__file__).parent
POTENTIAL = """
from helmflow.energies.pair_potential import PairPotential


class Square(PairPotential, length="k"):
    k: float

    @staticmethod
    def pair(r2, k):
        return FACTOR * k * r2, 2.0 * k, 2.0 * k

    def pair_energy(self, r):
        return self.k * r.square()
"""
PROGRAM = """
import torch
from helmflow.energies.lennard_jones import LennardJones
from mine import Square

cell = 4.0 * torch.eye(3, dtype=torch.float64)
sites = torch.tensor([[0.0, 0.0, 0.0], [1.1, 0.0, 0.0]], dtype=torch.float64)
for energy in (
    LennardJones(sites, cell, epsilon=1.0, sigma=1.0, cutoff=1.5),
    Square(sites, cell, k=1.0, cutoff=1.5, shift=False),
):
    kernel, _ = energy._kernel("energies")
    value = energy.displaced(torch.zeros(1, 2, 3, dtype=torch.float64))[0]
    print(f"{float(value):.12f}", sum(kernel.stats.cache_hits.values()))
"""


@pytest.fixture
def copy(tmp_path):
    """A copy of the package whose sources may be changed, beside a potential of one's own."""
    shutil.copytree(PACKAGE, tmp_path / "helmflow", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "mine.py").write_text(POTENTIAL.replace("FACTOR", "1.0"))
    return tmp_path


def evaluate(folder):
    """(energy, hits of the cache) of Lennard-Jones and of the own potential, in a new process."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONPATH": str(folder), "NUMBA_CACHE_DIR": str(folder / "cache")},
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [(float(row.split()[0]), int(row.split()[1])) for row in done.stdout.splitlines()]


def test_kernels_are_kept_until_a_source_that_they_contain_changes(copy):
    first = evaluate(copy)
    assert [hits for _, hits in first] == [0, 0]
    assert first[1][0] == pytest.approx(1.21)
    assert evaluate(copy) == [(value, 1) for value, _ in first]

    (copy / "mine.py").write_text(POTENTIAL.replace("FACTOR", "3.0"))
    assert evaluate(copy) == [(first[0][0], 1), (pytest.approx(3.63), 0)]

    inlined = copy / "helmflow" / "kernels" / "vectors.py"
    source = inlined.read_text()
    dot = "return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]"
    assert dot in source
    inlined.write_text(source.replace(dot, dot.replace("return", "return 4.0 *")))
    changed = evaluate(copy)
    assert [hits for _, hits in changed] == [0, 0]
    assert changed[0][0] != pytest.approx(first[0][0])


def test_every_kernel_that_is_kept_is_an_entry():
    for path in (PACKAGE / "kernels").glob("*.py"):
        assert "cache=True" not in path.read_text(), path.name


def test_without_a_place_to_write_kernels_go_to_a_private_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(cache.tempfile, "tempdir", str(tmp_path))
    folder = Path(cache.private_folder())
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o777 == 0o700
    assert cache.private_folder() == str(folder)
    folder.chmod(0o777)  # what lies there is executed: one that others can write is not used
    assert cache.private_folder() != str(folder)
    folder.rmdir()
    folder.symlink_to(tmp_path)
    assert cache.private_folder() != str(folder)


def test_a_kernel_compiles_where_numba_finds_no_place(tmp_path, monkeypatch):
    places = []

    class Nowhere(cache.SourceCache):
        def __init__(self, kernel):
            places.append(cache.config.CACHE_DIR)
            if len(places) == 1:
                raise RuntimeError("no locator available")
            super().__init__(kernel)

    monkeypatch.setattr(cache, "SourceCache", Nowhere)
    monkeypatch.setattr(cache.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(cache.config, "CACHE_DIR", "")

    def kernel(x):
        return 2.0 * x

    assert cache.entry(kernel)(3.0) == 6.0
    assert places[1].startswith(str(tmp_path))
