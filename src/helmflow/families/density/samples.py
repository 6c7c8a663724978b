"""Proposals from the flow that the run of a density keeps."""

import torch
from torch import Tensor

from helmflow.errors import InputError
from helmflow.families.density.flow import read_flow
from helmflow.families.density.potential import CheckedPotential
from helmflow.families.density.weighing import BATCH
from helmflow.generalised_work import density_work
from helmflow.results import RunDirectory
from helmflow.settings import Settings
from helmflow.system import System


def density_proposals(
    system: System, directory: RunDirectory, settings: Settings, n: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """n points (n, n_coordinates) of the flow and their log weights (n,)."""
    if system.manifold is None:
        raise InputError("run", "the run of a density", f"one of {system.name}")
    u = CheckedPotential(system)
    flow = read_flow(directory, system.manifold, settings.seed, u).flow
    parts, weights = [], []
    for start in range(0, n, BATCH):
        with torch.no_grad():
            x, log_q = flow.sample_and_log_prob(min(BATCH, n - start), generator)
        parts.append(x)
        weights.append(-density_work(x, log_q, u))
    return torch.cat(parts), torch.cat(weights)
