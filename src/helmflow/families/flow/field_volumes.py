"""A trained flow of a field on lattices of other extents."""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from helmflow.energies.phi4 import Phi4
from helmflow.estimators.reweighting import kish_ess
from helmflow.families.flow.field_flow import pack_field_flow, unpack_field_flow
from helmflow.families.flow.prepare import PreparedFlow
from helmflow.families.path.lattice_problem import LatticeProblem
from helmflow.families.path.problem import Problem
from helmflow.generalised_work import density_work
from helmflow.skeleton.run import Run

Array = np.ndarray
SCALES = (1.0, 1.5, 2.0)
SAMPLES, LARGEST_VOLUME = 512, 400


def ess_against_volume(problem: Problem, flow: PreparedFlow, run: Run) -> Mapping[str, Array]:
    """Rows (volume, ESS fraction) of the flow of a run, on its own and larger extents.

    Empty for other flows, for actions that are not local, and where energies are limited.
    """
    energy, rows = problem.system.energy, []
    limited = run.settings.max_evaluations is not None
    if limited or not isinstance(energy, Phi4) or flow.made.transport is not None:
        return {}
    shape = energy.shape
    kept = pack_field_flow(flow.made.density, run.settings.network)
    for scale in SCALES:
        scaled = (int(scale * shape[0]), int(scale * shape[1]))
        volume = math.prod(scaled)
        if volume > LARGEST_VOLUME or any(extent % 2 for extent in scaled):
            continue
        larger = Phi4(scaled, mass_squared=energy.mass_squared, coupling=energy.coupling)
        system = replace(problem.system, energy=larger, n_particles=volume)
        other = LatticeProblem(system, run.budget)
        density = unpack_field_flow(kept, scaled, str(run.settings.flow.kind))
        with torch.no_grad():
            x, log_q = density.sample_and_log_prob(SAMPLES, run.stream("volume"))
            work = density_work(x, log_q, lambda x, other=other: other.target(x)[0])
        rows.append((volume, kish_ess(-work.numpy()) / SAMPLES))
    return {"ess_against_volume": np.array(rows)} if len(rows) > 1 else {}
