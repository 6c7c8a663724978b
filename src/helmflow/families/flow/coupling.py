"""Trained coupling flows of crystals: the published architecture, and local couplings."""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from helmflow.bijectors.base import Bijector, Chain
from helmflow.bijectors.conjugated import InCell, Pinned
from helmflow.bijectors.fitted_flow import FittedFlow
from helmflow.bijectors.local_coupling import (
    LocalCouplings,
    local_couplings,
    require_same_surroundings,
)
from helmflow.bijectors.particle_coupling import particle_couplings
from helmflow.densities.base import Density
from helmflow.densities.flow import Flow
from helmflow.densities.lattice import NoisyLattice, PinnedNoise, RandomTranslation
from helmflow.energies.softened import LINEAR_BELOW, SoftenedCore
from helmflow.errors import InputError
from helmflow.estimators.estimate import Estimate
from helmflow.families.flow.path_samples import PathSamples, fit_coefficients
from helmflow.families.flow.recipe import FlowRecipe, MadeFlow
from helmflow.families.flow.training_losses import training_loss
from helmflow.families.flow.transport import TransportRecipe, transport_flow
from helmflow.families.path.problem import Problem
from helmflow.manifolds.site_graph import SiteGraph, site_graph
from helmflow.nets.attention import Attention
from helmflow.objectives import with_known_gradient
from helmflow.settings import NetworkSettings, TrainingSettings
from helmflow.shapes import Configs, Values
from helmflow.skeleton.kept import Kept
from helmflow.skeleton.run import Run, Stage
from helmflow.streams import stream
from helmflow.training.checkpoint import Store
from helmflow.training.plan import Cosine, StepReport, TrainingPlan
from helmflow.training.stochastic import measure, train

PRECISION = {"single": torch.float32, "double": torch.float64}

VALIDATION_SAMPLES = 2048

LOCAL, OTHERS = (600, 4e-3), (2000, 2e-3)
"""Steps and learning rates where the settings leave them open."""

START = "start/"
"""In front of the names of the tensors of what couplings act on."""


def lattice_base(problem: Problem, scale: float) -> PinnedNoise:
    """The published base: noise of width ``scale`` about the sites, as seen from one particle.

    Its density lives on displacements (batch, 3n) of zero mean, like that of the phonons; the
    noise is cut off at half the smallest distance between sites.
    """
    sites, cell = problem.system.sites_and_cell
    return PinnedNoise(len(sites), NoisyLattice(sites, cell, scale).noise)


def published_couplings(problem: Problem, network: NetworkSettings) -> Pinned:
    """Coordinate-split couplings with a transformer, on displacements; the identity at first.

    24 layers of width 256 are the published size; 4 layers of width 32 do for 8 particles and are
    the default here.
    """
    inner = particle_couplings(
        n_layers=network.layers or 4,
        n_bins=network.bins,
        n_frequencies=network.frequencies,
        network=Attention(
            network.width or 32,
            dtype=PRECISION[network.precision],
            half_gradients=network.half_gradients,
        ),
    )
    return Pinned(inner, *problem.system.sites_and_cell)


def whole_crystal(problem: Problem, base: PinnedNoise, bijector: Pinned) -> RandomTranslation:
    """The published density of positions (batch, n, 3): all labelings, anywhere in the cell.

    For x made of displacements u, -ln Z counts the same from both sides:

        u(x) + ln q(x) + ln n! + 3 n ln Lambda = u + ln q(u) - problem.log_measure

    The map must be that of a flow on ``base``.
    """
    sites, cell = problem.system.sites_and_cell
    lattice = NoisyLattice(sites[:-1] - sites[-1], cell, base.noise.scale)
    return RandomTranslation(Flow(lattice, InCell(bijector.bijector, cell)), cell)


def neighbour_couplings(problem: Problem, base: Density, network: NetworkSettings) -> Bijector:
    """Local couplings on displacements, in units of the spread of ``base``; first the identity."""
    graph = graph_of(problem, network)
    u, _ = base.sample_and_log_prob(256, stream(0, "scale of local couplings"))
    u = u.view(len(u), -1, 3)
    nearest = torch.from_numpy(graph.neighbours[:, : graph.n_nearest])
    return local_couplings(
        graph,
        scale=(u - u[:, nearest].mean(2)).std().item(),
        n_sweeps=network.layers or 2,
        hidden=(network.width or 48,) * 2,
        dtype=PRECISION[network.precision],
    )


