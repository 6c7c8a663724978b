"""Torsions of alanine dipeptide in implicit solvent: surface, basins, errors.

Learnt here: a density known by its samples only. The torsions (phi, psi) come with the package;
systems/alanine_dipeptide/sample_torsions.py samples them anew with OpenMM in minutes. A flow on
the torus is fitted by maximum likelihood; free energies of basins are counted, with errors that
know the autocorrelation, and integrated from the flow. Takes about 20 seconds.
"""

import math
import os
import tempfile
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import helmflow as hf
from helmflow.estimators.estimate import format_uncertainty
from helmflow.families.density import likelihood
from helmflow.system.shipped import shipped_folder

if os.environ.get("SMOKE") == "1":
    likelihood.SIZES, likelihood.ROUNDS = ((6, 8),), 4

file = shipped_folder() / "alanine_dipeptide" / "torsions.npz"
with np.load(file) as archive:
    x, log_weights = (archive[key].astype(float) for key in ("x", "log_weights"))
x = np.mod(x, 2.0 * math.pi)  # (chains, frames, 2) in radians
print(f"{x.shape[0]} chains of {x.shape[1]} frames, biased; log weights undo the bias")

degrees = {
    "beta": [(-180, 0), (60, -120)],  # to -120 through 180
    "alpha_R": [(-180, 0), (-120, 60)],
    "alpha_L": [(0, 130), (-60, 120)],
}
basins = {
    name: [(math.radians(low), math.radians(high)) for low, high in box]
    for name, box in degrees.items()
}
found = hf.fit_samples(x, basins, log_weights=log_weights, seed=0)
print(found.result)
for row in found.result.observables:
    print(f"  {row.name:<38} = {format_uncertainty(row.value, row.stderr)}")
print(found.result.reason)

# The surface next to the histogram of the same samples.
figure = Figure(figsize=(9, 4), layout="constrained")
for axis, name in zip(figure.subplots(1, 2), ("flow", "histogram"), strict=True):
    surface = found.arrays[f"surface_{name}"]
    edges = np.degrees(found.arrays["surface_edges"])
    colours = axis.pcolormesh(edges, edges, (surface - np.nanmin(surface)).T, vmax=12, cmap="jet")
    axis.set(title=name, xlabel="phi (degrees)", ylabel="psi (degrees)")
figure.colorbar(colours, label="-ln p (kT)")
plot = Path(tempfile.mkdtemp()) / "torsions.png"
figure.savefig(plot)
print(f"plot: {plot}")
