"""Sample the torsions (phi, psi) of alanine dipeptide in implicit solvent: torsions.npz.

    python sample_torsions.py torsions.npz [minutes of each of four walkers]

Amber ff14SB, GBn2, 300 K, hydrogens of 3 u, 4 fs, bonds to hydrogen fixed. A bias on (phi, psi),
found in rounds and then held fixed, levels the surface up to 12 kT, so that every basin is visited
hundreds of times; its value at every frame is kept as the log weight of the frame.
"""

import sys
import time
from pathlib import Path

import mdtraj
import numpy as np
import openmm
from openmm import app, unit
from scipy.ndimage import gaussian_filter

HERE = Path(__file__).parent
KT = 0.00831446261815324 * 300.0  # kJ/mol
BINS, LEVELLED = 36, 12.0 * KT
ROUNDS, STEPS_PER_ROUND, STRIDE = 24, 8_000, 100


class Walker:
    """One molecule under a bias V(phi, psi) on a grid, kJ/mol."""

    def __init__(self, seed: int) -> None:
        self.pdb = app.PDBFile(str(HERE / "alanine_dipeptide.pdb"))
        field = app.ForceField("amber14-all.xml", "implicit/gbn2.xml")
        system = field.createSystem(
            self.pdb.topology, constraints=app.HBonds, hydrogenMass=3 * unit.amu
        )
        topology = mdtraj.Topology.from_openmm(self.pdb.topology)
        self.frame = mdtraj.Trajectory(np.zeros((1, topology.n_atoms, 3)), topology)
        phi, psi = mdtraj.compute_phi(self.frame)[0][0], mdtraj.compute_psi(self.frame)[0][0]
        self.bias = openmm.CMAPTorsionForce()
        self.bias.addMap(BINS, [0.0] * BINS**2)
        self.bias.addTorsion(0, *map(int, phi), *map(int, psi))
        self.bias.setForceGroup(1)
        system.addForce(self.bias)
        integrator = openmm.LangevinMiddleIntegrator(
            300 * unit.kelvin, 1 / unit.picosecond, 4 * unit.femtosecond
        )
        integrator.setRandomNumberSeed(seed)
        platform = openmm.Platform.getPlatformByName("CPU")
        self.context = openmm.Context(system, integrator, platform, {"Threads": "1"})
        self.context.setPositions(self.pdb.positions)
        openmm.LocalEnergyMinimizer.minimize(self.context)
        self.context.setVelocitiesToTemperature(300 * unit.kelvin, seed)

    def set_bias(self, grid: np.ndarray) -> None:
        """``grid`` (BINS, BINS): V at phi = 2 pi i/BINS, psi = 2 pi j/BINS."""
        self.bias.setMapParameters(0, BINS, grid.T.ravel().tolist())
        self.bias.updateParametersInContext(self.context)

    def run(self, n: int) -> np.ndarray:
        """n frames of (phi, psi, V/kT), ``STRIDE`` steps apart."""
        rows = []
        for _ in range(n):
            self.context.getIntegrator().step(STRIDE)
            state = self.context.getState(positions=True)
            self.frame.xyz = state.getPositions(asNumpy=True)._value[None]
            biased = self.context.getState(energy=True, groups={1}).getPotentialEnergy()._value
            phi = mdtraj.compute_phi(self.frame)[1][0, 0]
            psi = mdtraj.compute_psi(self.frame)[1][0, 0]
            rows.append((phi, psi, biased / KT))
        return np.array(rows)


def find_bias(walker: Walker) -> np.ndarray:
    """Raise what was visited, lower what was not, until about everything is."""
    grid = np.zeros((BINS, BINS))
    for k in range(ROUNDS):
        walker.set_bias(grid)
        angles = walker.run(STEPS_PER_ROUND // STRIDE)[:, :2] % (2.0 * np.pi)
        places = np.rint(angles * BINS / (2.0 * np.pi)).astype(int) % BINS
        counts = np.zeros((BINS, BINS))
        np.add.at(counts, tuple(places.T), 1.0)
        density = gaussian_filter(counts, 1.5, mode="wrap")
        strength = max(0.3, 1.0 - k / ROUNDS)
        grid += strength * KT * np.log(np.maximum(density / density.mean(), 0.1))
        grid = np.maximum(grid, grid.max() - LEVELLED)
    return grid - grid.max()


def main() -> None:
    """Find the bias, then sample four independent walkers under it."""
    minutes = float(sys.argv[2]) if len(sys.argv) > 2 else 4.0
    grid = find_bias(Walker(0))
    walkers = []
    for seed in range(1, 5):
        walker = Walker(seed)
        walker.set_bias(grid)
        walker.run(500)
        rows, end = [], time.process_time() + 60.0 * minutes
        while time.process_time() < end:
            rows.append(walker.run(100))
        walkers.append(np.concatenate(rows))
    shortest = min(map(len, walkers))
    data = np.stack([rows[:shortest] for rows in walkers])
    np.savez_compressed(
        sys.argv[1],
        x=(data[..., :2] % (2.0 * np.pi)).astype(np.float32),
        log_weights=data[..., 2].astype(np.float32),
    )
    np.save(Path(sys.argv[1]).with_name("torsions_bias.npy"), grid)


if __name__ == "__main__":
    main()