def graph_of(problem: Problem, network: NetworkSettings) -> SiteGraph:
    """The neighbours that local couplings of this crystal see."""
    sites, cell = problem.system.sites_and_cell
    return site_graph(sites.numpy(), cell.numpy(), problem.symmetry, reach=network.reach)


class CouplingRecipe(FlowRecipe[Problem]):
    """Couplings trained on a base, a noisy lattice or a fitted transport."""

    def make(self, path: PathSamples, stage: Stage) -> MadeFlow:
        """Train them from the energy alone, or with the samples where the objective wants them."""
        start = self._start(path)
        density, _ = self._beginning(start)
        bijector = self._untrained(density, self.run.settings.network)
        train_flow(self.problem, density, bijector, self.run, store=stage, samples=path.target)
        return self._made(start, bijector, self.run.settings.network)

    def pack(self, flow: MadeFlow) -> Kept:
        bijector, network = flow.density.bijector, flow.network or self.run.settings.network
        tensors = dict(bijector.state_dict())
        facts = {
            "network": network.model_dump(),
            "start": _start_of(flow),
            "digest": self.problem.system.digest,
        }
        if flow.transport is not None:
            start = self._transport.pack(MadeFlow(flow.density, bijector, flow.transport))
            tensors |= {f"{START}{name}": tensor for name, tensor in start.tensors.items()}
            facts |= start.facts
        return Kept(tensors, facts)

    def build(self, kept: Kept) -> MadeFlow:
        """The couplings, local ones also for another size of the crystal."""
        facts = kept.facts
        network, start = NetworkSettings.model_validate(facts["network"]), facts["start"]
        if self.run.settings.flow.kind == "coupling" and facts["digest"] != self._digest:
            expected = f"one trained on {self.problem.system.name}"
            raise InputError("flow", expected, "one of another system or size")
        transport = None
        if start == "transport":
            inner = {
                k.removeprefix(START): v for k, v in kept.tensors.items() if k.startswith(START)
            }
            transport = self._transport.build(replace(kept, tensors=inner)).transport
        weights = {
            k: v for k, v in kept.tensors.items() if not k.startswith(START) and k != "base"
        }
        density, _ = self._beginning((start, transport))
        bijector = self._untrained(density, network)
        if isinstance(bijector, LocalCouplings):
            require_same_surroundings(bijector.offsets, weights["offsets"])
            bijector.load_state_dict(weights)
            graph = graph_of(self.problem, network)
            bijector = LocalCouplings(graph, list(bijector.networks), weights["scale"])
        else:
            bijector.load_state_dict(weights)
        return self._made((start, transport), bijector, network)

    @property
    def _digest(self) -> str:
        return self.problem.system.digest

    @property
    def _transport(self) -> TransportRecipe:
        return TransportRecipe(self.problem, self.base, self.run, self.goal)

    def _start(self, path: PathSamples) -> "Start":
        start = self.run.settings.flow.start
        transport = None
        if start == "transport":
            coefficients = fit_coefficients(path.samples).coefficients
            first = transport_flow(self.base, path.fields, coefficients, 1)
            fitted = MadeFlow(Flow(self.base, first), first, first)
            transport = self._transport.fit_steps(fitted).transport
        return start, transport

    def _beginning(self, start: "Start") -> tuple[Density, FittedFlow | None]:
        """What the couplings act on."""
        name, transport = start
        if name == "lattice":
            scale = self.base.covariance.diagonal().mean().sqrt().item()
            return lattice_base(self.problem, scale), None
        return (self.base if transport is None else Flow(self.base, transport)), transport

    def _untrained(self, density: Density, network: NetworkSettings) -> Bijector:
        if self.run.settings.flow.kind == "local":
            return neighbour_couplings(self.problem, density, network)
        return published_couplings(self.problem, network)

    def _made(self, start: "Start", bijector: Bijector, network: NetworkSettings) -> MadeFlow:
        density, transport = self._beginning(start)
        flow = Flow(density, bijector).requires_grad_(False)
        whole = bijector if transport is None else Chain([transport, bijector])
        return MadeFlow(flow, whole, transport, network)


