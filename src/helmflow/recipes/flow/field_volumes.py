"""A trained flow of a field on lattices of other extents."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from helmflow.energies.phi4 import Phi4
from helmflow.estimators.reweighting import kish_ess
from helmflow.generalised_work import density_work
from helmflow.recipes.flow.field_files import FILE, load_field_flow
from helmflow.recipes.path.lattice import LatticeField
from helmflow.streams import stream

Array = np.ndarray
SCALES = (1.0, 1.5, 2.0)
SAMPLES, LARGEST_VOLUME = 512, 400


def ess_against_volume(
    problem: LatticeField, directory: Path, kind: str, seed: int
) -> Mapping[str, Array]:
    """Rows (volume, ESS fraction) of the flow that a run keeps, on its own and larger extents.

    Empty where there is no such flow, and for actions that are not local.
    """
    energy, rows = problem.system.energy, []
    if not isinstance(energy, Phi4) or not (directory / FILE).is_file():
        return {}
    for scale in SCALES:
        shape = (int(scale * problem.shape[0]), int(scale * problem.shape[1]))
        volume = math.prod(shape)
        if volume > LARGEST_VOLUME or any(extent % 2 for extent in shape):
            continue
        larger = Phi4(shape, mass_squared=energy.mass_squared, coupling=energy.coupling)
        other = LatticeField(replace(problem.system, energy=larger, n_particles=volume))
        flow = load_field_flow(directory, other, kind)
        with torch.no_grad():
            x, log_q = flow.sample_and_log_prob(SAMPLES, stream(seed, "volume"))
            work = density_work(x, log_q, lambda x, other=other: other.target(x)[0])
        rows.append((volume, kish_ess(-work.numpy()) / SAMPLES))
    return {"ess_against_volume": np.array(rows)} if len(rows) > 1 else {}
