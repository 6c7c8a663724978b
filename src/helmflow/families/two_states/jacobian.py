"""Whether a map's log-determinant is that of its Jacobian: works cannot tell, from either side."""

import math

import torch

from helmflow.bijectors.base import Bijector
from helmflow.families.two_states.mapped import Mapped
from helmflow.results import Check
from helmflow.shapes import Configs
from helmflow.skeleton.checks import log_determinant

LARGEST = 700
"""Coordinates up to which the whole Jacobian is measured."""

STEP = 1e-5
"""Of central differences, in standard deviations of the samples."""

POINTS = 2


def log_det_checks(through: Mapped, x: Configs) -> list[Check]:
    """Claimed against measured log-determinants at samples of A, in kT.

    Both directions of a map claim them, and are consistent with each other where both are wrong.
    No check above `LARGEST` coordinates, and where the map has no Jacobian of full rank in them
    (box rows).
    """
    if x[0].numel() > LARGEST:
        return []
    scale = STEP * float(x.std())
    maps = through.bijectors
    errors = [_error(map_, point[None], scale) for map_ in maps for point in x[:POINTS]]
    if not all(map(torch.isfinite, errors)):
        return []
    stderr = through.works.bar().stderr
    return [log_determinant(max(map(float, errors)), stderr if math.isfinite(stderr) else 0.0)]


@torch.no_grad()
def _error(bijector: Bijector, x: Configs, step: float) -> torch.Tensor:
    n = x.numel()
    columns = []
    for part in (step * torch.eye(n, dtype=x.dtype)).split(128):
        shifts = part.view(-1, *x.shape[1:])
        ahead, behind = (bijector.forward(x + sign * shifts)[0] for sign in (1.0, -1.0))
        columns.append((ahead - behind).reshape(-1, n) / (2.0 * step))
    y, claimed = bijector.forward(x)
    measured = torch.linalg.slogdet(torch.cat(columns)).logabsdet
    back = bijector.inverse(y)[1]
    return torch.maximum((claimed - measured).abs(), (claimed + back).abs())[0]