Start = tuple[str, FittedFlow | None]
"""What couplings act on: "base", "lattice" or "transport", and that transport."""


def _start_of(flow: MadeFlow) -> str:
    if flow.transport is not None:
        return "transport"
    return "lattice" if isinstance(flow.density.base, PinnedNoise) else "base"


def train_flow(
    problem: Problem,
    base: Density,
    bijector: Bijector,
    run: Run,
    *,
    store: Store | None = None,
    samples: Configs | None = None,
) -> Flow:
    """Train ``bijector`` on ``base`` towards a crystal, from its energy alone.

    ``base`` and the flow are densities of displacements (batch, 3n). With a ``store`` a training
    that is interrupted goes on exactly. Progress tells the bound on the free energy and the
    effective sample size, and the bound from the other side if there are ``samples`` (m, 3n) of
    the crystal, which the objectives "forward_kl" and "two_sided" need. Steps and learning rate
    left open are 600 and 0.004 for local couplings, 2000 and 0.002 for others. Raises
    ``DivergenceError`` and what ``helmflow.training.stochastic.train`` raises.
    """
    flow, settings = Flow(base, bijector), run.settings.training
    u = with_known_gradient(_training_target(problem, settings.softened))
    exact = with_known_gradient(problem.target)
    plan = _plan(settings, *LOCAL if isinstance(bijector, LocalCouplings) else OTHERS)
    train(
        flow,
        training_loss(settings.objective, flow, u, samples),
        plan,
        run.stream("training"),
        report=_Listener(problem, run),
        store=store,
        # The same noise every time: what changes is the flow, and a resumed run repeats it.
        validate=lambda: measure(
            flow, exact, VALIDATION_SAMPLES, run.stream("validation"), samples
        ),
    )
    return flow


def _plan(settings: TrainingSettings, steps: int, learning_rate: float) -> TrainingPlan:
    steps = steps if settings.steps is None else settings.steps
    return TrainingPlan(
        steps=steps,
        batch=settings.batch,
        learning_rate=settings.learning_rate or learning_rate,
        schedule=Cosine(settings.warm_up, 0.01),
        clip_norm=settings.clip_norm,
        ema_decay=settings.ema_decay or None,
        micro_batch=settings.micro_batch,
        checkpoint_every=settings.checkpoint_every,
        validate_every=max(1, min(100, steps // 6)),
    )


class _Listener:
    """Turns the reports of training into progress."""

    def __init__(self, problem: Problem, run: Run) -> None:
        self.problem, self.run = problem, run
        self.quality = ""

    def __call__(self, report: StepReport) -> None:
        n, constant = self.problem.system.n_particles, self.problem.log_measure
        estimate = None
        if report.validation:
            bounds = report.validation
            free_energy, ess = bounds["free_energy"], bounds["ess"]
            estimate = Estimate(free_energy, math.nan, math.nan, "validation")
            self.quality = f"F/N < {(bounds['upper_bound'] - constant) / n:.5f}"
            if "lower_bound" in bounds:
                self.quality = f"{(bounds['lower_bound'] - constant) / n:.5f} < {self.quality}"
            self.quality += f", ESS {100 * ess:.3g} %"
        loss = f"loss {report.loss / n:.5f} kT/N"
        detail = ", ".join(part for part in (loss, self.quality) if part)
        values = report.as_json()
        self.run.tell("training", report.step, report.steps, detail, estimate, values)


def _training_target(
    problem: Problem, softened: bool
) -> Callable[[Configs], tuple[Values, Tensor]]:
    """Value and gradient of the reduced potential, with softened cores where they are known."""
    energy, beta = problem.system.energy, problem.system.beta
    if not softened or type(energy) not in LINEAR_BELOW:
        return problem.target
    soft = SoftenedCore(energy)

    def target(u: Configs) -> tuple[Values, Tensor]:
        problem.budget.spend(len(u))
        value, gradient = soft.displaced(u.view(len(u), -1, 3))
        return beta * value, beta * gradient.reshape(u.shape)

    return target
