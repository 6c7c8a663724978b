"""Trained coupling flows of crystals: the published architecture, and local couplings."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from helmflow.bijectors.base import Bijector
from helmflow.bijectors.local_coupling import LocalCouplings, local_couplings
from helmflow.bijectors.particle_coupling import particle_couplings
from helmflow.bijectors.periodic import InCell, Pinned
from helmflow.densities.base import Density
from helmflow.densities.flow import Flow
from helmflow.densities.lattice import NoisyLattice, PinnedNoise
from helmflow.densities.translation import RandomTranslation
from helmflow.energies.softened import LINEAR_BELOW, SoftenedCore
from helmflow.manifolds.site_graph import SiteGraph, site_graph
from helmflow.nets.attention import Attention
from helmflow.objectives import with_known_gradient
from helmflow.recipes.flow.training_losses import training_loss
from helmflow.recipes.path.crystal import Crystal
from helmflow.results import Event
from helmflow.settings import NetworkSettings, TrainingSettings
from helmflow.shapes import Configs, Values
from helmflow.streams import stream
from helmflow.training.distributed import rank_and_ranks
from helmflow.training.metrics import MetricsFile
from helmflow.training.plan import StepReport, TrainingPlan
from helmflow.training.schedule import Cosine
from helmflow.training.stochastic import train
from helmflow.training.validation import measure

PRECISION = {"single": torch.float32, "double": torch.float64}

VALIDATION_SAMPLES = 2048

LOCAL, OTHERS = (600, 4e-3), (2000, 2e-3)
"""Steps and learning rates where the settings leave them open."""

Progress = Callable[[Event], None]


def lattice_base(problem: Crystal, scale: float) -> PinnedNoise:
    """The published base: noise of width ``scale`` about the sites, as seen from one particle.

    Its density lives on displacements (batch, 3n) of zero mean, like that of the phonons; the
    noise is cut off at half the smallest distance between sites.
    """
    system = problem.system
    sites = system.reference_positions
    noise = NoisyLattice(sites, system.cell, scale).noise
    return PinnedNoise(len(sites), noise)


def published_couplings(problem: Crystal, network: NetworkSettings) -> Pinned:
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
    return Pinned(inner, problem.system.reference_positions, problem.system.cell)


def whole_crystal(problem: Crystal, base: PinnedNoise, bijector: Pinned) -> RandomTranslation:
    """The published density of positions (batch, n, 3): all labelings, anywhere in the cell.

    For x made of displacements u, -ln Z counts the same from both sides:

        u(x) + ln q(x) + ln n! + 3 n ln Lambda = u + ln q(u) - problem.log_measure

    The map must be that of a flow on ``base``.
    """
    sites, cell = problem.system.reference_positions, problem.system.cell
    lattice = NoisyLattice(sites[:-1] - sites[-1], cell, base.noise.scale)
    return RandomTranslation(Flow(lattice, InCell(bijector.bijector, cell)), cell)


def neighbour_couplings(problem: Crystal, base: Density, network: NetworkSettings) -> Bijector:
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


def graph_of(problem: Crystal, network: NetworkSettings) -> SiteGraph:
    """The neighbours that local couplings of this crystal see."""
    system = problem.system
    positions, cell = system.reference_positions.numpy(), system.cell.numpy()
    return site_graph(positions, cell, problem.symmetry, reach=network.reach)


def train_flow(
    problem: Crystal,
    base: Density,
    bijector: Bijector,
    settings: TrainingSettings,
    *,
    seed: int,
    directory: Path | None,
    progress: Progress,
    samples: Configs | None = None,
) -> Flow:
    """Train ``bijector`` on ``base`` towards a crystal, from its energy alone.

    ``base`` and the flow are densities of displacements (batch, 3n). With ``directory`` every
    step goes to ``metrics.jsonl`` there and ``checkpoint.safetensors`` allows an exact
    continuation. ``progress`` hears of the bound on the free energy and the effective sample
    size, and of the bound from the other side if there are ``samples`` (m, 3n) of the crystal,
    which the objectives "forward_kl" and "two_sided" need. Steps and learning rate left open are
    600 and 0.004 for local couplings, 2000 and 0.002 for others. Raises ``DivergenceError`` and
    what ``helmflow.training.stochastic.train`` raises.
    """
    flow = Flow(base, bijector)
    u = with_known_gradient(_training_target(problem, settings.softened))
    exact = with_known_gradient(problem.target)
    plan = _plan(settings, *LOCAL if isinstance(bijector, LocalCouplings) else OTHERS)
    report = _Listener(problem, plan, directory, progress)
    train(
        flow,
        training_loss(settings.objective, flow, u, samples),
        plan,
        stream(seed, "training"),
        report=report,
        checkpoint=None if directory is None else directory / "checkpoint.safetensors",
        # The same noise every time: what changes is the flow, and a resumed run repeats it.
        validate=lambda: measure(
            flow, exact, VALIDATION_SAMPLES, stream(seed, "validation"), samples
        ),
        identity={
            "system": problem.system.digest,
            "seed": str(seed),
            "training": settings.model_dump_json(),
        },
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
    """Turns the reports of training into metrics and progress."""

    def __init__(
        self, problem: Crystal, plan: TrainingPlan, directory: Path | None, progress: Progress
    ) -> None:
        self.problem, self.plan, self.progress = problem, plan, progress
        self.metrics = None
        self.quality = ""
        if directory is not None and rank_and_ranks()[0] == 0:
            directory.mkdir(parents=True, exist_ok=True)
            self.metrics = MetricsFile(directory / "metrics.jsonl")

    def __call__(self, report: StepReport) -> None:
        if self.metrics is not None:
            self.metrics(report)
        n, constant = self.problem.system.n_particles, self.problem.log_measure
        value = None
        if report.validation:
            found = report.validation
            value = (found["free_energy"] - constant) / n
            self.quality = f"F/N < {(found['upper_bound'] - constant) / n:.5f}"
            if "lower_bound" in found:
                self.quality = f"{(found['lower_bound'] - constant) / n:.5f} < {self.quality}"
            self.quality += f", ESS {100 * found['ess']:.3g} %"
        loss = f"loss {report.loss / n:.5f} kT/N"
        self.progress(
            Event(
                "training",
                report.step,
                report.steps,
                ", ".join(part for part in (loss, self.quality) if part),
                value,
                energy_evaluations=self.problem.n_evaluations,
            )
        )


def _training_target(
    problem: Crystal, softened: bool
) -> Callable[[Configs], tuple[Values, Tensor]]:
    """Value and gradient of the reduced potential, with softened cores where they are known."""
    energy, beta = problem.system.energy, problem.system.beta
    if not softened or type(energy) not in LINEAR_BELOW:
        return problem.target
    soft = SoftenedCore(energy)

    def target(u: Configs) -> tuple[Values, Tensor]:
        problem.n_evaluations += len(u)
        value, gradient = soft.displaced(u.view(len(u), -1, 3))
        return beta * value, beta * gradient.reshape(u.shape)

    return target
