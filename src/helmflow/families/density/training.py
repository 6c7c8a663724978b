"""Flows that are trained: for manifolds of more dimensions than a potential can cover."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from helmflow.densities.flow import Flow
from helmflow.families.density.architecture import Architecture, untrained
from helmflow.families.density.neighbours import elimination, interactions
from helmflow.families.density.potential import CheckedPotential
from helmflow.generalised_work import density_work
from helmflow.manifolds.base import Manifold
from helmflow.objectives.divergences import reverse_kl
from helmflow.shapes import Configs, Values
from helmflow.streams import stream
from helmflow.training.checkpoint import load, save
from helmflow.training.flow_fit import natural_gradient
from helmflow.training.plan import TrainingPlan
from helmflow.training.replay import ReplayPlan, fit_with_replay
from helmflow.training.stochastic import train

STEPS, BATCH, LEARNING_RATE = 80, 256, 1e-2
"""Of each stage of the first phase, Adam on the reverse divergence."""

POWERS = (0.1, 0.3, 0.6, 1.0)
"""Of the target in these stages: a flow that starts out wide loses fewer modes."""

CLOSE = 2.0
"""Half the variance of the work, in nats, below which second-order steps are of use."""

REPLAYS = 3
REPLAY = ReplayPlan(rounds=14, fresh=16_384, updates=30, batch=512, learning_rate=1e-2)
"""For a density that such a flow does not come close to: splines, trained by replay."""

CONTEST = replace(REPLAY, rounds=6, fresh=4096)
"""To choose among angles."""

MANY = 16
"""Angles above which a flow starts as splines: all others cost the square of their number."""

POINTS, STEPS_PER_STAGE = 1024, 12
"""Fresh points of every natural-gradient step, and steps from one damping to the next."""

DAMPING = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4)

Report = Callable[[float, str], None]
"""Called with the fraction done and what is being done."""


@dataclass
class Stages:
    """Training in stages, each with random numbers of its own, the flow kept after each.

    ``file`` holds the parameters after ``done`` stages: an interrupted training goes on there and
    ends with the same numbers.
    """

    flow: Flow
    name: str
    chosen: Architecture
    u: CheckedPotential
    seed: int
    file: Path | None
    header: dict[str, str]
    done: int = 0
    passed: int = 0

    def next(self, stage: Callable[[Flow, torch.Generator], None]) -> None:
        """Do one stage, unless that has been done before."""
        self.passed += 1
        if self.passed > self.done:
            stage(self.flow, stream(self.seed, f"stage {self.passed}"))
            self._finish()

    def replace_flow(self, choose: Callable[[], Architecture]) -> None:
        """Go on with a new flow of another architecture: a stage of its own."""
        self.passed += 1
        if self.passed > self.done:
            self.chosen = choose()
            self.flow, self.name = untrained(self.flow.base.manifold, self.chosen, self.seed)
            self._finish()

    def decide(self, name: str, question: Callable[[], bool]) -> bool:
        """The answer to a question, asked once: a resumed training is told what was found."""
        if name not in self.header:
            self.header[name] = str(question())
        return self.header[name] == str(True)

    def _finish(self) -> None:
        """Keep the parameters, what they belong to, and how many energies they have cost."""
        self.done = self.passed
        if self.file is not None:
            facts = {
                "stages": str(self.done),
                "energies": str(self.u.n_evaluations),
                "architecture": self.chosen.to_json(),
            }
            save(self.file, self.flow.bijector.state_dict(), {**self.header, **facts})


def trained_flow(
    manifold: Manifold,
    u: CheckedPotential,
    start: Architecture,
    seed: int,
    place: tuple[Path | None, dict[str, str]],
    report: Report,
) -> tuple[Flow, str, float, Architecture]:
    """A trained flow, what to call it, half the variance of its work, and what it is.

    First Adam on the reverse divergence, up to `MANY` angles and where the energy has a gradient.
    If that has come close, natural-gradient steps; if not, a flow of splines is trained by replay
    within a trust region, which loses no mode and asks for values alone.
    ``place``: a file for the stages of the training, and what identifies the system in it.
    Raises InputError for manifolds without such a flow.
    """
    stages = _begin(manifold, u, start, seed, place)
    many = manifold.n_angles > MANY and start.angles == "given"

    def blind() -> bool:
        x, _ = stages.flow.base.sample_and_log_prob(32, stream(seed, "gradient"))
        return not has_gradient(u, x)

    many = many or stages.decide("without gradient", blind)
    for k, power in enumerate(() if many else POWERS):
        report(0.2 * k / len(POWERS), f"{stages.name}, target to the power {power}")
        stages.next(partial(_descend, u, power))
    half_way = stream(seed, "half way")

    def close() -> bool:
        return not many and half_variance(stages.flow, u, half_way) < CLOSE

    if stages.decide("close", close):
        for k in range(len(DAMPING) - 1):
            report(0.2 + 0.8 * k / (len(DAMPING) - 1), f"{stages.name}, second-order steps")
            stages.next(partial(_refine, u, DAMPING[k : k + 2]))
    else:
        report(0.2, "choosing among angles")
        stages.replace_flow(lambda: _choose(manifold, u, start, seed))
        for k in range(REPLAYS):
            report(0.4 + 0.6 * k / REPLAYS, f"{stages.name}, replay")
            stages.next(partial(_replay, u, last=k == REPLAYS - 1))
    flow = stages.flow.requires_grad_(requires_grad=False)
    return flow, stages.name, half_variance(flow, u, stream(seed, "the end")), stages.chosen


def has_gradient(u: CheckedPotential, x: Configs) -> bool:
    """Whether the energy is finite and has a gradient that says something, at points x."""
    x = x.detach().requires_grad_()
    try:
        value = u.differentiable(x)
    except RuntimeError:  # NumPy takes no tensors with a graph
        return False
    if not isinstance(value, Tensor) or not value.requires_grad:
        return False
    (gradient,) = torch.autograd.grad(value.sum(), x)
    finite = bool(torch.isfinite(value).all()) and bool(torch.isfinite(gradient).all())
    return finite and bool((gradient != 0.0).any())


def _begin(
    manifold: Manifold,
    u: CheckedPotential,
    start: Architecture,
    seed: int,
    place: tuple[Path | None, dict[str, str]],
) -> Stages:
    """A new flow, or one that an earlier process has begun to train."""
    file, identity = place
    if file is None or not file.is_file():
        return Stages(*untrained(manifold, start, seed), start, u, seed, file, dict(identity))
    tensors, header = load(file, identity)
    chosen = Architecture.from_json(header["architecture"])
    flow, name = untrained(manifold, chosen, seed)
    flow.bijector.load_state_dict(tensors)
    u.n_evaluations = int(header["energies"])
    return Stages(flow, name, chosen, u, seed, file, header, done=int(header["stages"]))


def _choose(
    manifold: Manifold, u: CheckedPotential, start: Architecture, seed: int
) -> Architecture:
    """Splines of the angles as they are or of their sums: whichever is learned faster.

    Where the energy couples only some of the angles, each given only those it depends on.
    """
    splines = replace(start, splines=True)
    if manifold.n_angles < 3 or start.angles != "given":
        return splines
    coupled = interactions(manifold, u, stream(seed, "pairs"))
    order, seen = elimination(coupled)
    if max(len(others) for others in seen) < manifold.dim - 1:
        return replace(splines, order=order, seen=seen)
    found = []
    for angles in ("given", "sums"):
        chosen = replace(splines, angles=angles)
        flow, _ = untrained(manifold, chosen, seed)
        fit_with_replay(flow, u, CONTEST, stream(seed, "contest"))
        found.append((mean_work(flow, u, stream(seed, "judge")), chosen))
    return min(found, key=lambda pair: pair[0])[1]


def _descend(u: CheckedPotential, power: float, flow: Flow, generator: torch.Generator) -> None:
    """Adam on the reverse divergence from the target to a power."""

    def tempered(x: Configs) -> Values:
        return power * u.differentiable(x)

    plan = TrainingPlan(STEPS, BATCH, LEARNING_RATE, clip_norm=5.0)
    train(flow, lambda n, g: reverse_kl(flow, tempered, n, g), plan, generator)


def _replay(u: CheckedPotential, flow: Flow, generator: torch.Generator, *, last: bool) -> None:
    schedule = replace(REPLAY.schedule, floor=0.03 if last else 1.0)
    fit_with_replay(flow, u, replace(REPLAY, schedule=schedule), generator)


def _refine(
    u: CheckedPotential, damping: tuple[float, float], flow: Flow, generator: torch.Generator
) -> None:
    points = base_points(flow, POINTS, generator)
    natural_gradient(flow, u.differentiable, points, STEPS_PER_STAGE, damping=damping)


def base_points(flow: Flow, n: int, generator: torch.Generator) -> Callable[[int], Configs]:
    """Fresh base points at every call: quasi-random on a torus."""
    manifold = flow.base.manifold
    if not manifold.n_angles:
        return lambda _: flow.base.sample_and_log_prob(n, generator)[0]
    seed = int(torch.randint(2**31, (), generator=generator))
    engine = torch.quasirandom.SobolEngine(manifold.dim, scramble=True, seed=seed)
    return lambda _: 2.0 * math.pi * engine.draw(n, dtype=torch.float64)


def half_variance(flow: Flow, u: CheckedPotential, generator: torch.Generator) -> float:
    """Half the variance of the work of fresh samples, infinite if one is."""
    work = _works(flow, u, generator)
    return 0.5 * float(work.var()) if bool(torch.isfinite(work).all()) else math.inf


def mean_work(flow: Flow, u: CheckedPotential, generator: torch.Generator) -> float:
    """An upper bound of -ln Z, the closer the better the flow."""
    return float(_works(flow, u, generator).mean())


def _works(flow: Flow, u: CheckedPotential, generator: torch.Generator) -> Tensor:
    with torch.no_grad():
        x, log_q = flow.sample_and_log_prob(4096, generator)
        return density_work(x, log_q, u)
