"""The flow that a density is sampled with, and how a run keeps it."""

from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from helmflow.densities.base import Density
from helmflow.densities.flow import Flow
from helmflow.densities.local import LocalDensity, Mixture
from helmflow.families.density.architecture import Architecture, empty_flow
from helmflow.families.density.plan import DensityPlan
from helmflow.families.density.potential import CheckedPotential
from helmflow.skeleton.kept import Form, Kept

KIND = "flow of a density"
CENTRES, SCALES, LOG_WEIGHTS = "modes.centres", "modes.scales", "modes.log_weights"


@dataclass(frozen=True)
class LearnedFlow:
    """A flow, what to call it, and the loss at which its fit ended (about KL(q || p), nats).

    ``least_eigenvalue`` is that of the map on fresh points, None for other flows. ``modes`` are
    those that a search found and the flow had lost, ``log_weights`` (1 + n_modes,) those of the
    flow and of them; ``unfinished`` is the mass, as a part of all, that the last round of the
    search still found, None without a search.
    """

    flow: Flow
    name: str
    loss: float
    least_eigenvalue: float | None
    architecture: Architecture
    modes: tuple[LocalDensity, ...] = ()
    log_weights: Tensor | None = None
    unfinished: float | None = None

    @property
    def density(self) -> Density:
        """What is sampled: the flow, or its mixture with the modes that it had lost."""
        if self.log_weights is None:
            return self.flow
        return Mixture((self.flow, *self.modes), self.log_weights)


def with_modes(
    learned: LearnedFlow,
    modes: tuple[LocalDensity, ...],
    log_weights: Tensor | None,
    unfinished: float | None,
) -> LearnedFlow:
    """The flow with what a search has found."""
    n = len(modes)
    name = (
        f"{learned.name}, with {n} local densit{'y' if n == 1 else 'ies'}" if n else learned.name
    )
    return replace(learned, name=name, modes=modes, log_weights=log_weights, unfinished=unfinished)


def form_of(u: CheckedPotential, seed: int, plan: DensityPlan) -> Form[LearnedFlow]:
    """How the flows of a density are kept; their base has no parameters beyond the manifold."""

    def pack(learned: LearnedFlow) -> Kept:
        facts = {
            "architecture": asdict(learned.architecture),
            "loss": learned.loss,
            "least_eigenvalue": learned.least_eigenvalue,
            "unfinished": learned.unfinished,
        }
        energy = {"manifold": repr(u.manifold), "system": u.system.digest}
        tensors = dict(learned.flow.bijector.state_dict())
        if learned.log_weights is not None:
            tensors[CENTRES] = torch.stack([mode.centre for mode in learned.modes])
            tensors[SCALES] = torch.stack([mode.scale for mode in learned.modes])
            tensors[LOG_WEIGHTS] = learned.log_weights
        return Kept(tensors, facts, KIND, energy)

    def unpack(kept: Kept) -> LearnedFlow:
        architecture = Architecture(**kept.facts["architecture"])
        flow, name = empty_flow(u.manifold, architecture, seed, plan)
        tensors = dict(kept.tensors)
        places = tensors.pop(CENTRES, torch.empty(0)), tensors.pop(SCALES, torch.empty(0))
        log_weights = tensors.pop(LOG_WEIGHTS, None)
        flow.bijector.load_state_dict(tensors)
        flow.requires_grad_(requires_grad=False)
        facts = kept.facts
        learned = LearnedFlow(flow, name, facts["loss"], facts["least_eigenvalue"], architecture)
        modes = tuple(LocalDensity(u.manifold, *place) for place in zip(*places, strict=True))
        return with_modes(learned, modes, log_weights, facts["unfinished"])

    return Form(pack, unpack)
