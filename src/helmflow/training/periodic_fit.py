"""The trained map of molecules in a periodic cell, alone or on top of another map."""

from dataclasses import replace
from typing import final

from torch import Generator

from helmflow.bijectors.base import Bijector, Chain
from helmflow.bijectors.conjugated import InCell
from helmflow.bijectors.moved_molecules import MovedMolecules, Surroundings
from helmflow.bijectors.particle_coupling import particle_couplings
from helmflow.nets.attention import Attention
from helmflow.shapes import Configs, Values
from helmflow.training.map_fit import MapFit, TwoStates
from helmflow.training.map_training import Trained, train_map
from helmflow.training.plan import TrainingPlan

PLAN = TrainingPlan(steps=600, batch=32, learning_rate=2e-3, clip_norm=100.0)


@final
class PeriodicFit(MapFit):
    """The published equivariant map of particles on a torus, centred on the solute.

    Circular splines of one coordinate of all molecules given the others, and the other way round,
    conditioned by a transformer on circular features; the identity at first. It is trained on
    <w_F>_A + <w_R>_B and keeps the weights of least held-out dissipation; both potentials must be
    differentiable. With ``first`` the couplings act on what that map makes of the samples of A,
    and are trained on <w_F> alone: its inverse is not differentiated. ``trained`` lists how each
    training went. Source: P. Wirnsberger et al., doi:10.1063/5.0018903.
    """

    def __init__(
        self,
        around: Surroundings,
        *,
        first: MapFit | None = None,
        plan: TrainingPlan = PLAN,
        two_sided: bool = True,
        n_layers: int = 3,
        n_bins: int = 12,
        n_frequencies: int = 6,
        width: int = 32,
        n_heads: int = 2,
        n_blocks: int = 1,
    ) -> None:
        self.around, self.first, self.plan = around, first, plan
        self.two_sided = two_sided and first is None
        self.sizes = {
            "n_layers": n_layers,
            "n_bins": n_bins,
            "n_frequencies": n_frequencies,
            "network": Attention(width, n_heads, n_blocks),
        }
        self.name = "trained periodic" if first is None else f"trained on {first.name}"
        self.trained: list[Trained] = []

    def fit(self, states: TwoStates, generator: Generator) -> Bijector:
        couplings = particle_couplings(**self.sizes, generator=generator)
        made = MovedMolecules(InCell(couplings, self.around.cell), self.around)
        if self.first is None:
            self._train(made, states, generator)
            return made
        first = self.first.fit(states, generator)
        self._train(made, _carried(states, first), generator)
        return Chain([first, made])

    def _train(self, made: Bijector, states: TwoStates, generator: Generator) -> None:
        outcome = train_map(made, states, self.plan, generator, two_sided=self.two_sided)
        self.trained.append(outcome)


def _carried(states: TwoStates, first: Bijector) -> TwoStates:
    """State A as ``first`` carries it towards B: its samples, and their reduced potential."""

    def u_a(z: Configs) -> Values:
        x, log_det = first.inverse(z)
        return states.u_a(x) - log_det

    moved = {name: first.forward(getattr(states, name))[0] for name in ("x_a", "held_a")}
    return replace(states, u_a=u_a, **moved)
