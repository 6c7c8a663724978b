"""The flow that a density is sampled with, and how a run keeps it."""

from dataclasses import asdict, dataclass

from helmflow.densities.flow import Flow
from helmflow.families.density.architecture import Architecture, empty_flow
from helmflow.families.density.plan import DensityPlan
from helmflow.families.density.potential import CheckedPotential
from helmflow.skeleton.kept import Form, Kept

KIND = "flow of a density"


@dataclass(frozen=True)
class LearnedFlow:
    """A flow, what to call it, and the loss at which its fit ended (about KL(q || p), nats).

    ``least_eigenvalue`` is that of the map on fresh points, None for other flows.
    """

    flow: Flow
    name: str
    loss: float
    least_eigenvalue: float | None
    architecture: Architecture


def form_of(u: CheckedPotential, seed: int, plan: DensityPlan) -> Form[LearnedFlow]:
    """How the flows of a density are kept; their base has no parameters beyond the manifold."""

    def pack(learned: LearnedFlow) -> Kept:
        facts = {
            "architecture": asdict(learned.architecture),
            "loss": learned.loss,
            "least_eigenvalue": learned.least_eigenvalue,
        }
        energy = {"manifold": repr(u.manifold), "system": u.system.digest}
        return Kept(dict(learned.flow.bijector.state_dict()), facts, KIND, energy)

    def unpack(kept: Kept) -> LearnedFlow:
        architecture = Architecture(**kept.facts["architecture"])
        flow, name = empty_flow(u.manifold, architecture, seed, plan)
        flow.bijector.load_state_dict(dict(kept.tensors))
        flow.requires_grad_(requires_grad=False)
        facts = kept.facts
        return LearnedFlow(flow, name, facts["loss"], facts["least_eigenvalue"], architecture)

    return Form(pack, unpack)
