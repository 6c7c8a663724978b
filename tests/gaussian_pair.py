"""Two Gaussian states of particles in OpenMM wells, their exact samples, files and answer."""

import math

import mdtraj
import numpy as np
import openmm
import torch

from helmflow.energies.openmm import OpenMMEnergy
from helmflow.thermo import ThermodynamicState
from helmflow.units import BOLTZMANN
from openmm_systems import oscillators

TEMPERATURE = 300.0
KT = BOLTZMANN["kJ/mol"] * TEMPERATURE
STIFF_A, STIFF_B = (200.0, 260.0, 300.0), (500.0, 390.0, 600.0)
CENTRES = np.array([[0.0, 0.0, 0.0], [0.3, 0.0, 0.0], [0.0, 0.35, 0.1]])
SHIFT = 0.08
DELTA_F = 1.5 * sum(math.log(b / a) for a, b in zip(STIFF_A, STIFF_B, strict=True))


def systems():
    return oscillators(STIFF_A, CENTRES), oscillators(STIFF_B, CENTRES + SHIFT)


def states():
    return [ThermodynamicState(OpenMMEnergy(s, platform="Reference"), 1 / KT) for s in systems()]


def samples(n, seed=0):
    rng = np.random.default_rng(seed)
    found = []
    for stiff, centre in ((STIFF_A, CENTRES), (STIFF_B, CENTRES + SHIFT)):
        width = np.sqrt(KT / np.array(stiff))[:, None]
        found.append(torch.from_numpy(centre + width * rng.normal(size=(n, 3, 3))))
    return found


def topology():
    made = mdtraj.Topology()
    residue = made.add_residue("MOL", made.add_chain())
    for k in range(3):
        made.add_atom(f"C{k}", mdtraj.element.carbon, residue)
    return made


def write(folder, n=400, seed=0, kind="dcd"):
    """Files of both states; returns the arguments of ``helmflow tfep``."""
    folder.mkdir(exist_ok=True)
    for name, system, x in zip("ab", systems(), samples(n, seed), strict=True):
        for k in range(3):
            system.setParticleMass(k, 12.011)
        (folder / f"{name}.xml").write_text(openmm.XmlSerializer.serialize(system))
        mdtraj.Trajectory(x.numpy(), topology()).save(str(folder / f"{name}.{kind}"))
    frame = mdtraj.Trajectory(CENTRES[None], topology())
    frame.save_pdb(str(folder / "top.pdb"))
    arguments = {
        "--system-a": "a.xml",
        "--system-b": "b.xml",
        "--traj-a": f"a.{kind}",
        "--traj-b": f"b.{kind}",
        "--topology": "top.pdb",
    }
    return {k: str(folder / v) for k, v in arguments.items()} | {"--temperature": "300"}
