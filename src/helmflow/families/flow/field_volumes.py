"""A trained flow of a field on lattices of other extents."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from helmflow.energies.phi4 import Phi4
from helmflow.families.flow.field_flow import pack_field_flow, unpack_field_flow
from helmflow.families.flow.prepare import PreparedFlow
from helmflow.families.path.lattice_problem import LatticeProblem
from helmflow.families.path.problem import Problem
from helmflow.skeleton.run import Run
from helmflow.skeleton.volumes import Resized, Shape, Volumes, ess_against_volume

Array = np.ndarray
VOLUMES = Volumes(scales=(1.0, 1.5, 2.0), samples=512, largest=400)


def field_volumes(problem: Problem, flow: PreparedFlow, run: Run) -> Mapping[str, Array]:
    """Rows (volume, ESS fraction) of the flow of a run, on its own and larger even extents.

    Empty for flows that are not trained, and for actions that are not local.
    """
    energy = problem.system.energy
    if not isinstance(energy, Phi4) or flow.made.transport is not None:
        return {}
    kept = pack_field_flow(flow.made.density, flow.made.network or run.settings.network)

    def resized(shape: Shape) -> Resized | None:
        if any(extent % 2 for extent in shape):
            return None
        larger = Phi4(shape, mass_squared=energy.mass_squared, coupling=energy.coupling)
        system = replace(problem.system, energy=larger, n_particles=shape[0] * shape[1])
        other = LatticeProblem(system, run.budget)
        density = unpack_field_flow(kept, shape, str(run.settings.flow.kind))
        return density, lambda x: other.target(x)[0]

    return ess_against_volume(energy.shape, resized, VOLUMES, run)
